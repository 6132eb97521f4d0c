"""Spans a second until stored and queryable: `spanledger serve` on SQLite, fed over OTLP/HTTP by several senders.

The clock stops when every span can be found: through the API here; in the database of a peer, which may answer before
it has stored anything. Batches of 512 spans, protobuf, uncompressed, encoded beforehand; servers are processes of their
own. With ``--peers``, MLflow and Phoenix get spans of the same runs in the same rounds; see `benchmarks.peers`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import Request, urlopen

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from .measured import paired, spread, table
from .peers import PEERS, CannotRun, Peer, as_it_is, count, installed, serving, version
from .workload import SPANS_PER_RUN, batches, recorded_runs

BATCH: Final = 512
SENDERS: Final = (1, 4)
PATIENCE: Final = 300.0
"""Seconds a server may take for a request, and for all spans to be found."""
WARM: Final = 3.0
"""Seconds: a server that takes longer for a wave of small requests still has something to load."""
WAVES: Final = 20
WIDTH: Final = 8
"""Requests of a wave, all at once: twice as many as MLflow has workers."""
OURS: Final = "spanledger"


class Target(NamedTuple):
    """A server to feed."""

    name: str
    url: str
    group: int
    """Of the processes it consists of."""
    found: Callable[[], int]
    """How many spans can be found by now."""
    spans: int
    """How many it gets a round."""
    headers: Mapping[str, str] = {}
    told: Callable[[bytes], bytes] = as_it_is


class Measured(NamedTuple):
    """One round: spans a second, CPU of the server a span in µs, and the most memory it had, in MiB."""

    rate: float
    cpu: float
    memory: float


@contextmanager
def ours(spans: int) -> Iterator[Target]:
    """`spanledger serve` on a fresh database, until the block ends."""
    command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        command += ["--database-url", f"sqlite:///{Path(folder) / 'ledger.db'}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[3]
            yield Target(OURS, url, process.pid, lambda: total(url, "executions") + total(url, "llm-calls"), spans)
        finally:
            process.terminate()
            process.communicate(timeout=60)


@contextmanager
def theirs(peer: Peer) -> Iterator[Target]:
    """A peer's server on a fresh database, until the block ends. Raises `CannotRun`."""
    programs = installed(peer)
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with serving(peer, programs, folder) as (url, pid):
            found = partial(count, folder)
            yield Target(f"{peer.name} {version(peer, programs)}", url, pid, found, peer.spans, peer.headers, peer.told)


def measure(target: Target, bodies: Sequence[bytes], spans: int, senders: int) -> Measured:
    """Feed *target* by *senders* threads until all *spans* can be found."""
    already = target.found()
    with Watch(target.group) as watch:
        begin = time.perf_counter()
        feed(target, bodies, senders)
        while target.found() < already + spans:
            if time.perf_counter() - begin > PATIENCE:
                raise TimeoutError(f"{target.name} has {target.found() - already:,} of {spans:,} spans")
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
    return Measured(spans / seconds, watch.cpu / spans * 1e6, watch.memory)


def feed(target: Target, bodies: Sequence[bytes], senders: int) -> None:
    """Post every body once; back when the last is answered."""
    waiting = iter(bodies)
    lock = threading.Lock()
    errors: list[Exception] = []

    def send() -> None:
        try:
            while not errors:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                post(target, body)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def post(target: Target, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf", **target.headers}
    with urlopen(Request(f"{target.url}/v1/traces", body, headers), timeout=PATIENCE) as answer:
        assert answer.read() == b"", "some spans were rejected"


def total(url: str, rows: str) -> int:
    with urlopen(f"{url}/execution-logs/{rows}?limit=1&start_date=2000-01-01", timeout=60) as answer:
        number: int = json.load(answer)["total_count"]
        return number


class Watch:
    """What a server and the processes it started use while a block runs: CPU seconds, and MiB at most."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.memory = 0.0

    def __enter__(self) -> "Watch":
        self.cpu = -used(self._group)[0]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.cpu += used(self._group)[0]

    def _look(self) -> None:
        while True:
            self.memory = max(self.memory, used(self._group)[1])
            if self._ended.wait(0.2):
                return


def used(group: int) -> tuple[float, float]:
    """CPU seconds and resident MiB of a process group, by Linux's ``/proc``. Shared pages count in each process."""
    ticks = pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def encoded(runs: int) -> list[bytes]:
    """New spans, as the bodies to post."""
    return [encode_spans(part).SerializeToString() for part in batches(recorded_runs(runs), BATCH)]


def warm(target: Target) -> None:
    """Whatever the first requests have to load, in every worker: a worker of MLflow takes half a minute."""
    for _ in range(WAVES):
        bodies = [target.told(body) for _ in range(WIDTH) for body in encoded(1)]
        begin = time.perf_counter()
        try:
            measure(target, bodies, WIDTH * SPANS_PER_RUN, senders=WIDTH)
        except OSError:
            continue  # MLflow ends workers that are silent while they load, with the requests they have
        if time.perf_counter() - begin < WARM:
            return
    raise TimeoutError(f"{target.name} is still loading after {WAVES} waves of {WIDTH} requests")


def alone(rounds: int, runs: int) -> None:
    spans = runs * SPANS_PER_RUN
    bodies = encoded(runs)
    rows = {}
    for senders in SENDERS:
        measured = []
        for _ in range(rounds):
            with ours(spans) as target:
                warm(target)
                measured.append(measure(target, bodies, spans, senders))
        rows[f"{senders}"] = [spread(column) for column in zip(*measured, strict=True)]
    head = ["spans a second", "server CPU µs a span", "server memory MiB, peak"]
    print(table(f"{spans:,} spans, {rounds} rounds, senders", head, rows))


def beside_peers(rounds: int, runs: int) -> None:
    """All servers run all the time, and get new spans of the same runs in turn; a peer the first few of them."""
    with ExitStack() as stack:
        targets = [stack.enter_context(ours(runs * SPANS_PER_RUN))]
        for peer in PEERS:
            try:
                targets.append(stack.enter_context(theirs(peer)))
            except CannotRun as error:
                print(error)
        for target in targets:
            warm(target)
        for senders in SENDERS:
            measured: dict[str, list[Measured]] = {target.name: [] for target in targets}
            for _ in range(rounds):
                bodies = encoded(runs)
                for target in targets:
                    number = min(len(bodies), -(-target.spans // BATCH))
                    spans = min(number * BATCH, runs * SPANS_PER_RUN)
                    told = [target.told(body) for body in bodies[:number]]
                    measured[target.name].append(measure(target, told, spans, senders))
            print(compared(senders, measured), end="\n\n")


def compared(senders: int, measured: Mapping[str, Sequence[Measured]]) -> str:
    """The table of one number of senders, with how many times as fast we were in each round."""
    our_rates = [one.rate for one in measured[OURS]]
    rows = {}
    for name, each in measured.items():
        times = "1" if name == OURS else spread(paired(our_rates, [one.rate for one in each]), 1)
        rows[name] = [*(spread(column) for column in zip(*each, strict=True)), times]
    head = ["spans a second", "server CPU µs a span", "server memory MiB, peak", "spanledger is faster, times"]
    return table(f"{senders} senders, {len(our_rates)} rounds", head, rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--runs", type=int, default=1860, help=f"of {SPANS_PER_RUN} spans each")
    options.add_argument("--peers", action="store_true", help="MLflow and Phoenix, too; installs them the first time")
    arguments = options.parse_args()
    (beside_peers if arguments.peers else alone)(arguments.rounds, arguments.runs)


if __name__ == "__main__":
    main()
