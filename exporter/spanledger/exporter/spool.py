"""`Spool`: the crash-safe queue between an agent's threads and the database: a folder of append-only files.

Invariants, each with the reason it holds:

* A span is kept once `Spool.append` returned True: its frame has been handed to the kernel by one ``write``. The death
  of the process, in whatever way, cannot take it back. (Loss of power can: the last second, unless *durability* is
  ``power``.)
* A segment belongs to one process, which holds an exclusive ``flock`` on it while it appends. The kernel gives the lock
  back when that process dies, so a segment whose lock is free and that still ends in ``.seg`` has lost its owner.
* The file's existence is the only state. A segment is removed after the transaction that stored its spans has been
  committed, and rows are idempotent: dying in between costs a second delivery, never a loss.
* Files that are appended to are never synced: a sync would stall the thread that appends. Sealed ones are.
* Everything is bounded. What does not fit is dropped, and counted by reason in a file whose room was taken before.

Names: ``<time_ns>-<producer>.seg`` while written, ``.ready`` once sealed, ``.corrupt`` what cannot be read at all;
``<producer>.alive`` is locked by a process for as long as it lives, and holds the count of what it lost.
"""

import contextlib
import errno
import os
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple

from .forking import at_fork
from .frames import Kind, encode
from .losses import Tally
from .segments import (
    CORRUPT,
    HAS_LOCKS,
    OPEN,
    SEALED,
    Claim,
    Lease,
    Presence,
    Presences,
    Segment,
    age,
    bury,
    close,
    identity,
    is_alive,
    presences,
    sweep,
    sync,
    sync_path,
)

Durability = Literal["memory", "process", "power"]

SEGMENT_BYTES: Final = 1024 * 1024
SEGMENT_SECONDS: Final = 1.0
ROOM_SECONDS: Final = 1.0
"""Time between two looks at how much room there is, if looking takes no longer than a fiftieth of it."""
FREE_DISK: Final = 0.05
"""The share of the disk that is left to others."""
REMOTE: Final = frozenset(("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"))
"""File systems whose locks do not do what ours must: end with their process, and never be inherited."""
MOUNTS: Final = Path("/proc/self/mountinfo")

FULL: Final = "spool_full"
DISK_FULL: Final = "disk_full"
UNWRITABLE: Final = "spool_unwritable"
EXPIRED: Final = "expired"


class Usage(NamedTuple):
    """What waits in the spool: *oldest* is the age in seconds of the first segment."""

    segments: int
    bytes: int
    oldest: float
    corrupt: int


