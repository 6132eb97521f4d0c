"""What agents live in: instrumented drivers, and greenlets. (Servers and pools: ``test_workers.py``.)"""

import contextlib
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
