"""`Forgetting`: what is deleted for good, and how it is known again when it is redelivered.

A tombstone says what may not come back: a row, a run, or what a user or a session did until then.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, and_, delete, func, insert, select, union

from . import audit
from .applying import ROWS, TABLES, apply, by_table
from .backends import Backend
from .backends.base import Record
from .erasure import COLUMNS, EXECUTION, Erased, Kind, Subject, hidden
from .family import read_family
from .lineage import settle
from .nodes import Family
from .records import Batch, Bridge, Content, Execution, LLMCall
from .schema import content_events, dead_letters, former_charges, open_rows, tombstones
from .spans import row_id_of

R = TypeVar("R", bound=Any)

ROW: Final = "row"
"""A kind of tombstone besides those of `Subject`: *value* is the id of a row, or of its span."""

RUNS: Final = 100
"""Runs that are erased in one transaction."""
PEOPLE: Final[Sequence[Kind]] = ("user", "session")
NOWHERE: Final[Mapping[Kind, Collection[str]]] = MappingProxyType({})
NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Forgetting:
    """Within one transaction of one database."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self._backend = backend
        self._connection = connection

    def count(self, subject: Subject) -> Erased:
        """What erasing *subject* would delete."""
        rows = []
        for table in ROWS:
            its = and_(table.c.execution_id.in_(subject.runs()), subject.owns(table))
            rows.append(self._connection.scalar(select(func.count()).select_from(table).where(its)) or 0)
        its_own = (
            select(table.c.trace_id, table.c.span_id).where(
                table.c.execution_id.in_(subject.runs()), subject.owns(table)
            )
            for table in ROWS
        )
        spans = union(*its_own).subquery()
        about = and_(*(content_events.c[name] == spans.c[name] for name in ("trace_id", "span_id")))
        contents = self._connection.scalar(select(func.count()).select_from(content_events.join(spans, about))) or 0
        return Erased(rows[0], rows[1], contents, len(self._letters(subject)))

    def erase(self, subject: Subject, actor: str, before: Erased) -> tuple[Erased, bool]:
        """Erase a portion of *subject*; whether there is more."""
        self._backend.lock(self._connection, (), alone=True)
        runs = list(self._connection.scalars(subject.runs().limit(RUNS)))
        traces: set[str] = set()
        doomed: list[set[str]] = []
        for table in ROWS:
            its = and_(self._backend.among(table.c.execution_id, runs), subject.owns(table))
            found = self._connection.execute(select(table.c.id, table.c.trace_id).where(its)).all()
            doomed.append({row.id for row in found})
            traces.update(row.trace_id for row in found)
        erased = self._remove(doomed, traces, runs)
        letters = self._letters(subject)
        self._connection.execute(delete(dead_letters).where(self._backend.among(dead_letters.c.id, letters)))
        erased = erased._replace(dead_letters=len(letters))
        if any(erased) or subject.kind != EXECUTION:
            self._bury(subject.kind, [subject.buried_as])
            if any(erased) or not any(before):
                audit.append(
                    self._backend,
                    self._connection,
                    actor=actor,
                    action="erase",
                    object=f"{subject.kind} {subject.buried_as}",
                    row_count=sum(erased),
                )
        return erased, len(runs) == RUNS

    def _remove(self, doomed: Sequence[set[str]], traces: Collection[str], runs: Collection[str]) -> Erased:
        """Delete rows, what only they needed, and what was said about them; settle what stays of their *traces*."""
        executions, calls = doomed
        if not traces:
            return Erased()
        family = read_family(self._connection, self._backend, traces, ())
        kept = Family(
            [node for node in family.executions if node.id not in executions],
            [node for node in family.llm_calls if node.id not in calls],
        )
        alive = {node.trace_id for nodes in (kept.executions, kept.llm_calls) for node in nodes}
        kept = kept._replace(
            bridges=[bridge for bridge in family.bridges if bridge.trace_id in alive],
            contents=[c for c in family.contents if c.trace_id in alive and span_row(c) not in executions | calls],
        )
        bridges = {bridge.id for bridge in family.bridges} - {bridge.id for bridge in kept.bridges}
        contents = {content.id for content in family.contents} - {content.id for content in kept.contents}
        for table, ids in zip(TABLES, (executions, calls, bridges, contents), strict=True):
            self._connection.execute(delete(table).where(self._backend.among(table.c.id, ids)))
        self._connection.execute(delete(former_charges).where(self._backend.among(former_charges.c.call_id, calls)))
        self._connection.execute(delete(open_rows).where(self._backend.among(open_rows.c.row_id, executions | calls)))
        self._bury(ROW, executions | calls | bridges)
        shared = {node.execution_id for nodes in (kept.executions, kept.llm_calls) for node in nodes}
        self._bury(EXECUTION, set(runs) - shared)
        # A call that was the duplicate of a deleted one counts again.
        apply(self._backend, self._connection, settle(Batch(), kept), kept)
        return Erased(len(executions), len(calls), len(contents))

    def _letters(self, subject: Subject) -> list[str]:
        """The ids of refused spans that speak of *subject*."""
        found = select(dead_letters.c.id, dead_letters.c.body).where(subject.may_be_in_a_letter())
        return [row.id for row in self._connection.execute(found) if subject.is_in(row.body)]

    def _bury(self, kind: str, values: Collection[str]) -> None:
        if values:
            same = and_(tombstones.c.kind == kind, self._backend.among(tombstones.c.value, values))
            self._connection.execute(delete(tombstones).where(same))
            self._connection.execute(insert(tombstones), [{"kind": kind, "value": value} for value in sorted(values)])

    def undeleted(self, batch: Batch) -> Batch:
        """*batch* without the rows that were deleted, and without the contents and bridges of their spans."""
        deleted = self.deleted(span_row(row) for _, rows in by_table(batch) for row in rows)
        return without(batch, deleted) if deleted else batch

    def deleted(self, span_rows: Iterable[str]) -> set[str]:
        """Those of the rows with these ids that were deleted."""
        return self._buried(ROW, span_rows)

    def forgotten(self, batch: Batch, elsewhere: Mapping[Kind, Collection[str]] = NOWHERE) -> set[str]:
        """The ids of rows, as settled, of runs, users and sessions that were forgotten.

        Of a user or session what began later is news: it stays. *elsewhere*: runs in which other rows name one.
        """
        rows = list(runs_of(batch))
        dead = self._buried(EXECUTION, {row.execution_id for row in rows})
        gone = {row.id for row in rows if row.execution_id in dead}
        for kind in PEOPLE:
            its = self.naming(kind, rows)
            runs = {row.execution_id for row in its}.union(elsewhere.get(kind, ()))
            gone |= {row.id for row in its}
            gone |= {row.id for row in rows if getattr(row, COLUMNS[kind]) is None and row.execution_id in runs}
        return gone

    def naming(self, kind: Kind, rows: Iterable[R]) -> list[R]:
        """Those of *rows* that name a user (or session) who was forgotten after they began."""
        named = [(row, hidden(kind, value)) for row in rows if (value := getattr(row, COLUMNS[kind])) is not None]
        since = self._buried_since(kind, {value for _, value in named})
        return [row for row, value in named if row.start_time <= since.get(value, NEVER)]

    def refuse(self, span_rows: Collection[str], contents: Iterable[Content]) -> None:
        """Let these rows never come, and drop those of *contents* that came before them."""
        ids = [content.id for content in contents if span_row(content) in span_rows]
        self._connection.execute(delete(content_events).where(self._backend.among(content_events.c.id, ids)))
        self._bury(ROW, span_rows)

    def _buried_since(self, kind: str, values: Collection[str]) -> dict[str, datetime]:
        if not values:
            return {}
        columns = (tombstones.c.value, tombstones.c.created_at)
        found = select(*columns).where(tombstones.c.kind == kind, self._backend.among(tombstones.c.value, values))
        return {row.value: row.created_at for row in self._connection.execute(found)}

    def _buried(self, kind: str, values: Iterable[str]) -> set[str]:
        """Those of *values* that were deleted."""
        column = tombstones.c.value
        found = select(column).where(tombstones.c.kind == kind, self._backend.among(column, values))
        return set(self._connection.scalars(found))


def runs_of(batch: Batch) -> Iterator[Execution | LLMCall]:
    return chain(batch.executions, batch.llm_calls)


def span_row(row: Record) -> str:
    """The id that the row of the span which *row* is about has, or would have."""
    return row_id_of(row.trace_id, row.span_id) if isinstance(row, Content) else row.id


def without(batch: Batch, span_rows: Collection[str]) -> Batch:
    """*batch* without what is about the spans whose rows have these ids."""
    return batch_of([row for _, rows in by_table(batch) for row in rows if span_row(row) not in span_rows])


def batch_of(rows: Sequence[Record]) -> Batch:
    return Batch(
        [row for row in rows if isinstance(row, Execution)],
        [row for row in rows if isinstance(row, LLMCall)],
        [row for row in rows if isinstance(row, Bridge)],
        [row for row in rows if isinstance(row, Content)],
    )
