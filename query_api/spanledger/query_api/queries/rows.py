"""Rows by what they belong to: one row, the calls of some executions, everything of a run and its totals."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, Table, func, select

from spanledger.exporter.schema import llm_call_logs

from .pages import columns

MAX_ROWS: Final = 10_000
"""Most rows of one table in one answer that is not a page; more of them, or more text, is announced as `truncated`."""


def one(table: Table, row_id: str) -> Select[Any]:
    return select(table).where(table.c.id == row_id)


def some(table: Table, ids: Sequence[str]) -> Select[Any]:
    return select(table).where(table.c.id.in_(ids))


def calls_of(executions: Sequence[str], *, content: bool) -> Select[Any]:
    """The calls made by these executions (their ids), in the order they were made: one query for a whole page."""
    return (
        select(*columns(llm_call_logs, content=content))
        .where(llm_call_logs.c.execution_log_id.in_(executions))
        .order_by(llm_call_logs.c.start_time, llm_call_logs.c.id)
        .limit(MAX_ROWS + 1)
    )


def of_run(table: Table, execution_id: str, *, content: bool) -> Select[Any]:
    """The rows of a run, oldest first."""
    return (
        select(*columns(table, content=content))
        .where(table.c.execution_id == execution_id)
        .order_by(table.c.start_time, table.c.id)
        .limit(MAX_ROWS + 1)
    )


def extent(table: Table, execution_id: str) -> Select[int, Any, Any]:
    """How many rows of *table* a run has, and from when to when they lasted."""
    return select(
        func.count().label("rows"),
        func.min(table.c.start_time).label("start_time"),
        func.max(table.c.end_time).label("end_time"),
    ).where(table.c.execution_id == execution_id)
