"""The files of a spool: a segment somebody appends to, one somebody drains, and a process's sign of life.

Locks are ``flock``: they belong to the open file, so that the kernel gives them back however the process ends, and a
second handle in the same process does not have them. A stopped process (SIGSTOP) still holds its own.
"""

import contextlib
import os
import time
import uuid
from pathlib import Path
from typing import Final

from .frames import Parsed, parse

try:
    import fcntl
except ImportError:  # Windows: there the spool lives in memory
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS: Final = fcntl is not None

OPEN: Final = ".seg"
SEALED: Final = ".ready"
CORRUPT: Final = ".corrupt"
ALIVE: Final = ".alive"
LEASE: Final = "drain.lock"
IDENTITY: Final = "spool.id"


class Presence:
    """A process's sign of life: a file it keeps locked. Stopped it still holds the lock; dead it does not."""

    def __init__(self, folder: Path) -> None:
        self.producer = f"{os.getpid()}.{uuid.uuid4().hex[:12]}"
        path = folder / f"{self.producer}{ALIVE}"
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Segment:
    """The file a process is appending to."""

    def __init__(self, folder: Path, producer: str) -> None:
        self.opened = time.monotonic()
        self.size = 0
        self.path = folder / f"{time.time_ns():020d}-{producer}{OPEN}"
        new = self.path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = os.open(new, flags, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(new, self.path)  # locked before it has the name others look for

    def write(self, frame: bytes) -> bool:
        """Append the frame whole, or not at all: after a short write (a full disk) the file is cut back."""
        try:
            written = os.write(self.descriptor, frame)
        except OSError:
            written = 0
        if written < len(frame):
            os.ftruncate(self.descriptor, self.size)
            return False
        self.size += written
        return True

    def seal(self, *, synced: bool = True) -> None:
        """Give the segment to whoever drains. Synced first, so that power lost afterwards cannot take it."""
        with contextlib.suppress(OSError):
            if synced:
                sync(self.descriptor)
            os.rename(self.path, self.path.with_suffix(SEALED))
        close(self.descriptor)


class Claim:
    """A segment somebody drains: nobody else can have it meanwhile."""

    def __init__(self, path: Path, descriptor: int, parsed: Parsed) -> None:
        self.path = path
        self.parsed = parsed
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """The segment at *path*, or None when its owner or another drainer has it."""
        descriptor = _try_lock(path, os.O_RDWR)
        if descriptor is None:
            return None
        try:
            if os.stat(path).st_ino != os.fstat(descriptor).st_ino:
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
    """The right to drain a folder: one process on the host has it, until it gives it up or dies."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> "Lease | None":
        """The lease, or None while another process has it."""
        descriptor = _try_lock(folder / LEASE, os.O_RDWR | os.O_CREAT)
        return None if descriptor is None else cls(descriptor)

    def give_up(self) -> None:
        close(self.descriptor)


def identity(folder: Path) -> str:
    """The folder's own id, made once: whoever shares the folder shares its locks, and is the same host to us."""
    path = folder / IDENTITY
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return path.read_text() or "unnamed"
    try:
        name = uuid.uuid4().hex
        os.write(descriptor, name.encode())
        return name
    finally:
        close(descriptor)


def is_alive(folder: Path, producer: str) -> bool:
    """Whether the process that named itself *producer* still runs. Asking buries a dead one: its name never returns."""
    path = folder / f"{producer}{ALIVE}"
    descriptor = _try_lock(path, os.O_RDONLY)
    if descriptor is None:
        return path.exists()
    path.unlink(missing_ok=True)
    close(descriptor)
    return False


def _try_lock(path: Path, flags: int) -> int | None:
    """A descriptor of *path* with its lock; None when the file is gone, not ours to open, or somebody has the lock."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        close(descriptor)
        return None
    return descriptor


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
