"""OTLP/JSON → `SpanData` and `LogEvent`: the same values as from protobuf.

OTLP's own rules apply (specification, "JSON Protobuf Encoding"): ids are hex, enums are numbers, 64-bit integers may be
strings, unknown fields are ignored, null means absent.
"""

import base64
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson

from spanledger.exporter.contents import is_content
from spanledger.exporter.errors import UndecodableSpans
from spanledger.exporter.spans import LogEvent, Resource, SpanData, SpanEvent, resource_of

from .bounds import check_items, check_json
from .otlp import MAX_DEPTH, TOO_DEEP, Decoded, bad_ids, event_name, names_no_span

Object = Mapping[str, Any]
Expected = TypeVar("Expected")

_UNSIGNED: Final = {"fixed64": 2**64 - 1, "uint32": 2**32 - 1, "enum": 2**31 - 1}
_DECIMAL: Final = re.compile(r"-?[0-9]{1,20}")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape of JSON: a pair of surrogates, the half of one, or any other."""
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def spans_in(body: bytes) -> Decoded[SpanData]:
    """The spans of a JSON ``ExportTraceServiceRequest``; raises `UndecodableSpans` or `BodyTooLarge`."""
    parts = _objects(_document(body), "resourceSpans")
    check_items(len(_objects(of_scope, "spans")) for part in parts for of_scope in _objects(part, "scopeSpans"))
    items: list[SpanData] = []
    rejected: Counter[str] = Counter()
    for of_resource in parts:
        resource = resource_of(_attributes(_object(of_resource, "resource")))
        for of_scope in _objects(of_resource, "scopeSpans"):
            scope = _object(of_scope, "scope")
            for span in _objects(of_scope, "spans"):
                ids = _id(span, "traceId"), _id(span, "spanId"), _id(span, "parentSpanId")
                if reason := bad_ids(*ids):
                    rejected[reason] += 1
                else:
                    items.append(_span(span, ids, resource, _text(scope, "name"), _text(scope, "version")))
    return Decoded(items, rejected)


def events_in(body: bytes) -> Decoded[LogEvent]:
    """The log records of a JSON ``ExportLogsServiceRequest`` that belong to a span; raises as `spans_in`."""
    parts = _objects(_document(body), "resourceLogs")
    check_items(len(_objects(of_scope, "logRecords")) for part in parts for of_scope in _objects(part, "scopeLogs"))
    items: list[LogEvent] = []
    rejected: Counter[str] = Counter()
    skipped = 0
    for of_resource in parts:
        service = resource_of(_attributes(_object(of_resource, "resource"))).service_name
        for of_scope in _objects(of_resource, "scopeLogs"):
            scope = _text(_object(of_scope, "scope"), "name")
            for record in _objects(of_scope, "logRecords"):
                trace_id, span_id = _id(record, "traceId"), _id(record, "spanId")
                unnamed = names_no_span(trace_id, span_id)
                if not unnamed and (reason := bad_ids(trace_id, span_id, b"")):
                    rejected[reason] += 1
                elif is_content(event := _event(record, trace_id, span_id, scope, service)) or not unnamed:
                    items.append(event)
                else:
                    skipped += 1
    return Decoded(items, rejected, skipped)


def _span(span: Object, ids: tuple[bytes, bytes, bytes], resource: Resource, scope: str, version: str) -> SpanData:
    trace_id, span_id, parent_span_id = (int.from_bytes(identifier, "big") for identifier in ids)
    status = _object(span, "status")
    return SpanData(
        trace_id,
        span_id,
        parent_span_id or None,
        _text(span, "name"),
        _whole(span, "kind", "enum"),
        _whole(span, "startTimeUnixNano"),
        _whole(span, "endTimeUnixNano") or None,
        _whole(status, "code", "enum"),
        _text(status, "message") or None,
        _attributes(span),
        [SpanEvent(_text(e, "name"), _whole(e, "timeUnixNano"), _attributes(e)) for e in _objects(span, "events")],
        resource,
        scope,
        version,
        _whole(span, "droppedAttributesCount", "uint32"),
    )


def _event(record: Object, trace_id: bytes, span_id: bytes, scope: str, service: str | None) -> LogEvent:
    attributes = _attributes(record)
    return LogEvent(
        int.from_bytes(trace_id, "big"),
        int.from_bytes(span_id, "big"),
        event_name(_text(record, "eventName"), attributes),
        _whole(record, "timeUnixNano") or _whole(record, "observedTimeUnixNano"),
        attributes,
        _value(_object(record, "body")),
        scope,
        service,
    )


def _document(body: bytes) -> Object:
    if not body:
        return {}
    check_json(body)
    try:
        document = _loaded(body)
    except orjson.JSONDecodeError as error:
        raise UndecodableSpans(f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise UndecodableSpans("The body is JSON, but not an object.")
    return document


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # JavaScript writes half of an emoji, left where a text was cut, as an escape that is no letter.
        whole = _ESCAPE.sub(_or_replacement, body)
        if whole == body:
            raise
        return orjson.loads(whole)


def _or_replacement(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["half"] else escape[0]


def _field(holder: Object, name: str, kind: type[Expected], default: Expected) -> Expected:
    value = holder.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _wrong(name, value)
    return value


def _text(holder: Object, name: str) -> str:
    return _field(holder, name, str, "")


def _object(holder: Object, name: str) -> Object:
    return _field(holder, name, dict, {})


def _objects(holder: Object, name: str) -> list[Object]:
    items: list[Object] = _field(holder, name, list, [])
    for item in items:
        if not isinstance(item, dict):
            raise _wrong(name, item)
    return items


def _id(holder: Object, name: str) -> bytes:
    """The bytes of a hex id. Text that is no hex becomes an id of a wrong length: its span is rejected, no other."""
    try:
        return bytes.fromhex(_text(holder, name))
    except ValueError:
        return b"?"


def _whole(holder: Object, name: str, kind: str = "fixed64") -> int:
    """An unsigned number or enum; only 64-bit ones may be strings."""
    value = holder.get(name)
    if value is None:
        return 0
    if isinstance(value, str) and kind == "fixed64" and _DECIMAL.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= _UNSIGNED[kind]:
        raise _wrong(name, value)
    return value


def _attributes(holder: Object) -> dict[str, Any]:
    return {_text(pair, "key"): _value(_object(pair, "value")) for pair in _objects(holder, "attributes")}


def _value(value: Object, depth: int = 0) -> Any:
    """The Python value of an AnyValue; None when it has none."""
    for name, inner in value.items():
        if inner is not None and (read := _READ.get(name)) is not None:
            return read(name, inner, depth)
    return None


def _array(name: str, inner: Any, depth: int) -> Any:
    if not isinstance(inner, dict):
        raise _wrong(name, inner)
    return [_value(v, depth + 1) for v in _objects(inner, "values")] if depth < MAX_DEPTH else TOO_DEEP


def _map(name: str, inner: Any, depth: int) -> Any:
    if not isinstance(inner, dict):
        raise _wrong(name, inner)
    pairs = _objects(inner, "values")
    return {_text(p, "key"): _value(_object(p, "value"), depth + 1) for p in pairs} if depth < MAX_DEPTH else TOO_DEEP


def _string(name: str, inner: Any, depth: int) -> str:
    if not isinstance(inner, str):
        raise _wrong(name, inner)
    return inner


def _bool(name: str, inner: Any, depth: int) -> bool:
    if not isinstance(inner, bool):
        raise _wrong(name, inner)
    return inner


def _int(name: str, inner: Any, depth: int) -> int:
    number = int(inner) if isinstance(inner, str) and _DECIMAL.fullmatch(inner) else inner
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise _wrong(name, inner)
    return number


def _double(name: str, inner: Any, depth: int) -> float:
    if isinstance(inner, str) and inner in _NOT_FINITE:
        return _NOT_FINITE[inner]
    if isinstance(inner, bool) or not isinstance(inner, int | float):
        raise _wrong(name, inner)
    return float(inner)


def _bytes(name: str, inner: Any, depth: int) -> bytes:
    try:
        return base64.b64decode(inner, validate=True)
    except (ValueError, TypeError):
        raise _wrong(name, inner) from None


_READ: Final = {
    "stringValue": _string,
    "boolValue": _bool,
    "intValue": _int,
    "doubleValue": _double,
    "arrayValue": _array,
    "kvlistValue": _map,
    "bytesValue": _bytes,
}
"""How each member of AnyValue's oneof is read: *name*, its JSON value, and how deep it lies."""


def _wrong(name: str, value: Any) -> UndecodableSpans:
    # A list or an object may be as large as the body, and nested deeper than Python can write down.
    what = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(str(value)[:60])
    return UndecodableSpans(f"{name} is {what}, which OTLP/JSON does not allow there.")