class Spool:
    """One folder, shared by all processes of a host that write to one database. Thread-safe and fork-safe.

    `append` is for the agent's threads: no database, no lock that is ever held over a sync or a query, no exception.
    `claims` is for whoever drains.
    """

    id: str
    """The folder's own, the same for every process that shares it."""
    outlives: ClassVar = True
    """Whether what waits when a process ends is there for the next one."""
    _presence: Presence | None
    _lease: Lease | None
    _segment: Segment | None
    _inside: bool
    """Whether the thread that has the lock is writing."""
    _unsynced: list[Path]
    _lost: Tally
    _unwritten: bool
    """Whether some of the losses do not stand in the file yet."""
    _next_look: float

    def __init__(
        self,
        folder: Path,
        *,
        durability: Durability = "process",
        max_bytes: int = 1024**3,
        max_age: float = 7 * 86400.0,
    ) -> None:
        """Raises `OSError` or `PermissionError` when *folder* cannot be made or is not safe to write to."""
        if not HAS_LOCKS:
            raise OSError("this system has no flock")
        self.folder = folder
        self.durability = durability
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._has_room = True
        _own_folder(folder)
        self.id = identity(folder)
        sweep(folder)
        self._begin()
        at_fork(in_child=self._restart)

    def __str__(self) -> str:
        return str(self.folder)

    def append(self, kind: Kind, body: bytes) -> bool:
        """Keep one frame; True once no death of this process can lose it. False: dropped, and counted."""
        if self._pid != os.getpid():  # a fork that Python was not told of
            self._restart()
        frame = encode(kind, body)
        with self._lock:
            if not self._has_room:
                return self._drop(FULL, kind)
            interrupted, self._inside = self._inside, True
            try:
                kept = self._write_aside(frame) if interrupted else self._write(frame)
                return kept or self._drop(DISK_FULL, kind)
            except OSError as error:
                return self._drop(DISK_FULL if error.errno == errno.ENOSPC else UNWRITABLE, kind)
            finally:
                self._inside = interrupted

    def lose(self, reason: str, count: int = 1) -> None:
        """Count spans that cannot be kept, where a reader of the folder finds the number."""
        with self._lock:
            self._lose(reason, count)

    def seal(self) -> None:
        """Close the segment in hand, so that it can be drained; the next append opens another."""
        with self._lock:
            if self._inside:
                return  # it is being written to
            segment, self._segment = self._segment, None
        if segment is not None:
            segment.seal()

    def tend(self) -> None:
        """What a background thread does several times a second: seal what is old, and look how much room there is."""
        with self._lock:
            segment = self._segment
            due = segment is not None and time.monotonic() - segment.opened >= SEGMENT_SECONDS
            if self._unwritten:
                self._write_down()
        if due:
            self.seal()
        while self._unsynced:
            sync_path(self._unsynced.pop())
        began = time.monotonic()
        if began >= self._next_look:
            self._has_room = self._room()
            self._next_look = began + max(ROOM_SECONDS, 50 * (time.monotonic() - began))

    def claims(self) -> Iterator[Claim]:
        """Sealed segments and those whose owner has died, oldest first, each locked for the caller until it is done."""
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (OPEN, SEALED) and (claim := Claim.take(path, anyway=self._is_stuck(path))) is not None:
                yield claim

    def expire(self) -> None:
        """Give up segments past their age: they are lost, and counted. For a drainer that could not deliver them: also
        a wrong clock, or a long holiday, makes them old."""
        if self.usage().oldest <= self._max_age:
            return
        for claim in self.claims():
            if age(claim.path) > self._max_age:
                if lost := sum(frame.kind == Kind.END for frame in claim.parsed.frames):
                    self.lose(EXPIRED, lost)
                claim.done()
            else:
                claim.release()
                break

    def lease(self) -> bool:
        """Whether this process is the one that drains, taking the lease if it is free."""
        if self._lease is not None and not self._lease.renew():
            self.give_up_lease()
        if self._lease is None:
            self._lease = Lease.take(self.folder)
        return self._lease is not None

    def give_up_lease(self) -> None:
        """Let another process drain."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.give_up()

    def waiting(self) -> bool:
        """Whether a sealed segment of this process still waits to be drained."""
        presence = self._presence
        return presence is not None and any(self.folder.glob(f"*-{presence.producer}{SEALED}"))

    def usage(self) -> Usage:
        """What waits to be drained, that of living processes included."""
        sizes, corrupt, oldest = [], 0, 0.0
        for path in self.folder.iterdir():
            if path.suffix == CORRUPT:
                corrupt += 1
            elif path.suffix in (OPEN, SEALED):
                with contextlib.suppress(OSError):  # drained meanwhile
                    sizes.append(path.stat().st_size)
                    oldest = max(oldest, age(path))
        return Usage(len(sizes), sum(sizes), oldest, corrupt)

    def close(self) -> None:
        """Seal what is in hand. Appending afterwards opens a new segment."""
        self.seal()

    def is_alive(self, producer: str) -> bool:
        """Whether the process that named itself *producer* still runs on this host."""
        return is_alive(self.folder, producer)

    def presences(self) -> Presences:
        """Who has written here and died, and what every process lost."""
        return presences(self.folder)

    def bury(self, producer: str) -> None:
        """Forget a dead process, whose losses stand in the database now."""
        bury(self.folder, producer)

    @property
    def dropped(self) -> Counter[str]:
        """Spans this process could not keep since it began, by reason."""
        return self._lost.total

    def _is_stuck(self, path: Path) -> bool:
        """Whether a lock on the segment can only be that of a drainer we have passed over. It may come back and deliver
        the segment, too, which does no harm; it may also never come back."""
        if self._lease is None or not self._lease.usurped:
            return False
        return path.suffix == SEALED or not self.is_alive(path.stem.partition("-")[2])

    def _write(self, frame: bytes) -> bool:
        segment = self._segment
        if segment is None:
            segment = self._segment = self._new_segment()
            if self.durability == "power":
                sync_path(self.folder)  # a file whose name is lost with the power is lost
        if not segment.write(frame):
            return False
        if self.durability == "power":
            sync(segment.descriptor)
        if segment.size >= SEGMENT_BYTES:
            self._segment = None
            segment.seal(synced=False)  # the agent's thread is in here: `tend` syncs it
            self._unsynced.append(segment.path.with_suffix(SEALED))
        return True

    def _write_aside(self, frame: bytes) -> bool:
        """Keep a frame of somebody who has interrupted this very thread while it wrote one: a signal's handler, or a
        finalizer. It gets a segment of its own."""
        segment = self._new_segment()
        kept = segment.write(frame)
        segment.seal(synced=self.durability == "power")
        return kept

    def _new_segment(self) -> Segment:
        try:
            if self._presence is None:
                self._presence = Presence(self.folder)
            return Segment(self.folder, self._presence.producer)
        except FileNotFoundError:  # somebody has removed the folder
            _own_folder(self.folder)
            self._presence = Presence(self.folder)
            self._write_down()
            return Segment(self.folder, self._presence.producer)

    def _drop(self, reason: str, kind: Kind) -> bool:
        if kind == Kind.END:
            self._lose(reason, 1)
        return False

    def _lose(self, reason: str, count: int) -> None:
        self._lost.add(reason, count, time.time_ns())
        self._write_down()

    def _write_down(self) -> None:
        try:
            if self._presence is None:
                self._presence = Presence(self.folder)
            self._presence.write_down(self._lost)
            self._unwritten = False
        except OSError:
            self._unwritten = True

    def _room(self) -> bool:
        """Whether the spool may grow."""
        usage = self.usage()
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self.folder)
            if disk.free < disk.total * FREE_DISK and disk.free < self._max_bytes:
                return False
        return usage.bytes < self._max_bytes

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._inside = False
        self._presence = None
        self._lease = None
        self._segment = None
        self._unsynced = []
        self._lost = Tally()
        self._unwritten = False
        self._next_look = 0.0

    def _restart(self) -> None:
        """Begin anew in a forked child. What the parent had open stays the parent's: only our copy of it is closed,
        and at once, because while a copy is open the parent's locks outlive the parent. Its lock may be held by a
        thread that does not exist here."""
        inherited = (self._segment, self._presence, self._lease)
        self._begin()
        for file in inherited:
            if file is not None:
                close(file.descriptor)


def _own_folder(folder: Path) -> None:
    """Make *folder* ours alone. Raises `PermissionError` when somebody else could put or read files there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (kind := _file_system(folder)) in REMOTE:
        raise OSError(f"The spool folder {folder} is on {kind}, where locks do not end with their process.")
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"The spool folder {folder} is a symbolic link; name the real folder.")
    if found.st_uid != os.getuid():
        raise PermissionError(f"The spool folder {folder} belongs to another user.")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """What kind of file system *folder* is on, where the system tells."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return None
    place = folder.resolve()
    # proc(5): … … … … mount-point … [optional …] - kind …
    found = [(line[4], line[line.index("-") + 1]) for line in lines if place.is_relative_to(line[4])]
    return max(found, key=lambda each: len(each[0]))[1] if found else None
