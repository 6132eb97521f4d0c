"""`Store`: keeps rows in a database, gives them back, and forgets them when asked to."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    select,
    tuple_,
)

from . import audit, migrations
from .applying import ROWS, apply, by_table
from .backends import Backend, backend_of
from .erasure import Erased, Subject
from .errors import StoreRejected, StoreUnavailable
from .family import read_family
from .forgetting import Forgetting, batch_of, without
from .lineage import settle
from .outdated import Outdated, outdated
from .records import Batch
from .schema import audit_log, dead_letters, deliveries, execution_logs, llm_call_logs, producers, tombstones

ARCHIVE: Final = "archive"
"""What the audit log calls it that rows were copied to files."""
BOOKS: Final = (
    (deliveries, "written_at"),
    (dead_letters, "created_at"),
    (producers, "last_seen"),
)
"""What is kept about rows, and the time by which it is old."""

INDIGESTIBLE: Final = (
    StoreRejected,
    ArithmeticError,
    AssertionError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What only data can cause, our own mistakes with it included: trying again would give the same."""

NOBODY: Final = "a program"
"""Who deletes, where nobody says who asked for it."""

PORTION: Final = 1000
"""Rows that `Store.purge` deletes in one transaction: some ten milliseconds in which writers wait."""


class Written(NamedTuple):
    """What became of a batch: how many of its executions, calls and contents are durable (now, or already before).

    *rejected* rows can never be stored: their ids and why. The rest belongs to something that was deleted.
    """

    stored: int
    rejected: Sequence[tuple[str, str]] = ()


class Deleted(NamedTuple):
    """How many rows are gone."""

    executions: int
    llm_calls: int


