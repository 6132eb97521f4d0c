"""DELETE of a user, a session and a run, over HTTP; with what the audit log says of it."""

from typing import Any

import httpx
import pytest

from spanledger.exporter.audit import entries
from spanledger.exporter.ledger import Ledger
from spanledger.query_api.keys import Keys

BASE = "/execution-logs"
GONE = {"executions": 1, "llm_calls": 1, "contents": 0, "dead_letters": 0}


@pytest.fixture(autouse=True)
def run(rows: Any) -> None:
    named = {"external_user_id": "u/1 ü", "session_id": "s-1"}
    rows.write(rows.execution(1, **named), rows.call(1, **named), rows.execution(2, external_user_id="u-2"))


@pytest.mark.parametrize("path", ["/users/u%2F1%20%C3%BC", "/sessions/s-1"])
def test_an_erasure_is_counted_then_confirmed_then_done_once(api: httpx.Client, get: Any, path: str) -> None:
    dry = api.delete(BASE + path, params={"dry_run": "true"})
    assert (dry.status_code, dry.json()) == (200, {"would_delete": GONE})
    unconfirmed = api.delete(BASE + path)
    assert (unconfirmed.status_code, unconfirmed.json()["parameter"]) == (400, "confirm")
    assert api.delete(BASE + path, params={"confirm": "false"}).status_code == 400
    assert get("/executions")["total_count"] == 2
    assert api.delete(BASE + path, params={"confirm": "true"}).json() == {"deleted": GONE}
    again = api.delete(BASE + path, params={"confirm": "true"})
    assert (again.status_code, again.json()) == (200, {"deleted": dict.fromkeys(GONE, 0)})
    assert get("/executions")["total_count"] == 1


def test_a_run_may_be_counted_before_it_is_deleted(api: httpx.Client, get: Any) -> None:
    dry = api.delete(f"{BASE}/executions/run-1", params={"dry_run": "true"})
    assert dry.json() == {"would_delete": {"executions": 1, "llm_calls": 1}}
    assert get("/executions")["total_count"] == 2
    assert api.delete(f"{BASE}/executions/run-1").json() == {"deleted": {"executions": 1, "llm_calls": 1}}


@pytest.mark.parametrize("name", ["x" * 1001, "x" * 10_000, "%00"])
def test_an_impossible_name_is_a_bad_request(api: httpx.Client, name: str) -> None:
    assert api.delete(f"{BASE}/users/{name}", params={"confirm": "true"}).status_code == 400


def test_the_audit_log_names_the_key_that_asked(api: httpx.Client, ledger: Ledger) -> None:
    token = Keys(ledger.store).create("dpo", ["delete"], actor="me")
    bearer = {"Authorization": f"Bearer {token}"}
    statuses = [
        api.delete(f"{BASE}/sessions/s-1", params={"confirm": "true"}, headers=bearer).status_code,
        api.delete(f"{BASE}/executions/run-2", headers=bearer).status_code,
    ]
    assert statuses == [200, 200]
    with ledger.store.reading() as connection:
        log = entries(connection)[1:]
    assert [(entry.actor, entry.action, entry.object.split()[0], entry.row_count) for entry in log] == [
        (token.split("_")[1], "erase", "session", 2),
        (token.split("_")[1], "erase", "execution", 1),
    ]
