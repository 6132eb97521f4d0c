"""What the spool keeps, for whom, and what it says when it cannot."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger.exporter.frames import Kind
from spanledger.exporter.segments import OPEN, SEALED
from spanledger.exporter.spool import FULL, Spool


def drained(spool: Spool) -> list[bytes]:
    bodies = []
    for claim in spool.claims():
        bodies += [frame.body for frame in claim.parsed.frames if frame.kind == Kind.END]
        claim.done()
    return bodies


def test_what_was_appended_is_drained_once(spool: Spool) -> None:
    for number in range(10):
        assert spool.append(Kind.END, b"%d" % number)
    assert drained(spool) == [], "a living process's open segment is its own"
    spool.seal()
    assert drained(spool) == [b"%d" % n for n in range(10)]
    assert drained(spool) == []


def test_a_released_segment_waits_for_another_time(spool: Spool) -> None:
    spool.append(Kind.END, b"x")
    spool.seal()
    (claim,) = spool.claims()
    assert list(spool.claims()) == [], "two drainers never have the same segment"
    claim.release()
    assert drained(spool) == [b"x"]


def test_a_segment_is_sealed_when_it_is_large(spool: Spool) -> None:
    for _ in range(3):
        spool.append(Kind.END, b"x" * 600_000)
    assert len(list(spool.folder.glob(f"*{SEALED}"))) == 1
    assert len(drained(spool)) == 2


def test_threads_append_whole_frames(spool: Spool) -> None:
    def work(name: int) -> None:
        for number in range(500):
            assert spool.append(Kind.END, b"%d-%d" % (name, number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.seal()
    assert sorted(drained(spool)) == sorted(b"%d-%d" % (a, b) for a in range(8) for b in range(500))


@pytest.mark.parametrize(
    "end",
    [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: os._exit(0)],
)
def test_whatever_kills_the_process_what_it_appended_stays(spool: Spool, end: Callable[[], None]) -> None:
    spool.append(Kind.END, b"parent")
    child = os.fork()
    if child == 0:
        for number in range(100):
            spool.append(Kind.END, b"%d" % number)
        end()
    os.waitpid(child, 0)
    assert drained(spool) == [b"%d" % n for n in range(100)], "the parent's own segment is still open"
    spool.seal()
    assert drained(spool) == [b"parent"]


def test_a_child_forked_while_a_thread_appends_does_not_hang(spool: Spool) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            spool.append(Kind.END, b"parent")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if spool.append(Kind.END, b"child") else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    assert drained(spool).count(b"child") == 20


def test_a_process_is_alive_until_it_is_not(spool: Spool, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom spanledger.exporter.spool import Spool\n"
            "from spanledger.exporter.frames import Kind\n"
            "spool = Spool(Path(sys.argv[1])); spool.append(Kind.END, b'x'); print('ready', flush=True)\n"
            "sys.stdin.read()",
            str(spool.folder),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    with child.stdin, child.stdout:
        child.stdout.readline()
        (segment,) = spool.folder.glob(f"*{OPEN}")
        producer = segment.stem.partition("-")[2]
        assert spool.is_alive(producer)
        child.send_signal(signal.SIGSTOP)
        assert spool.is_alive(producer), "a stopped process is not a dead one"
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()
    assert not spool.is_alive(producer)
    assert drained(spool) == [b"x"]


def test_beyond_its_size_it_drops_counts_and_says_so_in_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=10_000)
    spool.append(Kind.END, b"x" * 20_000)
    spool.tend()
    spool.seal()
    spool.tend()
    assert not spool.append(Kind.END, b"y")
    assert spool.dropped == {FULL: 1}
    assert len(drained(spool)) == 1
    spool.tend()  # there is room again
    assert spool.append(Kind.END, b"z")
    spool.seal()
    (claim,) = spool.claims()
    losses = [frame for frame in claim.parsed.frames if frame.kind == Kind.LOSS]
    assert len(losses) == 1
    assert b'"count":1' in losses[0].body


def test_a_full_disk_costs_only_the_frame_that_did_not_fit(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the disk: the kernel writes what fits, then refuses.
    folder = tmp_path / "spool"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
        spool = Spool(folder)
        kept = [spool.append(Kind.END, b"x" * 1000) for _ in range(4)]
        os._exit(0 if kept == [True, True, False, False] and spool.append(Kind.END, b"small") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert drained(Spool(folder)) == [b"x" * 1000, b"x" * 1000, b"small"]


def test_a_segment_nothing_can_be_read_from_is_kept_aside(spool: Spool) -> None:
    (spool.folder / f"1-foreign{SEALED}").write_bytes(os.urandom(5000))
    assert drained(spool) == []
    assert spool.usage().corrupt == 1
    assert list(spool.claims()) == []


def test_nobody_else_can_read_the_spool(spool: Spool) -> None:
    spool.append(Kind.END, b"secret")
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()} == {0o600}


def test_a_folder_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="symbolic link"):
        Spool(tmp_path / "link")


def test_only_one_process_has_the_lease(spool: Spool) -> None:
    assert spool.lease()
    other = Spool(spool.folder)
    assert not other.lease()
    spool.give_up_lease()
    assert other.lease()
