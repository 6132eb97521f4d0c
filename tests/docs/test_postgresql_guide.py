"""The SQL of docs/postgresql.md, on a real PostgreSQL: what it sets up is enough, and no more than that."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store

PAGE = Path(__file__).parents[2] / "docs/postgresql.md"
NAMES = ("spanledger", "ledger_writer", "ledger_reader")


class Guide:
    """The page's SQL with names of its own, as roles belong to the whole server."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.names = {name: f"{name}_{uuid.uuid4().hex[:12]}" for name in NAMES}
        blocks = re.findall(r"^<!-- runs: sql -->\n```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        self.create, self.grant = (
            re.sub(rf"\b({'|'.join(NAMES)})\b", lambda name: self.names[name[0]], block) for block in blocks
        )

    def execute(self, statements: str, database: str | None = None) -> None:
        url = make_url(self.server)
        url = url.set(database=database or url.database)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement.encode())

    def url(self, role: str) -> str:
        """The database as *role* of the page sees it."""
        (password,) = re.findall(rf"{self.names[role]} LOGIN PASSWORD '([^']*)'", self.create + self.grant)
        url = make_url(self.server).set(username=self.names[role], password=password, database=self.names["spanledger"])
        return url.render_as_string(hide_password=False)

    def drop(self) -> None:
        for statement in (
            f"DROP DATABASE {self.names['spanledger']} WITH (FORCE)",
            *(f"DROP ROLE {name}" for name in self.names.values()),
        ):
            with suppress(psycopg.errors.InvalidCatalogName, psycopg.errors.UndefinedObject):
                self.execute(statement)


@pytest.fixture
def guide(pg_url: str) -> Iterator[Guide]:
    guide = Guide(pg_url)
    yield guide
    guide.drop()


def span() -> SpanData:
    now = time.time_ns()
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    return SpanData(1, 2, None, "chat gpt-4o", 3, now, now + 1, 0, None, attributes, (), Resource(), "guide", "1", 0)


def test_the_guides_roles_can_do_their_work_and_nothing_else(guide: Guide) -> None:
    guide.execute(guide.create)
    Store.open(guide.url("spanledger"), migrate=True).close()
    guide.execute(guide.grant, guide.names["spanledger"])

    ledger = Ledger.open(Settings(database_url=guide.url("ledger_writer")))
    assert ledger.record([span()]).recorded == 1
    ledger.close()
    with (
        psycopg.connect(guide.url("ledger_writer")) as writer,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        writer.execute("DROP TABLE execution_logs")

    with psycopg.connect(guide.url("ledger_reader")) as reader:
        assert reader.execute("SELECT model_id FROM llm_call_logs").fetchall() == [("gpt-4o",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM llm_call_logs")
