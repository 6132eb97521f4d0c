"""`Budget`: how many bytes of bodies the receiver holds at once; above it, senders are asked to come back."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from spanledger.exporter.errors import SpanledgerError

BYTES: Final = 64 * 1024 * 1024
LEAST: Final = 64 * 1024
"""What a request counts for at least: it costs more than its body."""

Take = Callable[[int], None]


def unbounded(size: int) -> None:
    """There is always room."""


class Overloaded(SpanledgerError):
    """The server has more in hand than it can store at the moment; send it again later."""

    retryable = True


class Budget:
    """Thread-safe."""

    def __init__(self, size: int = BYTES) -> None:
        self._left = size
        self._lock = threading.Lock()

    @contextmanager
    def request(self) -> Iterator[Take]:
        """Room for a request while the block runs; what it gives takes more. Both raise `Overloaded`."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            with self._lock:
                if size > self._left:
                    raise Overloaded
                self._left -= size
                taken += size

        try:
            take(LEAST)
            yield take
        finally:
            with self._lock:
                self._left += taken
