"""`Retention`: keeps a database within its limits of age and size, in a thread of its own while a server runs."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from . import parquet
from .archive import archive
from .errors import ConfigurationError, StoreUnavailable
from .limits import Limits, age, cut_offs, size
from .settings import Settings
from .store import Deleted, Store
from .suppression import uninstrumented

ROOM: Final = 0.9
"""To how much of its size a server brings a database that has outgrown it, to have peace for a while."""
ACTOR: Final = "retention"
INTERVAL: Final = timedelta(hours=1)
RETRY: Final = timedelta(minutes=5)
STOP_SECONDS: Final = 10.0
DAY: Final = timedelta(days=1)

_log = logging.getLogger(__name__)


class Retained(NamedTuple):
    """*last* is when the database was within its limits; *removed* rows have gone since the server started."""

    last: datetime | None = None
    removed: int = 0


class Retention:
    """Deletes every hour what has become too old, and the oldest if all is too large; or moves it to *folder*.

    Where the age is in days, whole days (UTC) go: so an archive gets a file a day, not one an hour. Of several servers
    on one database one does it at a time. What fails is logged once, and tried again for ever.
    """

    def __init__(
        self, store: Store, *, age: timedelta | None, max_bytes: int | None = None, folder: Path | None = None
    ) -> None:
        self._store = store
        self._age = age
        self._max_bytes = max_bytes
        self._folder = folder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spanledger-retention", daemon=True)
        self.retained = Retained()

    @classmethod
    def of(cls, settings: Settings, store: Store) -> "Retention | None":
        """What *settings* ask for; None if rows may stay for ever. Raises `ConfigurationError`."""
        if not (settings.retention or settings.retention_max_size):
            if settings.archive:
                raise ConfigurationError(
                    "An archive needs to know when: set SPANLEDGER_RETENTION (or SPANLEDGER_RETENTION_MAX_SIZE), too."
                )
            return None
        oldest = age(settings.retention) if settings.retention else None
        if settings.retention and not oldest:
            raise ConfigurationError(f"SPANLEDGER_RETENTION is {settings.retention!r}; use an age such as 90d or 12h.")
        if settings.archive:
            parquet.library()
        max_bytes = size(settings.retention_max_size) if settings.retention_max_size else None
        return cls(store, age=oldest, max_bytes=max_bytes, folder=Path(settings.archive) if settings.archive else None)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End, between two transactions."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def enforce(self, now: datetime) -> None:
        """Once: delete what is too much *now*. Raises `SpanledgerError` as `Store.purge` or `archive` does."""
        with self._store.backend.alone(ACTOR) as alone:
            if not alone:
                return
            for limits in self._limits(now):
                for moment in cut_offs(self._store, limits):
                    self._remove(moment)
        self.retained = self.retained._replace(last=now)

    def _limits(self, now: datetime) -> Iterator[Limits]:
        if self._age is not None:
            oldest = now - self._age
            yield Limits(datetime.combine(oldest, time.min, UTC) if self._age >= DAY else oldest)
        if self._max_bytes is not None:
            with self._store.reading() as connection:
                bytes = self._store.backend.size(connection)
            if bytes > self._max_bytes:
                yield Limits(max_bytes=int(self._max_bytes * ROOM))

    def _remove(self, older_than: datetime) -> None:
        if self._folder is not None:
            moved = archive(self._store, self._folder, older_than, actor=ACTOR, progress=self._go_on)
            gone = Deleted(moved.executions, moved.llm_calls)
        elif any(gone := self._store.purge(older_than, progress=self._go_on)):
            self._store.note(ACTOR, "purge", f"before {older_than:%Y-%m-%d %H:%M} UTC", sum(gone))
        if any(gone):
            self._store.backend.reclaim()
            self.retained = self.retained._replace(removed=self.retained.removed + sum(gone))

    def _go_on(self, _: int) -> None:
        if self._stopping.is_set():
            raise StoreUnavailable("The server stops; the rest goes when it runs again.")

    def _run(self) -> None:
        pause, failing = timedelta(), False
        while not self._stopping.wait(pause.total_seconds()):
            try:
                with uninstrumented():
                    self.enforce(datetime.now(UTC))
                pause, failing = INTERVAL, False
            except Exception as error:
                if not (failing or self._stopping.is_set()):
                    _log.error("Old rows could not be removed: %s It is tried again every %s.", error, RETRY)
                pause, failing = RETRY, True
