"""The files of a spool: a segment somebody appends to, one somebody drains, and a process's sign of life.

Locks are ``flock``: they belong to the open file, so that the kernel gives them back however the process ends, and a
second handle in the same process does not have them. A stopped process (SIGSTOP) still holds its own.
"""

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .frames import Parsed, parse
from .losses import Loss, Tally, losses_of

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: there the spool lives in memory
    fcntl = None

HAS_LOCKS: Final = fcntl is not None

OPEN: Final = ".seg"
SEALED: Final = ".ready"
CORRUPT: Final = ".corrupt"
ALIVE: Final = ".alive"
NEW: Final = ".new"
LEASE: Final = "drain.lock"
IDENTITY: Final = "spool.id"
LOSS_BYTES: Final = 4096
SILENCE: Final = 20.0
"""Seconds after which a drainer that gives no sign (it was stopped, or hangs) is passed over."""


class Presence:
    """A process's sign of life: a file it keeps locked. Stopped it still holds the lock; dead it does not.

    In it stands what the process could not keep. Its room is taken at the beginning, so that the losses of a full disk
    can be written down, and outlive the process.
    """

    def __init__(self, folder: Path) -> None:
        self.producer = f"{os.getpid()}.{uuid.uuid4().hex[:12]}"
        self.descriptor = _new_locked(folder / f"{self.producer}{ALIVE}", bytes(LOSS_BYTES))

    def write_down(self, losses: Tally) -> None:
        """Replace what stands in the file. Raises `OSError` where a file system needs room even for that."""
        os.pwrite(self.descriptor, losses.encoded(LOSS_BYTES), 0)


class Segment:
    """The file a process is appending to."""

    def __init__(self, folder: Path, producer: str) -> None:
        self.opened = time.monotonic()
        self.size = 0
        stamp = time.time_ns()
        while any((folder / f"{stamp:020d}-{producer}{state}").exists() for state in (OPEN, SEALED)):
            stamp += 1  # a clock that stands still, or has been set back
        self.path = folder / f"{stamp:020d}-{producer}{OPEN}"
        self.descriptor = _new_locked(self.path)

    def write(self, frame: bytes) -> bool:
        """Append the frame whole, or not at all: after a short write (a full disk) the file is cut back."""
        try:
            written = os.write(self.descriptor, frame)
        except OSError:
            written = 0
        if written < len(frame):
            # By the file's own position: an exception of a signal's handler may have kept us from counting.
            end = os.lseek(self.descriptor, -written, os.SEEK_CUR)
            os.ftruncate(self.descriptor, end)
            return False
        self.size += written
        return True

    def seal(self, *, synced: bool = True) -> None:
        """Give the segment to whoever drains. Synced first, so that power lost afterwards cannot take it."""
        with contextlib.suppress(OSError):
            if synced:
                sync(self.descriptor)
            os.rename(self.path, self.path.with_suffix(SEALED))
            if synced:
                sync_path(self.path.parent)
        close(self.descriptor)


class Claim:
    """A segment somebody drains: nobody else can have it meanwhile."""

    def __init__(self, path: Path, descriptor: int, parsed: Parsed) -> None:
        self.path = path
        self.parsed = parsed
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, anyway: bool = False) -> "Claim | None":
        """The segment at *path*, or None when its owner or another drainer has it. *anyway*: also if one has."""
        descriptor = _try_lock(path, os.O_RDWR)
        if descriptor is None and anyway:
            descriptor = _open(path, os.O_RDWR)
        if descriptor is None:
            return None
        try:
            if not _is(path, descriptor):
                raise FileNotFoundError("another file has taken the name")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                parsed = parse(file.read())
        except OSError:
            close(descriptor)
            return None
        return cls(path, descriptor, parsed)

    @property
    def name(self) -> str:
        """``<time_ns>-<producer>``: unique, and the same however often it is drained."""
        return self.path.stem

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def done(self) -> None:
        """Its spans are committed: remove the segment. One in which nothing could be read is kept aside instead."""
        with contextlib.suppress(OSError):
            if not self.parsed.frames and self.size:
                os.rename(self.path, self.path.with_suffix(CORRUPT))
            else:
                os.unlink(self.path)
        self.release()

    def release(self) -> None:
        """Leave the segment for another time."""
        close(self._descriptor)


