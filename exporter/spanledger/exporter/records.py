"""The rows: NamedTuples whose fields *are* the columns of the tables, and the `Receipt` for a batch of spans.

Everything is already in the form the database takes: ids are dashed UUID text, JSON is text, times are aware UTC
`datetime`s, money is US dollars as the float nearest to the exact `Decimal`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

STARTED: Final = "started"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

ABANDONED: Final = "abandoned"
"""`error_type` of a row that was cancelled because its process died. A late end still replaces it."""


class Execution(NamedTuple):
    """One agent, workflow, tool, retrieval or step span: a row of ``execution_logs``."""

    id: str
    execution_id: str
    agent_type: str
    execution_step: str
    action_type: str | None
    status: str
    start_time: datetime
    end_time: datetime | None
    duration_ms: int | None
    input_data: str | None
    output_data: str | None
    error_message: str | None
    error_type: str | None
    error_stacktrace: str | None
    metadata: str | None
    report_id: str | None
    completion_id: str | None
    widget_id: str | None
    step_id: str | None
    external_platform: str | None
    external_user_id: str | None
    parent_id: str | None
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    session_id: str | None
    service_name: str | None
    environment: str | None
    scope: str | None
    scope_version: str | None
    usage_raw: str | None
    """Usage an agent's own span reported: never summed, kept as evidence (COST: rollups of children)."""
    inherited: str | None
    """Columns that came from an enclosing span, comma separated. A nearer ancestor may still change them."""
    dropped_attributes: int | None
    sanitized: bool


class LLMCall(NamedTuple):
    """One request to a model: a row of ``llm_call_logs``."""

    id: str
    execution_log_id: str | None
    execution_id: str
    provider: str
    model_id: str
    response_model: str | None
    response_id: str | None
    finish_reason: str | None
    service_tier: str | None
    call_type: str
    status: str
    start_time: datetime
    end_time: datetime | None
    duration_ms: int | None
    prompt: str | None
    response: str | None
    error_message: str | None
    error_type: str | None
    error_stacktrace: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    input_cost: float | None
    output_cost: float | None
    total_cost: float | None
    cost_source: str | None
    price_ref: str | None
    reported_cost: float | None
    counted: bool
    not_counted_reason: str | None
    usage_raw: str | None
    usage_rule: str | None
    """Which rule decided what the reported token counts mean (see `usage`)."""
    is_streaming: bool
    chunks_count: int | None
    time_to_first_token_ms: int | None
    metadata: str | None
    report_id: str | None
    completion_id: str | None
    external_platform: str | None
    external_user_id: str | None
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    session_id: str | None
    service_name: str | None
    environment: str | None
    scope: str | None
    scope_version: str | None
    inherited: str | None
    dropped_attributes: int | None
    sanitized: bool


class Bridge(NamedTuple):
    """A span that is neither: kept as one narrow row so that its children still find the execution above it."""

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_time: datetime


class Content(NamedTuple):
    """One OTLP log record that carries content of a span's row: kept until the row it belongs to is whole."""

    id: str
    """Derived from the record's trace, span, name, time and body, so that a redelivery is the same row."""
    trace_id: str
    """Empty, like the span id, where the record names no span: see `contents.recipients`."""
    span_id: str
    name: str
    time: datetime
    body: str
    """JSON text: ``{"attributes": {…}, "body": …}``."""
    scope: str | None
    service_name: str | None = None


class Batch(NamedTuple):
    """What one call of `Ledger.record` writes, in one transaction."""

    executions: Sequence[Execution] = ()
    llm_calls: Sequence[LLMCall] = ()
    bridges: Sequence[Bridge] = ()
    contents: Sequence[Content] = ()


def merged(batches: Iterable[Batch]) -> Batch:
    """At least one batch as one."""
    return Batch(*([row for rows in part for row in rows] for part in zip(*batches, strict=True)))


Row = TypeVar("Row", Execution, LLMCall)


def revised(row: Row, columns: Mapping[str, Any]) -> Row:
    """*row* with *columns*: what ``_replace`` does, at a third of its cost on rows this wide."""
    places = _PLACES[type(row)]
    values = list(row)
    for name, value in columns.items():
        values[places[name]] = value
    return type(row)._make(values)


_PLACES: Final = {kind: {name: i for i, name in enumerate(kind._fields)} for kind in (Execution, LLMCall)}


class Receipt(NamedTuple):
    """The answer to a batch: ``recorded + skipped + rejected == received``, and recorded rows are durable.

    *skipped* spans are neither executions nor model calls (plumbing), or belong to something that was deleted;
    *rejected* spans can never be stored, *reasons* says why, one short sentence per distinct reason.
    """

    received: int
    recorded: int
    skipped: int
    rejected: int
    reasons: Sequence[str] = ()


class DeadLetter(NamedTuple):
    """A span the database refuses. *body* is its spool frame, decoded as text."""

    id: str
    trace_id: str
    span_id: str
    reason: str
    body: str


class Handover(NamedTuple):
    """What became of one segment: ``produced == stored + skipped + sum(dropped)``.

    *opened* are the ids of rows that were still running when it was drained.
    """

    segment: str
    producer: str
    written_at: datetime
    produced: int
    stored: int
    skipped: int
    dropped: Mapping[str, int]
    opened: Sequence[str]
    dead: Sequence[DeadLetter]
