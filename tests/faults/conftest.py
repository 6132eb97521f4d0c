"""Real processes, servers, sockets and disks that fail when they are told to, and a side ledger of what was promised.

Every test here says what it saw; the table of `catalogue.toml` is printed at the end of the run. With
``SPANLEDGER_SOAK=10`` everything that is counted is done ten times as often.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.backends import BACKENDS
from spanledger.exporter.store import Store

from .breakable import Proxy, Server
from .handmade import NewSpans
from .world import World

if sys.platform == "win32":
    pytest.skip("the spool needs flock, which Windows does not have", allow_module_level=True)

CATALOGUE: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text())
OBSERVED = pytest.StashKey[dict[str, list[str]]]()


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
def server(own_server: Any) -> Server:
    Store.open(own_server.get_uri(), migrate=True).close()
    return Server(own_server)


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


@pytest.fixture
def new_spans() -> NewSpans:
    return NewSpans()


@pytest.fixture
def python() -> str:
    """The interpreter to run programs with; ``SPANLEDGER_TEST_PYTHON`` names another one that has spanledger."""
    return os.environ.get("SPANLEDGER_TEST_PYTHON", sys.executable)
