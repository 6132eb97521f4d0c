"""GET and DELETE under /execution-logs/executions."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import event

from spanledger.exporter.identifiers import as_uuid
from spanledger.exporter.store import Store

BASE = "/execution-logs"


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Every SELECT the store's engine executes meanwhile."""
    seen: list[str] = []

    def remember(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            seen.append(statement)

    event.listen(store.engine, "before_cursor_execute", remember)
    try:
        yield seen
    finally:
        event.remove(store.engine, "before_cursor_execute", remember)


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["executions"]]


def test_an_empty_database_answers_with_an_empty_list(get: Any) -> None:
    assert get("/executions") == {
        "executions": [],
        "total_count": 0,
        "limit": 50,
        "offset": 0,
        "next_cursor": None,
    }


def test_rows_come_newest_first_with_every_column_but_the_bodies(get: Any, rows: Any) -> None:
    rows.write(
        rows.execution(1, metadata='{"a": [1, {"b": null}]}', input_data='{"prompt": "p"}', report_id=as_uuid("r1")),
        rows.execution(2, start_time=rows.noon + timedelta(hours=1), output_data="[1]"),
    )
    answer = get("/executions")
    assert ids(answer) == [rows.id(2, 1), rows.id(1, 1)]
    older = answer["executions"][1]
    assert older["start_time"] == "2026-01-31T12:00:01Z"
    assert older["metadata"] == {"a": [1, {"b": None}]}
    assert older["report_id"] == as_uuid("r1")
    assert older["sanitized"] is False
    assert older["trace_url"] == f"http://jaeger.test/trace/{1:032x}"
    assert older["created_at"].endswith("Z")
    assert not {"input_data", "output_data", "llm_calls"} & set(older)
    newer = get("/executions", include_content="true", limit=1)["executions"][0]
    assert (newer["input_data"], newer["output_data"]) == (None, [1])


FILTERED = [
    ({"report_id": "report_456"}, [1]),
    ({"report_id": as_uuid("report_456")}, [1]),
    ({"agent_type": "designer"}, [2]),
    ({"agent_type": ["designer", "answer"]}, [3, 2]),
    ({"execution_step": "observe"}, [2]),
    ({"action_type": "create_widget"}, [1]),
    ({"status": ["failed", "cancelled"]}, [3, 2]),
    ({"external_platform": "slack"}, [3]),
    ({"external_user_id": "u1"}, [3]),
    ({"execution_id": "run-2"}, [2]),
    ({"session_id": "s1"}, [1]),
    ({"service_name": "shop"}, [1]),
    ({"trace_id": f"{2:032X}"}, [2]),
    ({"start_date": "2026-02-01"}, [3, 2]),
    ({"start_date": "2026-02-01T00:00:00Z", "end_date": "2026-02-01"}, [2]),
    ({"end_date": "2026-01-31"}, [1]),
    ({"end_date": "2026-02-01T01:00:01+01:00"}, [2, 1]),
    ({"end_date": "2026-02-01T00:00:00.999999Z"}, [1]),
    ({"min_duration_ms": 5000}, [2]),
    ({"min_cost": 0.5}, [1]),
    ({"min_cost": 0}, [2, 1]),
    ({"q": "TIMED"}, [2]),
    ({"q": ["timed out", "SALES"]}, [2, 1]),
    ({"agent_type": "designer", "status": "completed"}, []),
]


@pytest.fixture
def three(rows: Any) -> None:
    """Three runs, a day apart."""
    rows.write(
        rows.execution(
            1,
            report_id=as_uuid("report_456"),
            action_type="create_widget",
            session_id="s1",
            service_name="shop",
            input_data='{"prompt": "a sales dashboard"}',
        ),
        rows.execution(1, 2, parent=1, start_time=rows.noon - timedelta(days=400), agent_type="nested"),
        rows.call(1, 3, parent=2, total_cost=0.75),
        rows.execution(
            2,
            agent_type="designer",
            execution_step="observe",
            status="failed",
            error_message="It timed out.",
            duration_ms=5000,
            start_time=rows.noon + timedelta(hours=12, seconds=1),
        ),
        rows.call(2, 2, total_cost=0.25),
        rows.execution(
            3,
            agent_type="answer",
            status="cancelled",
            external_platform="slack",
            external_user_id="u1",
            start_time=rows.noon + timedelta(days=2),
        ),
    )


@pytest.mark.parametrize(("asked", "expected"), FILTERED)
def test_filters_narrow(three: None, get: Any, rows: Any, asked: dict[str, Any], expected: list[int]) -> None:
    tops = [rows.id(trace, 1) for trace in expected]
    answer = get("/executions", **asked)
    assert [i for i in ids(answer) if i != rows.id(1, 2)] == tops
    assert answer["total_count"] == len(answer["executions"])


