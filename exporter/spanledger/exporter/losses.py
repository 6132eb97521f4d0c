"""`Tally`: what a process could not keep, by minute and reason. A span that is gone is still a number."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import orjson

MINUTE: Final = 60 * 10**9
"""In nanoseconds."""


class Loss(NamedTuple):
    """Spans that *producer* lost within a minute: when it began, in nanoseconds since the epoch, and why."""

    producer: str
    since: int
    counts: Mapping[str, int]


class Tally:
    """Counts losses. Not thread-safe: whoever owns it has a lock."""

    def __init__(self) -> None:
        self._minutes: dict[int, Counter[str]] = {}

    def add(self, reason: str, count: int, now: int) -> None:
        """*now* is in nanoseconds since the epoch."""
        self._minutes.setdefault(now - now % MINUTE, Counter())[reason] += count

    @property
    def total(self) -> Counter[str]:
        return sum(self._minutes.values(), Counter())

    def of(self, producer: str) -> Sequence[Loss]:
        return [Loss(producer, since, dict(counts)) for since, counts in self._minutes.items()]

    def encoded(self, size: int) -> bytes:
        """The counts in exactly *size* bytes. When they no longer fit, the latest minute stands for those before it."""
        while len(data := orjson.dumps([[since, counts] for since, counts in self._minutes.items()])) > size:
            *_, before, last = self._minutes
            self._minutes[last] += self._minutes.pop(before)
        return data.ljust(size, b"\0")


def losses_of(producer: str, data: bytes) -> Sequence[Loss]:
    """What `Tally.encoded` wrote; nothing if it is not whole."""
    try:
        return [Loss(producer, since, counts) for since, counts in orjson.loads(data.rstrip(b"\0") or b"[]")]
    except (ValueError, TypeError):
        return []
