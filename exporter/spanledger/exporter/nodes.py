"""What settling looks at and says: nodes of standing rows, the family they form, and changes to them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from .lending import Loan
from .records import ABANDONED, STARTED, Batch, Bridge, Content


class ExecutionNode(NamedTuple):
    """What settling needs of a standing row of ``execution_logs``: fields are column names."""

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: str
    error_type: str | None
    parent_id: str | None
    execution_id: str
    report_id: str | None
    completion_id: str | None
    session_id: str | None
    external_platform: str | None
    external_user_id: str | None
    inherited: str | None


class CallNode(NamedTuple):
    """What settling needs of a standing row of ``llm_call_logs``: fields are column names."""

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: str
    error_type: str | None
    execution_log_id: str | None
    execution_id: str
    report_id: str | None
    completion_id: str | None
    session_id: str | None
    external_platform: str | None
    external_user_id: str | None
    inherited: str | None
    call_type: str
    model_id: str
    response_model: str | None
    response_id: str | None
    start_time: datetime
    end_time: datetime | None
    input_tokens: int | None
    output_tokens: int | None
    counted: bool
    not_counted_reason: str | None
    scope: str | None
    service_name: str | None
    has_prompt: bool
    """``prompt IS NOT NULL``: not a column, so that settling never reads content."""
    has_response: bool
    """``response IS NOT NULL``."""


LINK_WINDOW: Final = timedelta(minutes=5)
"""How far apart in time two traces may be that show the same request."""


class Family(NamedTuple):
    """The rows that already stand and may matter: those of every trace the batch touches, and of linked traces.

    A trace is linked to one in the family, a few links far, by two calls that overlap in time, begun at most
    `LINK_WINDOW` apart, and may be the same request: of the same *response_id*; or of different scopes, one of them
    without a parent span, with equal token counts (or none on one side). Also by a log record that names no span and
    may have been written in either.
    """

    executions: Sequence[ExecutionNode] = ()
    llm_calls: Sequence[CallNode] = ()
    bridges: Sequence[Bridge] = ()
    contents: Sequence[Content] = ()


class Change(NamedTuple):
    """An update of a row that already stands."""

    table: str
    id: str
    values: Mapping[str, Any]


class Settlement(NamedTuple):
    """What to write: the batch with its derived columns filled in, updates of standing rows, and rows to take back.

    *retracted* are ids of ``llm_call_logs`` rows that stood in for calls which have now been seen themselves. *loans*
    come last: each copies one column between two rows that then stand.
    """

    batch: Batch
    changes: Sequence[Change]
    retracted: Sequence[str]
    loans: Sequence[Loan] = ()


def rank(status: str, error_type: str | None) -> int:
    """How far a row's state has moved: 0 started, 1 cancelled because abandoned, 2 ended. It never moves back."""
    if status == STARTED:
        return 0
    return 1 if error_type == ABANDONED else 2


def default_execution_id(trace_id: str) -> str:
    """The run a row belongs to when no span above it names one: its trace."""
    return f"exec_{trace_id}"
