"""What the spool keeps, for whom, and what it says when it cannot."""

import faulthandler
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger.exporter.drainer import Drainer
from spanledger.exporter.frames import Kind
from spanledger.exporter.losses import MINUTE, Tally, losses_of
from spanledger.exporter.queue import MemoryQueue
from spanledger.exporter.segments import LEASE, LOSS_BYTES, OPEN, SEALED, SILENCE
from spanledger.exporter.spool import EXPIRED, FULL, Spool, _file_system


def drained(spool: Spool | MemoryQueue) -> list[bytes]:
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


@pytest.mark.parametrize("make", [Spool, lambda _: MemoryQueue()])
def test_whoever_interrupts_a_thread_that_appends_may_append_and_seal(
    tmp_path: Path, make: Callable[[Path], Spool | MemoryQueue]
) -> None:
    queue, interruptions, kept = make(tmp_path / "spool"), 0, 0

    def interrupt(*_: object) -> None:
        nonlocal interruptions
        assert queue.append(Kind.END, b"%d" % interruptions)
        interruptions += 1
        queue.seal()
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

    before = signal.signal(signal.SIGALRM, interrupt)
    faulthandler.dump_traceback_later(30, exit=True)  # it used to wait for itself
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        while interruptions < 500:
            kept += queue.append(Kind.END, b"x" * 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
    queue.seal()
    bodies = drained(queue)
    assert sorted(int(body) for body in bodies if body[:1] != b"x") == list(range(interruptions))
    assert len(bodies) == kept + interruptions


def test_segments_of_a_clock_that_stands_still_do_not_replace_each_other(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanledger.exporter.segments.time.time_ns", lambda: 10**18)
    for number in range(5):
        spool.append(Kind.END, b"%d" % number)
        spool.seal()
    assert drained(spool) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_folder_that_somebody_removes_is_made_again(spool: Spool) -> None:
    spool.append(Kind.END, b"gone with it")
    spool.seal()
    shutil.rmtree(spool.folder)
    assert spool.append(Kind.END, b"after that")
    spool.lose("a reason")
    spool.seal()
    assert drained(spool) == [b"after that"]
    assert [loss.counts for loss in Spool(spool.folder).presences().losses] == [{"a reason": 1}]


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


def test_beyond_its_size_it_drops_and_counts_where_others_can_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=10_000)
    spool.append(Kind.END, b"x" * 20_000)
    spool.seal()
    spool.tend()
    assert not spool.append(Kind.END, b"y")
    assert not spool.append(Kind.START, b"y"), "what has not ended is not lost yet"
    assert spool.dropped == {FULL: 1}
    assert [loss.counts for loss in Spool(spool.folder).presences().losses] == [{FULL: 1}]
    assert len(drained(spool)) == 1


def test_there_is_room_again_when_the_spool_has_been_drained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanledger.exporter.spool.ROOM_SECONDS", 0.0)
    spool = Spool(tmp_path / "spool", max_bytes=10_000)
    spool.append(Kind.END, b"x" * 20_000)
    spool.seal()
    spool.tend()
    assert not spool.append(Kind.END, b"y")
    drained(spool)

    def room() -> bool:
        spool.tend()
        return spool.append(Kind.END, b"z")

    deadline = time.monotonic() + 10
    while not room():
        assert time.monotonic() < deadline


def test_what_is_too_old_is_given_up_and_counted_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_age=3600)
    for age in (5000, 4000, 0):
        spool.append(Kind.START, b"began")
        spool.append(Kind.END, b"%d" % age)
        spool.seal()
        new = max(spool.folder.glob(f"*{SEALED}"))
        new.rename(new.with_name(f"{time.time_ns() - age * 10**9:020d}-{new.name.partition('-')[2]}"))
    spool.tend()
    assert spool.usage().segments == 3, "nobody has tried to deliver them"
    spool.expire()
    assert drained(spool) == [b"0"]
    assert spool.dropped == {EXPIRED: 2}


