"""What cannot be understood is a 400 that names the parameter and says what works."""

import httpx
import pytest

from spanledger.query_api.parameters import FILTERS, MAX_VALUES
from spanledger.query_api.routes import ROUTES

BASE = "/execution-logs"
LISTS = (f"{BASE}/executions", f"{BASE}/llm-calls")
ANALYTICS = tuple(r.path for r in ROUTES if "/analytics/" in r.path and FILTERS[0] in r.parameters)

WRONG = [
    ("limit", "0"),
    ("limit", "-1"),
    ("limit", "501"),
    ("limit", "1000000000"),
    ("limit", "abc"),
    ("limit", "5.0"),
    ("limit", "٣"),
    ("limit", ""),
    ("offset", "-1"),
    ("offset", "99999999999999999999"),
    ("cursor", "forged"),
    ("cursor", "W10"),
    ("cursor", "WyItc3RhcnRfdGltZSIsIjIwMjYtMDEtMzEiLCJub3QgYSB1dWlkIl0"),
    ("cursor", "x" * 1001),
    ("sort", "prompt"),
    ("sort", "start_time; DROP TABLE execution_logs"),
    ("status", "finished"),
    ("status", ""),
    ("trace_id", "12"),
    ("trace_id", "g" * 32),
    ("start_date", "yesterday"),
    ("start_date", "0000-01-01"),
    ("start_date", "2026-13-01"),
    ("start_date", "2026-01-01T00:00:00+99:00"),
    ("start_date", "0001-01-01T00:00:00+14:00"),
    ("end_date", "2026-02-30"),
    ("q", ""),
    ("q", "a\0b"),
    ("q", "x" * 10_000),
    ("execution_id", "a\0b"),
    ("report_id", ""),
    ("min_duration_ms", "-5"),
    ("min_duration_ms", "2147483648"),
    ("min_cost", "NaN"),
    ("min_cost", "Infinity"),
    ("min_cost", "-0.5"),
    ("min_cost", "$5"),
    ("include_content", "yes please"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_malformed_value_is_named_and_what_is_allowed_said(sqlite_api: httpx.Client, name: str, text: str) -> None:
    for path in LISTS:
        answer = sqlite_api.get(path, params={name: text})
        problem = answer.json()
        assert (answer.status_code, problem["parameter"]) == (400, name), problem
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(problem) == {"type", "title", "status", "detail", "parameter"}
        assert problem["detail"].startswith(f"{name} is ")
        assert len(problem["detail"]) < 400


@pytest.mark.parametrize("path", [*LISTS, *ANALYTICS, f"{BASE}/executions/x", f"{BASE}/llm-calls/x"])
def test_an_unknown_parameter_is_named_and_the_known_ones_listed(sqlite_api: httpx.Client, path: str) -> None:
    answer = sqlite_api.get(path, params={"agenttype": "planner"})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "agenttype")
    known = next((route.parameters for route in ROUTES if route.path == path), ())
    assert all(parameter.name in answer.json()["detail"] for parameter in known)


def test_filters_of_the_other_table_are_unknown_to_a_list(sqlite_api: httpx.Client) -> None:
    assert sqlite_api.get(LISTS[0], params={"provider": "openai"}).status_code == 400
    assert sqlite_api.get(LISTS[1], params={"agent_type": "planner"}).status_code == 400


@pytest.mark.parametrize("name", ["limit", "offset", "sort", "start_date", "min_cost", "include_content"])
def test_what_cannot_be_repeated_says_so(sqlite_api: httpx.Client, name: str) -> None:
    answer = sqlite_api.get(LISTS[0], params=[(name, "1"), (name, "1")])
    assert (answer.status_code, answer.json()["parameter"]) == (400, name)
    assert "2 times" in answer.json()["detail"]


def test_repetitions_have_an_end(sqlite_api: httpx.Client) -> None:
    some = [("agent_type", str(n)) for n in range(MAX_VALUES)]
    assert sqlite_api.get(LISTS[0], params=some).status_code == 200
    assert sqlite_api.get(LISTS[0], params=[*some, ("agent_type", "more")]).status_code == 400


@pytest.mark.parametrize("path", [*LISTS, *ANALYTICS])
def test_a_window_that_ends_before_it_begins_is_refused(sqlite_api: httpx.Client, path: str) -> None:
    answer = sqlite_api.get(path, params={"start_date": "2026-02-01", "end_date": "2026-01-31"})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "start_date")
    assert sqlite_api.get(path, params={"start_date": "2026-02-01", "end_date": "2026-02-01"}).status_code == 200


def test_a_cursor_of_another_sort_or_beside_an_offset_is_refused(sqlite_api: httpx.Client) -> None:
    made_for_oldest = (
        "WyJzdGFydF90aW1lIiwiMjAyNi0wMS0zMVQxMjowMDowMFoiLCIwMDAwMDAwMC0wMDAwLTAwMDEtMDAwMC0wMDAwMDAwMDAwMDEiXQ"
    )
    oldest = {"sort": "start_time", "cursor": made_for_oldest}
    assert sqlite_api.get(LISTS[0], params=oldest).status_code == 200
    assert sqlite_api.get(LISTS[0], params=oldest | {"sort": "-start_time"}).json()["parameter"] == "cursor"
    assert sqlite_api.get(LISTS[0], params=oldest | {"offset": 1}).json()["parameter"] == "offset"


def test_path_values_are_read_as_strictly(sqlite_api: httpx.Client) -> None:
    assert sqlite_api.get(f"{BASE}/executions/a%00b").status_code == 400
    assert sqlite_api.get(f"{BASE}/executions/{'x' * 2000}").status_code == 400
    assert sqlite_api.get(f"{BASE}/executions/..%2F..%2Fetc%2Fpasswd").status_code == 404


def test_every_filter_of_the_table_narrows_every_analytics_answer(sqlite_api: httpx.Client) -> None:
    fitting = {
        "status": "failed",
        "trace_id": "a" * 32,
        "start_date": "2026-01-01",
        "end_date": "2026-01-02",
        "min_duration_ms": "5",
        "min_cost": "0.5",
    }
    for path in ANALYTICS:
        for wanted in FILTERS:
            answer = sqlite_api.get(path, params={wanted.name: fitting.get(wanted.name, "x")})
            assert answer.status_code == 200, answer.text
