"""What the spool costs an agent's thread, and how fast it drains, beside the plain SDK and the bare drivers.

``end()``: wall-clock time of ending one chat span with 2 KiB of attributes, paced, in a process of its own for every
variant: with no processor, with a batch processor that exports nowhere, and with ours while the database is up, down,
locked by somebody, and behind a network that swallows everything. Draining: spans a second from sealed segments to
committed rows and an empty folder, beside the driver's own executemany with the same rows, ready-made.
"""

import argparse
import contextlib
import json
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from spanledger.exporter.frames import Kind, span_body
from spanledger.exporter.pipeline import Pipeline, drain
from spanledger.exporter.processor import LedgerSpanProcessor
from spanledger.exporter.settings import Settings
from spanledger.exporter.spool import Spool
from spanledger.exporter.store import Store

from .databases import fresh_postgresql, postgresql
from .measured import paired, spread, table
from .storage import Work, prepare, psycopg_copy, psycopg_executemany, sqlite_executemany

THIS_PROGRAM: Final = (sys.executable, "-m", "benchmarks.spool")
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
NOWHERE: Final = "postgresql://nobody@127.0.0.1:9/nothing"
ATTRIBUTES: Final[dict[str, Any]] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "What is it? " * 160}]}]
    ),
}


class NullExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@contextlib.contextmanager
def nothing(folder: Path) -> Iterator[str]:
    yield ""


@contextlib.contextmanager
def up(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'up.db'}"


@contextlib.contextmanager
def down(folder: Path) -> Iterator[str]:
    yield NOWHERE


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[str]:
    url = f"sqlite:///{folder / 'locked.db'}"
    Store.open(url).close()
    with contextlib.closing(sqlite3.connect(folder / "locked.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield url


@contextlib.contextmanager
def black_holed(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel answers, nobody else ever does
        yield f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/nothing"


VARIANTS: Final[dict[str, Callable[[Path], contextlib.AbstractContextManager[str]]]] = {
    "no processor": nothing,
    "batch processor, null exporter": nothing,
    "spanledger, database up (SQLite)": up,
    "spanledger, database down": down,
    "spanledger, database locked": locked,
    "spanledger, database black-holed": black_holed,
}


def measure(variant: str, url: str, folder: str, spans: int, pause: float) -> dict[str, float]:
    """Percentiles of ``end()`` in µs."""
    provider = TracerProvider()
    if variant.startswith("batch"):
        provider.add_span_processor(BatchSpanProcessor(NullExporter()))
    elif variant.startswith("spanledger"):
        pipeline = Pipeline(Settings(database_url=url, spool_folder=folder))
        provider.add_span_processor(LedgerSpanProcessor(pipeline, exit_budget=0.1))
    tracer = provider.get_tracer("benchmark")
    took = []
    for number in range(spans + spans // 10):
        span = tracer.start_span("chat gpt-4o", attributes=ATTRIBUTES)
        begin = time.perf_counter_ns()
        span.end()
        if number >= spans // 10:  # the rest was warming up
            took.append((time.perf_counter_ns() - begin) / 1000)
        time.sleep(pause)
    took.sort()
    return {name: took[int(share * len(took))] for name, share in PERCENTILES.items()} | {"max": took[-1]}


def cost(rounds: int, spans: int, pause: float) -> str:
    results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        order = list(VARIANTS)
        random.Random(number).shuffle(order)
        for variant in order:
            with (
                tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder,
                VARIANTS[variant](Path(folder)) as url,
            ):
                command = [*THIS_PROGRAM, "--measure", variant, url, f"{folder}/spool"]
                command += ["--spans", str(spans), "--pause", str(pause)]
                results[variant].append(json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL)))
        print(f"end(): round {number + 1} of {rounds}", file=sys.stderr)
    names = [*PERCENTILES, "max"]
    rows = {v: tuple(spread([one[name] for one in results[v]]) for name in names) for v in VARIANTS}
    return table(f"end(), µs, {rounds} rounds of {spans:,} spans", names, rows)


def drained(url: str, work: Work) -> float:
    """Spans a second, from sealed segments to an empty folder."""
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        spool = Spool(Path(folder, "spool"))
        for spans in work.spans:
            for span in spans:
                spool.append(Kind.END, span_body(span))
        spool.seal()
        settings = Settings(database_url=url, spool_folder=f"{folder}/spool")
        Store.open(url, migrate=True).close()
        begin = time.perf_counter()
        assert drain(settings)
        rate = work.rows / (time.perf_counter() - begin)
        assert spool.usage().segments == 0
    return rate


def rates(database: str, fresh: Callable[[], str], work: Work, rounds: int) -> str:
    bare = {"SQLite": [sqlite_executemany], "PostgreSQL": [psycopg_executemany, psycopg_copy]}[database]
    found: dict[str, list[float]] = {"drain": [], **{each.__name__: [] for each in bare}}
    for number in range(rounds):
        found["drain"].append(drained(fresh(), work))
        for driver in bare:
            url = fresh()
            Store.open(url, migrate=True).close()
            begin = time.perf_counter()
            driver(url, work)
            found[driver.__name__].append(work.rows / (time.perf_counter() - begin))
        print(f"{database}: round {number + 1} of {rounds}", file=sys.stderr)
    yardstick = found[bare[0].__name__]
    rows = {name: (spread(rate), spread(paired(rate, yardstick), 2)) for name, rate in found.items()}
    return table(f"{database}, {rounds} rounds", ["spans a second", f"/ {bare[0].__name__}"], rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--spans", type=int, default=5000, help="ended in each round")
    options.add_argument("--pause", type=float, default=0.001, help="seconds between two spans")
    options.add_argument("--runs", type=int, default=1000, help="runs of 11 spans that are drained")
    options.add_argument("--measure", nargs=3, metavar=("VARIANT", "URL", "FOLDER"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.measure:
        variant, url, folder = arguments.measure
        print(json.dumps(measure(variant, url, folder, arguments.spans, arguments.pause)))
        return
    print(cost(arguments.rounds, arguments.spans, arguments.pause))
    work = prepare(arguments.runs)
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder, postgresql() as server:
        names = iter(range(sys.maxsize))
        print(rates("SQLite", lambda: f"sqlite:///{folder}/{next(names)}.db", work, arguments.rounds))
        print(rates("PostgreSQL", lambda: fresh_postgresql(server), work, arguments.rounds))


if __name__ == "__main__":
    main()
