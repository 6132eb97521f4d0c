"""Spans → rows: which vocabularies a span speaks, what it does, and the columns that follow from it alone.

What depends on other spans (owner, inherited ids, verdict) is `lineage`'s; what it costs is `pricing`'s.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from spanledger.instrumentation import semconv

from . import providers, values
from .contents import is_content
from .counting import ROLLUP_CALL
from .dialects import DIALECTS
from .dialects.base import AGENT, PLUMBING, USAGE_FIELDS, Dialect, Draft, Operation, unchanged
from .identifiers import as_uuid
from .lineage import default_execution_id
from .messages import dump, messages_from, system_message
from .records import CANCELLED, COMPLETED, FAILED, STARTED, Batch, Bridge, Content, Execution, LLMCall
from .spans import ERROR, NO_ATTRIBUTES, Attributes, LogEvent, SpanData, row_id, row_id_of
from .usage import interpret
from .values import MAX_INT, is_clean, json_text, moment, sanitize

UNKNOWN: Final = "unknown"
CANCELLATIONS: Final = frozenset(
    ("CancelledError", "asyncio.CancelledError", "asyncio.exceptions.CancelledError", "KeyboardInterrupt")
)
IDENTIFIERS: Final = ("report_id", "completion_id", "widget_id", "step_id", "execution_log_id")
SAID_BY_THE_AGENT: Final = frozenset(("system", "input", "metadata", "not_counted_reason"))
"""What the row that stands in for an agent's calls leaves on the agent's own."""
MAX_SPAN_ID: Final = 2**64 - 1
MAX_TRACE_ID: Final = 2**128 - 1


class Mapped(NamedTuple):
    """The rows of some spans, how many spans became no row of their own, and why some can never be stored."""

    batch: Batch
    skipped: int
    rejected: Sequence[str]


def map_spans(spans: Iterable[SpanData]) -> Mapped:
    """The rows of *spans*. Never raises: a span that cannot be read is rejected with a reason."""
    executions: list[Execution] = []
    calls: list[LLMCall] = []
    bridges: list[Bridge] = []
    rejected: list[str] = []
    for span in spans:
        if not (0 < span.trace_id <= MAX_TRACE_ID and 0 < span.span_id <= MAX_SPAN_ID):
            rejected.append("a trace or span id is zero or too long")
            continue
        vocabulary = _vocabulary(span)
        operation = vocabulary.operation(span)
        if operation.table is None:
            bridges.append(_bridge(span))
            continue
        draft = vocabulary.read(span)
        if operation.table == "llm_call":
            calls.append(_llm_call(span, operation, draft))
        else:
            executions.append(_execution(span, operation, draft))
            if _was_answered_by_a_model(operation, draft):
                calls.append(_stand_in(span, draft))
    return Mapped(Batch(executions, calls, bridges), len(bridges), rejected)


def map_events(events: Iterable[LogEvent]) -> Sequence[Content]:
    """The content rows of the log records among *events* that carry a span's content; the others are not ours."""
    contents = []
    for event in events:
        if is_content(event):
            body = json_text({"attributes": dict(event.attributes), "body": event.body})
            trace_id, span_id = f"{event.trace_id:032x}", f"{event.span_id:016x}"
            identity = f"{trace_id}{span_id}{event.name}{event.time}{body}"
            contents.append(
                Content(as_uuid(identity), trace_id, span_id, event.name, moment(event.time), body, event.scope or None)
            )
    return contents


