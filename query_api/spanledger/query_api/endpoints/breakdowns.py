"""``/analytics/{agents,models,users,errors}``: one row per agent type, model, user or error."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row
from starlette.responses import Response

from spanledger.exporter.schema import execution_logs, llm_call_logs

from ..answers import Answer
from ..parameters import Asked, window
from ..queries.analytics import Breakdown, breakdown
from ..queries.measures import (
    CALL_MEASURES,
    EXECUTION_MEASURES,
    NO_PERCENTILES,
    coverage,
    duration_stats,
    folded,
    success_rate,
    usage,
)
from ..state import Asking
from .summary import costliest_first, date_range

BOTH: Final = (execution_logs, llm_call_logs)
AGENTS: Final = Breakdown(("agent_type",), tables=BOTH, judged=execution_logs, of_owner=True)
MODELS: Final = Breakdown(("provider", "model_id"), tables=(llm_call_logs,), judged=llm_call_logs)
USERS: Final = Breakdown(("external_user_id",), tables=BOTH, judged=llm_call_logs)
ERRORS: Final = Breakdown(("error_type",), tables=BOTH, judged=llm_call_logs, failures=True)


def agents(request: Asking, asked: Asked) -> Response:
    return _answer(request, asked, "agents", AGENTS, costliest_first)


def models(request: Asking, asked: Asked) -> Response:
    return _answer(request, asked, "models", MODELS, costliest_first)


def users(request: Asking, asked: Asked) -> Response:
    return _answer(request, asked, "users", USERS, costliest_first)


def errors(request: Asking, asked: Asked) -> Response:
    return _answer(request, asked, "errors", ERRORS, _most_frequent_first)


Order = Callable[[Mapping[str, Any]], tuple[float, int]]


def broken_down(connection: Connection, by: Breakdown, asked: Asked) -> list[dict[str, Any]]:
    """One object per group of the rows that *asked*, which must have a window, narrows; in no order."""
    found: dict[tuple[Any, ...], dict[str, Row[Any]]] = {}
    for table in by.tables:
        for group in connection.execute(breakdown(table, by, asked)):
            found.setdefault(tuple(group[: len(by.keys)]), {})[table.name] = group
    return [{**dict(zip(by.keys, key, strict=True)), **_measured(by, groups)} for key, groups in found.items()]


def _answer(request: Asking, asked: Asked, name: str, by: Breakdown, order: Order) -> Response:
    asked = window(asked)
    with request.state["ledger"].store.reading() as connection:
        rows = sorted(broken_down(connection, by, asked), key=order)
    return Answer({"date_range": date_range(asked), name: rows[: asked["limit"]], "total_count": len(rows)})


def _measured(by: Breakdown, groups: Mapping[str, Row[Any]]) -> dict[str, Any]:
    """Usage of the calls; success and durations of the judged rows. A table without such rows counts as zeros."""
    executions = folded(EXECUTION_MEASURES, [groups[execution_logs.name]] if execution_logs.name in groups else [])
    calls = folded(CALL_MEASURES, [groups[llm_call_logs.name]] if llm_call_logs.name in groups else [])
    judged = groups.get(by.judged.name)
    total = executions if by.judged is execution_logs else calls
    return {
        **({"executions": executions["rows"]} if execution_logs in by.tables else {}),
        "calls": calls["rows"],
        "success_rate": success_rate(total),
        **duration_stats(total, NO_PERCENTILES if judged is None else judged._mapping),
        **usage(calls),
        "coverage": coverage(calls),
        **(_evidence(groups) if by.failures else {}),
    }


def _evidence(groups: Mapping[str, Row[Any]]) -> dict[str, Any]:
    """When an error was last seen, and one of its messages."""
    return {
        "last_seen": max(group.last_seen for group in groups.values()),
        "example_message": max(group.example_message or "" for group in groups.values()) or None,
    }


def _most_frequent_first(row: Mapping[str, Any]) -> tuple[float, int]:
    return -(row["executions"] + row["calls"]), -row["calls"]
