"""Programs in processes of their own (a tracer provider is global), and what stands in their database afterwards."""

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter.drainer import Drainer
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.settings import Settings

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def environment(database: Path, tmp_path: Path) -> dict[str, str]:
    """This process's environment without its telemetry settings, and with a database and spool of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))}
    # One that may be installed and does not know the SQLAlchemy we use: a warning is right, and in the way here.
    kept["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "sqlalchemy"
    return {
        **kept,
        "SPANLEDGER_DATABASE_URL": f"sqlite:///{database}",
        "SPANLEDGER_SPOOL_FOLDER": str(tmp_path / "spool"),
    }


@pytest.fixture
def program(tmp_path: Path, environment: Mapping[str, str]) -> Program:
    """Runs Python source to its end; `before` is the command that starts it."""

    def run(source: str, *, before: tuple[str, ...] = (sys.executable,), **variables: str) -> Any:
        file = tmp_path / "program.py"
        file.write_text(textwrap.dedent(source))
        return subprocess.run(
            [*before, str(file)],
            env={**environment, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def rows(database: Path, environment: Mapping[str, str]) -> Rows:
    """All rows of a table, as a person with a SQLite shell sees them once the next process has tidied up.

    (On a busy machine a process may end before its last spans are stored; then they wait in the spool.)
    """

    def read(table: str) -> list[dict[str, Any]]:
        pipeline = Pipeline(Settings.from_environment(environment))
        Drainer(pipeline.queue, pipeline.open_ledger).drain()
        pipeline.close()
        connection = sqlite3.connect(database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY start_time, id")]
        finally:
            connection.close()

    return read


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """A tracer provider of the test's own."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


class Sink:
    """An OTLP/HTTP server that remembers the names of the spans it got."""

    def __init__(self) -> None:
        names = self.names = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                names.extend(s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    thread = threading.Thread(target=sink.server.serve_forever)
    thread.start()
    yield sink
    sink.server.shutdown()
    sink.server.server_close()
    thread.join()
