"""The summary, its breakdowns and series: numbers that can be recomputed by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from spanledger.exporter.identifiers import as_uuid

BASE = "/execution-logs"
JANUARY = {"start_date": "2026-01-01", "end_date": "2026-01-31"}


@pytest.fixture
def month(rows: Any) -> None:
    """Two runs of planners, one of a designer; four counted calls, one of which nobody knows the price of."""
    hour = timedelta(hours=1)
    tokens = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_tokens": 40}
    money = {"input_cost": 0.1, "output_cost": 0.2, "total_cost": 0.1 + 0.2}
    rows.write(
        rows.execution(1, 1, duration_ms=100, external_user_id="ann", report_id=as_uuid("r1")),
        rows.execution(1, 2, parent=1, agent_type="designer", duration_ms=300, status="failed", error_type="KeyError"),
        rows.call(1, 3, parent=2, duration_ms=10, external_user_id="ann", **tokens, **money),
        rows.call(1, 4, parent=2, duration_ms=20, external_user_id="ann", **tokens, **money),
        rows.call(1, 5, parent=2, duration_ms=999, **tokens, **money),
        rows.execution(2, 1, duration_ms=None, status="started", end_time=None, start_time=rows.noon + hour),
        rows.call(
            2,
            2,
            provider="anthropic",
            model_id="claude-9",
            status="failed",
            error_type="Overloaded",
            error_message="Overloaded: try later",
            duration_ms=40,
            input_tokens=7,
            output_tokens=None,
            total_tokens=None,
            start_time=rows.noon + hour,
        ),
        rows.call(
            3,
            2,
            parent=None,
            model_id="gpt-4o",
            duration_ms=None,
            input_tokens=None,
            output_tokens=None,
            total_tokens=None,
            start_time=rows.noon - 24 * hour,
        ),
        rows.execution(9, 1, start_time=datetime(2025, 12, 31, 23, tzinfo=UTC)),
    )
    rows.leave_uncounted(1, 5)


def test_no_rows_give_zeros_and_nulls(get: Any) -> None:
    durations = dict.fromkeys(f"{name}_duration_ms" for name in ("avg", "min", "max", "p50", "p95", "p99"))
    summary = get("/analytics/summary")
    start, end = (datetime.fromisoformat(summary["date_range"][name]) for name in ("start_date", "end_date"))
    assert end - start == timedelta(days=30)
    assert datetime.now(UTC) - end < timedelta(minutes=5)
    assert summary["execution_analytics"] == {
        "total_executions": 0,
        "total_runs": 0,
        "success_rate": None,
        "status_counts": {},
        "agent_type_counts": {},
        "duration_stats": durations,
    }
    calls = summary["llm_call_analytics"]
    assert calls.pop("token_stats") == {
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "total_tokens": 0,
        "total_cost": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "input_cost": 0,
        "output_cost": 0,
    }
    assert calls == {
        "total_calls": 0,
        "success_rate": None,
        "provider_counts": {},
        "model_counts": {},
        "status_counts": {},
        "by_model": [],
        "duration_stats": durations,
        "coverage": {"calls_without_usage": 0, "calls_without_price": 0, "tokens_without_price": 0},
    }


def test_the_summary_counts_what_ran_in_its_window(month: None, get: Any) -> None:
    summary = get("/analytics/summary", **JANUARY)
    assert summary["date_range"] == {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-31T23:59:59.999999Z"}
    assert summary["execution_analytics"] == {
        "total_executions": 3,
        "total_runs": 2,
        "success_rate": 0.5,  # one completed, one failed, one still runs
        "status_counts": {"completed": 1, "failed": 1, "started": 1},
        "agent_type_counts": {"planner": 2, "designer": 1},
        "duration_stats": {
            "avg_duration_ms": 200,
            "min_duration_ms": 100,
            "max_duration_ms": 300,
            "p50_duration_ms": 200,
            "p95_duration_ms": 290,
            "p99_duration_ms": 298,
        },
    }
    calls = summary["llm_call_analytics"]
    assert calls["total_calls"] == 4
    assert calls["success_rate"] == 0.75
    assert calls["provider_counts"] == {"openai": 3, "anthropic": 1}
    assert calls["model_counts"] == {"gpt-4": 2, "claude-9": 1, "gpt-4o": 1}
    assert calls["status_counts"] == {"completed": 3, "failed": 1}
    assert calls["coverage"] == {"calls_without_usage": 1, "calls_without_price": 2, "tokens_without_price": 7}
    assert calls["duration_stats"]["p50_duration_ms"] == 20
    assert calls["token_stats"] == {
        "total_input_tokens": 207,
        "total_output_tokens": 40,
        "total_tokens": 240,
        "total_cost": 0.6,  # not 0.6000000000000001
        "cache_read_tokens": 80,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "input_cost": 0.2,
        "output_cost": 0.4,
    }
    gpt4, *others = calls["by_model"]
    assert (gpt4["provider"], gpt4["model_id"], gpt4["calls"], gpt4["total_cost"]) == ("openai", "gpt-4", 2, 0.6)
    assert (gpt4["input_tokens"], gpt4["output_tokens"], gpt4["input_cost"], gpt4["output_cost"]) == (200, 40, 0.2, 0.4)
    assert {other["total_cost"] for other in others} == {None}  # unknown is not free


@pytest.mark.parametrize(
    ("asked", "executions", "calls"),
    [
        ({"report_id": "r1"}, 2, 2),  # what is beneath inherits it
        ({"agent_type": "designer"}, 1, 2),
        ({"provider": "anthropic"}, 1, 1),
        ({"model_id": "gpt-4", "agent_type": "planner"}, 0, 0),
        ({"status": "failed"}, 1, 1),
        ({"external_user_id": "ann"}, 2, 2),
        ({"execution_id": "run-2"}, 1, 1),
        ({"min_cost": 0.25}, 2, 2),
        ({"q": "overload"}, 0, 1),
        ({"end_date": "2026-01-30"}, 0, 1),
        ({"end_date": "2025-12-31", "start_date": "2025-12-31"}, 1, 0),
    ],
)
def test_filters_narrow_both_halves_of_the_summary(
    month: None, get: Any, asked: dict[str, Any], executions: int, calls: int
) -> None:
    summary = get("/analytics/summary", **{**JANUARY, **asked})
    assert summary["execution_analytics"]["total_executions"] == executions
    assert summary["llm_call_analytics"]["total_calls"] == calls


def test_agents_have_their_own_runs_and_the_usage_of_their_calls(month: None, get: Any) -> None:
    answer = get("/analytics/agents", **JANUARY)
    rows = {row["agent_type"]: row for row in answer["agents"]}
    assert answer["total_count"] == 3
    assert next(iter(rows)) == "designer"  # the costliest first
    assert set(rows) == {"designer", "planner", None}
    designer, planner, nobody = rows["designer"], rows["planner"], rows[None]
    assert (designer["executions"], designer["calls"], designer["success_rate"]) == (1, 2, 0)
    assert (designer["total_cost"], designer["p50_duration_ms"]) == (0.6, 300)
    assert (planner["executions"], planner["calls"], planner["success_rate"]) == (2, 1, 1)
    assert (planner["total_cost"], planner["input_tokens"]) == (None, 7)
    assert planner["coverage"] == {"calls_without_usage": 0, "calls_without_price": 1, "tokens_without_price": 7}
    assert (nobody["executions"], nobody["calls"], nobody["success_rate"]) == (0, 1, None)
    assert get("/analytics/agents", **JANUARY, limit=1)["agents"] == [designer]


def test_models_users_and_errors_have_one_row_each(month: None, get: Any) -> None:
    models = get("/analytics/models", **JANUARY)["models"]
    assert [(row["provider"], row["model_id"], row["calls"], row["p95_duration_ms"]) for row in models] == [
        ("openai", "gpt-4", 2, 19.5),
        ("anthropic", "claude-9", 1, 40),
        ("openai", "gpt-4o", 1, None),
    ]
    assert "executions" not in models[0]
    users = {row["external_user_id"]: row for row in get("/analytics/users", **JANUARY)["users"]}
    assert (users["ann"]["executions"], users["ann"]["calls"], users["ann"]["total_cost"]) == (2, 2, 0.6)
    assert users[None]["calls"] == 2
    errors = {row["error_type"]: row for row in get("/analytics/errors", **JANUARY)["errors"]}
    assert set(errors) == {"KeyError", "Overloaded"}
    assert (errors["KeyError"]["executions"], errors["KeyError"]["calls"]) == (1, 0)
    overloaded = errors["Overloaded"]
    assert (overloaded["executions"], overloaded["calls"], overloaded["success_rate"]) == (0, 1, 0)
    assert overloaded["example_message"] == "Overloaded: try later"
    assert overloaded["last_seen"] == "2026-01-31T13:00:00Z"


POINTS = [
    ("calls", "day", {"2026-01-30T00:00:00Z": 1, "2026-01-31T00:00:00Z": 3}),
    ("calls", "hour", {"2026-01-30T12:00:00Z": 1, "2026-01-31T12:00:00Z": 2, "2026-01-31T13:00:00Z": 1}),
    ("calls", "minute", {"2026-01-30T12:00:00Z": 1, "2026-01-31T12:00:00Z": 2, "2026-01-31T13:00:00Z": 1}),
    ("calls", "week", {"2026-01-26T00:00:00Z": 4}),
    ("calls", "month", {"2026-01-01T00:00:00Z": 4}),
    ("failed_calls", "month", {"2026-01-01T00:00:00Z": 1}),
    ("total_cost", "day", {"2026-01-30T00:00:00Z": None, "2026-01-31T00:00:00Z": 0.6}),
    ("input_tokens", "month", {"2026-01-01T00:00:00Z": 207}),
    ("output_tokens", "month", {"2026-01-01T00:00:00Z": 40}),
    ("total_tokens", "month", {"2026-01-01T00:00:00Z": 240}),
    ("avg_duration_ms", "month", {"2026-01-01T00:00:00Z": 23.3333333333}),
    ("p50_duration_ms", "month", {"2026-01-01T00:00:00Z": 20}),
    ("p95_duration_ms", "month", {"2026-01-01T00:00:00Z": 38}),
    ("p99_duration_ms", "month", {"2026-01-01T00:00:00Z": 39.6}),
    ("executions", "hour", {"2026-01-31T12:00:00Z": 2, "2026-01-31T13:00:00Z": 1}),
    ("failed_executions", "week", {"2026-01-26T00:00:00Z": 1}),
    ("runs", "day", {"2026-01-31T00:00:00Z": 2}),
    ("avg_execution_duration_ms", "day", {"2026-01-31T00:00:00Z": 200}),
]


@pytest.mark.parametrize(("metric", "interval", "expected"), POINTS)
def test_a_series_has_a_point_where_something_happened(
    month: None, get: Any, metric: str, interval: str, expected: dict[str, Any]
) -> None:
    answer = get("/analytics/timeseries", metric=metric, interval=interval, **JANUARY)
    assert (answer["metric"], answer["interval"], answer["group_by"]) == (metric, interval, None)
    (line,) = answer["series"]
    assert line["group"] is None
    assert {point["time"]: point["value"] for point in line["points"]} == expected


@pytest.mark.parametrize(
    ("metric", "group_by", "expected"),
    [
        ("calls", "provider", {"openai": 3, "anthropic": 1}),
        ("calls", "agent_type", {"designer": 2, "planner": 1, None: 1}),
        ("total_cost", "model_id", {"gpt-4": 0.6, "gpt-4o": None, "claude-9": None}),
        ("executions", "agent_type", {"designer": 1, "planner": 2}),
        ("executions", "status", {"completed": 1, "failed": 1, "started": 1}),
    ],
)
def test_a_series_can_be_split(
    month: None, get: Any, metric: str, group_by: str, expected: dict[str | None, Any]
) -> None:
    answer = get("/analytics/timeseries", metric=metric, interval="month", group_by=group_by, **JANUARY)
    assert {line["group"]: line["points"][0]["value"] for line in answer["series"]} == expected


def test_a_series_that_makes_no_sense_is_refused(sqlite_api: httpx.Client) -> None:
    def refusal(**asked: str) -> Any:
        answer = sqlite_api.get(f"{BASE}/analytics/timeseries", params=asked)
        assert answer.status_code == 400, answer.text
        return answer.json()["parameter"]

    assert refusal(metric="joy") == "metric"
    assert refusal(interval="fortnight") == "interval"
    assert refusal(group_by="prompt") == "group_by"
    assert refusal(metric="executions", group_by="model_id") == "group_by"
