"""Eight ways to end a process: every span that ended is kept, and no database holds the end up."""

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.pipeline import EXIT_BUDGET
from spanledger.exporter.schema import execution_logs

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
SLACK = 4.0
"""Seconds a busy machine takes to import SQLAlchemy and to end an interpreter that has nothing to wait for."""


def all_ways_out(world: Any, **options: Any) -> dict[str, float]:
    """Let an agent end in each way: how many seconds passed from when it began to go until it was gone."""

    def go(how: str) -> float:
        agent = world.agent("leave", how=how, **options)
        said, complaints = agent.communicate(timeout=60)
        gone = time.time()
        assert agent.returncode == STATUS[how], complaints
        assert "Exception ignored" not in complaints
        return gone - float(said)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(STATUS, pool.map(go, STATUS), strict=True))


def check(world: Any, delays: dict[str, float], seen: Callable[[str], None], database: str) -> None:
    world.drain()
    assert world.check_nothing_is_lost() == 100 * len(STATUS)
    opened = world.acks().opened
    assert not opened - world.stored(execution_logs).keys(), "an execution that had begun is not to be seen"
    slowest = max(delays, key=lambda how: delays[how])
    assert delays[slowest] < EXIT_BUDGET + SLACK, delays
    seen(f"database {database}: 8 of 8 kept all 100 spans and the open root; slowest end {delays[slowest]:.1f} s")


@pytest.mark.fault("F12")
def test_every_way_out_keeps_what_ended(world: Any, seen: Callable[[str], None]) -> None:
    check(world, all_ways_out(world), seen, "up")


@pytest.mark.fault("F12", "F1", "F3")
def test_a_database_that_is_down_keeps_nobody_from_ending(
    new_world: Any, postgresql: str, seen: Callable[[str], None]
) -> None:
    world = new_world(postgresql)
    delays = all_ways_out(world, url="postgresql://nobody@127.0.0.1:9/nothing")
    check(world, delays, seen, "down from start to end, stored by another process")


@pytest.mark.fault("F12", "F4")
def test_a_network_that_swallows_everything_keeps_nobody_from_ending(
    new_world: Any, postgresql: str, proxy: Any, seen: Callable[[str], None]
) -> None:
    proxy.stall()
    world = new_world(postgresql)
    check(world, all_ways_out(world, url=proxy.url), seen, "black-holed at connecting")


@pytest.mark.fault("F12", "F4")
def test_a_network_that_begins_to_swallow_while_agents_run_keeps_nobody_from_ending(
    new_world: Any, postgresql: str, proxy: Any, seen: Callable[[str], None]
) -> None:
    world = new_world(postgresql)
    drainer = world.agent("steady", url=proxy.url)
    assert drainer.stdout.readline() == "ready\n"
    world.until(lambda: world.stored())
    proxy.stall()
    began = time.monotonic()
    said, complaints = drainer.communicate("stop\n", timeout=60)
    delay = time.monotonic() - began
    assert drainer.returncode == 0, complaints
    assert delay < EXIT_BUDGET + SLACK
    world.drain()
    acked = world.check_nothing_is_lost()
    slowest = 1000 * float(said)
    seen(f"black-holed in the middle: gone {delay:.1f} s later, slowest end() {slowest:.0f} ms; {acked} spans, 0 lost")


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
    database_url: str, tmp_path: Path, python: str, new_world: Any, seen: Callable[[str], None]
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