class Lease:
    """The right to drain a folder: one process on the host has it, until it gives it up, dies, or falls silent.

    Losing it while draining does no harm: a span that two drainers deliver is one row.
    """

    def __init__(self, path: Path, descriptor: int, *, usurped: bool = False) -> None:
        self._path = path
        self.descriptor = descriptor
        self.usurped = usurped
        """Whether another process had it, which may still hold segments that it had claimed."""

    @classmethod
    def take(cls, folder: Path) -> "Lease | None":
        """The lease, or None while another process has it. One that has not renewed it for `SILENCE` is passed over."""
        path = folder / LEASE
        descriptor = _try_lock(path, os.O_RDWR | os.O_CREAT)
        if usurped := descriptor is None and _silent(path):
            path.unlink(missing_ok=True)
            descriptor = _try_lock(path, os.O_RDWR | os.O_CREAT)
        if descriptor is None:
            return None
        lease = cls(path, descriptor, usurped=usurped)
        if lease.renew():
            return lease
        lease.give_up()
        return None

    def renew(self) -> bool:
        """Show that its holder still works. False: it has been passed over, and another has it."""
        try:
            if not _is(self._path, self.descriptor):
                return False
            os.utime(self.descriptor)
        except OSError:
            return False
        return True

    def give_up(self) -> None:
        close(self.descriptor)


class Presences(NamedTuple):
    """The processes that have signed a folder: who of them is dead, and what all of them lost."""

    dead: Sequence[str]
    losses: Sequence[Loss]


def presences(folder: Path) -> Presences:
    dead: list[str] = []
    losses: list[Loss] = []
    for path in folder.glob(f"*{ALIVE}"):
        producer = path.name.removesuffix(ALIVE)
        if not is_alive(folder, producer):
            dead.append(producer)
        with contextlib.suppress(OSError):
            losses += losses_of(producer, path.read_bytes())
    return Presences(dead, losses)


def bury(folder: Path, producer: str) -> None:
    """Remove the sign of life of a dead process. Its name never returns."""
    (folder / f"{producer}{ALIVE}").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the files that processes had only begun to make when they died."""
    for path in folder.glob(f"*{NEW}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > SILENCE:
                path.unlink()


def identity(folder: Path) -> str:
    """The folder's own id, made once: whoever shares the folder shares its locks, and is the same host to us."""
    descriptor = os.open(folder / IDENTITY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # for the blink of an eye in which another process makes it
        if not (name := os.pread(descriptor, 64, 0)):
            name = uuid.uuid4().hex.encode()
            os.pwrite(descriptor, name, 0)
        return name.decode()
    finally:
        close(descriptor)


def is_alive(folder: Path, producer: str) -> bool:
    """Whether the process that named itself *producer* still runs."""
    path = folder / f"{producer}{ALIVE}"
    descriptor = _try_lock(path, os.O_RDONLY)
    if descriptor is None:
        return path.exists()
    close(descriptor)
    return False


def _new_locked(path: Path, content: bytes = b"") -> int:
    """A descriptor of a new file, locked before it has the name others look for."""
    new = path.with_suffix(NEW)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(new, path)
    except OSError:
        close(descriptor)
        new.unlink(missing_ok=True)
        raise
    return descriptor


def _silent(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > SILENCE
    except OSError:
        return False


def _is(path: Path, descriptor: int) -> bool:
    """Whether *descriptor* is still the file that has the name."""
    return os.stat(path).st_ino == os.fstat(descriptor).st_ino


def _try_lock(path: Path, flags: int) -> int | None:
    """A descriptor of *path* with its lock; None when the file is gone, not ours to open, or somebody has the lock."""
    descriptor = _open(path, flags)
    if descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        close(descriptor)
        return None
    return descriptor


def _open(path: Path, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None


def age(path: Path) -> float:
    """Seconds since the segment was begun, by its name."""
    try:
        return max(0.0, time.time() - int(path.name.split("-", 1)[0]) / 1e9)
    except ValueError:
        return 0.0


def sync(descriptor: int) -> None:
    """The data on the disk; of the file's times only what reading it needs, where the system can tell them apart."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_path(path: Path) -> None:
    with contextlib.suppress(OSError):  # drained meanwhile
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)


def close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
