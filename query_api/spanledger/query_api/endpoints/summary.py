"""``/analytics/summary``: what ran and what it cost, within a window. Totals and costs are over counted calls only."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response

from spanledger.exporter.schema import execution_logs, llm_call_logs

from ..answers import Answer
from ..parameters import Asked, window
from ..queries import analytics
from ..queries.measures import (
    CALL_MEASURES,
    EXECUTION_MEASURES,
    coverage,
    duration_stats,
    folded,
    success_rate,
    usage,
)
from ..state import Asking


def summary(request: Asking, asked: Asked) -> Response:
    with request.state["ledger"].store.reading() as connection:
        return Answer(summarise(connection, window(asked)))


def summarise(connection: Connection, asked: Asked) -> dict[str, Any]:
    """The summary of what *asked*, which must have a window, narrows."""
    return {
        "date_range": date_range(asked),
        "execution_analytics": _executions(connection, asked),
        "llm_call_analytics": _llm_calls(connection, asked),
    }


def date_range(asked: Asked) -> dict[str, datetime]:
    return {"start_date": asked["start_date"], "end_date": asked["end_date"]}


def _executions(connection: Connection, asked: Asked) -> dict[str, Any]:
    groups = connection.execute(analytics.groups(execution_logs, ("status", "agent_type"), asked)).all()
    overall = connection.execute(analytics.overall(execution_logs, asked)).one()._mapping
    total = folded(EXECUTION_MEASURES, groups)
    return {
        "total_executions": total["rows"],
        "total_runs": overall["runs"],
        "success_rate": success_rate(total),
        "status_counts": _counts(groups, "status"),
        "agent_type_counts": _counts(groups, "agent_type"),
        "duration_stats": duration_stats(total, overall),
    }


def _llm_calls(connection: Connection, asked: Asked) -> dict[str, Any]:
    groups = connection.execute(analytics.groups(llm_call_logs, ("provider", "model_id", "status"), asked)).all()
    overall = connection.execute(analytics.overall(llm_call_logs, asked)).one()._mapping
    total = folded(CALL_MEASURES, groups)
    tokens = usage(total)
    return {
        "total_calls": total["rows"],
        "success_rate": success_rate(total),
        "provider_counts": _counts(groups, "provider"),
        "model_counts": _counts(groups, "model_id"),
        "status_counts": _counts(groups, "status"),
        "token_stats": {
            "total_input_tokens": tokens.pop("input_tokens"),
            "total_output_tokens": tokens.pop("output_tokens"),
            "total_tokens": tokens.pop("total_tokens"),
            "total_cost": tokens.pop("total_cost"),
            **tokens,
        },
        "by_model": _by_model(groups),
        "duration_stats": duration_stats(total, overall),
        "coverage": coverage(total),
    }


def _counts(groups: Iterable[Row[Any]], key: str) -> dict[str, int]:
    """How many rows each value of *key* has, the most frequent first."""
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group._mapping[key]] += group.rows
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _by_model(groups: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    models: dict[tuple[str, str], list[Row[Any]]] = {}
    for group in groups:
        models.setdefault((group.provider, group.model_id), []).append(group)
    rows = [
        {"provider": provider, "model_id": model, "calls": total["rows"], **usage(total), "coverage": coverage(total)}
        for (provider, model), of_model in models.items()
        for total in [folded(CALL_MEASURES, of_model)]
    ]
    return sorted(rows, key=costliest_first)


def costliest_first(row: Mapping[str, Any]) -> tuple[float, int]:
    return -(row["total_cost"] or 0.0), -row["calls"]
