"""`LedgerSpanExporter`: a standard OTel span exporter that writes rows, and keeps what the database cannot take yet."""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .errors import StoreUnavailable
from .health import Delivery, Tally
from .settings import Settings
from .spans import SpanData, from_sdk
from .suppression import uninstrumented

if TYPE_CHECKING:  # SQLAlchemy is imported by the exporting thread, not by the application's start
    from sqlalchemy import Engine

    from .ledger import Ledger

MAX_PENDING: Final = 16_384
"""Spans kept in memory while the database is away; about 60 MB at 3.7 KB a span."""
EXIT_BUDGET: Final = 2.0
"""Seconds a process that ends may spend on writing its last spans."""
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
LOG_INTERVAL: Final = 60.0

_log = logging.getLogger(__name__)


class LedgerSpanExporter(SpanExporter):
    """Maps, redacts, prices and stores spans through `Ledger.record`.

    Made without arguments (``OTEL_TRACES_EXPORTER=spanledger``) it reads ``SPANLEDGER_*``. Construction never raises
    and never connects: the first export does, in the thread that exports. Thread-safe; correct after ``fork``.

    An unavailable database is no failure: up to *max_pending* spans wait in memory and are tried again, with back-off,
    at later exports and flushes. What cannot be kept is counted with its reason in `delivery` and logged once a minute.

    *ledger* stays the caller's to close; otherwise one is opened on *engine*, *database_url* or the environment's.
    """

    def __init__(
        self,
        ledger: "Ledger | None" = None,
        *,
        database_url: str | None = None,
        engine: "Engine | None" = None,
        settings: Settings | None = None,
        max_pending: int = MAX_PENDING,
        exit_budget: float = EXIT_BUDGET,
    ) -> None:
        self._ledger = ledger
        self._owned = ledger is None
        self._engine = engine
        self._settings = settings
        self._database_url = database_url
        self._max_pending = max_pending
        self._exit_budget = exit_budget
        self._lock = threading.RLock()
        self._closed = False
        self._pending: deque[Sequence[SpanData]] = deque()
        self._tally = Tally()
        self._pause = _Pause()
        self._next_log = 0.0
        if hasattr(os, "register_at_fork"):
            after_fork = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (restart := after_fork()) and restart())

    @property
    def ledger(self) -> "Ledger":
        """The ledger behind this exporter, opened if need be. Raises `ConfigurationError` or `StoreUnavailable`."""
        with self._lock:
            return self._open()

    @property
    def delivery(self) -> Delivery:
        """What became of the spans so far."""
        with self._lock:
            return self._tally.delivery(self._waiting())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS: stored, or kept for a later try. FAILURE: some spans of the queue are lost for good, and counted."""
        with uninstrumented(), self._lock:
            if self._closed:
                return self._lose(len(spans), "exported after shutdown")
            if self._waiting() + len(spans) > self._max_pending and self._pause:
                return self._lose(len(spans), "memory full while the database is away")
            self._pending.append([from_sdk(span) for span in spans])
            return SpanExportResult.SUCCESS if self._pause else self._deliver()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write what is kept, trying until *timeout_millis* have passed. True when nothing is left."""
        return self._flush(time.monotonic() + timeout_millis / 1000)

    # No timeout parameter: the batch processor would pass what is left of its 30 seconds, and a process must end.
    def shutdown(self) -> None:
        """Write what is kept within the exit budget, count the rest as lost, and close the ledger if it is ours."""
        flushed = self._flush(time.monotonic() + self._exit_budget)
        if not self._lock.acquire(blocking=flushed):
            _log.warning("spanledger: the last spans are lost: the database did not answer in time")
            return
        try:
            if self._closed:
                return
            self._closed = True
            if self._pending:
                self._next_log = 0.0
                self._lose(self._waiting(), "the process ended before the database could take them")
                self._pending.clear()
            if self._owned and self._ledger is not None:
                self._ledger.close()
        finally:
            self._lock.release()

    def _flush(self, deadline: float) -> bool:
        while self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                if self._pending and not self._pause:
                    with uninstrumented():
                        self._deliver()
                if not self._pending:
                    return True
                wait = min(self._pause.remaining(), deadline - time.monotonic())
            finally:
                self._lock.release()
            if wait <= 0:
                return False
            time.sleep(wait)
        return False

    def _deliver(self) -> SpanExportResult:
        """Record what waits, oldest first, until nothing does or the database asks to come back later."""
        result = SpanExportResult.SUCCESS
        while self._pending:
            try:
                receipt = self._open().record(self._pending[0])
            except StoreUnavailable as error:
                self._pause.extend()
                self._complain(f"{self._waiting()} spans wait in memory: {error}")
                return result
            except Exception as error:  # the boundary: our bug or the user's settings, never the application's problem
                result = self._lose(len(self._pending.popleft()), f"{type(error).__name__}: {error}")
            else:
                self._pending.popleft()
                self._pause.end()
                self._tally.settle(receipt)
                if receipt.rejected:
                    self._complain(f"{receipt.rejected} spans were rejected: {'; '.join(receipt.reasons)}")
        return result

    def _open(self) -> "Ledger":
        if self._ledger is None:
            from .ledger import Ledger

            settings = self._settings or Settings.from_environment(database_url=self._database_url)
            self._ledger = Ledger.open(settings, engine=self._engine)
        return self._ledger

    def _waiting(self) -> int:
        return sum(map(len, self._pending))

    def _lose(self, spans: int, reason: str) -> SpanExportResult:
        self._tally.lose(spans, reason)
        self._complain(f"{spans} spans are lost: {reason}")
        return SpanExportResult.FAILURE

    def _complain(self, message: str) -> None:
        if time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + LOG_INTERVAL
            _log.warning("spanledger: %s (repeated at most once a minute)", message)

    def _after_fork(self) -> None:
        """In the child: what waits is the parent's to write. (The store sees to its own connections.)"""
        self._lock = threading.RLock()
        self._pending.clear()


class _Pause:
    """The time to leave the database alone: doubles with every failure. True while it lasts."""

    def __init__(self) -> None:
        self._length = 0.0
        self._until = 0.0

    def __bool__(self) -> bool:
        return self.remaining() > 0

    def remaining(self) -> float:
        return self._until - time.monotonic()

    def extend(self) -> None:
        self._length = min(max(FIRST_PAUSE, 2 * self._length), LONGEST_PAUSE)
        self._until = time.monotonic() + self._length

    def end(self) -> None:
        self._length = self._until = 0.0
