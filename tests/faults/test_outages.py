"""Databases that are killed, locked, full, silent, not migrated or out of connections while agents go on working."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from spanledger.exporter.backends.postgresql import CONNECT_SECONDS, TRANSACTION_SECONDS
from spanledger.exporter.errors import ConfigurationError, StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.segments import SEALED
from spanledger.exporter.spool import Spool
from spanledger.exporter.store import Store

from .handmade import NewSpans
from .world import World

Seen = Callable[[str], None]


NOTICED = 500.0
"""Milliseconds. A busy machine may keep a thread from running for as long; waiting for a database takes seconds."""


@contextlib.contextmanager
def working(world: Any, agents: int = 1, **options: Any) -> Iterator[list[float]]:
    """Agents that end calls while the block runs; afterwards the list holds the longest end() of each, in ms."""
    running = [world.agent("steady", **options) for _ in range(agents)]
    slowest: list[float] = []
    for agent in running:
        assert agent.stdout.readline() == "ready\n"
    yield slowest
    for agent in running:
        agent.stdin.write("stop\n")
        agent.stdin.flush()
    for agent in running:
        said, complaints = agent.communicate(timeout=60)
        assert agent.returncode == 0, complaints
        slowest.append(1000 * float(said))
    assert max(slowest) < NOTICED, "an agent waited for the database"


@pytest.mark.fault("F2")
def test_a_server_killed_five_times_under_load_costs_no_span_and_makes_no_second_row(
    server: Any, new_world: Any, seen: Seen, soak: int
) -> None:
    world = new_world(server.url)
    swarm = world.agent("swarm", kills=200 * soak, longest=0.4, at_once=2)
    with working(world, agents=2, pause=0.005):
        for _ in range(5 * soak):
            before = world.count()
            world.until(lambda before=before: world.count() > before + 50)
            server.kill()
            time.sleep(0.3)  # the time of being down: agents go on, and are refused
            server.start()
        said, complaints = swarm.communicate(timeout=120 * soak)
        assert said.strip() == str(200 * soak), complaints
    world.drain(60 * soak)
    acked = world.check_nothing_is_lost()
    seen(f"{5 * soak} kill -9 of the server, {200 * soak} of agents: {acked:,} spans, 0 lost, 0 twice, spool empty")


@pytest.mark.fault("F1")
def test_agents_start_while_there_is_no_server_and_their_spans_come_when_there_is(
    server: Any, new_world: Any, seen: Seen
) -> None:
    server.kill()
    world = new_world(server.url)
    with working(world) as slowest:
        world.until(lambda: len(world.acks().ended) > 300)
        server.start()
        world.until(lambda: world.count() > 300)
    world.drain()
    seen(f"{world.check_nothing_is_lost()} spans, 0 lost; slowest end() {slowest[0]:.1f} ms")


@pytest.mark.fault("F3")
def test_what_waited_through_a_long_outage_is_stored_by_another_process(world: Any, seen: Seen, soak: int) -> None:
    """With ``SPANLEDGER_SOAK=20`` an hour of 100 spans a second."""
    spans = 18_000 * soak
    agent = world.agent("fill", url="postgresql://nobody@127.0.0.1:9/nothing", spans=spans, then="SIGKILL")
    said, complaints = agent.communicate(timeout=120 * soak)
    assert said.split() == [str(spans), "0"], complaints
    waited = Spool(world.spool_folder).usage()
    where = ["--database-url", world.url, "--spool-folder", str(world.spool_folder)]
    command = [sys.executable, "-m", "spanledger.query_api.cli", "spool", "drain", *where]
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, timeout=120 * soak)
    rate = spans / (time.monotonic() - began)
    assert run.returncode == 0, run.stderr
    assert world.check_nothing_is_lost() == spans
    assert Spool(world.spool_folder).usage().segments == 0
    seen(f"{spans:,} spans ({waited.bytes >> 20} MiB), 0 lost; `spanledger spool drain` took {rate:,.0f} a second")


@pytest.mark.fault("F3")
def test_what_waited_through_a_holiday_is_stored_and_not_given_up_for_its_age(
    world: World, seen: Seen, new_spans: NewSpans
) -> None:
    new_spans.producer(world, [new_spans.call()]).seal()
    (waiting,) = world.spool_folder.glob(f"*{SEALED}")
    begun = time.time_ns() - 30 * 86400 * 10**9
    waiting.rename(waiting.with_name(f"{begun:020d}-{waiting.name.partition('-')[2]}"))
    said, complaints = world.agent("idle").communicate("stop\n", timeout=60)
    assert said == "True\n", complaints
    world.drain()
    assert world.count() == 2
    assert world.losses() == {}
    seen("a span that waited for 30 days while nothing ran: stored by the next process")


@pytest.mark.fault("F4")
def test_a_network_that_swallows_everything_is_given_up_and_storing_goes_on(
    postgresql: str, proxy: Any, new_world: Any, seen: Seen
) -> None:
    world = new_world(postgresql)
    with working(world, url=proxy.url) as slowest:
        world.until(world.count)
        proxy.stall()
        stalled = time.monotonic()
        acked = len(world.acks().ended)
        world.until(lambda: len(world.acks().ended) > acked + 200)
        # Heard again by whoever connects anew; what was on its way is gone for good.
        proxy.cut_off_from_the_server()
        proxy.resume()
        stored = world.count()
        world.until(lambda: world.count() > stored)
        resumed = time.monotonic() - stalled
    world.drain()
    acked = world.check_nothing_is_lost()
    assert resumed < TRANSACTION_SECONDS + 2 * CONNECT_SECONDS
    what = f"slowest end() {slowest[0]:.1f} ms; {acked} spans, 0 lost"
    seen(f"stored again {resumed:.1f} s after the silence began; {what}")


@pytest.mark.fault("F5")
def test_tables_that_somebody_locks_delay_rows_and_nobody_else(postgresql: str, new_world: Any, seen: Seen) -> None:
    world = new_world(postgresql)
    with working(world) as slowest:
        world.until(world.count)
        with psycopg.connect(postgresql) as other:
            other.execute("LOCK TABLE llm_call_logs IN EXCLUSIVE MODE")
            stored, acked = world.count(), len(world.acks().ended)
            world.until(lambda: len(world.acks().ended) > acked + 500)
            assert world.count() == stored
        world.until(lambda: world.count() > stored)
    world.drain()
    acked = world.check_nothing_is_lost()
    seen(f"500 spans ended under LOCK TABLE, slowest end() {slowest[0]:.1f} ms; {acked} spans, 0 lost")


@pytest.mark.fault("F6")
def test_a_sqlite_file_that_somebody_locks_delays_rows_and_nobody_else(sqlite: str, new_world: Any, seen: Seen) -> None:
    world = new_world(sqlite)
    with working(world) as slowest:
        world.until(world.count)
        with contextlib.closing(sqlite3.connect(make_url(sqlite).database or "", isolation_level=None)) as other:
            world.until(lambda: _locked(other))
            acked = len(world.acks().ended)
            world.until(lambda: len(world.acks().ended) > acked + 500)
    world.drain()
    acked = world.check_nothing_is_lost()
    seen(f"500 spans ended under BEGIN IMMEDIATE, slowest end() {slowest[0]:.1f} ms; {acked} spans, 0 lost")


def _locked(connection: sqlite3.Connection) -> bool:
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("BEGIN IMMEDIATE")
        return True
    return False


@pytest.mark.fault("F7")
def test_a_reader_that_stays_stops_no_writer_and_the_log_shrinks_when_it_has_gone(
    sqlite: str, new_world: Any, seen: Seen
) -> None:
    world = new_world(sqlite)
    path = make_url(sqlite).database or ""
    log = Path(f"{path}-wal")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM llm_call_logs").fetchone()
        world.agent("fill", spans=3000, size=4).communicate(timeout=60)
        world.drain()
        assert reader.execute("SELECT count(*) FROM llm_call_logs").fetchone() == (0,), "it sees what was when it began"
        grown = log.stat().st_size
        reader.execute("COMMIT")
    assert world.check_nothing_is_lost() == 3000
    world.agent("fill", spans=100).communicate(timeout=60)
    world.drain()
    assert not log.exists() or log.stat().st_size < grown
    seen(f"3,000 spans stored beside a reader of the state before them; the log grew to {grown >> 20} MiB, then shrank")


@pytest.mark.fault("F9")
def test_a_database_whose_disk_is_full_waits_for_room(
    small_disk: Path, tmp_path: Path, new_world: Any, seen: Seen
) -> None:
    url = f"sqlite:///{small_disk / 'full.db'}"
    world = new_world(url)
    ballast = small_disk / "ballast"
    Store.open(url).close()
    ballast.write_bytes(b"x" * (_free(small_disk) - 100_000))
    agent = world.agent("fill", spans=200, flush=3000)
    _, complaints = agent.communicate(timeout=60)
    assert agent.returncode == 0, complaints
    waiting = Spool(world.spool_folder).usage().segments
    assert waiting
    assert "free some space" in complaints
    ballast.unlink()
    world.drain()
    assert world.check_nothing_is_lost() == 200
    seen("200 spans waited in the spool while the database's disk was full, and were stored when there was room")


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_bsize


@pytest.mark.fault("F33")
def test_tables_that_do_not_fit_the_code_make_spans_wait(empty_postgresql: str, new_world: Any, seen: Seen) -> None:
    world = new_world(empty_postgresql)
    agent = world.agent("fill", spans=100, flush=500)
    _, complaints = agent.communicate(timeout=60)
    assert agent.returncode == 0
    assert "run `spanledger migrate`" in complaints
    store = Store.open(empty_postgresql, migrate=True)
    with store.engine.begin() as connection:
        revision = connection.scalar(text("SELECT version_num FROM spanledger_version"))
        connection.execute(text("UPDATE spanledger_version SET version_num = 'spanledger_9999'"))
    store.close()
    with pytest.raises((ConfigurationError, StoreUnavailable)):
        world.drain(seconds=0)
    with psycopg.connect(empty_postgresql, autocommit=True) as connection:
        connection.execute("UPDATE spanledger_version SET version_num = %s", [revision])
    world.drain()
    assert world.check_nothing_is_lost() == 100
    seen("no tables, then tables of a later version: 100 spans waited; then stored")


@pytest.mark.fault("F34")
def test_many_processes_of_a_host_need_one_connection_and_wait_for_it(
    postgresql: str, new_world: Any, seen: Seen
) -> None:
    world = new_world(postgresql)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
    sessions += "application_name = 'spanledger'"
    most = 0
    with psycopg.connect(postgresql, autocommit=True) as observer, working(world, agents=5, pause=0.01):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            (now,) = observer.execute(sessions.encode()).fetchone() or (0,)
            most = max(most, now)
            time.sleep(0.05)
    world.drain()
    acked = world.check_nothing_is_lost()
    assert most == 1
    seen(f"5 processes, {most} connection; {acked} spans, 0 lost")


@pytest.mark.fault("F34")
def test_a_server_without_a_free_connection_is_waited_for(server: Any, new_world: Any, seen: Seen) -> None:
    world = new_world(server.url)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 10")
    server.kill()
    server.start()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(20):
                stack.enter_context(contextlib.closing(psycopg.connect(server.url)))
        agent = world.agent("fill", spans=100, flush=5000)
        _, complaints = agent.communicate(timeout=60)
        assert "too many clients" in complaints or "remaining connection slots" in complaints
    world.drain()
    assert world.check_nothing_is_lost() == 100
    seen("every connection taken: 100 spans waited; then stored")


@pytest.mark.fault("F18", "F21")
def test_the_same_spans_from_four_drainers_at_once_change_nothing(world: Any, new_spans: Any, seen: Seen) -> None:
    # All below one parent, so that writers lock trace by trace and not everything.
    spans = [new_spans.call(trace_id=2**100 + n % 40, parent_span_id=2**60) for n in range(400)]
    ledger = Ledger.open(world.settings)
    ledger.record(spans)
    before = world.stored()
    failed: list[BaseException] = []

    def redeliver(order: int) -> None:
        own = Ledger.open(world.settings)
        try:
            for start in range(0, len(spans), 50):
                own.record(spans[start : start + 50][:: 1 if order % 2 else -1])
        except BaseException as error:
            failed.append(error)
        finally:
            own.close()

    for _ in range(3):
        threads = [threading.Thread(target=redeliver, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ledger.close()
    assert not failed
    assert world.stored() == before
    if world.url.startswith("postgresql"):
        assert deadlocks(world) == 0, "they were repeated, but they cost a second each"
    seen("400 spans stored by 4 writers at once, in opposite orders, 3 times more: no error, no row changed")


@pytest.mark.fault("F19")
def test_of_two_spans_with_the_same_ids_the_first_that_ended_stays(world: Any, new_spans: Any, seen: Seen) -> None:
    first = new_spans.call()
    other = first._replace(attributes={**first.attributes, "gen_ai.usage.input_tokens": 999})
    ledger = Ledger.open(world.settings)
    ledger.record([first])
    ledger.record([other])
    ledger.close()
    (row,) = world.rows(llm_call_logs)
    assert row["input_tokens"] == first.attributes["gen_ai.usage.input_tokens"]
    seen("the first stays; keeping the other for inspection waits for projects")


def deadlocks(world: Any) -> int:
    """How many the server has counted, once our sessions have told it."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with psycopg.connect(world.url, autocommit=True) as connection:
        world.until(lambda: connection.execute(sessions).fetchone() == (0,))
        (count,) = connection.execute(counted).fetchone() or (0,)
    return int(count)
