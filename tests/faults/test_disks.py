"""Spool folders that are full, damaged, read-only, somebody else's or not there at all, and what is synced when."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.frames import Kind
from spanledger.exporter.segments import CORRUPT, SEALED
from spanledger.exporter.spool import Spool

Seen = Callable[[str], None]


@pytest.mark.fault("F8")
@pytest.mark.parametrize("end", ["at once", "SIGKILL"])
def test_on_a_full_disk_stored_and_lost_add_up_to_produced(world: Any, small_disk: Path, seen: Seen, end: str) -> None:
    world.spool_folder = small_disk / "spool"
    produced = 3000
    # The database is away while the disk fills up.
    agent = world.agent("fill", url="postgresql://nobody@127.0.0.1:9/nothing", spans=produced, flush=0, then=end)
    said, complaints = agent.communicate(timeout=60)
    assert agent.returncode == (0 if end == "at once" else -9), complaints
    kept, lost = map(int, said.split())
    assert kept + lost == produced
    assert lost > 1000
    assert kept > 300
    before = world.spool_folder
    world.drain()
    stored = world.count()
    losses = world.losses()
    assert stored == kept
    assert stored + sum(losses.values()) == produced, "a loss that nobody counted"
    assert set(losses) <= {"disk_full", "spool_full"}
    assert world.agent("fill", spans=50).wait(60) == 0, "there is room again"
    world.spool_folder = before
    world.drain()
    assert world.count() == stored + 50
    seen(f"2 MiB: {stored} stored + {sum(losses.values())} lost ({', '.join(sorted(losses))}) = {produced} produced")


@pytest.mark.fault("F8")
def test_a_spool_at_its_limit_counts_what_it_drops(world: Any, seen: Seen) -> None:
    agent = world.agent(
        "steady", url="postgresql://nobody@127.0.0.1:9/nothing", max_bytes=200_000, pause=0.001, flush=0
    )
    world.until(
        lambda: any(loss.counts.get("spool_full", 0) > 100 for loss in Spool(world.spool_folder).presences().losses)
    )
    agent.communicate("stop\n", timeout=60)
    produced = len(world.acks().ended)
    world.drain()
    losses = world.losses()
    assert set(losses) == {"spool_full"}
    assert world.count() + losses["spool_full"] == produced
    seen(f"at its limit: {world.count()} stored + {losses['spool_full']} lost = {produced} produced")


@pytest.mark.fault("F8")
def test_a_twentieth_of_the_disk_is_left_to_others(
    world: Any, small_disk: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanledger.exporter.spool.ROOM_SECONDS", 0.0)
    spool = Spool(small_disk / "spool")

    def keeps() -> bool:
        spool.tend()
        return spool.append(Kind.END, b"x" * 1000)

    assert keeps()
    ballast = small_disk / "of others"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 80_000))  # less than a twentieth of two megabytes
    world.until(lambda: not keeps())
    assert shutil.disk_usage(small_disk).free > 50_000
    assert set(spool.dropped) == {"spool_full"}
    ballast.unlink()
    world.until(keeps)
    seen("less than 5 % of the disk free: nothing more is kept until others have made room")


@pytest.mark.fault("F37")
def test_damaged_files_cost_what_was_hit_and_nothing_is_thrown_away_unseen(
    world: Any, new_spans: Any, seen: Seen, soak: int
) -> None:
    chance = random.Random(7)
    hit = total = 0
    for _ in range(40 * soak):
        spans = [new_spans.call() for _ in range(10)]
        total += len(spans)
        new_spans.producer(world, spans).seal()
    for path in sorted(world.spool_folder.glob(f"*{SEALED}")):
        data = bytearray(path.read_bytes())
        if chance.random() < 0.2:
            data = data[: chance.randrange(len(data))]
        else:
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        hit += 1
    (world.spool_folder / f"{1:020d}-foreign{SEALED}").write_bytes(chance.randbytes(100_000))
    world.drain()
    stored = world.count()
    assert stored >= total - 10 * hit * 0.8
    assert stored < total
    assert world.losses()["damaged_on_disk"] > 0
    assert len(list(world.spool_folder.glob(f"*{CORRUPT}"))) >= 1, "what cannot be read is kept aside"
    seen(
        f"{hit} damaged segments and a foreign file: {stored} of {total} spans stored, damage counted, nothing repeated"
    )


@pytest.mark.fault("F38")
@pytest.mark.parametrize("obstacle", ["a file", "a link", "somebody else's", "read-only", "below a file", "gone"])
def test_a_folder_that_cannot_be_used_means_memory_and_one_warning(
    world: Any, seen: Seen, obstacle: str, read_only_disk: Callable[[], Path]
) -> None:
    folder = world.spool_folder
    match obstacle:
        case "a file":
            folder.write_text("")
        case "a link":
            (folder.parent / "real").mkdir()
            folder.symlink_to(folder.parent / "real")
        case "somebody else's":
            if os.getuid() != 0:
                pytest.skip("only root can give a folder away")
            folder.mkdir()
            os.chown(folder, 12345, 12345)
        case "read-only":
            world.spool_folder = read_only_disk() / "spool"
        case "below a file":
            (folder.parent / "file").write_text("")
            world.spool_folder = folder.parent / "file" / "spool"
        case "gone":
            world.spool_folder = Path("/proc/nothing/spool")
    agent = world.agent("fill", spans=20)
    _, complaints = agent.communicate(timeout=60)
    assert agent.returncode == 0
    assert complaints.count("spans wait in memory") == 1, complaints
    assert world.count() == 20
    seen(f"{obstacle}: memory, one warning, all stored by the process itself")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    folder = tmp_path / "read-only"

    def mount() -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a disk takes root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


TRACED = """
import sys
from pathlib import Path
from spanledger.exporter.frames import Kind
from spanledger.exporter.spool import Spool
spool = Spool(Path(sys.argv[1]), durability=sys.argv[2])
spool.append(Kind.END, b"first")
spool.append(Kind.END, b"second")
spool.seal()
"""


@pytest.mark.fault("F14")
@pytest.mark.parametrize("durability", ["process", "power"])
def test_segments_are_synced_before_they_get_their_name_and_with_power_before_a_span_counts(
    tmp_path: Path, seen: Seen, durability: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace shows in which order the system is called")
    log = tmp_path / "log"
    calls = "trace=write,fdatasync,fsync,rename,renameat,renameat2"
    run = subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            calls,
            "-o",
            str(log),
            sys.executable,
            "-c",
            TRACED,
            str(tmp_path / "spool"),
            durability,
        ],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        pytest.skip("strace is not allowed here")
    steps = {"write": "w", "fdatasync": "s", "fsync": "s", ".ready": "R", ".seg": "N"}
    step = re.compile(r"(?:(write)\(\d+, \"\\365SL1|(fd?a?t?a?sync)\(|rename.*(\.seg|\.ready)\"\) )")
    happened = "".join(steps["".join(filter(None, found))] for found in step.findall(log.read_text()))
    # The folder is synced, too, so that the name outlives the power cut.
    assert happened == {"process": "NwwsRs", "power": "NswswssRs"}[durability]
    seen(f"durability {durability}: {happened} (N named .seg, w write, s sync, R named .ready)")
