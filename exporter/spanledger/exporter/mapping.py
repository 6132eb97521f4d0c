"""Spans → rows: which vocabularies a span speaks, what it does, and the columns that follow from it alone.

What depends on other spans (owner, inherited ids, verdict) is `lineage`'s; what it costs is `pricing`'s.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from spanledger.instrumentation import semconv

from . import providers, values
from .bounds import MAX_VALUE_BYTES, storable
from .contents import is_content
from .counting import ROLLUP_CALL
from .dialects.base import AGENT, Draft, Operation
from .identifiers import as_uuid
from .messages import dump, messages_from, system_message
from .nodes import default_execution_id
from .records import CANCELLED, COMPLETED, FAILED, STARTED, Batch, Bridge, Content, Execution, LLMCall
from .spans import ERROR, NO_ATTRIBUTES, Attributes, LogEvent, SpanData, row_id, row_id_of, span_hex, trace_hex
from .usage import NO_OUTPUT, interpret
from .values import MAX_INT, json_text, moment
from .vocabulary import vocabulary

UNKNOWN: Final = "unknown"
CANCELLATIONS: Final = frozenset(
    ("CancelledError", "asyncio.CancelledError", "asyncio.exceptions.CancelledError", "KeyboardInterrupt")
)
IDENTIFIERS: Final = ("report_id", "completion_id", "widget_id", "step_id", "execution_log_id")
SAID_BY_THE_AGENT: Final = frozenset(("system", "input", "metadata", "not_counted_reason"))
"""What the row that stands in for an agent's calls leaves on the agent's own."""
NO_EXECUTION: Final[Mapping[str, Any]] = dict.fromkeys(Execution._fields)
NO_CALL: Final[Mapping[str, Any]] = dict.fromkeys(LLMCall._fields)
"""Rows before anything is known of them, columns in their order."""
AS_GIVEN: Final = frozenset(
    (
        "action_type",
        "external_platform",
        "external_user_id",
        "session_id",
        "response_model",
        "response_id",
        "finish_reason",
        "service_tier",
        "audio_input_tokens",
        "audio_output_tokens",
        "reported_cost",
        "not_counted_reason",
        "chunks_count",
        "time_to_first_token_ms",
    )
)
"""Fields of a draft that are the column of the same name, as they are."""
MAX_SPAN_ID: Final = 2**64 - 1
MAX_TRACE_ID: Final = 2**128 - 1

_log = logging.getLogger(__name__)


class Mapped(NamedTuple):
    """The rows of some spans, how many spans became no row of their own, and why some can never be stored."""

    batch: Batch
    skipped: int
    rejected: Sequence[str]


def map_spans(spans: Iterable[SpanData], max_value_bytes: int = MAX_VALUE_BYTES) -> Mapped:
    """The rows of *spans*. Never raises: a span that cannot be read is rejected with a reason."""
    executions: list[Execution] = []
    calls: list[LLMCall] = []
    bridges: list[Bridge] = []
    rejected: list[str] = []
    for span in spans:
        if not (0 < span.trace_id <= MAX_TRACE_ID and 0 < span.span_id <= MAX_SPAN_ID):
            rejected.append("a trace or span id is zero or too long")
            continue
        try:
            rows = _rows(span, max_value_bytes)
        except Exception as error:  # a value nobody thought of: it costs its own span, never the batch
            _log.exception("spanledger: a span of %s cannot be read", span.scope or "an unnamed scope")
            rejected.append(f"the span cannot be read: {type(error).__name__}")
            continue
        for row in rows:
            if isinstance(row, LLMCall):
                calls.append(row)
            elif isinstance(row, Execution):
                executions.append(row)
            else:
                bridges.append(row)
    return Mapped(Batch(executions, calls, bridges), len(bridges), rejected)


def _rows(span: SpanData, limit: int) -> Sequence[Execution | LLMCall | Bridge]:
    """The rows of one span: one, or an agent's own and the call that stands in for those it made."""
    spoken = vocabulary(span)
    operation = spoken.operation(span)
    if operation.table is None:
        return (_bridge(span),)
    draft = spoken.read(span)
    if operation.table == "llm_call":
        return (storable(_llm_call(span, operation, draft), limit),)
    execution = storable(_execution(span, operation, draft), limit)
    if _was_answered_by_a_model(operation, draft):
        return execution, storable(_stand_in(span, draft), limit)
    return (execution,)


