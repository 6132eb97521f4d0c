"""What a series can show, by which columns it can be split, and how wide its points can be."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Table, func

from spanledger.exporter.backends import percentile
from spanledger.exporter.records import FAILED
from spanledger.exporter.schema import execution_logs, llm_call_logs

from .measures import PERCENTILES

Aggregate = Callable[[Table], ColumnElement[Any]]


class Metric(NamedTuple):
    """What a series shows: an aggregate over the rows of *table*."""

    table: Table
    of: Aggregate


def _rows(table: Table) -> ColumnElement[int]:
    return func.count()


def _failures(table: Table) -> ColumnElement[int]:
    return func.count().filter(table.c.status == FAILED)


def _runs(table: Table) -> ColumnElement[int]:
    return func.count(table.c.execution_id.distinct())


def _average_duration(table: Table) -> ColumnElement[Any]:
    return func.avg(table.c.duration_ms)


def _sum_of(column: str) -> Aggregate:
    return lambda table: func.sum(table.c[column])


def _duration_at(fraction: float) -> Aggregate:
    return lambda table: percentile(table.c.duration_ms, fraction)


METRICS: Final[Mapping[str, Metric]] = {
    "calls": Metric(llm_call_logs, _rows),
    "failed_calls": Metric(llm_call_logs, _failures),
    **{
        name: Metric(llm_call_logs, _sum_of(name))
        for name in ("total_cost", "input_tokens", "output_tokens", "total_tokens")
    },
    "avg_duration_ms": Metric(llm_call_logs, _average_duration),
    **{name: Metric(llm_call_logs, _duration_at(fraction)) for name, fraction in PERCENTILES.items()},
    "executions": Metric(execution_logs, _rows),
    "failed_executions": Metric(execution_logs, _failures),
    "runs": Metric(execution_logs, _runs),
    "avg_execution_duration_ms": Metric(execution_logs, _average_duration),
}
GROUPS: Final = (
    "agent_type",
    "execution_step",
    "provider",
    "model_id",
    "call_type",
    "status",
    "error_type",
    "service_name",
    "environment",
    "external_platform",
    "external_user_id",
)
INTERVALS: Final = ("minute", "hour", "day", "week", "month")
