"""SQLite: one file, one writer at a time, readers that never wait."""

import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    QueuePool,
    Table,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from ..errors import ConfigurationError, StoreError, StoreRejected, StoreUnavailable
from ..schema import Timestamp, timestamp_text
from .base import Backend, Record, as_list, upsert_statement
from .expressions import percentile

BUSY_SECONDS: Final = 5.0
"""How long a writer waits for another one, of this process or of others."""
READ_SECONDS: Final = 30.0
"""How long a question may run. A reader that stays keeps the write-ahead log growing."""
READERS: Final = 8
PAGE_BYTES: Final = 16_384
"""Rows of several kilobytes overflow SQLite's default of 4096: measured 1.3 to 1.4 times the rows a second."""
CACHE_KIB: Final = 16 * 1024
"""A connection's page cache. Keys are random: with SQLite's 2 MB every index look-up reads a page anew."""
WAL_BYTES: Final = 64 * 1024 * 1024
"""How long the write-ahead log gets before it is copied into the file, and how long it may stay. Seldom is cheaper."""
RECLAIMED_PAGES: Final = 64
"""Pages given back in one transaction: a megabyte, some milliseconds in which writers wait."""
INCREMENTAL: Final = 2

WRITES: Final = "spanledger_writes"

REJECTIONS: Final = frozenset(
    (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE)
)
REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: f"another process has been writing for more than {BUSY_SECONDS:.0f} s",
    sqlite3.SQLITE_LOCKED: f"another connection has been writing for more than {BUSY_SECONDS:.0f} s",
    sqlite3.SQLITE_FULL: "free some space and spanledger goes on by itself",
    sqlite3.SQLITE_ERROR: "if tables or columns are missing, run `spanledger migrate`",
    sqlite3.SQLITE_READONLY: "the file and its directory must be writable",
    sqlite3.SQLITE_CANTOPEN: "the file and its directory must exist and be writable",
    sqlite3.SQLITE_NOTADB: "the file is something else; choose another name",
    sqlite3.SQLITE_INTERRUPT: f"the question took more than {READ_SECONDS:.0f} s; narrow it",
}


