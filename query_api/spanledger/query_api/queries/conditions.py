"""What a filter means in SQL: functions from a table and the wanted values to a condition.

All values are bound parameters; column names come from our own tables, never from a request.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, Text, cast, func, literal_column, or_, select

from spanledger.exporter.schema import execution_logs, llm_call_logs

Condition = Callable[[Table, Sequence[Any]], ColumnElement[bool]]

SEARCHED: Final = {
    execution_logs.name: (
        "name",
        "agent_type",
        "action_type",
        "error_type",
        "error_message",
        "input_data",
        "output_data",
    ),
    llm_call_logs.name: ("name", "model_id", "error_type", "error_message", "prompt", "response"),
}
"""Columns that ``q`` looks into: names, errors and content."""


def any_of(column: str) -> Condition:
    """The column holds one of the values."""
    return lambda table, values: table.c[column].in_(values)


def since(table: Table, values: Sequence[datetime]) -> ColumnElement[bool]:
    return table.c.start_time >= values[0]


def until(table: Table, values: Sequence[datetime]) -> ColumnElement[bool]:
    return table.c.start_time <= values[0]


def lasting(table: Table, values: Sequence[int]) -> ColumnElement[bool]:
    return table.c.duration_ms >= values[0]


def costing(table: Table, values: Sequence[float]) -> ColumnElement[bool]:
    """At least this many US dollars: a call's own cost, an execution's with everything beneath it."""
    cost = table.c.total_cost if table is llm_call_logs else _cost_beneath()
    return cost >= values[0]


def containing(table: Table, values: Sequence[str]) -> ColumnElement[bool]:
    """One of the texts stands, in any case, in one of the searched columns; ``%`` and ``_`` are literal."""
    columns = [cast(table.c[name], Text) for name in SEARCHED[table.name]]
    return or_(*(column.icontains(text, autoescape=True) for text in values for column in columns))


def through_the_other(condition: Condition, table: Table, values: Sequence[Any]) -> ColumnElement[bool]:
    """*condition* on the table that has its column: calls through their execution, executions through their calls."""
    if table is llm_call_logs:
        owners = select(execution_logs.c.id).where(condition(execution_logs, values))
        return llm_call_logs.c.execution_log_id.in_(owners)
    owned = select(llm_call_logs.c.execution_log_id).where(condition(llm_call_logs, values))
    return execution_logs.c.id.in_(owned)


def _cost_beneath() -> ColumnElement[Any]:
    """Cost of the counted calls of an execution and of all executions beneath it, per row of ``execution_logs``.

    UNION, not UNION ALL: a cycle of parents then ends by itself.
    """
    own: Select[Any] = select(literal_column(f"{execution_logs.name}.id").label("id"))
    beneath = own.cte("beneath", recursive=True, nesting=True)
    child = execution_logs.alias("child")
    beneath = beneath.union(select(child.c.id).join(beneath, child.c.parent_id == beneath.c.id))
    return (
        select(func.sum(llm_call_logs.c.total_cost))
        .where(llm_call_logs.c.counted, llm_call_logs.c.execution_log_id.in_(select(beneath.c.id)))
        .scalar_subquery()
    )
