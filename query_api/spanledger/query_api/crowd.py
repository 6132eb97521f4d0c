"""Connections that say nothing: who comes and does not ask is not waited for, and gives way to who comes later.

uvicorn waits for a request's head for ever, and a process that may open no more files can take no connection at all.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows, where sockets are no files
    resource = None  # type: ignore[assignment]

HEAD_SECONDS: Final = 10.0
"""Time a request's head may take to arrive, counted from its first byte or, of the first, from the connection on."""
READ_SECONDS: Final = 60.0
"""Time an answer may wait for a client that does not read it."""
MOST: Final = 4096
"""Connections of a server at once. They cost memory, too."""
FILES: Final = 4 * MOST
"""What a process asks to be allowed to open: half for these, a quarter for gRPC's, the rest for what it does."""


def files() -> int:
    """How many files this process may open, now that it has asked for as many as it is allowed."""
    if resource is None:
        return FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class Crowd:
    """The connections of a server that wait for a request to begin or to go on, the longest waiting first."""

    def __init__(self, most: int) -> None:
        """*most*: connections at once, waiting or not."""
        self.most = most
        self.waiting: dict[Connection, None] = {}

    def make_room(self, size: int) -> None:
        """Send away who has waited longest, if there are more than may be."""
        if size > self.most and self.waiting:
            next(iter(self.waiting)).leave()


class Connection(H11Protocol):
    """uvicorn's, with an end to its patience."""

    def __init__(self, *args: Any, crowd: Crowd, **options: Any) -> None:
        super().__init__(*args, **options)
        self._crowd = crowd
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        self._crowd.make_room(len(self.connections))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_asking():
            self._stop_waiting()
        else:
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_asking():  # not even the next of several that came at once
            self._crowd.waiting[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(READ_SECONDS, self.leave)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def leave(self) -> None:
        self._stop_waiting()
        self.transport.abort()

    def _is_asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._crowd.waiting[self] = None
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self.leave)

    def _stop_waiting(self) -> None:
        self._crowd.waiting.pop(self, None)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
