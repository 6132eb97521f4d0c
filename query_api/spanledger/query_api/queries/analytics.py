"""Questions over many rows: groups with their measures, percentiles, time buckets. Of calls, only the counted ones."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, Table, extract, func, select

from spanledger.exporter.records import FAILED
from spanledger.exporter.schema import execution_logs, llm_call_logs

from ..parameters import Asked
from .measures import CALL_MEASURES, EXECUTION_MEASURES, Measure, percentiles, selected
from .metrics import Metric
from .pages import narrowed

MAX_GROUPS: Final = 10_000
"""Most groups one question may bring into memory."""
EXAMPLE_CHARACTERS: Final = 500

MEASURES: Final[dict[str, tuple[Measure, ...]]] = {
    execution_logs.name: EXECUTION_MEASURES,
    llm_call_logs.name: CALL_MEASURES,
}
OWNED_CALLS: Final = llm_call_logs.outerjoin(execution_logs, llm_call_logs.c.execution_log_id == execution_logs.c.id)


def asked_rows(table: Table, asked: Asked) -> list[ColumnElement[bool]]:
    """The rows a question is about."""
    conditions = narrowed(table, asked)
    return [llm_call_logs.c.counted, *conditions] if table is llm_call_logs else conditions


def groups(table: Table, keys: Sequence[str], asked: Asked) -> Select[Any]:
    """Measures of the rows by the values of *keys*; to be folded."""
    columns = [table.c[key] for key in keys]
    return select(*columns, *selected(MEASURES[table.name], table)).where(*asked_rows(table, asked)).group_by(*columns)


def overall(table: Table, asked: Asked) -> Select[Any]:
    """What cannot be folded from groups: percentiles, and how many runs executions belong to."""
    measured = percentiles(table)
    if table is execution_logs:
        measured.append(func.count(table.c.execution_id.distinct()).label("runs"))
    return select(*measured).where(*asked_rows(table, asked))


class Breakdown(NamedTuple):
    """One row per value of *keys*, from the rows of *tables*; the *judged* table's rows give success and durations."""

    keys: tuple[str, ...]
    tables: tuple[Table, ...]
    judged: Table
    of_owner: bool = False
    """A call's keys are those of the execution that made it."""
    failures: bool = False
    """Only rows that failed."""


def breakdown(table: Table, by: Breakdown, asked: Asked) -> Select[Any]:
    """Every measure and percentile of the rows of *table*, by the breakdown's keys."""
    holder = execution_logs if by.of_owner else table
    keys = [holder.c[key] for key in by.keys]
    query = (
        select(*keys, *selected(MEASURES[table.name], table), *percentiles(table))
        .select_from(table if holder is table else OWNED_CALLS)
        .where(*asked_rows(table, asked))
        .group_by(*keys)
        .limit(MAX_GROUPS)
    )
    if not by.failures:
        return query
    example = func.substr(func.max(table.c.error_message), 1, EXAMPLE_CHARACTERS).label("example_message")
    return query.add_columns(example, func.max(table.c.start_time).label("last_seen")).where(table.c.status == FAILED)


SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
MONDAY: Final = 4 * 86_400
"""Weeks begin on Monday; the epoch was a Thursday."""


def series(metric: Metric, group: Column[Any] | None, interval: str, asked: Asked) -> Select[Any]:
    """The metric by time bucket and, if there is one, group: ``bucket``, ``value`` and ``series``, in time order.

    ``bucket`` is the bucket's start in seconds since the epoch; for months, the number of months since year 0.
    *group* may be a column of the executions that made the calls.
    """
    table = metric.table
    parts: list[ColumnElement[Any]] = [_bucket(table, interval).label("bucket")]
    if group is not None:
        parts.append(group.label("series"))
    names = [part.name for part in parts]  # not the expressions: their bound numbers differ from place to place
    return (
        select(*parts, metric.of(table).label("value"))
        .select_from(table if group is None or group.table is table else OWNED_CALLS)
        .where(*asked_rows(table, asked))
        .group_by(*names)
        .order_by(*names)
        .limit(MAX_GROUPS + 1)
    )


def _bucket(table: Table, interval: str) -> ColumnElement[Any]:
    started = table.c.start_time
    if interval == "month":
        return extract("year", started) * 12 + extract("month", started) - 1
    seconds, shift = extract("epoch", started), MONDAY if interval == "week" else 0
    return seconds - (seconds - shift) % SECONDS[interval]
