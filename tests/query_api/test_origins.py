"""Pages of others in a browser that can reach us: which hosts and origins are heard."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api.app import create_app

LIST = "/execution-logs/executions"
APP = "https://app.example"


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8318", "127.0.0.1", "127.0.0.1:9", "[::1]:8318", "192.0.2.7"])
def test_names_of_this_machine_and_addresses_are_heard(sqlite_api: httpx.Client, host: str) -> None:
    assert sqlite_api.get(LIST, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil@localhost", "[", ""]
)
def test_a_name_that_is_none_of_ours_is_misdirected(sqlite_api: httpx.Client, host: str) -> None:
    for path in (LIST, "/", "/healthz", "/nowhere"):
        answer = sqlite_api.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "SPANLEDGER_ALLOWED_HOSTS" in answer.json()["detail"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_change_that_a_page_of_others_asks_for_is_forbidden(
    sqlite_api: httpx.Client, headers: dict[str, str]
) -> None:
    assert sqlite_api.delete(f"{LIST}/x", headers=headers).status_code == 403
    for kind in ("text/plain", "application/json"):
        assert (
            sqlite_api.post("/v1/traces", content=b"{}", headers={**headers, "Content-Type": kind}).status_code == 403
        )
    answer = sqlite_api.get(LIST, headers=headers)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_our_own_pages_and_programs_may_change_things(sqlite_api: httpx.Client) -> None:
    own = {"Origin": str(sqlite_api.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert sqlite_api.delete(f"{LIST}/x", headers=own).status_code == 404
    assert sqlite_api.delete(f"{LIST}/x").status_code == 404


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        f"sqlite:///{tmp_path / 'x.db'}", allowed_hosts="ledger.example, other.example", cors_origins=APP
    )
    ledger = Ledger.open(settings)
    with TestClient(create_app(ledger, settings, insecure=True), "http://ledger.example") as client:
        yield client
    ledger.close()


def test_configured_hosts_are_heard(opened: TestClient) -> None:
    assert opened.get("/healthz").status_code == 200
    assert opened.get("/healthz", headers={"Host": "OTHER.example:443"}).status_code == 200
    assert opened.get("/healthz", headers={"Host": "third.example"}).status_code == 421


def test_pages_of_a_configured_origin_may_ask_before_they_have_a_key_and_others_may_not(opened: TestClient) -> None:
    def preflight(origin: str) -> httpx.Response:
        wanted = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
        return opened.options(LIST, headers={"Origin": origin, **wanted})

    assert preflight(APP).headers["access-control-allow-origin"] == APP
    assert "access-control-allow-origin" not in preflight("https://evil.example").headers
    theirs = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    assert opened.post("/v1/traces", json={}, headers=theirs).status_code == 200
    assert opened.post("/v1/traces", json={}, headers={"Origin": "https://evil.example"}).status_code == 403
