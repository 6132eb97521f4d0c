"""Who is let in, over real sockets: keys, where they may be shown, and what is said to who has none."""

import base64
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.query_api.doorkeeper import FAILURE_SECONDS, FAILURES, Failures
from spanledger.query_api.keys import Keys, new_token

LIST = "/execution-logs/executions"


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger.store)


@pytest.fixture
def reader(keys: Keys) -> str:
    return keys.create("reader", ["read"], actor="me")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()}


def eventually(question: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_any_key_whoever_is_on_this_machine_may_ask(api: httpx.Client) -> None:
    assert api.get(LIST).status_code == 200
    assert api.get(LIST, headers=bearer("anything")).status_code == 200


def test_the_first_key_closes_a_running_server_within_two_seconds(api: httpx.Client, keys: Keys) -> None:
    assert api.get(LIST).status_code == 200
    token = keys.create("first", ["read"], actor="me")
    eventually(lambda: api.get(LIST).status_code == 401, 2)
    assert api.get(LIST, headers=bearer(token)).status_code == 200
    assert api.get("/healthz").status_code == 200


def test_revoking_takes_effect_within_two_seconds_and_opens_nothing(api: httpx.Client, keys: Keys, reader: str) -> None:
    assert api.get(LIST, headers=bearer(reader)).status_code == 200
    keys.revoke(reader.split("_")[1], actor="me")
    eventually(lambda: api.get(LIST, headers=bearer(reader)).status_code == 401, 2)
    assert api.get(LIST).status_code == 401


def test_a_refusal_says_what_to_send(api: httpx.Client, reader: str) -> None:
    answer = api.get(LIST)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "Authorization: Bearer" in answer.json()["detail"]
    lacking = api.delete(f"{LIST}/x", headers=bearer(reader))
    assert lacking.status_code == 403
    assert 'scope="delete"' in lacking.headers["www-authenticate"]


@pytest.mark.parametrize("place", ["query", "cookie", "x-api-key", "scheme"])
def test_a_key_is_taken_from_the_authorization_header_alone(api: httpx.Client, reader: str, place: str) -> None:
    asked: dict[str, Any] = {
        "query": {"params": {"key": reader, "access_token": reader}},
        "cookie": {"headers": {"Cookie": f"key={reader}"}},
        "x-api-key": {"headers": {"X-Api-Key": reader}},
        "scheme": {"headers": {"Authorization": reader}},
    }[place]
    assert api.get(LIST, **asked).status_code == 401


def test_two_authorization_headers_are_one_too_many(api: httpx.Client, reader: str) -> None:
    headers = [("Authorization", f"Bearer {reader}"), ("Authorization", "Bearer another")]
    assert api.get(LIST, headers=headers).status_code == 400


def test_a_browser_is_asked_for_a_password_and_may_only_look(api: httpx.Client, keys: Keys) -> None:
    token = keys.create("me", ["admin"], actor="me")
    asked = api.get("/", headers={"Accept": "text/html,*/*"})
    assert (asked.status_code, asked.headers["www-authenticate"][:6]) == (401, "Basic ")
    assert api.get("/", headers=basic(token)).status_code == 200
    assert api.delete(f"{LIST}/x", headers=basic(token)).status_code == 401
    assert api.delete(f"{LIST}/x", headers=bearer(token)).status_code == 404


def test_who_tries_wrong_keys_is_told_to_wait_while_right_ones_are_heard(api: httpx.Client, reader: str) -> None:
    statuses = [api.get(LIST, headers=bearer(new_token())).status_code for _ in range(FAILURES + 2)]
    assert statuses == [401] * FAILURES + [429] * 2
    refused = api.get(LIST, headers=bearer("x"))
    assert 0 < int(refused.headers["retry-after"]) <= FAILURE_SECONDS + 1
    assert api.get(LIST, headers=bearer(reader)).status_code == 200
    assert api.get(LIST).status_code == 401


def test_failures_are_forgotten_after_a_minute_and_counted_by_address() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    assert [failures.add("192.0.2.1") for _ in range(FAILURES)] == [0.0] * FAILURES
    assert failures.add("192.0.2.1") == FAILURE_SECONDS
    assert failures.add("192.0.2.2") == 0.0
    now[0] = FAILURE_SECONDS
    assert failures.add("192.0.2.1") == 0.0


@pytest.mark.parametrize(("token", "status", "code"), [(None, 401, 16), ("reader", 403, 7)])
def test_a_sender_of_spans_is_refused_in_its_own_encoding(
    api: httpx.Client, reader: str, token: str | None, status: int, code: int
) -> None:
    headers = {"Content-Type": "application/x-protobuf", **(bearer(reader) if token else {})}
    answer = api.post("/v1/traces", content=b"", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/x-protobuf")
    assert Status.FromString(answer.content).code == code
    headers["Content-Type"] = "application/json"
    assert api.post("/v1/traces", content=b"{}", headers=headers).json()["code"] == code


def test_opentelemetrys_own_exporter_gets_in_with_the_header_variable(
    api: httpx.Client, keys: Keys, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = keys.create("agents", ["ingest"], actor="me")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"Authorization=Bearer%20{token}")
    exporter = OTLPSpanExporter(f"{api.base_url}/v1/traces")
    with TracerProvider().get_tracer("t").start_as_current_span("x") as span:
        pass
    assert exporter.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    exporter.shutdown()  # type: ignore[no-untyped-call]


def test_the_use_of_a_key_is_written_down(api: httpx.Client, keys: Keys, reader: str) -> None:
    assert keys.all()[0].last_used_at is None
    api.get(LIST, headers=bearer(reader))
    eventually(lambda: keys.all()[0].last_used_at is not None, 5)


def test_a_database_that_goes_away_does_not_open_the_door(
    api: httpx.Client, ledger: Ledger, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is restarting.")

    monkeypatch.setattr(ledger.store.backend, "reading", down)
    assert api.get("/openapi.json").status_code == 503
    assert api.get("/healthz").status_code == 200
    monkeypatch.undo()
    assert api.get("/openapi.json", headers=bearer(reader)).status_code == 200
    monkeypatch.setattr(ledger.store.backend, "reading", down)
    eventually(lambda: api.get("/openapi.json").status_code == 401, 5)
    assert api.get("/openapi.json", headers=bearer(reader)).status_code == 200
    assert api.get(LIST, headers=bearer(reader)).status_code == 503


def test_checking_keys_asks_the_database_no_more_than_once_a_second(
    api: httpx.Client, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    once = Keys.all
    monkeypatch.setattr(Keys, "all", lambda self: reads.append(time.monotonic()) or once(self))
    began = time.monotonic()
    threads = [threading.Thread(target=_ask, args=(api, reader)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(reads) <= 1 + (time.monotonic() - began)


def _ask(api: httpx.Client, token: str) -> None:
    for _ in range(10):
        assert api.get("/openapi.json", headers=bearer(token)).status_code == 200