def map_events(events: Iterable[LogEvent]) -> Sequence[Content]:
    """The content rows of the log records among *events* that carry a span's content; the others are not ours."""
    contents = []
    for event in events:
        if is_content(event):
            body = json_text({"attributes": dict(event.attributes), "body": event.body})
            trace_id = trace_hex(event.trace_id) if event.trace_id else ""
            span_id = span_hex(event.span_id) if event.trace_id else ""
            identity = as_uuid(f"{trace_id}{span_id}{event.name}{event.time}{body}")
            time, scope = moment(event.time), event.scope or None
            contents.append(Content(identity, trace_id, span_id, event.name, time, body, scope, event.service_name))
    return contents


def _bridge(span: SpanData) -> Bridge:
    return Bridge(
        row_id(span.trace_id, span.span_id),
        trace_hex(span.trace_id),
        span_hex(span.span_id),
        _parent(span),
        moment(span.start_time),
    )


def _execution(span: SpanData, operation: Operation, draft: Draft) -> Execution:
    row = _begun(NO_EXECUTION, span, draft)
    row["agent_type"] = draft.get("agent_type") or span.name or UNKNOWN
    row["execution_step"] = draft.get("execution_step") or operation.kind
    row["input_data"] = values.as_json(draft.get("input"))
    row["output_data"] = values.as_json(draft.get("output"))
    return Execution._make(row.values())


def _llm_call(span: SpanData, operation: Operation, draft: Draft) -> LLMCall:
    usage = interpret(draft)
    model = draft.get("model_id") or draft.get("response_model")
    streaming = bool(draft.get("is_streaming") or draft.get("call_type") == "inference_stream")
    kind = "inference_stream" if streaming and operation.kind == "inference" else operation.kind
    row = _begun(NO_CALL, span, draft)
    row["provider"] = providers.normalise(draft.get("provider"), draft.get("server_address"), model)
    row["model_id"] = model or UNKNOWN
    row["call_type"] = draft.get("call_type") or kind
    row["prompt"] = _conversation(draft.get("system"), draft.get("input"), "user")
    row["response"] = _conversation(None, draft.get("output"), "assistant")
    row["input_tokens"] = usage.input_tokens
    row["output_tokens"] = usage.output_tokens
    row["total_tokens"] = usage.total_tokens
    if operation.kind in NO_OUTPUT and usage.output_tokens is None and usage.total_tokens is None:
        row["total_tokens"] = usage.input_tokens  # it answers with numbers, not with tokens
    row["cache_read_tokens"] = usage.cache_read_tokens
    row["cache_write_tokens"] = usage.cache_write_tokens
    row["reasoning_tokens"] = usage.reasoning_tokens
    row["usage_rule"] = usage.rule
    row["counted"] = not draft.get("not_counted_reason")
    row["is_streaming"] = streaming
    return LLMCall._make(row.values())


def _was_answered_by_a_model(operation: Operation, draft: Draft) -> bool:
    """Whether a step shows that calls were made in it: by their usage, or an agent's by its model and its answer."""
    if draft.get("input_tokens") or draft.get("output_tokens"):
        return True
    return operation is AGENT and bool(draft.get("model_id") and draft.get("output"))


def _stand_in(span: SpanData, draft: Draft) -> LLMCall:
    """The row that stands in for an agent's calls while nobody has traced them: the agent's own sum and its answer."""
    usage = {name: value for name, value in draft.items() if name not in SAID_BY_THE_AGENT}
    usage |= {"call_type": ROLLUP_CALL, "leftovers": {}}
    return _llm_call(span, Operation("llm_call", ROLLUP_CALL), usage)


