"""What recording costs an application: CPU per span of the thread that makes the spans, and of its whole process.

Variants run in processes of their own, interleaved, each round in another order; ratios are taken within a round.
Neither the OTLP sink's nor PostgreSQL's own CPU counts: both are other processes. SQLite's is inside, and counts.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.processor import ContextSpanProcessor, LedgerSpanProcessor
from spanledger.exporter.settings import Settings

from .databases import fresh_postgresql, postgresql
from .measured import paired, spread, table
from .workload import SPANS_PER_RUN, emit_run

BURST_RUNS: Final = 90
"""990 spans fit every queue; a longer burst would measure how fast a full queue drops them."""
WARM_UP_BURSTS: Final = 1
THIS_PROGRAM: Final = (sys.executable, "-m", "benchmarks.overhead")


class NullExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def null(provider: TracerProvider, _: str) -> None:
    provider.add_span_processor(BatchSpanProcessor(NullExporter()))


def otlp(provider: TracerProvider, endpoint: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


def ledger(provider: TracerProvider, database_url: str) -> None:
    """As `configure` does it: through the spool."""
    settings = Settings(database_url=database_url, spool_folder=tempfile.mkdtemp(prefix="spanledger-bench-"))
    provider.add_span_processor(ContextSpanProcessor())
    provider.add_span_processor(LedgerSpanProcessor(Pipeline(settings)))


VARIANTS: Final[dict[str, Callable[[TracerProvider, str], None]]] = {
    "no exporter (SDK + null)": null,
    "OTLP/HTTP": otlp,
    "spanledger, SQLite": ledger,
    "spanledger, PostgreSQL": ledger,
}


def measure(variant: str, target: str, bursts: int) -> dict[str, float]:
    """CPU in µs a span of this thread while it makes spans (*caller*) and of this process until all are exported."""
    provider = TracerProvider()
    VARIANTS[variant](provider, target)
    tracer = provider.get_tracer("opentelemetry.instrumentation.genai.openai", "1.3b0")

    def burst(first_run: int) -> int:
        begin = time.thread_time_ns()
        for number in range(first_run, first_run + BURST_RUNS):
            emit_run(tracer, number)
        spent = time.thread_time_ns() - begin
        if not provider.force_flush():
            raise RuntimeError(f"{variant}: not everything could be exported")
        return spent

    for number in range(WARM_UP_BURSTS):
        burst(number * BURST_RUNS)
    before = time.process_time_ns()
    caller = sum(burst((WARM_UP_BURSTS + number) * BURST_RUNS) for number in range(bursts))
    total = time.process_time_ns() - before
    provider.shutdown()
    spans = bursts * BURST_RUNS * SPANS_PER_RUN
    return {"caller": caller / spans / 1000, "total": total / spans / 1000}


class Sink(BaseHTTPRequestHandler):
    """Takes any OTLP request and says thanks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def sink() -> Iterator[str]:
    """A sink in a process of its own; yields its endpoint."""
    process = subprocess.Popen([*THIS_PROGRAM, "--sink"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces"
    finally:
        process.terminate()
        process.wait()


def run_sink() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    print(server.server_port, flush=True)
    server.serve_forever()


def compare(rounds: int, bursts: int) -> dict[str, list[dict[str, float]]]:
    results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with sink() as endpoint, postgresql() as server, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            order = list(VARIANTS)
            random.Random(number).shuffle(order)
            for variant in order:
                target = {
                    "OTLP/HTTP": lambda: endpoint,
                    "spanledger, SQLite": lambda: f"sqlite:///{Path(folder) / f'{number}.db'}",  # noqa: B023
                    "spanledger, PostgreSQL": lambda: fresh_postgresql(server),
                }.get(variant, str)()
                command = [*THIS_PROGRAM, "--measure", variant, target, "--bursts", str(bursts)]
                results[variant].append(json.loads(subprocess.check_output(command)))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return results


def report(results: dict[str, list[dict[str, float]]]) -> str:
    def column(variant: str, name: str) -> list[float]:
        return [result[name] for result in results[variant]]

    null_caller, otlp_total = column("no exporter (SDK + null)", "caller"), column("OTLP/HTTP", "total")
    header = ["caller CPU, µs a span", "total CPU, µs a span", "caller / null", "total / OTLP"]
    rows = {
        variant: (
            spread(column(variant, "caller")),
            spread(column(variant, "total")),
            spread(paired(column(variant, "caller"), null_caller), 2),
            spread(paired(column(variant, "total"), otlp_total), 2),
        )
        for variant in results
    }
    return table(f"median [min–max] of {len(null_caller)} rounds", header, rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--bursts", type=int, default=4, help=f"of {BURST_RUNS * SPANS_PER_RUN} spans, each process")
    options.add_argument("--measure", nargs=2, metavar=("VARIANT", "TARGET"), help=argparse.SUPPRESS)
    options.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.sink:
        run_sink()
    elif arguments.measure:
        variant, target = arguments.measure
        print(json.dumps(measure(variant, target, arguments.bursts)))
    else:
        print(report(compare(arguments.rounds, arguments.bursts)))


if __name__ == "__main__":
    main()
