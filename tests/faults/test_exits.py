"""Eight ways to end a process: every span that ended is kept, and no database holds the end up."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.schema import execution_logs

from .breakable import Proxy
from .world import World

Seen = Callable[[str], None]
NewWorld = Callable[[str], World]

STATUS = {
    "return": 0,
    "sys.exit": 3,
    "exception": 1,
    "os._exit": 0,
    "abort": -signal.SIGABRT,
    "SIGTERM": -signal.SIGTERM,
    "SIGKILL": -signal.SIGKILL,
    "fork": 0,
}
MOST = 2.0
"""Seconds by which a database that is down may delay the end of a process."""
REFUSED = "postgresql://nobody@127.0.0.1:9/nothing"


def leave(world: World, how: str, **options: Any) -> float:
    """Let an agent end: how many seconds passed from when it began to go until it was gone."""
    agent = world.agent("leave", how=how, **options)
    said, complaints = agent.communicate(timeout=60)
    gone = time.time()
    assert agent.returncode == STATUS[how], complaints
    assert "Exception ignored" not in complaints
    return gone - float(said)


def all_ways_out(world: World, ways: Iterable[str] = STATUS, **options: Any) -> dict[str, float]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ways, pool.map(lambda how: leave(world, how, **options), ways), strict=True))


@pytest.fixture(scope="module")
def unhindered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """How long each way takes a program that traces, and has nobody who would keep its spans."""
    world = World("sqlite:///nothing.db", tmp_path_factory.mktemp("unhindered"))
    delays = all_ways_out(world, durability="none")
    world.end()
    return delays


def delayed(world: World, unhindered: dict[str, float], ways: Iterable[str] = STATUS, **options: Any) -> float:
    """By how many seconds the slowest way out is delayed. A machine that is busy otherwise gets more chances."""
    delays = all_ways_out(world, ways, **options)
    for _ in range(3):
        late = [how for how in delays if delays[how] - unhindered[how] >= MOST]
        delays |= all_ways_out(world, late, **options)
    slowest = max(delays[how] - unhindered[how] for how in delays)
    assert slowest < MOST, delays
    return slowest


def kept_everything(world: World) -> str:
    world.drain()
    assert world.check_nothing_is_lost() >= 100 * len(STATUS)
    opened = world.acks().opened
    assert not opened - world.stored(execution_logs).keys(), "an execution that had begun is not to be seen"
    return "8 of 8 kept all 100 spans and the open root"


@pytest.mark.fault("F12")
def test_every_way_out_keeps_what_ended(world: World, seen: Seen) -> None:
    delays = all_ways_out(world)
    seen(f"database up: {kept_everything(world)}; slowest end {max(delays.values()):.1f} s")


@pytest.mark.fault("F12", "F1", "F3")
@pytest.mark.parametrize("after", [0, 1.5])
def test_a_database_that_is_down_keeps_nobody_from_ending(
    new_world: NewWorld, postgresql: str, unhindered: dict[str, float], seen: Seen, after: float
) -> None:
    world = new_world(postgresql)
    delay = delayed(world, unhindered, url=REFUSED, after=after)
    when = f"agents of {after:.1f} s, database down from start to end, stored by another process"
    seen(f"{when}: {kept_everything(world)}; slowest end {delay:.1f} s later")


@pytest.mark.fault("F12", "F4")
@pytest.mark.parametrize("after", [0, 1.5])
def test_a_network_that_swallows_everything_keeps_nobody_from_ending(
    new_world: NewWorld, postgresql: str, proxy: Proxy, unhindered: dict[str, float], seen: Seen, after: float
) -> None:
    proxy.stall()
    world = new_world(postgresql)
    delay = delayed(world, unhindered, url=proxy.url, after=after)
    when = f"agents of {after:.1f} s, database black-holed at connecting"
    seen(f"{when}: {kept_everything(world)}; slowest end {delay:.1f} s later")


@pytest.mark.fault("F12")
@pytest.mark.parametrize("durability", ["power", "memory"])
def test_no_durability_takes_longer_to_end(
    new_world: NewWorld, postgresql: str, proxy: Proxy, unhindered: dict[str, float], seen: Seen, durability: str
) -> None:
    proxy.stall()
    world = new_world(postgresql)
    ways = ("return", "exception")  # the others call nobody at their end
    refused = delayed(world, unhindered, ways, url=REFUSED, durability=durability, after=1.5)
    swallowed = delayed(world, unhindered, ways, url=proxy.url, durability=durability, after=1.5)
    seen(f"durability {durability}: slowest end {refused:.1f} s later (refused), {swallowed:.1f} s (black-holed)")


@pytest.mark.fault("F12", "F4")
@pytest.mark.parametrize("mode", ["steady", "idle"])
def test_a_network_that_begins_to_swallow_while_agents_run_keeps_nobody_from_ending(
    new_world: NewWorld, postgresql: str, proxy: Proxy, unhindered: dict[str, float], seen: Seen, mode: str
) -> None:
    """One that works to the end, and one that has nothing left to store."""
    world = new_world(postgresql)
    agent = world.agent(mode, url=proxy.url)
    assert agent.stdout is not None
    assert agent.stdout.readline() in ("ready\n", "True\n")
    world.until(world.count)
    proxy.stall()
    began = time.monotonic()
    _, complaints = agent.communicate("stop\n", timeout=60)
    delay = time.monotonic() - began - unhindered["return"]
    assert agent.returncode == 0, complaints
    assert delay < MOST
    world.drain()
    seen(f"black-holed under a {mode} agent: gone {delay:.1f} s later; {world.check_nothing_is_lost()} spans, 0 lost")


PROGRAM = """
import sys
from spanledger.exporter import configure
configure(sys.argv[1], instrument=False)
from opentelemetry import trace
span = trace.get_tracer("t").start_span("chat x", attributes={"gen_ai.operation.name": "chat"})
span.end()
"""


@pytest.mark.fault("F40")
def test_the_interpreter_s_end_drains_without_a_word(
    database_url: str, tmp_path: Path, python: str, new_world: NewWorld, seen: Seen
) -> None:
    world = new_world(database_url)
    environment = {"SPANLEDGER_SPOOL_FOLDER": str(world.spool_folder), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM, database_url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert len(world.stored()) == 1, "a short program's spans are stored when it ends"
    seen("a program of one span: stored at its end, nothing printed")
