"""What may be wrong with rows: conditions that tell them, and how many of them each instrumentation made."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Select, Table, Text, and_, case, cast, exists, extract, func, or_, select

from spanledger.exporter.counting import DUPLICATE_OF
from spanledger.exporter.records import COMPLETED, STARTED
from spanledger.exporter.schema import bridge_spans, dead_letters, deliveries, execution_logs, llm_call_logs
from spanledger.exporter.usage import NO_OUTPUT, UNSAID

from ..parameters import Asked
from .analytics import MAX_GROUPS
from .measures import CALL_MEASURES, COVERAGE, Measure, selected
from .pages import narrowed

Symptom = Callable[[Table, datetime], ColumnElement[bool]]
"""The rows of a table that have it, as of a moment."""

EMITTER: Final = ("scope", "scope_version")
COVERED: Final[Sequence[Measure]] = [measure for measure in CALL_MEASURES if measure.name in COVERAGE]

EARLIER: Final = timedelta(minutes=1)
"""How far clocks may be apart before a row is said to come from the future."""
LONG: Final = timedelta(hours=1)
CACHEABLE: Final = 1024
"""Tokens of the shortest prompt that OpenAI caches. Others start at the same size or above."""


def executions_by_emitter(asked: Asked) -> Select[Any]:
    """``rows`` and ``last_seen`` of executions by scope and version."""
    emitter = _emitter(execution_logs)
    rows = (func.count().label("rows"), func.max(execution_logs.c.start_time).label("last_seen"))
    return select(*emitter, *rows).where(*narrowed(execution_logs, asked)).group_by(*emitter).limit(MAX_GROUPS)


def calls_by_emitter(asked: Asked) -> Select[Any]:
    """The same of calls, also by whether they count and the kind of reason why not, with what is not known of them."""
    columns = llm_call_logs.c
    is_duplicate = columns.not_counted_reason.startswith(DUPLICATE_OF, autoescape=True)
    reason = case((is_duplicate, DUPLICATE_OF.rstrip(":")), else_=columns.not_counted_reason).label("reason")
    keys = (*_emitter(llm_call_logs), columns.counted, reason)
    rows = (func.count().label("rows"), func.max(columns.start_time).label("last_seen"))
    return (
        select(*keys, *rows, *selected(COVERED, llm_call_logs))
        .where(*narrowed(llm_call_logs, asked))
        .group_by(*(key.name for key in keys))
        .limit(MAX_GROUPS)
    )


def affected(table: Table, symptom: Symptom, keys: Sequence[str], asked: Asked, now: datetime) -> Select[Any]:
    """By scope, version and *keys*: how many ``rows`` have the symptom, the id of one as ``example``, and how many
    ``tokens`` (of calls) or ``dropped`` attributes they have."""
    groups = [*_emitter(table), *(table.c[key] for key in keys)]
    sums = [func.sum(table.c.dropped_attributes).label("dropped")]
    if table is llm_call_logs:
        tokens = func.coalesce(table.c.input_tokens, 0) + func.coalesce(table.c.output_tokens, 0)
        sums.append(func.sum(tokens).label("tokens"))
    return (
        select(*groups, func.count().label("rows"), func.max(cast(table.c.id, Text)).label("example"), *sums)
        .where(*narrowed(table, asked), symptom(table, now))
        .group_by(*groups)
        .order_by(*groups)
        .limit(MAX_GROUPS)
    )


def without_price(table: Table, now: datetime) -> ColumnElement[bool]:
    return and_(table.c.counted, table.c.total_cost.is_(None), ~_lacks_usage(table))


def without_usage(table: Table, now: datetime) -> ColumnElement[bool]:
    return and_(table.c.counted, table.c.status == COMPLETED, _lacks_usage(table))


def _lacks_usage(table: Table) -> ColumnElement[bool]:
    no_output = and_(table.c.output_tokens.is_(None), table.c.call_type.not_in(NO_OUTPUT))
    return or_(table.c.input_tokens.is_(None), no_output)


def cache_left_out(table: Table, now: datetime) -> ColumnElement[bool]:
    return and_(table.c.counted, table.c.usage_rule == UNSAID)


def cache_never_said(table: Table, now: datetime) -> ColumnElement[bool]:
    """Prompts long enough to be cached, from an emitter that never said of any whether they were."""
    columns = llm_call_logs.c
    spoken = or_(columns.cache_read_tokens.is_not(None), columns.cache_write_tokens.is_not(None))
    telling = select(*_who(llm_call_logs)).where(spoken).distinct().subquery()
    same = (own == other for own, other in zip(_who(table), telling.c, strict=True))
    silent = ~exists().where(*same)
    long_enough = table.c.input_tokens >= CACHEABLE
    return and_(table.c.counted, long_enough, table.c.usage_rule != UNSAID, silent)


def without_parent(table: Table, now: datetime) -> ColumnElement[bool]:
    """A span encloses it that never came."""
    seen = (
        exists().where(parent.c.trace_id == table.c.trace_id, parent.c.span_id == table.c.parent_span_id)
        for parent in (execution_logs.alias("above"), llm_call_logs.alias("outer"), bridge_spans.alias("between"))
    )
    return and_(table.c.parent_span_id.is_not(None), *(~one for one in seen))


def without_execution(table: Table, now: datetime) -> ColumnElement[bool]:
    return and_(table.c.counted, table.c.execution_log_id.is_(None))


def ended_before_start(table: Table, now: datetime) -> ColumnElement[bool]:
    # Mapping moves such an end to the start, and marks the row.
    return and_(table.c.sanitized, table.c.end_time == table.c.start_time)


def before_parent(table: Table, now: datetime) -> ColumnElement[bool]:
    """By more than a second: the clocks of two machines."""
    parent = execution_logs.alias("parent")
    link: Column[Any] = table.c.execution_log_id if table is llm_call_logs else table.c.parent_id
    earlier = extract("epoch", parent.c.start_time) - extract("epoch", table.c.start_time)
    return exists().where(parent.c.id == link, parent.c.start_time > table.c.start_time, earlier > 1)


def in_the_future(table: Table, now: datetime) -> ColumnElement[bool]:
    return table.c.start_time > now + EARLIER


def with_lost_attributes(table: Table, now: datetime) -> ColumnElement[bool]:
    return table.c.dropped_attributes > 0


def still_running(table: Table, now: datetime) -> ColumnElement[bool]:
    return and_(table.c.status == STARTED, table.c.start_time < now - LONG)


def refused(since: datetime) -> Select[str, int]:
    """Reasons for which the database refused spans, and how many."""
    reason: Column[str] = dead_letters.c.reason
    return select(reason, func.count()).where(dead_letters.c.created_at >= since).group_by(reason).limit(MAX_GROUPS)


def lossy_deliveries(since: datetime) -> Select[Any]:
    """What was dropped, ``{reason: how many}``, of every segment of the spool that lost something."""
    dropped = deliveries.c.dropped
    return select(dropped).where(deliveries.c.written_at >= since, dropped.is_not(None))


def _emitter(table: Table) -> list[Column[Any]]:
    return [table.c[name] for name in EMITTER]


def _who(table: Table) -> list[ColumnElement[str]]:
    """Emitter and provider, without NULL so that databases can look them up."""
    return [func.coalesce(table.c[name], "").label(name) for name in (*EMITTER, "provider")]
