"""`Turns`: how many may read at once, so that what they read is bounded, and for how long, so that the others may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of those who wait, who came last is next: under a flood the others' senders have given up by their turn.

    For one event loop.
    """

    def __init__(self, most: int, seconds: float, pressed: float) -> None:
        """*seconds*: how long a turn may last; *pressed*: how much longer when somebody begins to wait."""
        self._free = most
        self._seconds = seconds
        self._pressed = pressed
        self._waiting: list[asyncio.Future[None]] = []
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn, when there is one. Raises `TimeoutError` where the block lasts too long."""
        await self._wait()
        try:
            async with asyncio.timeout(self._pressed if self._waiting else self._seconds) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        finally:
            self._pass_on()

    async def _wait(self) -> None:
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(min(limit.when() or 0.0, loop.time() + self._pressed))
        mine = loop.create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # the turn came, and nobody is there to take it
                self._pass_on()
            elif mine in self._waiting:
                self._waiting.remove(mine)
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            last = self._waiting.pop()
            if not last.cancelled():
                last.set_result(None)
                return
        self._free += 1
