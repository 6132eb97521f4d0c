"""`Drainer`: takes sealed segments from the spool to the ledger; one on a host does the work for all its processes."""

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from .errors import SpanledgerError, StoreError
from .frames import Kind, span_body, span_of
from .queue import Claim, Queue
from .records import Batch, DeadLetter, Handover
from .spans import SpanData
from .suppression import uninstrumented
from .values import moment

if TYPE_CHECKING:  # SQLAlchemy is imported by the draining thread, not by the application's start
    from .custody import Custody
    from .ledger import Ledger
    from .mapping import Mapped

TICK: Final = 0.25
"""Seconds between two looks at the spool."""
ATTENDANCE: Final = 2.0
"""Seconds between two looks at who is alive."""
BATCH_SPANS: Final = 2048
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
LOG_INTERVAL: Final = 60.0
DAMAGED: Final = "damaged_on_disk"

_log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """A claimed segment, decoded: spans that ended, spans that only began, and what its process had to drop."""

    claim: Claim
    ended: list[SpanData]
    begun: dict[tuple[int, int], SpanData]
    dropped: Counter[str]


class Drainer:
    """Drains *spool* into the ledger that *open_ledger* gives, in a thread of its own, until stopped.

    Thread-safe. Only the process that holds the spool's lease connects to the database, so a host needs one connection
    however many workers it has. While the database is away everything waits in the spool, and is tried again for ever.
    """

    def __init__(self, spool: Queue, open_ledger: "Callable[[], Ledger]") -> None:
        self._spool = spool
        self._open_ledger = open_ledger
        self._ledger: Ledger | None = None
        self._pid = 0
        self._draining = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._next_attendance = 0.0
        self._next_log = 0.0

    def ensure_running(self) -> None:
        """Start the thread, if this process has none (the first span, or the first after a fork)."""
        if self._pid == os.getpid() and self._thread is not None and self._thread.is_alive():
            return
        if self._stopping:
            return
        if self._pid != os.getpid():
            self._draining, self._wake, self._ledger = threading.Lock(), threading.Event(), None
            self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="spanledger-drainer", daemon=True)
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Drain everything this process has written so far; True when nothing of it waits any more.

        Where another process has the lease, waits for it to do the work.
        """
        self._spool.seal()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.drain(deadline)
            except SpanledgerError as error:
                self._complain(error)
            if not self._spool.waiting():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(TICK, max(0.0, deadline - time.monotonic())))

    def stop(self, timeout: float) -> bool:
        """Flush within *timeout* seconds and end the thread. What is left stays for whoever drains next."""
        self._stopping = True
        flushed = self.flush(timeout)
        self._wake.set()
        if self._draining.acquire(timeout=0.1):
            try:
                if self._ledger is not None:
                    self._ledger.close()
                    self._ledger = None
                self._spool.give_up_lease()
            finally:
                self._draining.release()
        return flushed

    def drain(self, deadline: float | None = None) -> int:
        """Take what can be claimed now to the ledger: how many spans. Nothing, while another process has the lease.

        Raises `StoreUnavailable` when the database cannot take it now; then it all still waits.
        """
        timeout = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._draining.acquire(timeout=timeout):
            return 0
        try:
            if not self._spool.lease():
                return 0
            with uninstrumented():
                return self._drain(deadline)
        finally:
            self._draining.release()

    def _run(self) -> None:
        """The thread: outlives every error, because a dead one would fill the disk."""
        pause = 0.0
        while not self._stopping:
            self._wake.wait(TICK if pause == 0 else random.uniform(pause / 2, pause))
            try:
                self._spool.tend()
                self.drain()
                pause = 0.0
            except BaseException as error:
                if isinstance(error, SystemExit | KeyboardInterrupt) and self._stopping:
                    return
                pause = min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)
                self._complain(error)

    def _drain(self, deadline: float | None) -> int:
        total = 0
        while deadline is None or time.monotonic() < deadline:
            claims = self._claim()
            if not claims:
                break
            try:
                total += self._deliver(claims)
            except BaseException:
                for claim in claims:
                    claim.release()
                raise
            for claim in claims:
                claim.done()
        if time.monotonic() >= self._next_attendance:
            self._next_attendance = time.monotonic() + ATTENDANCE
            if self._ledger is not None:
                self._custody().attend(self._spool.is_alive)
        return total

    def _claim(self) -> list[Claim]:
        claims: list[Claim] = []
        frames = 0
        for claim in self._spool.claims():
            claims.append(claim)
            frames += len(claim.parsed.frames)
            if frames >= BATCH_SPANS:
                break
        return claims

    def _deliver(self, claims: Sequence[Claim]) -> int:
        """Commit the spans of *claims*, then the book about them. Both are idempotent: a crash between is harmless."""
        ledger = self._opened()
        segments = [_read(claim) for claim in claims]
        ended = {(span.trace_id, span.span_id) for segment in segments for span in segment.ended}
        prepared = [ledger.prepare(segment.ended) for segment in segments]
        running = [ledger.prepare([s for key, s in segment.begun.items() if key not in ended]) for segment in segments]
        batches = [*(p.batch for p in prepared), *(_rows_only(p.batch) for p in running)]
        refused = dict(ledger.commit(_merged(batches)).rejected)
        self._custody().enter(
            [_handover(*each, refused=refused) for each in zip(segments, prepared, running, strict=True)]
        )
        return sum(len(segment.ended) for segment in segments)

    def _opened(self) -> "Ledger":
        if self._ledger is None:
            self._ledger = self._open_ledger()
        return self._ledger

    def _custody(self) -> "Custody":
        from .custody import Custody

        return Custody(self._opened().store, self._spool.id)

    def _complain(self, error: BaseException) -> None:
        if time.monotonic() < self._next_log:
            return
        self._next_log = time.monotonic() + LOG_INTERVAL
        if isinstance(error, StoreError):
            _log.warning("spanledger: spans wait in %s: %s (said at most once a minute)", self._spool, error)
        else:
            _log.warning("spanledger: the drainer tries again: %s: %s", type(error).__name__, error)


def _read(claim: Claim) -> _Read:
    read = _Read(claim, [], {}, Counter())
    for frame in claim.parsed.frames:
        if frame.kind == Kind.LOSS:
            loss = orjson.loads(frame.body)
            read.dropped[loss["reason"]] += loss["count"]
        else:
            span = span_of(frame.body)
            if frame.kind == Kind.END:
                read.ended.append(span)
            else:
                read.begun[span.trace_id, span.span_id] = span
    if claim.parsed.damaged:
        read.dropped[DAMAGED] += 1
    return read


def _rows_only(batch: Batch) -> Batch:
    """A running span that is no row yet is not worth one: its end will say what it is."""
    return batch._replace(bridges=())


def _merged(batches: Iterable[Batch]) -> Batch:
    parts = list(zip(*batches, strict=True))
    return Batch(*([row for rows in part for row in rows] for part in parts))


def _handover(segment: _Read, prepared: "Mapped", running: "Mapped", *, refused: dict[str, str]) -> Handover:
    rows: list[Any] = [*prepared.batch.executions, *prepared.batch.llm_calls]
    bodies = {f"{s.trace_id:032x}{s.span_id:016x}": s for s in segment.ended}
    dead = {row.id: _dead_letter(row, refused[row.id], bodies) for row in rows if row.id in refused}
    dropped = segment.dropped + Counter(prepared.rejected) + Counter("refused_by_database" for _ in dead)
    produced = len(segment.ended) + segment.dropped.total()
    begun: list[Any] = [*running.batch.executions, *running.batch.llm_calls]
    stamp, _, producer = segment.claim.name.partition("-")
    return Handover(
        segment=segment.claim.name,
        producer=producer,
        written_at=moment(int(stamp) if stamp.isdigit() else time.time_ns()),
        produced=produced,
        stored=len(segment.ended) - prepared.skipped - len(prepared.rejected) - len(dead),
        skipped=prepared.skipped,
        dropped=dropped,
        opened=[row.id for row in begun],
        dead=list(dead.values()),
    )


def _dead_letter(row: Any, reason: str, spans: dict[str, SpanData]) -> DeadLetter:
    span = spans[row.trace_id + row.span_id]
    return DeadLetter(row.id, row.trace_id, row.span_id, reason, span_body(span).decode())
