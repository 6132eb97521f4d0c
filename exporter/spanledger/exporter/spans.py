"""`SpanData`: the one neutral span, whoever it came from, and the ids derived from it.

It is built from an SDK ``ReadableSpan`` or from an OTLP message; everything behind `Ledger.record` sees nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

UNSET: Final = 0
OK: Final = 1
ERROR: Final = 2

Attributes = Mapping[str, Any]
NO_ATTRIBUTES: Final[Attributes] = {}


class SpanEvent(NamedTuple):
    """A span event. *time* is in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Attributes


class Resource(NamedTuple):
    """Who emitted the spans: the two columns we keep of an OTel resource."""

    service_name: str | None = None
    environment: str | None = None


class SpanData(NamedTuple):
    """One span. Times are nanoseconds since the epoch, UTC; *end_time* is None while the span is running.

    Attribute values are ``str | bool | int | float``, bytes, lists and dicts of those: what OTLP's AnyValue holds.
    *kind* and *status_code* are OTLP's numbers (kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer).
    """

    trace_id: int
    span_id: int
    parent_span_id: int | None
    name: str
    kind: int
    start_time: int
    end_time: int | None
    status_code: int
    status_message: str | None
    attributes: Attributes
    events: Sequence[SpanEvent]
    resource: Resource
    scope: str
    scope_version: str
    dropped_attributes: int


class LogEvent(NamedTuple):
    """An OTLP log record that belongs to a span (GenAI conventions emit content that way).

    *body* is the Python value of the record's AnyValue (a dict for structured events); *name* is the event name. Both
    ids are 0 where the emitter lost them (Traceloop writes some records after its span has left the context).
    """

    trace_id: int
    span_id: int
    name: str
    time: int
    attributes: Attributes
    body: Any
    scope: str
    service_name: str | None = None


def trace_hex(trace_id: int) -> str:
    """A trace id as its 32 hexadecimal digits. Raises OverflowError for what is no trace id."""
    return trace_id.to_bytes(16, "big").hex()  # half the cost of a format


def span_hex(span_id: int) -> str:
    """A span id as its 16 hexadecimal digits. Raises OverflowError for what is no span id."""
    return span_id.to_bytes(8, "big").hex()


def row_id(trace_id: int, span_id: int) -> str:
    """The primary key of a span's row: the low 64 bits of the trace id, then the span id, as a dashed UUID.

    Derived, so that replays and retries meet their own row, and a parent's id is known before the parent arrives.
    """
    return row_id_of(trace_hex(trace_id), span_hex(span_id))


def row_id_of(trace_id: str, span_id: str) -> str:
    """`row_id` of hexadecimal ids (32 and 16 digits), as the tables hold them."""
    return f"{trace_id[16:24]}-{trace_id[24:28]}-{trace_id[28:]}-{span_id[:4]}-{span_id[4:]}"


def from_sdk(span: ReadableSpan) -> SpanData:
    """The `SpanData` of a finished or running OTel SDK span."""
    context = span.context
    assert context is not None, "an SDK span always has a context"
    parent, scope, status = span.parent, span.instrumentation_scope, span.status
    return SpanData(
        context.trace_id,
        context.span_id,
        parent.span_id if parent is not None else None,
        span.name,
        span.kind.value + 1,  # the SDK counts internal as 0, OTLP as 1
        span.start_time or 0,
        span.end_time,
        status.status_code.value,
        status.description,
        _copied(span.attributes),
        [SpanEvent(e.name, e.timestamp, e.attributes or NO_ATTRIBUTES) for e in span.events],
        resource_of(_copied(span.resource.attributes)),
        scope.name if scope is not None else "",
        (scope.version or "") if scope is not None else "",
        span.dropped_attributes,
    )


def _copied(attributes: Attributes | None) -> Attributes:
    """*attributes* as a dict. The SDK's own ``copy`` takes a tenth of the time of ``dict()``, which asks key by key."""
    copy: Callable[[], Attributes] | None = getattr(attributes, "copy", None)
    return copy() if copy is not None else dict(attributes or NO_ATTRIBUTES)


def resource_of(attributes: Attributes) -> Resource:
    """The `Resource` of OTel resource attributes."""
    environment = attributes.get("deployment.environment.name", attributes.get("deployment.environment"))
    service = attributes.get("service.name")
    return Resource(None if service is None else str(service), None if environment is None else str(environment))
