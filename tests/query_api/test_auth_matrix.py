"""Which credential is answered how on which route, method by method: ``auth_matrix.json`` says.

python tests/query_api/test_auth_matrix.py      writes it anew, for you to read the difference
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path

import orjson
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api.app import create_app
from spanledger.query_api.keys import SCOPES, Keys, new_token
from spanledger.query_api.routes import ROUTES

GOLDEN = Path(__file__).with_name("auth_matrix.json")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NOWHERE = "/nowhere"

Matrix = dict[str, dict[str, int]]
"""``{"GET /path": {"no key": 401, …}}``."""


def matrix(folder: Path) -> Matrix:
    """Every method on every path, and on one that is none, with every kind of credential."""
    settings = Settings(f"sqlite:///{folder / 'matrix.db'}")
    paths = [*dict.fromkeys(route.path for route in ROUTES), NOWHERE]
    found: Matrix = {f"{method} {path}": {} for path in paths for method in METHODS}
    with closing(Ledger.open(settings)) as ledger:
        keys = dict(credentials(Keys(ledger.store)))
        app = from_everywhere(create_app(ledger, settings))
        with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
            for operation, statuses in found.items():
                method, path = operation.split()
                for name, headers in keys.items():
                    answer = client.request(method, re.sub(r"{[^}]*}", "x", path), headers=headers)
                    statuses[name] = answer.status_code
    return found


def credentials(keys: Keys) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "no key", {}
    yield "bad key", bearer(new_token())
    for scope in SCOPES:
        yield scope, bearer(keys.create(scope, [scope], actor="the tests"))
    revoked = keys.create("revoked", ["admin"], actor="the tests")
    keys.revoke(revoked.split("_")[1], actor="the tests")
    yield "revoked", bearer(revoked)


def from_everywhere(app: ASGIApp) -> ASGIApp:
    """*app* as many clients see it, each once: this is not about how often one may fail."""
    numbers = count()

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            number = next(numbers)
            scope |= {"client": (f"198.18.{number // 256}.{number % 256}", 50000), "server": ("198.51.100.1", 8318)}
        await app(scope, receive, send)

    return call


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


def as_json(found: Matrix) -> bytes:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def test_every_route_answers_every_credential_as_the_matrix_says(tmp_path: Path) -> None:
    assert matrix(tmp_path) == orjson.loads(GOLDEN.read_bytes())


def test_the_matrix_covers_every_route_and_lets_nobody_in_who_is_not_allowed_to() -> None:
    golden = orjson.loads(GOLDEN.read_bytes())
    assert {operation.split()[1] for operation in golden} == {*(route.path for route in ROUTES), NOWHERE}
    scopes = {f"{route.method} {route.path}": route.scope for route in ROUTES}
    scopes |= {f"HEAD {route.path}": route.scope for route in ROUTES if route.method == "GET"}
    for operation, statuses in golden.items():
        if operation in scopes and scopes[operation] is None:
            assert set(statuses.values()) == {200}
            continue
        assert {statuses[name] for name in ("no key", "bad key", "revoked")} == {401}
        if operation in scopes:
            allowed = {scopes[operation], "admin"}
            assert {name for name in SCOPES if statuses[name] == 403} == {*SCOPES} - allowed
            assert {statuses[name] for name in allowed} <= {200, 400, 404, 415}
        else:
            assert {statuses[name] for name in SCOPES} <= {404, 405}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = matrix(Path(folder))
    GOLDEN.write_bytes(as_json(found))
    sys.stdout.write(f"{GOLDEN}: {len(found)} operations\n")
