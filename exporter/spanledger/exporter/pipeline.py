"""`Pipeline`: one process's way from ended spans to one database: queue, drainer, ledger."""

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import platformdirs
from opentelemetry.sdk.trace import ReadableSpan

from .drainer import Drainer
from .errors import ConfigurationError
from .forking import at_fork
from .frames import Kind, span_body
from .health import Delivery
from .queue import MemoryQueue, Queue
from .settings import Settings
from .spans import from_sdk
from .spool import Spool

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from .ledger import Ledger

EXIT_BUDGET: Final = 1.25
"""Seconds a process that ends may spend on draining; what is left then stays in the spool. With all that goes with it,
no end shall take 2 seconds longer."""
UNREADABLE: Final = "unreadable"

_log = logging.getLogger(__name__)


class Pipeline:
    """Keeps spans the moment they are handed over, and brings them to the database in a thread of its own.

    Construction never raises and never connects. `keep` is for the application's threads: it returns within tens of
    microseconds whatever the database does. Thread-safe; correct after ``fork``.
    """

    def __init__(self, settings: Settings, *, engine: "Engine | None" = None, ledger: "Ledger | None" = None) -> None:
        self._settings = settings
        self._engine = engine
        self._ledger = ledger
        self._owned = ledger is None
        self._kept = 0
        self._begin()
        url = settings.database_url
        if ledger is not None:
            url = ledger.store.engine.url.render_as_string(hide_password=False)
        elif engine is not None:
            url = engine.url.render_as_string(hide_password=False)
        self.queue: Queue = _queue(settings, url)
        self._drainer = Drainer(self.queue, self.open_ledger, self._close_ledger)
        at_fork(in_parent=self._adopt, in_child=self._begin)

    def open_ledger(self) -> "Ledger":
        """The ledger, opened if need be. Raises `ConfigurationError` or `StoreUnavailable`."""
        with self._opening:
            if self._ledger is None:
                from .ledger import Ledger

                self._ledger = Ledger.open(self._settings, engine=self._engine)
            return self._ledger

    @property
    def delivery(self) -> Delivery:
        """What became of the spans that ended so far."""
        return Delivery(self._kept, dict(self.queue.dropped))

    def keep(self, kind: Kind, span: ReadableSpan) -> bool:
        """Take *span* over. True: as safe as the queue makes it. False: lost, and counted with its reason."""
        try:
            body = span_body(from_sdk(span))
        except Exception:
            self.queue.lose(UNREADABLE)
            raise
        kept = self.queue.append(kind, body)
        if kept and kind is Kind.END:
            self._kept += 1  # a race between threads may miss one; the exact counts are in the database
        self._drainer.ensure_running()
        return kept

    def start(self) -> None:
        """Begin to drain what waits, also what dead processes left behind, without waiting for a span of our own."""
        self._drainer.ensure_running()

    def flush(self, timeout: float) -> bool:
        """Bring everything kept so far to the database; True when nothing waits any more."""
        return self._drainer.flush(timeout)

    def close(self, timeout: float = EXIT_BUDGET) -> bool:
        """Flush within *timeout* seconds and end. What is left waits in the spool for the next process."""
        flushed = self._drainer.stop(timeout)
        self._close_ledger()
        return flushed

    def _close_ledger(self) -> None:
        """The thread does it, too: it may open the ledger when nobody waits for it any more."""
        if self._owned and self._ledger is not None:
            self._ledger.close()

    def _adopt(self) -> None:
        """Drain from now on what children leave behind, who may each live too briefly to do so themselves."""
        if self.queue.outlives:
            self.start()

    def _begin(self) -> None:
        self._opening = threading.Lock()  # a forked child may have got it locked, by a thread it has not got


def drain(settings: Settings, progress: Callable[[int], None] | None = None) -> bool:
    """Bring everything that processes of this host left in the spool to the database, now.

    *progress* is called with the number of spans delivered so far. False: another process has the lease and does it.
    Raises `ConfigurationError` where there is no usable folder, and `StoreUnavailable` if the database cannot take
    them; then everything still waits.
    """
    from .ledger import Ledger

    spool = open_spool(settings)
    with closing(Ledger.open(settings)) as ledger:
        drainer = Drainer(spool, lambda: ledger)
        if not spool.lease():
            return False
        try:
            total = 0
            while delivered := drainer.drain():
                total += delivered
                if progress is not None:
                    progress(total)
        finally:
            spool.give_up_lease()
    return True


def open_spool(settings: Settings) -> Spool:
    """The spool of the settings' database. Raises `ConfigurationError` saying why it cannot be used."""
    try:
        return Spool(spool_folder(settings, settings.database_url))
    except OSError as error:
        raise ConfigurationError(f"The spool cannot be used: {error}.") from None


def spool_folder(settings: Settings, url: str) -> Path:
    """Where spans for the database at *url* wait: one folder per database, so that any process of the host adopts."""
    if settings.spool_folder:
        return Path(settings.spool_folder)
    state: Path = platformdirs.user_state_path("spanledger", appauthor=False)
    return state / "spool" / hashlib.sha256(_canonical(url).encode()).hexdigest()[:16]


def _queue(settings: Settings, url: str) -> Queue:
    """The spool; memory where durability is not wanted, nobody else could drain, or no folder can be had."""
    if settings.durability == "memory" or _is_in_memory(url):
        return MemoryQueue()
    folder = spool_folder(settings, url)
    try:
        return Spool(folder, durability=settings.durability, max_bytes=settings.spool_max_bytes)
    except OSError as error:
        _log.warning(
            "spanledger: spans wait in memory and are lost if this process is killed, because the spool cannot be "
            "used: %s. Set SPANLEDGER_SPOOL_FOLDER to a folder of your own, or SPANLEDGER_DURABILITY=memory.",
            error,
        )
        return MemoryQueue()


def _is_in_memory(url: str) -> bool:
    parsed = urlsplit(url)
    return _kind(parsed) == "sqlite" and parsed.path in ("", "/", "/:memory:")


def _canonical(url: str) -> str:
    """The same text for the same database: a file's absolute path, a server's address without the password."""
    parsed = urlsplit(url)
    if _kind(parsed) == "sqlite":
        return f"sqlite:{Path(parsed.path.removeprefix('/')).resolve()}"
    return f"{_kind(parsed)}:{parsed.username}@{parsed.hostname}:{parsed.port}{parsed.path}?{parsed.query}"


def _kind(parsed: SplitResult) -> str:
    """The database without the driver; ``postgres`` and ``postgresql`` are one."""
    name = parsed.scheme.partition("+")[0]
    return "postgresql" if name == "postgres" else name