def test_losses_of_a_dead_process_are_found_until_it_is_buried(spool: Spool) -> None:
    child = os.fork()
    if child == 0:
        spool.lose("a reason", 3)
        spool.lose("another")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (producer,) = spool.presences().dead
    (loss,) = spool.presences().losses
    assert (loss.producer, loss.counts) == (producer, {"a reason": 3, "another": 1})
    spool.bury(producer)
    assert spool.presences() == ([], [])


def test_losses_of_many_minutes_fit_their_room_and_keep_their_sum() -> None:
    tally = Tally()
    for minute in range(1000):
        tally.add(FULL, 1, minute * MINUTE)
        tally.add("a reason", 2, minute * MINUTE + 5)
    data = tally.encoded(LOSS_BYTES)
    assert len(data) == LOSS_BYTES
    losses = losses_of("p", data)
    assert sum(sum(loss.counts.values()) for loss in losses) == 3000 == tally.total.total()
    assert losses[0].since == 0
    assert losses_of("p", data[:100]) == []


def test_a_full_disk_costs_only_the_frame_that_did_not_fit(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the disk: the kernel writes what fits, then refuses.
    folder = tmp_path / "spool"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        spool = Spool(folder)
        spool.append(Kind.START, b"")  # takes the room for counting what is lost
        spool.seal()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
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


def test_a_drainer_without_a_thread_lets_others_drain_when_it_stops(spool: Spool) -> None:
    drainer = Drainer(spool, lambda: pytest.fail("there is nothing to store"))
    assert spool.lease()
    assert drainer.stop(0)
    assert Spool(spool.folder).lease()


def test_what_a_stopped_drainer_holds_is_drained_by_whoever_passes_it_over(spool: Spool) -> None:
    spool.append(Kind.END, b"sealed")
    spool.seal()
    if (dead := os.fork()) == 0:
        spool.append(Kind.END, b"of a dead process")
        os._exit(0)
    os.waitpid(dead, 0)
    if (stopped := os.fork()) == 0:
        spool.lease()
        claims = list(spool.claims())
        os.kill(os.getpid(), signal.SIGSTOP)
        for claim in claims:  # it comes back, and knows nothing
            claim.done()
        os._exit(len(claims))
    os.waitpid(stopped, os.WUNTRACED)
    spool.append(Kind.END, b"of a living process")
    assert not spool.lease()
    assert drained(spool) == []
    os.utime(spool.folder / LEASE, (0, time.time() - SILENCE - 1))
    assert spool.lease()
    assert sorted(drained(spool)) == [b"of a dead process", b"sealed"]
    os.kill(stopped, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(stopped, 0)[1]) == 2
    spool.seal()
    assert drained(spool) == [b"of a living process"]


def test_a_drainer_that_has_fallen_silent_is_passed_over_and_notices(spool: Spool) -> None:
    assert spool.lease()
    long_ago = time.time() - 2 * SILENCE
    os.utime(spool.folder / LEASE, (long_ago, long_ago))  # as a stopped process leaves it
    other = Spool(spool.folder)
    assert other.lease()
    assert not spool.lease(), "continued, it finds that another has the lease"
    assert other.lease()


def test_processes_that_begin_at_once_agree_on_the_folder_s_name(tmp_path: Path) -> None:
    names = [subprocess.Popen([sys.executable, "-c", NAME, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(6)]
    assert len({process.communicate()[0] for process in names}) == 1


NAME = "import sys; from pathlib import Path; from spanledger.exporter.segments import identity\n"
NAME += "print(identity(Path(sys.argv[1])))"


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("36 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 36 0:35 / {0} rw shared:1 - nfs4 server:/home rw\n", "nfs4"),
        ("36 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 36 0:35 / {0}-other rw - nfs4 server:/home rw\n", "ext4"),
        ("", None),
    ],
)
def test_the_file_system_of_a_folder_is_the_innermost_mount(tmp_path: Path, mounts: str, kind: str | None) -> None:
    (tmp_path / "mountinfo").write_text(mounts.format(tmp_path))
    assert _file_system(tmp_path / "spool", tmp_path / "mountinfo") == kind
