"""GET under /execution-logs/llm-calls."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from spanledger.exporter.identifiers import as_uuid
from spanledger.query_api.endpoints import pages

BASE = "/execution-logs"


def spans(answer: dict[str, Any]) -> list[int]:
    return [int(row["span_id"], 16) for row in answer["llm_calls"]]


@pytest.fixture
def three(rows: Any) -> None:
    """Calls 2, 3 and 4 of one run, in that order, and nothing alike about them."""
    rows.write(
        rows.execution(1, 1),
        rows.call(1, 2, prompt="Say hello", response="Hello!", total_cost=0.5, report_id=as_uuid("r"), session_id="s"),
        rows.call(
            1,
            3,
            parent=77,
            execution_log_id=as_uuid("exec_123"),
            provider="anthropic",
            model_id="claude-3",
            call_type="inference_stream",
            status="failed",
            error_message="Overloaded 100%",
            duration_ms=7000,
            total_tokens=None,
        ),
        rows.call(
            1,
            4,
            model_id="gpt-4o",
            external_user_id="u",
            external_platform="slack",
            service_name="shop",
            total_cost=0.001,
            start_time=rows.noon + timedelta(days=1),
        ),
    )


FILTERED = [
    ({}, [4, 3, 2]),
    ({"provider": "anthropic"}, [3]),
    ({"model_id": ["gpt-4", "gpt-4o"]}, [4, 2]),
    ({"call_type": "inference_stream"}, [3]),
    ({"status": "failed"}, [3]),
    ({"report_id": "r"}, [2]),
    ({"execution_log_id": "exec_123"}, [3]),
    ({"execution_id": "run-1", "provider": "openai"}, [4, 2]),
    ({"session_id": "s"}, [2]),
    ({"external_user_id": "u"}, [4]),
    ({"external_platform": "slack"}, [4]),
    ({"service_name": "shop"}, [4]),
    ({"trace_id": f"{1:032x}"}, [4, 3, 2]),
    ({"start_date": "2026-02-01"}, [4]),
    ({"end_date": "2026-01-31"}, [3, 2]),
    ({"q": "HELLO"}, [2]),
    ({"q": "100%"}, [3]),
    ({"min_duration_ms": 1001}, [3]),
    ({"min_cost": 0.001}, [4, 2]),
    ({"sort": "-total_cost"}, [2, 4, 3]),
    ({"sort": "total_cost"}, [3, 4, 2]),
    ({"sort": "start_time", "offset": 1}, [3, 4]),
    ({"limit": 2}, [4, 3]),
]


@pytest.mark.parametrize(("asked", "expected"), FILTERED)
def test_filters_pages_and_sorts_apply(three: None, get: Any, asked: dict[str, Any], expected: list[int]) -> None:
    answer = get("/llm-calls", **asked)
    assert spans(answer) == expected
    assert answer["total_count"] == (3 if {"sort", "limit"} & set(asked) else len(expected))


@pytest.mark.parametrize("sort", ["-total_cost", "total_cost", "-total_tokens", "total_tokens", "-duration_ms"])
def test_a_cursor_carries_on_among_equal_and_unknown_values(get: Any, rows: Any, sort: str) -> None:
    costs = [None, 0.1, 0.1, 0.1, 0.0, None, 3e-05, 1234.56]
    for span, cost in enumerate(costs, start=2):
        tokens = None if cost is None else span % 3
        rows.write(rows.call(1, span, total_cost=cost, total_tokens=tokens, duration_ms=tokens))
    whole = spans(get("/llm-calls", sort=sort))
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while cursor != {"cursor": None}:
        answer = get("/llm-calls", sort=sort, limit=3, **cursor)
        seen += spans(answer)
        cursor = {"cursor": answer["next_cursor"]}
    assert seen == whole
    assert len(set(seen)) == len(costs)


def test_bodies_come_only_when_they_are_asked_for(three: None, get: Any) -> None:
    without = get("/llm-calls", session_id="s")["llm_calls"][0]
    assert not {"prompt", "response"} & set(without)
    whole = get("/llm-calls", session_id="s", include_content="true")["llm_calls"][0]
    assert (whole["prompt"], whole["response"]) == ("Say hello", "Hello!")
    assert without["trace_url"] == f"http://jaeger.test/trace/{1:032x}"


def test_one_call_comes_whole_with_how_its_cost_was_computed(api: httpx.Client, rows: Any, get: Any) -> None:
    rows.write(
        rows.call(
            1, 2, input_tokens=1500, output_tokens=500, total_tokens=2000, prompt="p", usage_raw='{"total": 2000}'
        )
    )
    call = get(f"/llm-calls/{rows.id(1, 2).upper()}")
    assert (call["id"], call["prompt"], call["usage_raw"]) == (rows.id(1, 2), "p", {"total": 2000})
    explanation = call["cost_explanation"]
    assert Decimal(explanation["total"]) == Decimal("0.075")  # gpt-4: 1,500 at $30 and 500 at $60 a million
    lines = [(line["tokens"], Decimal(line["cost"])) for line in explanation["lines"]]
    assert lines == [(1500, Decimal("0.045")), (500, Decimal("0.03"))]
    assert explanation["usage_as_reported"] == {"total": 2000}
    missing = api.get(f"{BASE}/llm-calls/{rows.id(1, 3)}")
    assert (missing.status_code, missing.json()["status"]) == (404, 404)
    assert api.get(f"{BASE}/llm-calls/not-a-uuid").status_code == 404


def test_a_page_of_long_texts_is_shorter_and_misses_none(get: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_TEXT", 20_000)
    rows.write(rows.execution(1), *(rows.call(1, span, prompt="x" * 8_000) for span in range(2, 9)))
    asked: dict[str, Any] = {"include_content": "true", "limit": 100}
    lengths, found = [], []
    while True:
        page = get("/llm-calls", **asked)
        lengths.append(len(page["llm_calls"]))
        found += [call["id"] for call in page["llm_calls"]]
        if page["next_cursor"] is None:
            break
        asked["cursor"] = page["next_cursor"]
    assert lengths == [2, 2, 2, 1]
    assert len(set(found)) == page["total_count"] == 7
    assert len(get("/llm-calls", limit=100)["llm_calls"]) == 7
    run = get("/executions/run-1")
    given = run["llm_calls"] + run["executions"][0]["llm_calls"]
    assert (run["truncated"], run["totals"]["llm_calls"], len(given)) == (True, 7, 2)
    monkeypatch.setattr(pages, "MOST_TEXT", 10)
    assert len(get("/llm-calls", include_content="true")["llm_calls"]) == 1