class SQLite(Backend):
    """WAL mode. Writers queue on a lock within the process and on BEGIN IMMEDIATE between processes.

    A transaction never begins as a reader and goes on as a writer: SQLite would fail it at once, whatever the timeout.
    """

    name = "sqlite"
    migrates_itself: ClassVar = True
    driver_error: ClassVar = sqlite3.Error

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._writer = threading.Lock()
        self._statements: dict[str, tuple[str, Sequence[int]]] = {}

    def lock(self, connection: Connection, keys: Iterable[str], *, alone: bool = False) -> None:
        """Nothing to do: a write transaction is alone anyway."""

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Record], standing: Collection[str]) -> None:
        # Straight to the driver: measured at 1.4 to 2 times the rows a second of SQLAlchemy's executemany.
        sql, times = self._statement(table, rows[0]._fields)
        driver_connection = connection.connection.driver_connection
        assert isinstance(driver_connection, sqlite3.Connection)
        driver_connection.executemany(sql, (_bound(row, times) for row in rows))

    @staticmethod
    def among(column: ColumnElement[str], values: Iterable[str] | BindParameter[str]) -> ColumnElement[bool]:
        return column.in_(select(func.json_each(as_list(values)).table_valued("value").c.value))

    def scrub(self) -> None:
        """Deleting overwrites the rows in the file (secure_delete); what is left are copies in the write-ahead log."""
        end = time.monotonic() + BUSY_SECONDS
        with self._translated(), self._writer, closing(self.engine.raw_connection()) as connection:
            # Busy while a reader needs the log as it is.
            while connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > end:
                    raise StoreUnavailable(
                        "The rows are deleted, but a long reader keeps their bytes in SQLite's log: do it again later."
                    )
                time.sleep(0.01)

    def size(self, connection: Connection) -> int:
        pages, free, bytes = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * bytes)

    def reclaim(self, *, thoroughly: bool = False) -> None:
        """A file that was made before ours gave room back has to be written anew once: writers wait for that."""
        with self._translated(), closing(self.engine.raw_connection()) as connection:
            driver_connection: Any = connection.driver_connection
            (mode,) = driver_connection.execute("PRAGMA auto_vacuum").fetchone()
            if mode != INCREMENTAL and thoroughly:
                with self._writer:
                    driver_connection.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
            elif mode == INCREMENTAL:
                self._give_back(driver_connection)
            driver_connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # only now does the file itself shrink

    @contextmanager
    def alone(self, key: str) -> Iterator[bool]:
        """One server has an SQLite database; two commands that delete the same rows do each other no harm."""
        yield True

    def _give_back(self, driver_connection: Any) -> None:
        before: int | None = None
        while (free := driver_connection.execute("PRAGMA freelist_count").fetchone()[0]) and free != before:
            before = free
            with self._writer:
                began = time.monotonic()
                # As a script: a single statement stops at the first page.
                driver_connection.executescript(f"PRAGMA incremental_vacuum({RECLAIMED_PAGES})")
            time.sleep(time.monotonic() - began)

    def _connectable(self, url: URL) -> Engine:
        if not url.database or url.database == ":memory:" or url.query.get("mode") == "memory":
            raise ConfigurationError(
                "An SQLite database in memory cannot be shared between threads and processes: use sqlite:///file.db."
            )
        if not url.database.startswith("file:") and not (folder := Path(url.database).absolute().parent).is_dir():
            raise ConfigurationError(f"There is no directory {folder} to hold the SQLite database: make it first.")
        engine = create_engine(
            url.set(drivername="sqlite+pysqlite"),
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
            pool_use_lifo=True,  # the warmest page cache first
            connect_args={"timeout": BUSY_SECONDS},
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise StoreUnavailable(f"SQLite database {self.url.database} is busy: other writers of this process wait.")
        try:
            with self.engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
                yield connection
        finally:
            self._writer.release()

    _alone = _writing

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            driver_connection: Any = connection.connection.driver_connection
            end = time.monotonic() + READ_SECONDS
            driver_connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            try:
                yield connection
            finally:
                driver_connection.set_progress_handler(None, 0)

    def _explain(self, error: BaseException) -> StoreError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        sentence = f"SQLite database {self.url.database}: {error}"
        if code in REJECTIONS or isinstance(error, sqlite3.DataError):
            return StoreRejected(sentence + ".")
        return StoreUnavailable(f"{sentence}; {REMEDIES[code]}." if code in REMEDIES else sentence + ".")

    def _after_fork(self) -> None:
        self._writer = threading.Lock()
        super()._after_fork()

    def _statement(self, table: Table, fields: Sequence[str]) -> tuple[str, Sequence[int]]:
        """The upsert's text, and which of *fields* are times, which the driver cannot bind."""
        if table.name not in self._statements:
            upsert = upsert_statement(insert(table), table, fields)
            compiled = upsert.compile(dialect=sqlite_dialect(), column_keys=list(fields))
            assert compiled.positiontup == list(fields), "a record's fields stand in the order of the table's columns"
            times = [i for i, name in enumerate(fields) if isinstance(table.c[name].type, Timestamp)]
            self._statements[table.name] = (str(compiled), times)
        return self._statements[table.name]


def _bound(row: Record, times: Sequence[int]) -> list[Any]:
    """*row* as the driver takes it. Raises `StoreRejected` for what SQLite alone would take, and then cut short."""
    if "\0" in "".join([value for value in row if isinstance(value, str)]):  # one search costs less than forty
        raise StoreRejected("A text with a zero byte cannot be stored.")
    values: list[Any] = list(row)
    for i in times:
        if values[i] is not None:
            values[i] = timestamp_text(values[i])
    return values


def _prepare(driver_connection: sqlite3.Connection, _: object) -> None:
    driver_connection.isolation_level = None  # transactions begin where we say, by `_begin`
    if driver_connection.execute("PRAGMA page_count").fetchone() == (0,):
        driver_connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        # Heeded only before the first page, and a write transaction even then when it changes nothing.
        driver_connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    for pragma in (
        "journal_mode = WAL",
        f"wal_autocheckpoint = {WAL_BYTES // PAGE_BYTES}",
        f"journal_size_limit = {WAL_BYTES}",
        f"cache_size = -{CACHE_KIB}",
        "secure_delete = ON",  # what was deleted is overwritten, or it would stay readable in the file
        "synchronous = NORMAL",  # a power cut may take the last commits, a crash of ours never does
    ):
        driver_connection.execute(f"PRAGMA {pragma}")
    driver_connection.create_aggregate("percentile", 2, _Percentile)  # type: ignore[arg-type]


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")


@compiles(percentile, "sqlite")
def _percentile(element: percentile, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(func.percentile(*element.clauses), **kw)


class _Percentile:
    """The aggregate behind `expressions.percentile`."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._fraction = 0.0

    def step(self, value: float | None, fraction: float) -> None:
        self._fraction = fraction
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        if not self._values:
            return None
        self._values.sort()
        position = self._fraction * (len(self._values) - 1)
        below = int(position)
        above = min(below + 1, len(self._values) - 1)
        return self._values[below] + (self._values[above] - self._values[below]) * (position - below)
