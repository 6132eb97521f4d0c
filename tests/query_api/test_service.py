"""What surrounds the endpoints: health, errors, headers, and the description of itself."""

import re
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route as StarletteRoute

from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api.app import create_app
from spanledger.query_api.openapi import template
from spanledger.query_api.parameters import FILTERS
from spanledger.query_api.problems import STATUSES
from spanledger.query_api.routes import ROUTES

PATHS = sorted({route.path for route in ROUTES})
UNSAFE = ("PUT", "PATCH", "TRACE", "OPTIONS", "POST", "DELETE")


def concrete(path: str) -> str:
    return re.sub(r"{[^}]*}", "x", path)


def test_a_running_service_is_healthy_and_ready(api: httpx.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json()["status"] == "ready"


def test_a_database_that_is_away_is_503_on_every_question_but_health(
    api: httpx.Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is restarting.")

    monkeypatch.setattr(ledger.store.backend, "reading", down)
    assert api.get("/healthz").status_code == 200
    for path in ("/readyz", "/execution-logs/executions", "/execution-logs/analytics/summary"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (503, "PostgreSQL is restarting.")
        assert int(answer.headers["retry-after"]) > 0


def test_a_bug_of_ours_is_a_500_that_says_nothing_of_our_insides(
    ledger: Ledger, api: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(ledger.store.backend, "reading", broken)
    answer = api.get("/execution-logs/executions")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    monkeypatch.undo()
    assert api.get("/execution-logs/executions").status_code == 200
    assert "secret detail" in caplog.text  # after another answer, because it is logged after its own


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_405_and_name_those_that_work(sqlite_api: httpx.Client, path: str) -> None:
    works = {route.method for route in ROUTES if route.path == path}
    for method in UNSAFE:
        if method in works:
            continue
        answer = sqlite_api.request(method, concrete(path))
        assert answer.status_code == 405
        assert works <= set(answer.headers["allow"].split(", "))
        assert answer.json()["status"] == 405


@pytest.mark.parametrize("path", ["/nope", "/execution-logs", "/execution-logs/nope/", "/v1/metrics", "/..%2f"])
def test_an_unknown_address_is_a_404_problem(sqlite_api: httpx.Client, path: str) -> None:
    answer = sqlite_api.get(path)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert "/openapi.json" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/nope", "/execution-logs/executions", "/metrics"])
def test_every_answer_carries_security_headers_and_opens_nothing_to_other_origins(
    sqlite_api: httpx.Client, path: str
) -> None:
    answer = sqlite_api.get(path, headers={"origin": "https://evil.example"})
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_methods_that_strangers_make_up_are_counted_as_one(sqlite_api: httpx.Client) -> None:
    for number in range(20):
        assert sqlite_api.request(f"M{number}", "/healthz").status_code == 405
    metrics = sqlite_api.get("/metrics").text
    assert 'method="M1"' not in metrics
    assert 'spanledger_requests_total{method="other",path="/healthz",status="405"} 20.0' in metrics


def test_head_works_where_get_does(sqlite_api: httpx.Client) -> None:
    answer = sqlite_api.head("/execution-logs/executions")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_openapi_document_is_valid_and_covers_every_route_and_parameter(sqlite_api: httpx.Client) -> None:
    document = sqlite_api.get("/openapi.json").json()
    validate(document)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, template(route.path)) for route in ROUTES}
    for route in ROUTES:
        operation = document["paths"][template(route.path)][route.method.lower()]
        query = {p["name"]: p for p in operation["parameters"] if p["in"] == "query"}
        assert set(query) == {parameter.name for parameter in route.parameters}
        assert all(p["description"] for p in query.values())
        assert operation["summary"].endswith(".")
    assert {wanted.name for wanted in FILTERS} <= {p.name for route in ROUTES for p in route.parameters}


def test_the_openapi_document_promises_the_columns_rows_have(api: httpx.Client, rows: Any) -> None:
    rows.write(rows.execution(1), rows.call(1))
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    for path, name, schema in (("executions", "executions", "ExecutionRow"), ("llm-calls", "llm_calls", "LLMCallRow")):
        (row,) = api.get(f"/execution-logs/{path}", params={"include_content": "true"}).json()[name]
        assert set(row) <= set(schemas[schema]["properties"])
        assert set(schemas[schema]["required"]) <= set(row)


def test_the_table_of_routes_is_what_the_application_serves(ledger: Ledger, settings: Settings) -> None:
    app = create_app(ledger, settings)
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, StarletteRoute)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == {(route.method, route.path) for route in ROUTES}
    assert {route.path for route in ROUTES if route.scope is None} == {"/healthz"}
    assert {route.scope for route in ROUTES if route.method == "DELETE"} == {"delete"}
    assert {route.scope for route in ROUTES if route.method == "POST"} == {"ingest"}


def test_the_only_server_errors_on_purpose_are_503() -> None:
    assert {status for status in STATUSES.values() if status >= 500} == {503}
