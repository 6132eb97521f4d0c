"""`GroupCommit`: what several threads want recorded at the same time is recorded in one transaction."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from .ledger import Ledger
from .records import Receipt
from .spans import SpanData

MOST_SPANS: Final = 4096
"""In one transaction, unless a single sender has more."""

_Waiting = tuple[Sequence[SpanData], "Future[Receipt]"]


class GroupCommit:
    """Thread-safe. Whoever gets a turn commits for all who wait; a turn costs the database the same for one or many."""

    def __init__(self, ledger: Ledger, turns: int) -> None:
        self._ledger = ledger
        self._turns = threading.BoundedSemaphore(turns)
        self._waiting: deque[_Waiting] = deque()

    def record(self, spans: Sequence[SpanData]) -> Receipt:
        """`Ledger.record`, together with others: returns, or raises, when their common transaction is over."""
        mine: Future[Receipt] = Future()
        self._waiting.append((spans, mine))
        with self._turns:
            while not mine.done() and (group := self._take()):
                self._commit(group)
        return mine.result()  # whose turn it was may be at work on it still

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and size < MOST_SPANS:
            try:
                group.append(self._waiting.popleft())
            except IndexError:  # another thread's turn has taken the last
                break
            size += len(group[-1][0])
        return group

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            receipts = self._ledger.record_each([spans for spans, _ in group])
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
        else:
            for (_, future), receipt in zip(group, receipts, strict=True):
                future.set_result(receipt)