def _begun(empty: Mapping[str, Any], span: SpanData, draft: Draft) -> dict[str, Any]:
    """A row of *empty*'s columns, in their order, with those filled in that either kind of row has."""
    row = dict(empty)
    for name, value in draft.items():
        if name in AS_GIVEN and name in row:
            row[name] = value
        elif name in IDENTIFIERS and name in row:
            row[name] = _identifier(value)
    began, end = span.start_time, span.end_time
    start = max(began, 0)
    row["trace_id"] = trace_id = trace_hex(span.trace_id)
    row["span_id"] = span_id = span_hex(span.span_id)
    row["id"] = row_id_of(trace_id, span_id)
    row["parent_span_id"] = _parent(span)
    row["name"] = span.name
    row["execution_id"] = draft.get("execution_id") or default_execution_id(trace_id)
    row["start_time"] = moment(start)
    row["sanitized"] = False
    if end is not None:
        row["sanitized"] = end < began  # a clock that stepped back
        end = max(end, start)
        row["end_time"] = moment(end)
        row["duration_ms"] = min((end - start) // 1_000_000, MAX_INT)
    row["metadata"] = _metadata(draft)
    row["usage_raw"] = _usage_raw(draft)
    row["service_name"], row["environment"] = span.resource
    row["scope"] = span.scope or None
    row["scope_version"] = span.scope_version or None
    row["dropped_attributes"] = span.dropped_attributes or None
    _tell_outcome(row, span, draft)
    return row


def _tell_outcome(row: dict[str, Any], span: SpanData, draft: Draft) -> None:
    exception = _exception(span) if span.events else NO_ATTRIBUTES
    row["status"] = status = _status(span, draft, exception)
    error_type = draft.get("error_type") or exception.get(semconv.EXCEPTION_TYPE)
    if error_type is not None:
        row["error_type"] = values.text(error_type)
    if exception:
        row["error_stacktrace"] = values.text(exception.get(semconv.EXCEPTION_STACKTRACE))
    if status in (FAILED, CANCELLED):
        message = draft.get("error_message") or exception.get(semconv.EXCEPTION_MESSAGE) or span.status_message
        if status == FAILED:
            message = message or error_type or "the span ended with an error and says no more"
        row["error_message"] = values.text(message)


def _parent(span: SpanData) -> str | None:
    return span_hex(span.parent_span_id) if span.parent_span_id else None


def _exception(span: SpanData) -> Attributes:
    """The attributes of the last exception the span recorded."""
    for event in reversed(span.events):
        if event.name == semconv.EXCEPTION_EVENT:
            return event.attributes
    return NO_ATTRIBUTES


def _status(span: SpanData, draft: Draft, exception: Attributes) -> str:
    if span.end_time is None:
        return STARTED
    if (stated := draft.get("status")) in (COMPLETED, FAILED, CANCELLED):
        return str(stated)
    if span.status_code != ERROR:
        return COMPLETED
    kinds = {draft.get("error_type"), exception.get(semconv.EXCEPTION_TYPE)}
    return CANCELLED if kinds & CANCELLATIONS else FAILED


def _identifier(value: Any) -> str | None:
    return as_uuid(value) if isinstance(value, str) and value else None


def _conversation(system: Any, said: Any, role: str) -> str | None:
    """Messages as JSON text; plain text where that is what there was."""
    if isinstance(said, str) and system is None and said[:1] not in ("[", "{"):
        return said
    return dump([*system_message(system), *messages_from(said, role)])


def _usage_raw(draft: Draft) -> str | None:
    """The usage as it was reported: the provider's block if the span carries it, and the attributes themselves."""
    reported = draft["reported_usage"]
    if block := draft.get("usage_raw"):
        reported = {**block, **reported}
    return json_text(reported) if reported else None


def _metadata(draft: Draft) -> str | None:
    """What the user attached, what no dialect claimed, and the originals of identifiers that were no UUIDs."""
    kept = draft["leftovers"]
    if attached := draft.get("metadata"):
        kept = {**kept, **attached}
    for name in IDENTIFIERS:
        if isinstance(original := draft.get(name), str) and as_uuid(original) != original.lower():
            kept[name] = original
    return json_text(kept) if kept else None
