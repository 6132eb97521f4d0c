"""Where each of the 34 rows of bad inputs in our catalogue of faults is tested, and tests of those with no other home.

``pytest -s -k printed tests/query_api/test_bad_input_rows.py`` prints the table.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import httpx
import pytest
from google.rpc.status_pb2 import Status

from spanledger.exporter.backends import postgresql as postgresql_backend
from spanledger.exporter.backends import sqlite as sqlite_backend
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api import app, listening
from spanledger.query_api.budget import Budget
from spanledger.query_api.keys import Keys, new_token
from spanledger.query_api.receivers import http as receiver
from spanledger.query_api.receivers.body import read

HERE = Path(__file__)
PROTOBUF, JSON = "application/x-protobuf", "application/json"
UNKNOWN = {PROTOBUF: b"\xa2\x06\x80\x80\x20" + bytes(512 * 1024), JSON: b'{"a": "' + b"x" * 512 * 1024 + b'"}'}
"""Half a MiB of a field that nobody knows."""

ELSEWHERE: Mapping[int, str] = {
    2: "test_auth_matrix.test_the_matrix_covers_every_route_and_lets_nobody_in_who_is_not_allowed_to",
    20: "test_auth.test_who_tries_wrong_keys_is_told_to_wait_while_right_ones_are_heard",
    23: "test_executions_api.test_hostile_text_is_only_text",
    26: "test_service.test_other_methods_are_405_and_name_those_that_work",
    27: "test_origins.test_a_name_that_is_none_of_ours_is_misdirected",
    33: "test_auth_matrix.test_every_route_answers_every_credential_as_the_matrix_says",
}
"""Rows whose tests are not named by their number, as ``module.test``."""

NOT_HERE: Mapping[int, str] = {
    25: "a database has one tenant: there is no other project whose row one could ask for",
    31: "spanledger calls nobody: alerts are Prometheus rules, and there are no webhooks",
    32: "nothing writes CSV: the API answers JSON, and archives are Parquet",
}
"""Rows about what does not exist here."""


@pytest.fixture(params=[PROTOBUF, JSON], ids=["protobuf", "json"])
def kind(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "Budget", partial(Budget, 256 * 1024))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_backend, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(postgresql_backend, "POOL_SECONDS", 0.3)


@pytest.fixture
def local(sqlite: str) -> Iterator[tuple[httpx.Client, Ledger]]:
    settings = Settings(sqlite)
    with closing(Ledger.open(settings)) as ledger:
        service = app.create_app(ledger, settings)
        with listening.serving(service, listening.bind("127.0.0.1", 0)) as url, httpx.Client(base_url=url) as api:
            yield api, ledger


def chat(kind: str) -> bytes:
    """A body with one span."""
    if kind == JSON:
        ids = f'"traceId": "{"07" * 16}", "spanId": "{"02" * 8}", "startTimeUnixNano": "1700000000000000000"'
        attribute = '{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}'
        return (
            f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{{ids}, "attributes": [{attribute}]}}]}}]}}]}}'.encode()
        )
    return (HERE.parent / "data" / "traceloop-openai.openai_chat_tools.otlp.pb").read_bytes()


def test_every_row_is_tested_or_is_about_what_does_not_exist_printed() -> None:
    numbered = {
        int(number): f"{module}.{name}"
        for module in ("test_bad_inputs", HERE.stem)
        for name, number in re.findall(
            r"^def (test_(\d+)_\w+)", (HERE.parent / f"{module}.py").read_text(), re.MULTILINE
        )
    }
    for row in range(1, 35):
        ways = [table[row] for table in (numbered, ELSEWHERE, NOT_HERE) if row in table]
        print(f"{row:2}  {ways[0] if ways else '?'}")
        assert len(ways) == 1, row
    for place in ELSEWHERE.values():
        module, name = place.split(".")
        assert f"def {name}(" in (HERE.parent / f"{module}.py").read_text()


def test_1_spans_without_a_key_or_with_a_wrong_or_revoked_one_are_401(
    local: tuple[httpx.Client, Ledger], kind: str
) -> None:
    api, ledger = local
    keys = Keys(ledger.store)
    revoked = keys.create("gone", ["ingest"], actor="me")
    keys.revoke(revoked.split("_")[1], actor="me")
    for credentials in ({}, {"Authorization": f"Bearer {new_token()}"}, {"Authorization": f"Bearer {revoked}"}):
        for path in ("/v1/traces", "/v1/logs"):
            answer = api.post(path, content=chat(kind), headers={"Content-Type": kind, **credentials})
            assert (answer.status_code, answer.headers["content-type"]) == (401, kind)
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            code = answer.json()["code"] if kind == JSON else Status.FromString(answer.content).code
            assert code == 16


def test_19_a_full_queue_is_503_with_a_time_to_come_back(
    small_budget: None, local: tuple[httpx.Client, Ledger], kind: str
) -> None:
    api, _ = local
    for path in ("/v1/traces", "/v1/logs"):
        answer = api.post(path, content=UNKNOWN[kind], headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == kind
    assert api.post("/v1/traces", content=chat(kind), headers={"Content-Type": kind}).status_code == 200


def test_19_no_free_connection_is_503_once_one_was_waited_for(
    impatient: None, ledger: Ledger, settings: Settings, kind: str
) -> None:
    service = app.create_app(ledger, settings)
    with listening.serving(service, listening.bind("127.0.0.1", 0)) as url, httpx.Client(base_url=url) as api:
        with ExitStack() as holders:
            for _ in range(ledger.store.engine.pool.size()):  # type: ignore[attr-defined]
                holders.enter_context(ledger.store.engine.connect())
            answer = api.post("/v1/traces", content=chat(kind), headers={"Content-Type": kind}, timeout=30)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert api.post("/v1/traces", content=chat(kind), headers={"Content-Type": kind}).status_code == 200


def test_29_a_body_that_drips_is_408_and_the_connection_ends(
    local: tuple[httpx.Client, Ledger], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = local
    monkeypatch.setattr(receiver, "read", partial(read, seconds=0.3))
    head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=5) as connection:
        connection.sendall(head.encode() + b"{")
        said = b""
        while chunk := connection.recv(4096):
            said += chunk
    assert said.startswith(b"HTTP/1.1 408 ")
    assert api.post("/v1/traces", content=b"", headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/traces", "/execution-logs/executions"])
def test_34_an_upgrade_is_a_request_like_any_other(local: tuple[httpx.Client, Ledger], path: str) -> None:
    # There is no WebSocket and no event stream; who asks for one without a key is told what everybody is.
    api, ledger = local
    Keys(ledger.store).create("first", ["read"], actor="me")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for headers in ({**upgrade, "Sec-WebSocket-Key": "x" * 22 + "=="}, {"Accept": "text/event-stream"}):
        assert api.get(path, headers=headers).status_code == 401
