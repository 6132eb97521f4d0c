"""Processes that are killed: what they were told is safe is stored, what they had begun is seen and then given up."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import make_url, update

from spanledger.exporter.custody import SILENCE as SILENT_HOST
from spanledger.exporter.custody import Custody
from spanledger.exporter.delivery import deliver
from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import deliveries, execution_logs, producers
from spanledger.exporter.segments import LEASE, SILENCE
from spanledger.exporter.spool import Spool

Seen = Callable[[str], None]


@pytest.mark.fault("F10", "F15")
def test_a_thousand_agents_killed_at_random_instants_lose_nothing_they_were_told_is_safe(
    world: Any, seen: Seen, soak: int
) -> None:
    kills = 1000 * soak
    agents = world.agent("swarm", kills=kills, seed=time.time_ns())
    said, complaints = agents.communicate(timeout=240 * soak)
    assert said.strip() == str(kills), complaints
    world.drain(240 * soak)
    acked = world.check_nothing_is_lost()
    assert acked > kills, "they were killed before they did anything"
    opened, runs = world.acks().opened, world.stored(execution_logs)
    assert not opened - runs.keys(), "an execution that had begun is not to be seen"
    assert {(row["status"], row["error_type"]) for row in runs.values()} == {("cancelled", "abandoned")}
    seen(f"{kills} SIGKILLs, {acked:,} acknowledged spans, 0 lost; {len(opened)} open executions, all cancelled")


@pytest.mark.fault("F11")
def test_a_drainer_killed_between_commit_and_unlink_stores_nothing_twice(world: Any, seen: Seen) -> None:
    agent = world.agent("fill", spans=300, then="SIGKILL")
    agent.communicate(timeout=60)
    killed = 0
    for _ in range(3):
        if (child := os.fork()) == 0:
            from spanledger.exporter.segments import Claim

            Claim.done = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            world.drain()
            os._exit(0)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert killed == 3
    assert len(world.stored()) == 300
    world.drain()
    assert world.check_nothing_is_lost() == 300
    assert sum(row["produced"] for row in world.rows(deliveries)) == 300
    seen("300 spans delivered 4 times: 300 rows, and the books say 300")


@pytest.mark.fault("F15", "F16")
def test_a_running_execution_is_seen_given_up_when_its_process_dies_and_not_when_it_is_stopped(
    world: Any, seen: Seen
) -> None:
    drainer = world.agent("steady", pause=0.05, end="root")
    world.until(lambda: statuses(world) == ["started"])  # it has the lease now
    killed, stopped = world.agent("steady", pause=0.05), world.agent("steady", pause=0.05, end="root")
    for agent in (drainer, killed, stopped):
        assert agent.stdout.readline() == "ready\n"
    began = time.monotonic()
    world.until(lambda: len(world.stored(execution_logs)) == 3)
    visible = time.monotonic() - began
    assert {row["status"] for row in world.rows(execution_logs)} == {"started"}

    stopped.send_signal(signal.SIGSTOP)
    killed.kill()
    killed.wait()
    began = time.monotonic()
    world.until(lambda: "cancelled" in statuses(world))
    given_up = time.monotonic() - began
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        assert statuses(world).count("cancelled") == 1, "a stopped process is not dead"
        time.sleep(0.2)
    stopped.send_signal(signal.SIGCONT)
    for agent in (stopped, drainer):
        agent.communicate("stop\n", timeout=60)
    world.drain()
    assert sorted(statuses(world)) == ["cancelled", "completed", "completed"]
    world.check_nothing_is_lost()
    assert visible < 10  # on a busy machine; what is usual stands in the table
    assert given_up < 20
    seen(f"seen as started after {visible:.1f} s, cancelled {given_up:.1f} s after the kill; a stopped one was not")


@pytest.mark.fault("F15")
def test_a_stopped_drainer_is_passed_over(world: Any, seen: Seen) -> None:
    drainer = world.agent("steady", pause=0.05)
    world.until(lambda: statuses(world) == ["started"])
    world.until(lambda: stopped_outside_of_a_transaction(world, drainer))
    lease = world.spool_folder / LEASE
    os.utime(lease, (0, time.time() - SILENCE))  # as if that long had passed
    other = world.agent("fill", spans=50)
    other.communicate(timeout=60)
    assert len(world.stored()) >= 50
    drainer.send_signal(signal.SIGCONT)
    drainer.communicate("stop\n", timeout=60)
    world.drain()
    seen(f"a drainer stopped for {SILENCE:.0f} s is passed over; {world.check_nothing_is_lost()} spans, 0 lost")


@pytest.mark.fault("F15", "F21")
def test_what_died_is_given_up_while_nobody_else_writes_its_trace(
    postgresql: str, new_world: Any, seen: Seen, new_spans: Any
) -> None:
    world = new_world(postgresql)
    root = new_spans.execution(end_time=None)
    new_spans.producer(world, [root]).vanish()
    ledger = Ledger.open(world.settings)
    custody = Custody(ledger.store)
    custody.enter(deliver(ledger, list(Spool(world.spool_folder).claims())))
    backend = ledger.store.backend
    with backend.engine.begin() as another:
        backend.lock(another, [f"{root.trace_id:032x}"])
        with pytest.raises(StoreUnavailable):
            custody.attend(lambda producer: False)
    assert statuses(world) == ["started"]
    assert custody.attend(lambda producer: False) == 1
    assert statuses(world) == ["cancelled"]
    ledger.close()
    seen("what died is given up once no other writer is at its trace")


@pytest.mark.fault("F15")
def test_what_another_host_left_running_is_given_up_once_that_host_has_long_been_silent(
    world: Any, seen: Seen, new_spans: Any
) -> None:
    new_spans.producer(world, [new_spans.execution(end_time=None)]).vanish()
    ledger = Ledger.open(world.settings)
    Custody(ledger.store, "there").enter(deliver(ledger, list(Spool(world.spool_folder).claims())))

    def given_up(after: timedelta) -> int:
        with ledger.store.engine.begin() as connection:
            connection.execute(update(producers).values(last_seen=datetime.now(UTC) - after))
        return Custody(ledger.store, "here").attend(lambda producer: False)  # whom nobody here can know

    assert given_up(after=SILENT_HOST - timedelta(seconds=10)) == 0
    assert statuses(world) == ["started"]
    assert given_up(after=SILENT_HOST + timedelta(seconds=1)) == 1
    assert statuses(world) == ["cancelled"]
    ledger.close()
    seen(f"left running by another host: given up after {SILENT_HOST.seconds} s of its silence, not before")


@pytest.mark.fault("F15")
def test_however_much_ran_when_a_process_died_is_given_up_in_portions(
    world: Any, seen: Seen, new_spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanledger.exporter.custody.PORTION", 10)
    new_spans.producer(world, [new_spans.execution(end_time=None) for _ in range(25)]).vanish()
    world.drain()
    assert statuses(world) == ["cancelled"] * 25
    seen("25 executions of a dead process given up in portions of 10")


def stopped_outside_of_a_transaction(world: Any, agent: Any) -> bool:
    """Whether the agent could be stopped where it has no lock: whoever stops with one stops all writers of SQLite."""
    agent.send_signal(signal.SIGSTOP)
    if not world.url.startswith("sqlite"):
        return True
    with contextlib.closing(sqlite3.connect(make_url(world.url).database or "", timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            agent.send_signal(signal.SIGCONT)
            return False
    return True


def statuses(world: Any) -> list[str]:
    return [row["status"] for row in world.rows(execution_logs)]


@pytest.mark.fault("F16")
def test_an_end_that_comes_after_its_process_was_given_up_wins(world: Any, seen: Seen, new_spans: Any) -> None:
    root = new_spans.execution()
    running = root._replace(end_time=None)
    dead = new_spans.producer(world, [running])
    dead.vanish()
    world.drain()
    assert statuses(world) == ["cancelled"]
    new_spans.producer(world, [root]).seal()
    world.drain()
    assert statuses(world) == ["completed"]
    new_spans.producer(world, [running]).seal()
    world.drain()
    assert statuses(world) == ["completed"], "a late start takes nothing back"
    seen("cancelled, then its end arrives: completed; then its start again: still completed")


@pytest.mark.fault("F13")
def test_children_forked_while_threads_end_spans_lose_nothing(world: Any, seen: Seen, soak: int) -> None:
    agent = world.agent("forks", forks=100 * soak)
    _, complaints = agent.communicate(timeout=120 * soak)
    assert agent.returncode == 0, complaints
    world.drain(240 * soak)
    acked = world.check_nothing_is_lost()
    seen(f"{100 * soak} forks under a busy lock, none hung; {acked:,} spans, 0 lost")