def test_a_plus_that_arrives_as_a_space_is_still_a_time_zone(three: None, api: httpx.Client, rows: Any) -> None:
    answer = api.get(f"{BASE}/executions?start_date=2026-02-01T01:00:01+01:00&end_date=2026-02-01").json()
    assert ids(answer) == [rows.id(2, 1)]


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", "\\", "'; DROP TABLE execution_logs", "{{7*7}}", "/", "$$"])
def test_hostile_text_is_only_text(get: Any, rows: Any, text: str) -> None:
    rows.write(rows.execution(1), rows.execution(2, agent_type=text), rows.execution(3, name=f"before{text}after"))
    assert ids(get("/executions", agent_type=text)) == [rows.id(2, 1)]
    assert set(ids(get("/executions", q=text))) == {rows.id(2, 1), rows.id(3, 1)}
    assert get("/executions")["total_count"] == 3


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("-start_time", [3, 2, 1]),
        ("start_time", [1, 2, 3]),
        ("duration_ms", [1, 3, 2]),
        ("-duration_ms", [2, 3, 1]),
    ],
)
def test_sorts_put_unknown_values_last_and_page_in_that_order(
    get: Any, rows: Any, sort: str, expected: list[int]
) -> None:
    for trace, duration in ((1, None), (2, 20), (3, 10)):
        rows.write(rows.execution(trace, duration_ms=duration, start_time=rows.noon + timedelta(days=trace)))
    seen, cursor = [], {}
    for _ in expected:
        answer = get("/executions", sort=sort, limit=1, **cursor)
        seen += ids(answer)
        cursor = {"cursor": answer["next_cursor"]}
    assert seen == [rows.id(trace, 1) for trace in expected]
    assert cursor == {"cursor": None}


def test_pages_by_cursor_miss_and_repeat_nothing_while_rows_arrive(get: Any, rows: Any) -> None:
    same = rows.noon  # all at once: only the id tells them apart
    rows.write(*(rows.execution(trace, start_time=same) for trace in range(1, 26)))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for page in range(5):
        answer = get("/executions", limit=5, **cursor)
        assert answer["total_count"] == 25 + page
        seen += ids(answer)
        cursor = {"cursor": answer["next_cursor"]}
        rows.write(rows.execution(1000 + page, start_time=same + timedelta(hours=1)))
    assert cursor == {"cursor": None}
    assert seen == sorted((rows.id(trace, 1) for trace in range(1, 26)), reverse=True)


def test_offset_skips_and_total_counts_all(get: Any, rows: Any) -> None:
    rows.write(*(rows.execution(trace, start_time=rows.noon + timedelta(days=trace)) for trace in (1, 2, 3)))
    answer = get("/executions", limit=1, offset=1)
    assert ids(answer) == [rows.id(2, 1)]
    assert (answer["total_count"], answer["limit"], answer["offset"]) == (3, 1, 1)
    assert ids(get("/executions", offset=3)) == []


def test_calls_of_a_page_come_in_one_statement_however_many_executions(get: Any, rows: Any, store: Store) -> None:
    def run(trace: int) -> list[Any]:
        return [rows.execution(trace), rows.call(trace, 3, start_time=rows.noon), rows.call(trace, 2)]

    counts = []
    for upto in (2, 40):
        rows.write(*(row for trace in range(1, upto + 1) for row in run(trace)))
        with statements(store) as seen:
            answer = get("/executions", include_llm_calls="true", limit=500)
        counts.append(sum("api_keys" not in statement for statement in seen))
        assert len(answer["executions"]) == upto
        for execution in answer["executions"]:
            calls = execution["llm_calls"]
            assert [call["span_id"] for call in calls] == [f"{3:016x}", f"{2:016x}"]
            assert {call["execution_log_id"] for call in calls} == {execution["id"]}
            assert "prompt" not in calls[0]
        assert answer["truncated"] is False
    assert counts[0] == counts[1] <= 4


