"""GET /execution-logs/analytics/doctor."""

from datetime import datetime, timedelta
from typing import Any


def test_it_says_what_is_wrong_with_the_rows_of_the_window(rows: Any, get: Any) -> None:
    rows.write(rows.execution(1, 1), rows.call(1, 2), rows.call(1, 3, parent=77, scope="kit"))
    begin = f"{rows.noon - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    diagnosis = get("/analytics/doctor", start_date=begin)
    assert [(scope["scope"], scope["calls"]) for scope in diagnosis["scopes"]] == [(None, 1), ("kit", 1)]
    found = {(finding["symptom"], finding["scope"], finding["example"]) for finding in diagnosis["findings"]}
    assert ("without_parent", "kit", rows.id(1, 3)) in found
    assert ("without_execution", "kit", rows.id(1, 3)) in found
    assert not any(symptom == "without_parent" and scope is None for symptom, scope, _ in found)
    assert datetime.fromisoformat(diagnosis["date_range"]["start_date"]) == rows.noon - timedelta(hours=1)
    later = f"{rows.noon + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    assert get("/analytics/doctor", start_date=later)["scopes"] == []


def test_it_takes_the_filters_of_the_other_analytics(rows: Any, get: Any) -> None:
    rows.write(rows.call(1, 2, parent=None, service_name="shop"), rows.call(2, 2, parent=None))
    diagnosis = get("/analytics/doctor", start_date="2026-01-01", service_name="shop")
    assert [scope["calls"] for scope in diagnosis["scopes"]] == [1]
    assert {finding["rows"] for finding in diagnosis["findings"]} == {1}