class Store:
    """The rows of one database. Thread-safe.

    Every method raises `StoreUnavailable` when the database cannot answer now; nothing is half done then.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @classmethod
    def open(cls, url: str | Engine, *, migrate: bool | None = None) -> "Store":
        """The store in the database at *url*, or in the one an application's engine is connected to.

        *migrate* makes or changes its tables where necessary. By default SQLite, which is nobody else's, is migrated
        and PostgreSQL is not. Raises `ConfigurationError` if *url* is wrong or its tables are newer than this code,
        and `StoreUnavailable` if the database cannot be reached or has to be migrated first.
        """
        store = cls(backend_of(url))
        try:
            if store.backend.migrates_itself if migrate is None else migrate:
                store.migrate()
            else:
                store.check()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def engine(self) -> Engine:
        return self.backend.engine

    def close(self) -> None:
        """Close every connection. A closed store opens new ones when it is used again."""
        self.backend.close()

    def check(self) -> None:
        """Raise `StoreUnavailable` or `ConfigurationError` if this code cannot work with the tables as they are."""
        with self.reading() as connection:
            if not migrations.is_current(connection):
                raise StoreUnavailable(
                    f"The tables in {self.backend.address} are missing or out of date: run `spanledger migrate`."
                )

    def migrate(self) -> None:
        """Bring the tables up to date. Any number of processes may do so at once; one of them works."""
        with self.reading() as connection:
            if migrations.is_current(connection):
                return
        with self.backend.migrating() as connection:
            migrations.upgrade(connection)

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction for questions, which sees one state of the database throughout. Bounded in time."""
        return self.backend.reading()

    def pages(self, query: Select[Any], order: Sequence[Column[Any]], size: int) -> Iterator[Sequence[Row[Any]]]:
        """The rows of *query*, *size* at a time, in the *order* of columns that it selects and that are a key together.

        Each page is read in a transaction of its own: nobody waits for somebody who reads everything.
        """
        page_query = query = query.order_by(*order).limit(size)
        while True:
            with self.reading() as connection:
                page = connection.execute(page_query).all()
            if not page:
                return
            yield page
            last = [bindparam(None, page[-1]._mapping[column.name], column.type) for column in order]
            page_query = query.where(tuple_(*order) > tuple_(*last))

    def write(self, batch: Batch) -> Written:
        """Store *batch* durably, with all it changes in rows that already stand, in one transaction.

        Idempotent: a redelivered row changes nothing, and a row's state only moves forward. Rows of something that was
        deleted are left out. A row the database refuses, or that we cannot settle, is rejected alone; its neighbours
        are stored.
        """
        try:
            return Written(self.backend.transact(lambda connection: self._write(connection, batch)))
        except INDIGESTIBLE as refusal:
            rows = [row for _, rows in by_table(batch) for row in rows]
            if len(rows) == 1:
                reason = str(refusal) if isinstance(refusal, StoreRejected) else f"{type(refusal).__name__}: {refusal}"
                return Written(0, [(rows[0].id, reason)])
            half = len(rows) // 2
            first, second = self.write(batch_of(rows[:half])), self.write(batch_of(rows[half:]))
            return Written(first.stored + second.stored, [*first.rejected, *second.rejected])

    def delete_execution(self, execution_id: str, *, actor: str = NOBODY) -> Deleted:
        """Delete a run for good: its rows, its content, and what only they needed. No redelivery brings it back."""
        return Deleted(*self.erase(Subject("execution", execution_id), actor=actor)[:2])

    def erase(self, subject: Subject, *, actor: str = NOBODY) -> Erased:
        """Forget *subject*: its rows, their content, and what was refused of it; written to the audit log.

        Nothing that began before now brings it back, wherever it still waits. Of many runs it takes a transaction for
        each portion; should one fail, do it again.
        """
        total, more = Erased(), True
        while more:
            erased, more = self.backend.transact(partial(self._erase, subject=subject, actor=actor, before=total))
            total = total.plus(erased)
        self.backend.scrub()
        return total

    def count(self, subject: Subject) -> Erased:
        """What `erase` would delete now."""
        with self.reading() as connection:
            return Forgetting(self.backend, connection).count(subject)

    def note(self, actor: str, action: str, object: str, row_count: int | None = None) -> None:
        """Write a deed into the audit log that has no transaction of its own: a purge, an export."""
        entry: dict[str, Any] = {"actor": actor, "action": action, "object": object, "row_count": row_count}
        self.backend.transact(lambda connection: audit.append(self.backend, connection, **entry))

    def purge(
        self,
        older_than: datetime,
        *,
        statuses: Collection[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Deleted:
        """Delete the rows that started before *older_than* (with *statuses*: only those in one of them).

        In portions, each a transaction of its own, with pauses for writers in between. *progress* is called with the
        number of rows gone so far. What only those rows needed, and what the books say of that age, go with them.
        """
        gone = {table.name: 0 for table in ROWS}
        for part in outdated(older_than, statuses):
            for count in self._walk(part):
                if part.table in ROWS:
                    gone[part.table.name] += count
                    if progress is not None and count:
                        progress(sum(gone.values()))
        self.backend.transact(lambda connection: _purge_books(connection, older_than))
        return Deleted(gone[execution_logs.name], gone[llm_call_logs.name])

    def _erase(self, connection: Connection, subject: Subject, actor: str, before: Erased) -> tuple[Erased, bool]:
        return Forgetting(self.backend, connection).erase(subject, actor, before)

    def _write(self, connection: Connection, batch: Batch) -> int:
        forgetting = Forgetting(self.backend, connection)
        any_deleted = connection.scalar(select(exists().select_from(tombstones)))
        if any_deleted:
            batch = forgetting.undeleted(batch)
        traces = {row.trace_id for _, rows in by_table(batch) for row in rows}
        family = read_family(connection, self.backend, traces, batch.llm_calls, batch.contents)
        settlement = settle(batch, family)
        # Which run a row belongs to is known only now; without the rows of a deleted one the rest is settled anew.
        if any_deleted and (dead := forgetting.forgotten(settlement.batch)):
            forgetting.refuse(dead, family.contents)
            batch = without(batch, dead)
            settlement = settle(batch, family)
        apply(self.backend, connection, settlement, family)
        return len(batch.executions) + len(batch.llm_calls) + len(batch.contents)

    def _walk(self, part: Outdated) -> Iterator[int]:
        """Delete *part*; yields how many each portion deleted. Between them other writers have as much time."""
        table, key, reach, doomed = part
        last: Any = None

        def portion(connection: Connection) -> tuple[Any, int]:
            ahead = reach if last is None else and_(reach, key > last)
            end = connection.scalar(select(key).where(ahead).order_by(key).offset(PORTION - 1).limit(1))
            here = ahead if end is None else and_(ahead, key <= end)
            return end, connection.execute(delete(table).where(here, doomed)).rowcount

        while True:
            began = time.monotonic()
            last, count = self.backend.transact(portion)
            yield count
            if last is None:
                return
            time.sleep(time.monotonic() - began)


def _purge_books(connection: Connection, older_than: datetime) -> None:
    for table, moment in BOOKS:
        connection.execute(delete(table).where(table.c[moment] < older_than))
    # Nothing is redelivered for so long, but what lies in an archive can come back whenever somebody restores it.
    archived = exists().where(audit_log.c.action == ARCHIVE)
    connection.execute(delete(tombstones).where(and_(tombstones.c.created_at < older_than, ~archived)))