def test_one_run_is_nested_with_its_calls_and_totals(get: Any, rows: Any) -> None:
    second = timedelta(seconds=1)
    rows.write(
        rows.execution(1, 1, agent_type="root", input_data='"in"'),
        rows.execution(1, 2, parent=1, agent_type="second", start_time=rows.noon + 9 * second),
        rows.execution(1, 3, parent=1, agent_type="first", start_time=rows.noon + 2 * second),
        rows.execution(1, 4, parent=3, agent_type="beneath first", start_time=rows.noon + 3 * second),
        rows.execution(1, 9, parent=77, agent_type="lost its parent", start_time=rows.noon + 20 * second),
        rows.call(1, 5, parent=4, input_cost=0.1, output_cost=0.2, total_cost=0.1 + 0.2, prompt="Why?"),
        rows.call(1, 6, parent=2, total_cost=0.7, input_cost=0.7, output_cost=None),
        rows.call(1, 7, parent=2, total_cost=9.0),
        rows.call(1, 8, parent=None, input_tokens=None, output_tokens=None, total_tokens=None),
        rows.execution(2),
    )
    rows.leave_uncounted(1, 7)
    run = get("/executions/run-1")
    assert [(row["agent_type"], row["depth"]) for row in run["executions"]] == [
        ("root", 0),
        ("first", 1),
        ("beneath first", 2),
        ("second", 1),
        ("lost its parent", 0),
    ]
    assert [len(row["llm_calls"]) for row in run["executions"]] == [0, 0, 1, 2, 0]
    assert run["executions"][0]["input_data"] == "in"
    assert run["executions"][2]["llm_calls"][0]["prompt"] == "Why?"
    assert [call["id"] for call in run["llm_calls"]] == [rows.id(1, 8)]
    assert (run["execution_id"], run["total_count"], run["truncated"]) == ("run-1", 5, False)
    assert run["totals"] == {
        "executions": 5,
        "llm_calls": 3,
        "start_time": "2026-01-31T12:00:01Z",
        "end_time": "2026-01-31T12:00:21Z",
        "duration_ms": 20_000,
        "input_tokens": 20,
        "output_tokens": 10,
        "total_tokens": 30,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "input_cost": 0.8,
        "output_cost": 0.2,
        "total_cost": 1.0,
        "coverage": {"calls_without_usage": 1, "calls_without_price": 1, "tokens_without_price": 0},
    }


def test_one_run_can_leave_out_calls_and_content(get: Any, rows: Any) -> None:
    rows.write(rows.execution(1, input_data="1"), rows.call(1, total_cost=0.5))
    run = get("/executions/run-1", include_llm_calls="false", include_content="0")
    assert "llm_calls" not in run
    assert not {"llm_calls", "input_data"} & set(run["executions"][0])
    assert run["totals"]["total_cost"] == 0.5


def test_a_run_of_calls_alone_is_a_run(get: Any, rows: Any) -> None:
    rows.write(rows.call(1, parent=None, total_cost=0.5))
    run = get("/executions/run-1")
    assert (run["executions"], run["total_count"], run["totals"]["llm_calls"]) == ([], 0, 1)
    assert [call["id"] for call in run["llm_calls"]] == [rows.id(1, 2)]


def test_a_cycle_of_parents_is_shown_once(get: Any, rows: Any) -> None:
    rows.write(rows.execution(1, 1, parent=2), rows.execution(1, 2, parent=1), rows.execution(1, 3, parent=3))
    run = get("/executions/run-1")
    assert sorted(row["span_id"][-1] for row in run["executions"]) == ["1", "2", "3"]
    assert get("/executions", min_cost=0)["total_count"] == 0


@pytest.mark.parametrize("execution_id", ["run/with/slashes", "größer ✓", "a b?c#d", "'; DROP TABLE x --", "%2F"])
def test_execution_ids_may_be_any_text(api: httpx.Client, rows: Any, execution_id: str) -> None:
    rows.write(rows.execution(1, execution_id=execution_id, inherited=None))
    found = api.get(f"{BASE}/executions/{quote(execution_id, safe='')}")
    assert found.status_code == 200, found.text
    assert found.json()["execution_id"] == execution_id


def test_a_run_that_is_not_there_is_404_and_says_so(api: httpx.Client) -> None:
    for answer in (api.get(f"{BASE}/executions/nope"), api.delete(f"{BASE}/executions/nope")):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "'nope'" in answer.json()["detail"]


def test_a_deleted_run_is_gone_and_says_how_much_it_was(api: httpx.Client, get: Any, rows: Any) -> None:
    run = [rows.execution(1), rows.execution(1, 3, parent=1), rows.call(1)]
    rows.write(*run, rows.execution(2))
    answer = api.delete(f"{BASE}/executions/run-1")
    assert (answer.status_code, answer.json()) == (200, {"deleted": {"executions": 2, "llm_calls": 1}})
    assert api.delete(f"{BASE}/executions/run-1").status_code == 404
    rows.write(*run)  # a retrying exporter delivers it again
    assert api.get(f"{BASE}/executions/run-1").status_code == 404
    assert get("/llm-calls")["total_count"] == 0
    assert get("/executions")["total_count"] == 1
