"""Spans a second until stored and queryable: `spanledger serve` on SQLite, fed over OTLP/HTTP by several senders.

The clock stops when the last batch is answered, which is after its commit, and a rate counts only if the API then finds
every span. Batches of 512 spans, protobuf, uncompressed, encoded beforehand; the server is a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import Request, urlopen

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from .measured import spread, table
from .workload import SPANS_PER_RUN, batches, recorded_runs

BATCH: Final = 512
SENDERS: Final = (1, 4)
TYPE: Final = {"Content-Type": "application/x-protobuf"}


class Measured(NamedTuple):
    """One round: spans a second, CPU of the server a span in µs, and the most memory it had, in MiB."""

    rate: float
    cpu: float
    memory: float


@contextmanager
def server(folder: str) -> Iterator[tuple[str, int]]:
    """The address and the pid of a server on a fresh database, until the block ends."""
    command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", "0"]
    command += ["--database-url", f"sqlite:///{Path(folder) / 'ledger.db'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[3], process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def measure(bodies: Sequence[bytes], spans: int, senders: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder, server(folder) as (url, pid):
        post(url, b"")  # whatever the first request has to load
        before, begin = cpu_seconds(pid), time.perf_counter()
        waiting = iter(bodies)
        lock = threading.Lock()

        def send() -> None:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                post(url, body)

        threads = [threading.Thread(target=send) for _ in range(senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        found = sum(total(url, rows) for rows in ("executions", "llm-calls"))
        assert found == spans, f"{found} spans of {spans} can be found"
        return Measured(spans / seconds, (cpu_seconds(pid) - before) / spans * 1e6, peak_mib(pid))


def post(url: str, body: bytes) -> None:
    with urlopen(Request(f"{url}/v1/traces", body, TYPE), timeout=60) as answer:
        assert answer.read() == b"", "some spans were rejected"


def total(url: str, rows: str) -> int:
    with urlopen(f"{url}/execution-logs/{rows}?limit=1&start_date=2000-01-01", timeout=60) as answer:
        count: int = json.load(answer)["total_count"]
        return count


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--runs", type=int, default=1860, help=f"of {SPANS_PER_RUN} spans each")
    arguments = options.parse_args()
    parts = batches(recorded_runs(arguments.runs), BATCH)
    bodies = [encode_spans(part).SerializeToString() for part in parts]
    spans = arguments.runs * SPANS_PER_RUN
    rows = {}
    for senders in SENDERS:
        rounds = [measure(bodies, spans, senders) for _ in range(arguments.rounds)]
        rows[f"{senders}"] = [spread(column) for column in zip(*rounds, strict=True)]
    head = ["spans a second", "server CPU µs a span", "server memory MiB, peak"]
    print(table(f"{spans:,} spans, {arguments.rounds} rounds, senders", head, rows))


if __name__ == "__main__":
    main()