class _Vocabulary(NamedTuple):
    """The dialects some span speaks, merged: for every attribute the fields it may fill, strongest first."""

    dialects: tuple[Dialect, ...]
    table: Mapping[str, tuple[tuple[int, str, Callable[[Any], Any]], ...]]
    claims: Callable[[str], bool]
    """Whether an attribute that fills no field is known to say nothing new."""
    adjusts: tuple[Callable[[SpanData, Draft], None], ...]

    def operation(self, span: SpanData) -> Operation:
        for dialect in self.dialects:
            if (operation := dialect.operation(span)) is not None:
                return operation
        return PLUMBING

    def read(self, span: SpanData) -> Draft:
        """What the span's attributes say. One pass: each attribute fills the fields it is the strongest word on."""
        draft: Draft = {}
        strength: dict[str, int] = {}
        usage: dict[str, Any] = {}
        leftovers: dict[str, Any] = {}
        find, claims = self.table.get, self.claims
        for key, value in span.attributes.items():
            entries = find(key)
            if entries is None:
                if value != "" and not claims(key):
                    leftovers[key] = value
                continue
            understood = False
            for order, name, read in entries:
                if (result := read(value)) is not None:
                    understood = True
                    if order < strength.get(name, MAX_INT):
                        draft[name], strength[name] = result, order
                if name in USAGE_FIELDS:
                    usage[key] = value
                    understood = True
            if not understood and value not in ("", None):
                leftovers.setdefault(key, value)
        draft["reported_usage"] = usage
        draft["leftovers"] = leftovers
        for adjust in self.adjusts:
            adjust(span, draft)
        return draft


ALL_MARKS: Final = frozenset(mark for dialect in DIALECTS for mark in dialect.marks)


def _vocabulary(span: SpanData) -> _Vocabulary:
    return _spoken(span.scope, frozenset(ALL_MARKS.intersection(span.attributes)))


@lru_cache(maxsize=4096)
def _spoken(scope: str, marks: frozenset[str]) -> _Vocabulary:
    """The vocabulary of a span from *scope* that carries *marks*. The last dialect is always spoken."""
    spoken = tuple(
        dialect
        for dialect in DIALECTS
        if dialect.marks & marks or (dialect.scopes and scope.startswith(dialect.scopes)) or dialect is DIALECTS[-1]
    )
    table: dict[str, list[tuple[int, str, Callable[[Any], Any]]]] = {}
    for order, field in enumerate(field for dialect in spoken for field in dialect.fields):
        table.setdefault(field.attribute, []).append((order, field.name, field.read))
    claims = tuple(claim for dialect in spoken for claim in dialect.claims)
    return _Vocabulary(
        spoken,
        {name: tuple(entries) for name, entries in table.items()},
        lru_cache(maxsize=1024)(lambda key: key.startswith(claims)),  # a span's names are the next span's names
        tuple(dialect.adjust for dialect in spoken if dialect.adjust is not unchanged),
    )


# A row is built from its columns in one step: keyword arguments of this many columns would cost three times that.
_EXECUTION_COLUMNS: Final = itemgetter(*Execution._fields)
_CALL_COLUMNS: Final = itemgetter(*LLMCall._fields)


def _bridge(span: SpanData) -> Bridge:
    return Bridge(
        row_id(span.trace_id, span.span_id),
        f"{span.trace_id:032x}",
        f"{span.span_id:016x}",
        _parent(span),
        moment(span.start_time),
    )


def _execution(span: SpanData, operation: Operation, draft: Draft) -> Execution:
    get = draft.get
    columns = _common(span, draft)
    columns |= {
        "agent_type": get("agent_type") or span.name or UNKNOWN,
        "execution_step": get("execution_step") or operation.kind,
        "action_type": get("action_type"),
        "input_data": values.as_json(get("input")),
        "output_data": values.as_json(get("output")),
        "widget_id": _identifier(get("widget_id")),
        "step_id": _identifier(get("step_id")),
        "parent_id": None,
        "usage_raw": _usage_raw(draft),
    }
    return _sanitized(Execution._make(_EXECUTION_COLUMNS(columns)))


