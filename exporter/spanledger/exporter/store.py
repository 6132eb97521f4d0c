"""`Store`: keeps rows in a database, gives them back, and forgets them when asked to."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    true,
    update,
)

from . import migrations
from .backends import Backend, backend_of
from .backends.base import Record
from .errors import StoreRejected, StoreUnavailable
from .family import read_family
from .lineage import settle
from .nodes import CallNode, Change, ExecutionNode, Family, Settlement
from .records import Batch, Bridge, Content, Execution, LLMCall
from .schema import (
    Now,
    bridge_spans,
    content_events,
    execution_logs,
    former_charges,
    llm_call_logs,
    metadata,
    tombstones,
)
from .spans import row_id_of

ROWS: Final = (execution_logs, llm_call_logs)
TABLES: Final = (*ROWS, bridge_spans, content_events)
"""In the order of `Batch`."""

ROW: Final = "row"
EXECUTION: Final = "execution"
"""Kinds of tombstones: *value* is the id of a row (or of its span), or an execution id."""

LEFT_OVERS: Final = (
    (bridge_spans, "start_time", ("trace_id",)),
    (content_events, "time", ("trace_id", "span_id")),
)
"""Tables of what other rows need: their time, and the columns they share with whom they are for."""

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

    def write(self, batch: Batch) -> Written:
        """Store *batch* durably, with all it changes in rows that already stand, in one transaction.

        Idempotent: a redelivered row changes nothing, and a row's state only moves forward. Rows of something that was
        deleted are left out. A row the database refuses, or that we cannot settle, is rejected alone; its neighbours
        are stored.
        """
        try:
            return Written(self.backend.transact(lambda connection: self._write(connection, batch)))
        except INDIGESTIBLE as refusal:
            rows = [row for _, rows in _by_table(batch) for row in rows]
            if len(rows) == 1:
                reason = str(refusal) if isinstance(refusal, StoreRejected) else f"{type(refusal).__name__}: {refusal}"
                return Written(0, [(rows[0].id, reason)])
            half = len(rows) // 2
            first, second = self.write(_of(rows[:half])), self.write(_of(rows[half:]))
            return Written(first.stored + second.stored, [*first.rejected, *second.rejected])

    def delete_execution(self, execution_id: str) -> Deleted:
        """Delete a run for good: its rows, its content, and what only they needed. No redelivery brings it back."""
        return self.backend.transact(lambda connection: self._delete(connection, execution_id))

    def purge(
        self,
        older_than: datetime,
        *,
        statuses: Collection[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Deleted:
        """Delete the rows that started before *older_than* (with *statuses*: only those in one of them).

        In portions, each a transaction of its own, with pauses for writers in between. *progress* is called with the
        number of rows gone so far. What only those rows needed, and tombstones of that age, go with them.
        """
        gone = {table.name: 0 for table in ROWS}
        for table in ROWS:
            old = table.c.start_time < older_than
            doomed = true() if statuses is None else table.c.status.in_(statuses)
            for count in self._walk(table, table.c.start_time, old, doomed):
                gone[table.name] += count
                if progress is not None and count:
                    progress(sum(gone.values()))
        for table, moment, whose in LEFT_OVERS:
            nobody_s = and_(*(~exists().where(*(rows.c[name] == table.c[name] for name in whose)) for rows in ROWS))
            for _ in self._walk(table, table.c.id, true(), and_(table.c[moment] < older_than, nobody_s)):
                pass
        charged = former_charges.c.call_id
        for _ in self._walk(former_charges, charged, true(), ~exists().where(llm_call_logs.c.id == charged)):
            pass
        self.backend.transact(lambda c: c.execute(delete(tombstones).where(tombstones.c.created_at < older_than)))
        return Deleted(gone[execution_logs.name], gone[llm_call_logs.name])

    def _write(self, connection: Connection, batch: Batch) -> int:
        any_deleted = connection.scalar(select(exists().select_from(tombstones)))
        if any_deleted:
            batch = self._undeleted(connection, batch)
        traces = {row.trace_id for _, rows in _by_table(batch) for row in rows}
        family = read_family(connection, self.backend, traces, batch.llm_calls, batch.contents)
        settlement = settle(batch, family)
        # Which run a row belongs to is known only now; without the rows of a deleted one the rest is settled anew.
        if any_deleted:
            dead = self._tombstones(connection, EXECUTION, {row.execution_id for row in _runs(settlement.batch)})
            batch = _without(batch, {row.id for row in _runs(settlement.batch) if row.execution_id in dead})
            settlement = settle(batch, family) if dead else settlement
        self._apply(connection, settlement, family)
        return len(batch.executions) + len(batch.llm_calls) + len(batch.contents)

    def _undeleted(self, connection: Connection, batch: Batch) -> Batch:
        """*batch* without the rows that were deleted, and without the contents and bridges of their spans."""
        deleted = self._tombstones(connection, ROW, (_span_row(row) for _, rows in _by_table(batch) for row in rows))
        return _without(batch, deleted) if deleted else batch

    def _tombstones(self, connection: Connection, kind: str, values: Iterable[str]) -> set[str]:
        """Those of *values* that were deleted."""
        column = tombstones.c.value
        found = select(column).where(tombstones.c.kind == kind, self.backend.among(column, values))
        return set(connection.scalars(found))

    def _apply(self, connection: Connection, settlement: Settlement, family: Family) -> None:
        nodes: Iterable[ExecutionNode | CallNode] = chain(family.executions, family.llm_calls)
        standing = {node.id for node in nodes}
        for table, rows in _by_table(settlement.batch):
            if distinct := {row.id: row for row in rows}:
                # In the order of their ids, so that two writers never wait for each other.
                ordered = sorted(distinct.values(), key=attrgetter("id"))
                self.backend.upsert(connection, table, ordered, standing if table in ROWS else distinct.keys())
        for (name, columns), changes in _alike(settlement.changes).items():
            table = metadata.tables[name]
            new = {column: bindparam(f"new_{column}", type_=table.c[column].type) for column in columns}
            differs = or_(*(table.c[column].is_distinct_from(value) for column, value in new.items()))
            statement = update(table).where(table.c.id == bindparam("row"), differs).values(new | {"updated_at": Now()})
            values = [{"row": c.id} | {f"new_{name}": value for name, value in c.values.items()} for c in changes]
            connection.execute(statement, values)
        for loan in settlement.loans:
            lender = llm_call_logs.alias("lender")
            lent = select(lender.c[loan.column]).where(lender.c.id == loan.lender).scalar_subquery()
            borrower = update(llm_call_logs).where(llm_call_logs.c.id == loan.borrower)
            connection.execute(borrower.values({loan.column: lent, "updated_at": Now()}))
        if settlement.retracted:
            retracted = self.backend.among(llm_call_logs.c.id, settlement.retracted)
            connection.execute(delete(llm_call_logs).where(retracted))

    def _delete(self, connection: Connection, execution_id: str) -> Deleted:
        self.backend.lock(connection, (), alone=True)
        traces: set[str] = set()
        for table in ROWS:
            traces.update(connection.scalars(select(table.c.trace_id).where(table.c.execution_id == execution_id)))
        if not traces:
            return Deleted(0, 0)
        family = read_family(connection, self.backend, traces, ())
        kept = Family(
            [node for node in family.executions if node.execution_id != execution_id],
            [node for node in family.llm_calls if node.execution_id != execution_id],
        )
        executions = {node.id for node in family.executions} - {node.id for node in kept.executions}
        calls = {node.id for node in family.llm_calls} - {node.id for node in kept.llm_calls}
        alive = {node.trace_id for nodes in (kept.executions, kept.llm_calls) for node in nodes}
        kept = kept._replace(
            bridges=[bridge for bridge in family.bridges if bridge.trace_id in alive],
            contents=[c for c in family.contents if c.trace_id in alive and _span_row(c) not in executions | calls],
        )
        bridges = {bridge.id for bridge in family.bridges} - {bridge.id for bridge in kept.bridges}
        contents = {content.id for content in family.contents} - {content.id for content in kept.contents}
        for table, ids in zip(TABLES, (executions, calls, bridges, contents), strict=True):
            connection.execute(delete(table).where(self.backend.among(table.c.id, ids)))
        connection.execute(delete(former_charges).where(self.backend.among(former_charges.c.call_id, calls)))
        buried = [(EXECUTION, execution_id), *((ROW, id) for id in sorted(executions | calls | bridges))]
        connection.execute(insert(tombstones), [{"kind": kind, "value": value} for kind, value in buried])
        # A call that was the duplicate of a deleted one counts again.
        self._apply(connection, settle(Batch(), kept), kept)
        return Deleted(len(executions), len(calls))

    def _walk(
        self, table: Table, key: ColumnElement[Any], reach: ColumnElement[bool], doomed: ColumnElement[bool]
    ) -> Iterator[int]:
        """Go through the rows within *reach* in the order of *key*, an index, and delete the *doomed* among them.

        Yields how many each portion deleted. Between portions other writers have as much time as each took.
        """
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


def _by_table(batch: Batch) -> Sequence[tuple[Table, Sequence[Record]]]:
    return list(zip(TABLES, batch, strict=True))


def _of(rows: Sequence[Record]) -> Batch:
    return Batch(
        [row for row in rows if isinstance(row, Execution)],
        [row for row in rows if isinstance(row, LLMCall)],
        [row for row in rows if isinstance(row, Bridge)],
        [row for row in rows if isinstance(row, Content)],
    )


def _runs(batch: Batch) -> Iterator[Execution | LLMCall]:
    return chain(batch.executions, batch.llm_calls)


def _span_row(row: Record) -> str:
    """The id that the row of the span which *row* is about has, or would have."""
    return row_id_of(row.trace_id, row.span_id) if isinstance(row, Content) else row.id


def _without(batch: Batch, span_rows: Collection[str]) -> Batch:
    """*batch* without what is about the spans whose rows have these ids."""
    return _of([row for _, rows in _by_table(batch) for row in rows if _span_row(row) not in span_rows])


def _alike(changes: Iterable[Change]) -> dict[tuple[str, Sequence[str]], list[Change]]:
    """Changes of the same columns of one table together, each group in the order of ids: one statement updates it."""
    groups: dict[tuple[str, Sequence[str]], list[Change]] = defaultdict(list)
    for change in sorted(changes, key=attrgetter("id")):
        groups[change.table, tuple(sorted(change.values))].append(change)
    return groups
