"""A clock that steps while an agent works: nothing is lost, no duration is negative, nobody is given up who lives."""

import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger.exporter.schema import execution_logs, llm_call_logs

from .world import World

Seen = Callable[[str], None]
SOURCE = Path(__file__).parent / "programs" / "clock.c"
DAY = 86_400
YEAR_1970 = 100
YEAR_2262 = 9_220_000_000
"""As late as Python's own clock goes. (Later times come from elsewhere: ``test_values.py``.)"""


class Clock:
    """The wall clock of processes that get its *environment*. Their monotonic clock goes on."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK": str(self._file)}

    def step(self, seconds: float) -> None:
        """Let it be wrong by so many *seconds*."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", int(seconds)))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    library = tmp_path / "clock.so"
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("stepping the clock of a process takes a C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return Clock(tmp_path, library)


@pytest.mark.fault("F22")
def test_a_clock_that_steps_costs_no_span_and_no_living_process(world: World, clock: Clock, seen: Seen) -> None:
    agent = world.agent("steady", environment=clock.environment, pause=0.01, end="root")
    assert agent.stdout is not None
    assert agent.stdout.readline() == "ready\n"
    steps = {"-1 h": -3600.0, "+1 day": DAY, "1970": YEAR_1970 - time.time(), "2262": YEAR_2262 - time.time(), "now": 0}
    for seconds in steps.values():
        clock.step(seconds)
        stored = world.count()
        world.until(lambda stored=stored: world.count() > stored + 20)
        assert [row["status"] for row in world.rows(execution_logs)] == ["started"], "it lives"
    _, complaints = agent.communicate("stop\n", timeout=60)
    assert (agent.returncode, complaints) == (0, "")
    world.drain()
    acked = world.check_nothing_is_lost()
    calls = world.rows(llm_call_logs)
    assert {1970, 2262} <= {row["start_time"].year for row in calls}, "the clock did not step"
    assert all(row["duration_ms"] >= 0 for row in [*calls, *world.rows(execution_logs)])
    assert not world.losses()
    seen(f"the clock of an agent steps, {', '.join(steps)}: {acked} spans, 0 lost, no duration below 0")
