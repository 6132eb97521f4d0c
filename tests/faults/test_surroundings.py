"""What agents live in: instrumented drivers, gevent, gunicorn, and an interpreter that ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.processor import LedgerSpanProcessor

Seen = Callable[[str], None]


class Counter(SpanProcessor):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.names.append(span.name)


@pytest.mark.fault("F39")
def test_our_own_work_makes_no_spans_though_the_driver_is_instrumented(sqlite: str, new_world: Any, seen: Seen) -> None:
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

    world = new_world(sqlite)
    provider, counter = TracerProvider(shutdown_on_exit=False), Counter()
    provider.add_span_processor(LedgerSpanProcessor(Pipeline(world.settings)))
    provider.add_span_processor(counter)
    instrumentor = SQLite3Instrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        import sqlite3

        with contextlib.closing(sqlite3.connect(":memory:")) as own:
            own.cursor().execute("SELECT 1")
        assert counter.names == ["SELECT"], "the instrumentor works"
        tracer = provider.get_tracer("faults")
        for _ in range(10):
            tracer.start_span("chat x", attributes={"gen_ai.operation.name": "chat"}).end()
        assert provider.force_flush()
        time_to_attend = time.monotonic() + 3
        while time.monotonic() < time_to_attend:
            time.sleep(0.1)  # an absence can only be waited for
        assert provider.force_flush()
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
    assert world.count() == 10
    assert counter.names == ["SELECT", *["chat x"] * 10]
    seen("sqlite3 instrumented: 10 spans of the agent and 1 query of its own, none of ours")


GREEN = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from spanledger.exporter import configure
configured = configure(sys.argv[1], instrument=False)
from opentelemetry import trace
tracer = trace.get_tracer("t")
def work(n):
    for _ in range(20):
        with tracer.start_as_current_span("chat x", attributes={"gen_ai.operation.name": "chat"}):
            gevent.sleep(0.001)
gevent.joinall([gevent.spawn(work, n) for n in range(10)])
assert configured.force_flush(20_000)
"""


@pytest.mark.fault("F40")
def test_greenlets_lose_nothing(world: Any, seen: Seen) -> None:
    pytest.importorskip("gevent", reason="install gevent to run agents in greenlets")
    environment = os.environ | {"SPANLEDGER_SPOOL_FOLDER": str(world.spool_folder)}
    run = subprocess.run(
        [sys.executable, "-c", GREEN, world.url], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert world.count() == 200
    seen("gevent, everything patched: 200 spans of 10 greenlets stored")


WEB = """
import contextlib
import os
from spanledger.exporter import configure
configure(os.environ["DATABASE"], instrument=False)
from opentelemetry import trace
tracer = trace.get_tracer("t")
tracer.start_span("chat preloaded", attributes={"gen_ai.operation.name": "chat"}).end()

def app(environ, start_response):
    span = tracer.start_span("chat x", attributes={"gen_ai.operation.name": "chat"})
    span.end()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {span.get_span_context().span_id:016x}".encode()]
"""


@pytest.mark.fault("F13", "F40")
def test_preloaded_workers_of_gunicorn_lose_nothing_when_they_are_killed(
    world: Any, tmp_path: Path, seen: Seen
) -> None:
    pytest.importorskip("gunicorn", reason="install gunicorn to fork workers of a preloaded application")
    (tmp_path / "web.py").write_text(WEB)
    environment = os.environ | {"SPANLEDGER_SPOOL_FOLDER": str(world.spool_folder), "DATABASE": world.url}
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--preload",
            "-w",
            "4",
            "-b",
            "127.0.0.1:0",
            "--no-control-socket",
            "web:app",
        ],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = ""
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"Listening at: (http://[\d.:]+)", line):
                address = found[1]
            if address and "Booting worker" in line:
                break
        assert address, "gunicorn did not start"
        answers = []
        for number in range(60):
            answers.append(httpx.get(address, timeout=30).text.split())
            if number % 20 == 10:
                os.kill(int(answers[-1][0]), signal.SIGKILL)
                world.until(lambda: _answers(address))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    world.drain()
    stored = {key.split()[1] for key in world.stored()}
    assert {span for _, span in answers} <= stored
    workers = len({pid for pid, _ in answers})
    seen(f"gunicorn --preload, {workers} workers, 3 of them killed: {len(answers)} answered requests, 0 spans lost")


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_every_fault_of_the_catalogue_has_a_test_or_says_where_it_is_shown() -> None:
    here = Path(__file__).parent
    catalogue = tomllib.loads((here / "catalogue.toml").read_text())
    assert list(catalogue) == [f"F{number}" for number in range(1, 41)]
    marked = set(re.findall(r'"(F\d+)"', "".join(path.read_text() for path in here.glob("test_*.py"))))
    for fault, row in catalogue.items():
        if "elsewhere" in row:
            path, _, test = row["elsewhere"].partition("::")
            assert f"def {test}" in (here.parents[1] / path).read_text()
        else:
            assert fault in marked or "waits" in row, fault
