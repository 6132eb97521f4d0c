"""``/analytics/timeseries``: one metric over time. A bucket in which nothing happened is absent, not zero."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column
from starlette.responses import Response

from spanledger.exporter.errors import BadParameter
from spanledger.exporter.schema import execution_logs, llm_call_logs

from ..answers import Answer, dollars
from ..parameters import Asked, window
from ..queries.analytics import MAX_GROUPS, series
from ..queries.metrics import METRICS, Metric
from ..state import Asking
from .summary import date_range

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timeseries(request: Asking, asked: Asked) -> Response:
    asked = window(asked)
    metric, interval, group_by = METRICS[asked["metric"]], asked["interval"], asked.get("group_by")
    group = _group(metric, group_by) if group_by else None
    with request.state["ledger"].store.reading() as connection:
        rows = connection.execute(series(metric, group, interval, asked)).all()
    if len(rows) > MAX_GROUPS:
        raise BadParameter(
            "interval",
            f"That is more than {MAX_GROUPS:,} points; use a longer interval, a shorter window or no group_by.",
        )
    lines: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        point = {"time": _start(interval, int(row.bucket)), "value": _number(row.value)}
        lines.setdefault(row.series if group_by else None, []).append(point)
    return Answer(
        {
            "metric": asked["metric"],
            "interval": interval,
            "group_by": group_by,
            "date_range": date_range(asked),
            "series": [{"group": name, "points": points} for name, points in lines.items()],
        }
    )


def _group(metric: Metric, name: str) -> Column[Any]:
    """The column to group by: the metric's own table's, or for calls that of the execution that made them."""
    if name in metric.table.c:
        return metric.table.c[name]
    if metric.table is llm_call_logs:
        return execution_logs.c[name]
    raise BadParameter(
        "group_by", f"Executions have no {name}; group them by another column, or ask for a metric of calls."
    )


def _start(interval: str, bucket: int) -> datetime:
    if interval == "month":
        return datetime(bucket // 12, bucket % 12 + 1, 1, tzinfo=UTC)
    return EPOCH + timedelta(seconds=bucket)


def _number(value: Any) -> float | int | None:
    return value if value is None or isinstance(value, int) else dollars(float(value))
