"""What is summed over rows, and how the sums of groups add up to the sums of all.

Databases are asked for groups once and the groups are folded here: on every engine that costs less than asking again
for each total. Sums skip NULL, which means "not known"; a sum of which no part is known is None, a sum of nothing is 0.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Row, RowMapping, Table, and_, case, func

from spanledger.exporter.backends import percentile
from spanledger.exporter.records import CANCELLED, COMPLETED, FAILED

from ..answers import dollars

PERCENTILES: Final[Mapping[str, float]] = {"p50_duration_ms": 0.5, "p95_duration_ms": 0.95, "p99_duration_ms": 0.99}
NO_PERCENTILES: Final[Mapping[str, None]] = dict.fromkeys(PERCENTILES)
TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
COSTS: Final = ("input_cost", "output_cost", "total_cost")
COVERAGE: Final = ("calls_without_usage", "calls_without_price", "tokens_without_price")


class Measure(NamedTuple):
    """One aggregate: how SQL computes it for a group, and how groups fold into one."""

    name: str
    of: Callable[[Table], ColumnElement[Any]]
    fold: Callable[[Sequence[Any]], Any]


def known_sum(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known or not values else None


def known_dollars(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return dollars(math.fsum(known)) if known or not values else None


def least(values: Sequence[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)


def most(values: Sequence[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _summed(name: str) -> Measure:
    return Measure(name, lambda table: func.sum(table.c[name]), known_dollars if name in COSTS else known_sum)


def _in_state(name: str, *states: str) -> Measure:
    return Measure(name, lambda table: func.count().filter(table.c.status.in_(states)), known_sum)


def _without_usage(table: Table) -> ColumnElement[bool]:
    return and_(table.c.input_tokens.is_(None), table.c.output_tokens.is_(None))


def _tokens_without_price(table: Table) -> ColumnElement[int]:
    # Not total_tokens, which is NULL where only one of the two is known.
    tokens = func.coalesce(table.c.input_tokens, 0) + func.coalesce(table.c.output_tokens, 0)
    return case((table.c.total_cost.is_(None), tokens), else_=0)


EXECUTION_MEASURES: Final = (
    Measure("rows", lambda table: func.count(), known_sum),
    _in_state("completed", COMPLETED),
    _in_state("ended", COMPLETED, FAILED, CANCELLED),
    Measure("timed", lambda table: func.count(table.c.duration_ms), known_sum),
    _summed("duration_ms"),
    Measure("min_duration_ms", lambda table: func.min(table.c.duration_ms), least),
    Measure("max_duration_ms", lambda table: func.max(table.c.duration_ms), most),
)
CALL_MEASURES: Final = (
    *EXECUTION_MEASURES,
    *(_summed(name) for name in (*TOKENS, *COSTS)),
    Measure("calls_without_usage", lambda table: func.count().filter(_without_usage(table)), known_sum),
    Measure("calls_without_price", lambda table: func.count().filter(table.c.total_cost.is_(None)), known_sum),
    Measure("tokens_without_price", lambda table: func.sum(_tokens_without_price(table)), known_sum),
)


def selected(measures: Iterable[Measure], table: Table) -> list[ColumnElement[Any]]:
    return [measure.of(table).label(measure.name) for measure in measures]


def percentiles(table: Table) -> list[ColumnElement[Any]]:
    return [percentile(table.c.duration_ms, fraction).label(name) for name, fraction in PERCENTILES.items()]


def folded(measures: Iterable[Measure], groups: Iterable[Row[Any]]) -> dict[str, Any]:
    """The measures of all *groups* together."""
    mappings = [group._mapping for group in groups]
    return {measure.name: measure.fold([group[measure.name] for group in mappings]) for measure in measures}


def success_rate(measured: Mapping[str, Any]) -> float | None:
    """Completed among those that ended, 0 to 1; None while nothing has ended. What still runs has not failed."""
    return round(measured["completed"] / measured["ended"], 6) if measured["ended"] else None


def duration_stats(measured: Mapping[str, Any], ranked: RowMapping | Mapping[str, None]) -> dict[str, Any]:
    """Average, extremes and percentiles of the rows whose duration is known, milliseconds."""
    average = measured["duration_ms"] / measured["timed"] if measured["timed"] else None
    return {
        "avg_duration_ms": _rounded(average),
        "min_duration_ms": measured["min_duration_ms"],
        "max_duration_ms": measured["max_duration_ms"],
        **{name: _rounded(ranked[name]) for name in PERCENTILES},
    }


def usage(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and cost of counted calls."""
    return {name: measured[name] for name in (*TOKENS, *COSTS)}


def coverage(measured: Mapping[str, Any]) -> dict[str, Any]:
    """How much of the usage and cost beside it is not known."""
    return {name: measured[name] for name in COVERAGE}


def _rounded(milliseconds: Any) -> float | None:
    return None if milliseconds is None else round(float(milliseconds), 3)
