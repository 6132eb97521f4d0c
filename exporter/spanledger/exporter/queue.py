"""What stands between an agent's threads and the drainer: the `Queue` protocol, and the one that lives in memory.

`Spool` is the queue that survives its process. `MemoryQueue` is for where there is no folder to write to, or no
``flock`` to share it by (Windows), or no one else to read it (a database in memory); whoever falls back to it says so.
"""

import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from typing import ClassVar, Final, Protocol

from .forking import at_fork
from .frames import Frame, Kind, Parsed
from .losses import Tally
from .segments import Presences
from .spool import FULL

SEGMENT_FRAMES: Final = 2048


class Claim(Protocol):
    """Frames somebody drains: nobody else has them until it is `done` with them or has released them."""

    @property
    def name(self) -> str:
        """``<time_ns>-<producer>``."""
        ...

    @property
    def parsed(self) -> Parsed: ...
    def done(self) -> None: ...
    def release(self) -> None: ...


class Queue(Protocol):
    """See `Spool` for the contract of each method."""

    outlives: ClassVar[bool]

    @property
    def id(self) -> str: ...
    @property
    def dropped(self) -> Counter[str]: ...
    def append(self, kind: Kind, body: bytes) -> bool: ...
    def lose(self, reason: str, count: int = 1) -> None: ...
    def seal(self) -> None: ...
    def tend(self) -> None: ...
    def claims(self) -> Iterator[Claim]: ...
    def expire(self) -> None: ...
    def lease(self) -> bool: ...
    def give_up_lease(self) -> None: ...
    def waiting(self) -> bool: ...
    def is_alive(self, producer: str) -> bool: ...
    def presences(self) -> Presences: ...
    def bury(self, producer: str) -> None: ...


class MemoryQueue:
    """Keeps frames until the process dies, within *max_bytes*. Thread-safe; a forked child begins empty.

    What does not fit is dropped, newest first, and counted.
    """

    outlives: ClassVar = False

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self.id = uuid.uuid4().hex
        self._begin()
        at_fork(in_child=self._begin)

    def __str__(self) -> str:
        return "memory"

    def append(self, kind: Kind, body: bytes) -> bool:
        with self._lock:
            if self._bytes + len(body) > self._max_bytes:
                if kind == Kind.END:
                    self._lost.add(FULL, 1, time.time_ns())
                return False
            self._frames.append(Frame(kind, body))
            self._bytes += len(body)
            self._pending += 1
            return True

    def lose(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._lost.add(reason, count, time.time_ns())

    def seal(self) -> None:
        """Nothing to do: what is here can be claimed."""

    def tend(self) -> None:
        """Nothing to do: the bounds are kept by `append`."""

    def claims(self) -> Iterator["_MemoryClaim"]:
        while claim := self._take():
            yield claim

    def expire(self) -> None:
        """Nothing to do: nothing here is older than the process."""

    def lease(self) -> bool:
        return True

    def give_up_lease(self) -> None:
        """Nothing to do: nobody else could take it."""

    def waiting(self) -> bool:
        return self._pending > 0

    def is_alive(self, producer: str) -> bool:
        return producer == self._producer

    def presences(self) -> Presences:
        with self._lock:
            return Presences(dead=(), losses=self._lost.of(self._producer))

    def bury(self, producer: str) -> None:
        """Nothing to do: who could ask is alive."""

    @property
    def dropped(self) -> Counter[str]:
        return self._lost.total

    def _take(self) -> "_MemoryClaim | None":
        with self._lock:
            frames = [self._frames.popleft() for _ in range(min(len(self._frames), SEGMENT_FRAMES))]
        return _MemoryClaim(self, f"{time.time_ns():020d}-{self._producer}", frames) if frames else None

    def _give_back(self, frames: list[Frame]) -> None:
        with self._lock:
            self._frames.extendleft(reversed(frames))

    def _forget(self, frames: list[Frame]) -> None:
        with self._lock:
            self._bytes -= sum(len(frame.body) for frame in frames)
            self._pending -= len(frames)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal's handler, or a finalizer, may end a span while one is kept
        self._producer = f"{os.getpid()}.{uuid.uuid4().hex[:12]}"
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._pending = 0
        """Frames that are not stored yet, those somebody has claimed included."""
        self._lost = Tally()


class _MemoryClaim:
    def __init__(self, queue: MemoryQueue, name: str, frames: list[Frame]) -> None:
        self.name = name
        self.parsed = Parsed(frames, damaged=0, torn=0)
        self._queue = queue

    def done(self) -> None:
        self._queue._forget(self.parsed.frames)

    def release(self) -> None:
        self._queue._give_back(self.parsed.frames)