def _llm_call(span: SpanData, operation: Operation, draft: Draft) -> LLMCall:
    get = draft.get
    usage = interpret(draft)
    model = get("model_id") or get("response_model")
    streaming = bool(get("is_streaming") or get("call_type") == "inference_stream")
    kind = "inference_stream" if streaming and operation.kind == "inference" else operation.kind
    explicit_owner = get("execution_log_id")
    columns = _common(span, draft)
    columns |= {
        "execution_log_id": as_uuid(explicit_owner) if explicit_owner else None,
        "provider": providers.normalise(get("provider"), get("server_address"), model),
        "model_id": model or UNKNOWN,
        "response_model": get("response_model"),
        "response_id": get("response_id"),
        "finish_reason": get("finish_reason"),
        "service_tier": get("service_tier"),
        "call_type": get("call_type") or kind,
        "prompt": _conversation(get("system"), get("input"), "user"),
        "response": _conversation(None, get("output"), "assistant"),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_input_tokens": get("audio_input_tokens"),
        "audio_output_tokens": get("audio_output_tokens"),
        "input_cost": None,
        "output_cost": None,
        "total_cost": None,
        "cost_source": None,
        "price_ref": None,
        "reported_cost": get("reported_cost"),
        "counted": not get("not_counted_reason"),
        "not_counted_reason": get("not_counted_reason"),
        "usage_raw": _usage_raw(draft),
        "usage_rule": usage.rule,
        "is_streaming": streaming,
        "chunks_count": get("chunks_count"),
        "time_to_first_token_ms": get("time_to_first_token_ms"),
    }
    return _sanitized(LLMCall._make(_CALL_COLUMNS(columns)))


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


def _common(span: SpanData, draft: Draft) -> dict[str, Any]:
    """The columns both kinds of row have."""
    get = draft.get
    trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    start = max(span.start_time, 0)
    end = None if span.end_time is None else max(span.end_time, start)  # a clock that stepped back
    exception = _exception(span)
    status = _status(span, draft, exception)
    error_type = get("error_type") or exception.get(semconv.EXCEPTION_TYPE)
    message = get("error_message") or exception.get(semconv.EXCEPTION_MESSAGE) or span.status_message
    if status == FAILED:
        message = message or error_type or "the span ended with an error and says no more"
    stacktrace = exception.get(semconv.EXCEPTION_STACKTRACE)
    return {
        "id": row_id_of(trace_id, span_id),
        "execution_id": get("execution_id") or default_execution_id(trace_id),
        "status": status,
        "start_time": moment(start),
        "end_time": None if end is None else moment(end),
        "duration_ms": None if end is None else min((end - start) // 1_000_000, MAX_INT),
        "error_message": values.text(message) if status in (FAILED, CANCELLED) else None,
        "error_type": values.text(error_type),
        "error_stacktrace": values.text(stacktrace),
        "metadata": _metadata(draft),
        "report_id": _identifier(get("report_id")),
        "completion_id": _identifier(get("completion_id")),
        "external_platform": get("external_platform"),
        "external_user_id": get("external_user_id"),
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_span_id": _parent(span),
        "name": span.name,
        "session_id": get("session_id"),
        "service_name": span.resource.service_name,
        "environment": span.resource.environment,
        "scope": span.scope or None,
        "scope_version": span.scope_version or None,
        "inherited": None,
        "dropped_attributes": span.dropped_attributes or None,
        "sanitized": span.end_time is not None and span.end_time < span.start_time,
    }


def _parent(span: SpanData) -> str | None:
    return f"{span.parent_span_id:016x}" if span.parent_span_id else None


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
    reported = {**draft.get("usage_raw", {}), **draft["reported_usage"]}
    return json_text(reported) if reported else None


def _metadata(draft: Draft) -> str | None:
    """What the user attached, what no dialect claimed, and the originals of identifiers that were no UUIDs."""
    kept = {**draft["leftovers"], **draft.get("metadata", {})}
    for name in IDENTIFIERS:
        if isinstance(original := draft.get(name), str) and as_uuid(original) != original.lower():
            kept[name] = original
    return json_text(kept) if kept else None


R = TypeVar("R", Execution, LLMCall)


def _sanitized(row: R) -> R:
    """*row*, with text no database takes replaced and marked so. Nearly every row passes on the first look."""
    if is_clean("\n".join([value for value in row if type(value) is str])):
        return row
    clean: dict[str, Any] = {
        name: sanitize(v) for name, v in zip(row._fields, row, strict=True) if type(v) is str and not is_clean(v)
    }
    return row._replace(**clean, sanitized=True)
