"""A real server on a loopback port over a fresh database of each kind, and rows to ask it about."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import update
from starlette.types import ASGIApp

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.records import Batch, Execution, LLMCall
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import row_id_of
from spanledger.exporter.store import Store
from spanledger.query_api.app import create_app

MAX_BODY_BYTES = 256 * 1024
BASE = "/execution-logs"


class Rows:
    """Rows of a run from what matters to a test. Traces and spans are numbers; every trace is a run of its own."""

    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __init__(self, store: Store) -> None:
        self.store = store

    def id(self, trace: int, span: int) -> str:
        return row_id_of(f"{trace:032x}", f"{span:016x}")

    def execution(self, trace: int = 1, span: int = 1, parent: int | None = None, **columns: Any) -> Execution:
        own = {"agent_type": "planner", "execution_step": "plan"}
        return self._row(Execution, trace, span, parent, own | columns)

    def call(self, trace: int = 1, span: int = 2, parent: int | None = 1, **columns: Any) -> LLMCall:
        own = {
            "provider": "openai",
            "model_id": "gpt-4",
            "call_type": "inference",
            "counted": True,
            "is_streaming": False,
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
        }
        return self._row(LLMCall, trace, span, parent, own | columns)

    def write(self, *rows: Execution | LLMCall) -> None:
        executions = [row for row in rows if isinstance(row, Execution)]
        self.store.write(Batch(executions, [row for row in rows if isinstance(row, LLMCall)]))

    def leave_uncounted(self, trace: int, span: int) -> None:
        """The verdict on a duplicate, without the twin it would take to bring it about."""
        verdict = {"counted": False, "not_counted_reason": "duplicate_of:another"}
        statement = update(llm_call_logs).where(llm_call_logs.c.id == self.id(trace, span)).values(verdict)
        self.store.backend.transact(lambda connection: connection.execute(statement))

    def _row(self, kind: Any, trace: int, span: int, parent: int | None, columns: dict[str, Any]) -> Any:
        start = columns.pop("start_time", self.noon + timedelta(seconds=span))
        values = {
            "id": self.id(trace, span),
            "execution_id": f"run-{trace}",
            "trace_id": f"{trace:032x}",
            "span_id": f"{span:016x}",
            "parent_span_id": None if parent is None else f"{parent:016x}",
            "name": "a span",
            "status": "completed",
            "start_time": start,
            "end_time": start + timedelta(seconds=1),
            "duration_ms": 1000,
            "sanitized": False,
        }
        return kind(**dict.fromkeys(kind._fields) | values | columns)


@pytest.fixture
def rows(store: Store) -> Rows:
    return Rows(store)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, PriceBook(), Redactor())


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, max_body_bytes=MAX_BODY_BYTES, jaeger_url="http://jaeger.test/")


@pytest.fixture
def api(ledger: Ledger, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a running server."""
    with serving(create_app(ledger, settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def sqlite_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one server for all, on SQLite: for tests that leave nothing behind and need no database's opinion."""
    settings = Settings(f"sqlite:///{tmp_path_factory.mktemp('api') / 'shared.db'}", max_body_bytes=MAX_BODY_BYTES)
    ledger = Ledger.open(settings)
    with serving(create_app(ledger, settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    ledger.close()


Get = Callable[..., Any]


@pytest.fixture
def get(api: httpx.Client) -> Get:
    """``get("/executions", status="failed")``: the JSON of a 200."""

    def get(path: str, **parameters: Any) -> Any:
        response = api.get(BASE + path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    return get


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """*app* behind uvicorn on a free loopback port, as long as the block runs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
