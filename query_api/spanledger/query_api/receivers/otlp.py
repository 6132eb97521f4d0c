"""OTLP messages → `SpanData` and `LogEvent`.

This is the receiver's hot path: parsing is C, walking the parsed message is Python and costs three times as much, so
every message object is touched once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger.exporter.contents import is_content
from spanledger.exporter.errors import UndecodableSpans
from spanledger.exporter.spans import LogEvent, Resource, SpanData, SpanEvent, resource_of

from .bounds import check_items, check_protobuf, shape_of

MAX_DEPTH: Final = 32
"""Levels of arrays and maps kept of one value."""
TOO_DEEP: Final = f"[nested deeper than {MAX_DEPTH} levels]"

BAD_TRACE_ID: Final = "A trace id must be 16 bytes and not all zero."
BAD_SPAN_ID: Final = "A span id must be 8 bytes and not all zero."
BAD_PARENT_ID: Final = "A parent span id must be 8 bytes or empty."

_TRACES: Final = shape_of(ExportTraceServiceRequest.DESCRIPTOR)
_LOGS: Final = shape_of(ExportLogsServiceRequest.DESCRIPTOR)

Item = TypeVar("Item", SpanData, LogEvent)


class Decoded(NamedTuple, Generic[Item]):
    """What a request holds: the items that can be recorded, and how many cannot, by reason."""

    items: list[Item]
    rejected: Mapping[str, int]
    skipped: int = 0
    """Log records that belong to no span."""


def spans_in(body: bytes) -> Decoded[SpanData]:
    """The spans of a protobuf ``ExportTraceServiceRequest``; raises `UndecodableSpans` or `BodyTooLarge`."""
    check_protobuf(body, _TRACES)
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise UndecodableSpans(f"The body is not a protobuf ExportTraceServiceRequest ({error}).") from None
    check_items(len(of_scope.spans) for part in request.resource_spans for of_scope in part.scope_spans)
    items: list[SpanData] = []
    rejected: Counter[str] = Counter()
    for of_resource in request.resource_spans:
        resource = resource_of(_attributes(of_resource.resource.attributes))
        for of_scope in of_resource.scope_spans:
            scope, scope_version = of_scope.scope.name, of_scope.scope.version
            for span in of_scope.spans:
                if reason := bad_ids(span.trace_id, span.span_id, span.parent_span_id):
                    rejected[reason] += 1
                else:
                    items.append(_span(span, resource, scope, scope_version))
    return Decoded(items, rejected)


def events_in(body: bytes) -> Decoded[LogEvent]:
    """The log records of a protobuf ``ExportLogsServiceRequest`` that are of spans; raises as `spans_in`."""
    check_protobuf(body, _LOGS)
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise UndecodableSpans(f"The body is not a protobuf ExportLogsServiceRequest ({error}).") from None
    check_items(len(of_scope.log_records) for part in request.resource_logs for of_scope in part.scope_logs)
    items: list[LogEvent] = []
    rejected: Counter[str] = Counter()
    skipped = 0
    for of_resource in request.resource_logs:
        service = resource_of(_attributes(of_resource.resource.attributes)).service_name
        for of_scope in of_resource.scope_logs:
            scope = of_scope.scope.name
            for record in of_scope.log_records:
                unnamed = names_no_span(record.trace_id, record.span_id)
                if not unnamed and (reason := bad_ids(record.trace_id, record.span_id, b"")):
                    rejected[reason] += 1
                elif is_content(event := _event(record, scope, service)) or not unnamed:
                    items.append(event)
                else:
                    skipped += 1
    return Decoded(items, rejected, skipped)


def bad_ids(trace_id: bytes, span_id: bytes, parent_span_id: bytes) -> str | None:
    """Why a span with these ids can never be stored, or None. A parent of zeros means that there is none."""
    if len(trace_id) != 16 or not any(trace_id):
        return BAD_TRACE_ID
    if len(span_id) != 8 or not any(span_id):
        return BAD_SPAN_ID
    if len(parent_span_id) not in (0, 8):
        return BAD_PARENT_ID
    return None


def names_no_span(trace_id: bytes, span_id: bytes) -> bool:
    """Most log records are written outside of spans: nothing is wrong with them, but few are for us."""
    return not any(trace_id) and not any(span_id)


def _span(span: Span, resource: Resource, scope: str, scope_version: str) -> SpanData:
    status = span.status
    return SpanData(
        int.from_bytes(span.trace_id, "big"),
        int.from_bytes(span.span_id, "big"),
        int.from_bytes(span.parent_span_id, "big") or None,
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano or None,
        status.code,
        status.message or None,
        _attributes(span.attributes),
        [SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events],
        resource,
        scope,
        scope_version,
        span.dropped_attributes_count,
    )


def _event(record: LogRecord, scope: str, service: str | None) -> LogEvent:
    attributes = _attributes(record.attributes)
    return LogEvent(
        int.from_bytes(record.trace_id, "big"),
        int.from_bytes(record.span_id, "big"),
        event_name(record.event_name, attributes),
        record.time_unix_nano or record.observed_time_unix_nano,
        attributes,
        _value(record.body),
        scope,
        service,
    )


def event_name(name: str, attributes: Mapping[str, Any]) -> str:
    """The record's event name; before OTLP 1.6 it was an attribute."""
    return name or str(attributes.get("event.name", ""))


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        # Nearly all values are text or numbers, and not empty or zero: they need no question of which kind they are.
        values[pair.key] = value.string_value or value.int_value or value.double_value or _value(value)
    return values


def _value(value: AnyValue, depth: int = 0) -> Any:
    """The Python value of an AnyValue; None when it has none."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(v, depth + 1) for v in value.array_value.values] if depth < MAX_DEPTH else TOO_DEEP
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        return {p.key: _value(p.value, depth + 1) for p in pairs} if depth < MAX_DEPTH else TOO_DEEP
    return None if kind is None else getattr(value, kind)
