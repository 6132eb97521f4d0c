"""`Delivery`: what became of the spans an exporter was given, and every loss with its reason."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from .records import Receipt


class Delivery(NamedTuple):
    """A snapshot; every number counts spans. ``recorded + skipped + rejected + pending + sum(lost) == given``."""

    recorded: int
    skipped: int
    rejected: int
    pending: int
    """Kept in memory until the database takes them."""
    lost: Mapping[str, int]
    """Gone for good: how many, by reason."""


class Tally:
    """The running counts behind a `Delivery`. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._settled: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def settle(self, receipt: Receipt) -> None:
        self._settled.update(recorded=receipt.recorded, skipped=receipt.skipped, rejected=receipt.rejected)

    def lose(self, spans: int, reason: str) -> None:
        self._lost[reason] += spans

    def delivery(self, pending: int) -> Delivery:
        settled = self._settled
        return Delivery(settled["recorded"], settled["skipped"], settled["rejected"], pending, dict(self._lost))
