"""`Drainer`: takes sealed segments from the spool to the ledger; one on a host does the work for all its processes."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .errors import StoreError
from .forking import at_fork
from .queue import Claim, Queue
from .suppression import uninstrumented

if TYPE_CHECKING:  # SQLAlchemy is imported by the draining thread, not by the application's start
    from .custody import Custody
    from .ledger import Ledger

TICK: Final = 0.25
"""Seconds between two looks at the spool."""
ATTENDANCE: Final = 2.0
"""Seconds between two looks at who is alive."""
BATCH_FRAMES: Final = 2048
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
LOG_INTERVAL: Final = 60.0
LONGEST_IMPORT: Final = 5.0
CHANCE: Final = 1.0
"""Seconds that a process which ends while it still imports leaves for its first attempt."""
GLANCE: Final = 0.01
"""Seconds between two looks of one who waits for a flush."""
PARTING: Final = 0.25
"""Seconds a process that ends gives a database that has failed before, and its own last words."""

_log = logging.getLogger(__name__)


class Drainer:
    """Drains *spool* into the ledger that *open_ledger* gives, in a thread of its own, until stopped.

    The thread's last deed is *close_ledger*.

    Thread-safe. Only the process that holds the spool's lease connects to the database, so a host needs one connection
    however many workers it has. While the database is away everything waits in the spool, and is tried again for ever.
    """

    _ledger: "Ledger | None"
    _draining: threading.Lock
    _starting: threading.Lock
    _wake: threading.Event
    _importing: threading.Lock
    """Held while the thread imports, and while the process forks: a child would find modules half made, and wait for
    ever for whoever was making them."""
    _loaded: threading.Event
    """Whether the thread has imported what it needs."""
    _gone: threading.Event
    """Whether it has ended."""
    _thread: threading.Thread | None
    _failures: int
    """Attempts that have failed since the last one that did not."""
    _next_attendance: float
    _reported: dict[tuple[str, int], object]
    """Losses that stand in the database as they are in the spool."""

    def __init__(
        self, spool: Queue, open_ledger: "Callable[[], Ledger]", close_ledger: Callable[[], object] = lambda: None
    ) -> None:
        self._spool = spool
        self._open_ledger = open_ledger
        self._close_ledger = close_ledger
        self._stopping = False
        self._next_log = 0.0
        self._begin()
        at_fork(before=self._hold, in_parent=self._go_on, in_child=self._begin)

    def ensure_running(self) -> None:
        """Start the thread, if this process has none (the first span, or the first after a fork)."""
        if self._has_thread():
            return
        if self._pid != os.getpid():
            self._begin()
        if self._stopping or not self._starting.acquire(blocking=False):
            return
        try:
            self._thread = threading.Thread(target=self._run, name="spanledger-drainer", daemon=True)
            self._thread.start()
        except RuntimeError:  # the interpreter is ending: what is kept waits for the next process
            self._thread = None
        finally:
            self._starting.release()

    def flush(self, timeout: float) -> bool:
        """Wait until everything this process has written so far is stored; False when *timeout* seconds did not do.

        The thread does the work, or another process that has the lease: a database that does not answer holds up
        nobody for longer than he is willing to wait.
        """
        return self._flush(time.monotonic() + timeout, lambda: False)

    def stop(self, timeout: float) -> bool:
        """Flush within *timeout* seconds and end the thread. What is left stays for whoever drains next.

        If somebody can be next, nobody waits for a database that fails: one more attempt, and the process may go.
        """
        began = time.monotonic()
        if self._has_thread():
            # In a program of half a second it still imports, which ends whatever the database does.
            self._loaded.wait(LONGEST_IMPORT)
        failures = self._failures
        hopeless = self._spool.outlives and failures > 0
        deadline = max(began + timeout, time.monotonic() + min(timeout, CHANCE))
        flushed = self._flush(
            time.monotonic() + PARTING if hopeless else deadline,
            lambda: self._spool.outlives and self._failures > failures,
        )
        self._stopping = True
        self._wake.set()
        if not self._has_thread():
            self._attempt(self._spool.give_up_lease)
        elif flushed:
            self._gone.wait(PARTING)
        return flushed

    def drain(self, deadline: float | None = None) -> int:
        """Take what can be claimed now to the ledger: how many spans. Nothing, while another process has the lease.

        Raises `StoreUnavailable` when the database cannot take it now; then it all still waits.
        """
        if not self._draining.acquire(timeout=-1.0 if deadline is None else max(0.0, deadline - time.monotonic())):
            return 0
        try:
            with uninstrumented():
                return self._drain(deadline)
        finally:
            self._draining.release()

    def _flush(self, deadline: float, in_vain: Callable[[], bool]) -> bool:
        self._spool.seal()
        urge = 0.0
        while self._spool.waiting():
            now = time.monotonic()
            if now >= deadline or in_vain():
                return False
            if not self._has_thread():
                self._drain_here(deadline)
            elif now >= urge:
                urge = now + TICK
                self._wake.set()
            time.sleep(GLANCE)
        return True

    def _has_thread(self) -> bool:
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        """The thread: outlives every error, because a dead one would fill the disk."""
        with self._importing:
            self._attempt(_load)
        self._loaded.set()
        next_try = 0.0
        while not self._stopping:
            urged = self._wake.wait(TICK)
            self._wake.clear()
            self._attempt(self._spool.tend)
            if urged or time.monotonic() >= next_try:
                pause = 0.0
                if not self._try():
                    pause = min(FIRST_PAUSE * 2 ** min(self._failures, 10), LONGEST_PAUSE)
                    self._attempt(self._spool.expire)
                next_try = time.monotonic() + random.uniform(pause / 2, pause)
        self._attempt(self._depart)
        self._attempt(self._close_ledger)
        self._gone.set()

    def _try(self, deadline: float | None = None) -> bool:
        drained = self._attempt(lambda: self.drain(deadline))
        self._failures = 0 if drained else self._failures + 1
        return drained

    def _depart(self) -> None:
        """Write down the losses of the last moment, too, unless that would take time, and let another drain."""
        with self._draining:
            try:
                if self._ledger is not None and not self._failures and self._spool.lease():
                    self._attend()
            finally:
                self._spool.give_up_lease()

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            with uninstrumented():
                work()
        except BaseException as error:
            if not self._stopping:
                self._complain(error)
            return False
        return True

    def _drain_here(self, deadline: float) -> None:
        if not self._try(deadline):
            time.sleep(max(0.0, min(TICK, deadline - time.monotonic())))

    def _drain(self, deadline: float | None) -> int:
        total = 0
        while self._spool.lease() and (deadline is None or time.monotonic() < deadline):
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
        if time.monotonic() >= self._next_attendance and self._spool.lease():
            self._next_attendance = time.monotonic() + ATTENDANCE
            self._attend()
        return total

    def _claim(self) -> list[Claim]:
        claims: list[Claim] = []
        frames = 0
        for claim in self._spool.claims():
            claims.append(claim)
            frames += len(claim.parsed.frames)
            if frames >= BATCH_FRAMES:
                break
        return claims

    def _deliver(self, claims: list[Claim]) -> int:
        """Commit the spans of *claims*, then the book about them. Both are idempotent: a crash between is harmless."""
        from .delivery import deliver  # imported by `_load` before

        handovers = deliver(self._opened(), claims)
        self._custody().enter(handovers)
        return sum(handover.produced for handover in handovers)

    def _attend(self) -> None:
        """Say who is alive, give up what dead processes left running, and write down what all of them lost."""
        present = self._spool.presences()
        news = [loss for loss in present.losses if self._reported.get((loss.producer, loss.since)) != loss.counts]
        self._custody().attend(self._spool.is_alive, news)
        self._reported.update({(loss.producer, loss.since): loss.counts for loss in news})
        for producer in present.dead:
            self._spool.bury(producer)

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

    def _hold(self) -> None:
        self._importing.acquire()

    def _go_on(self) -> None:
        self._importing.release()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ledger = None
        self._draining = threading.Lock()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._importing = threading.Lock()
        self._loaded = threading.Event()
        self._gone = threading.Event()
        self._thread = None
        self._failures = 0
        self._next_attendance = 0.0
        self._reported = {}


def _load() -> None:
    """Import what draining takes, also what others would import on first use."""
    from genai_prices import data, types  # noqa: F401

    from . import custody, delivery  # noqa: F401
