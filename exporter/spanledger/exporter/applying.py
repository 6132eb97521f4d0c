"""Brings a settlement into the tables."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from sqlalchemy import Connection, Table, bindparam, delete, or_, select, update

from .backends import Backend
from .backends.base import Record
from .nodes import CallNode, Change, ExecutionNode, Family, Settlement
from .records import Batch
from .schema import Now, bridge_spans, content_events, execution_logs, llm_call_logs, metadata

ROWS: Final = (execution_logs, llm_call_logs)
TABLES: Final = (*ROWS, bridge_spans, content_events)
"""In the order of `Batch`."""


def apply(backend: Backend, connection: Connection, settlement: Settlement, family: Family) -> None:
    """Write the rows of *settlement*, and what they change in those of *family*, which stand already."""
    nodes: Iterable[ExecutionNode | CallNode] = chain(family.executions, family.llm_calls)
    standing = {node.id for node in nodes}
    for table, rows in by_table(settlement.batch):
        if distinct := {row.id: row for row in rows}:
            # In the order of their ids, so that two writers never wait for each other.
            ordered = sorted(distinct.values(), key=attrgetter("id"))
            backend.upsert(connection, table, ordered, standing if table in ROWS else distinct.keys())
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
        retracted = backend.among(llm_call_logs.c.id, settlement.retracted)
        connection.execute(delete(llm_call_logs).where(retracted))


def by_table(batch: Batch) -> Sequence[tuple[Table, Sequence[Record]]]:
    return list(zip(TABLES, batch, strict=True))


def _alike(changes: Iterable[Change]) -> dict[tuple[str, Sequence[str]], list[Change]]:
    """Changes of the same columns of one table together, each group in the order of ids: one statement updates it."""
    groups: dict[tuple[str, Sequence[str]], list[Change]] = defaultdict(list)
    for change in sorted(changes, key=attrgetter("id")):
        groups[change.table, tuple(sorted(change.values))].append(change)
    return groups
