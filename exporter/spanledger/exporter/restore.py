"""Restoring: puts rows back from the Parquet files of an archive, into this database or any other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, insert, select

from . import parquet
from .applying import ROWS, TABLES, by_table
from .erasure import COLUMNS, Kind
from .errors import ConfigurationError
from .forgetting import PEOPLE, Forgetting, batch_of, without
from .records import Bridge, Content, Execution, LLMCall
from .schema import deliveries, execution_logs, former_charges
from .store import NOBODY, Store

RESTORE: Final = "restore"
PORTION: Final = 200
"""Rows put back in one transaction; one may have a megabyte."""
ORDER: Final = (*TABLES, former_charges, deliveries)
"""Rows before what belongs to them: where a row stays out, so does that."""
RECORDS: Final[Mapping[str, Any]] = dict(
    zip((table.name for table in TABLES), (Execution, LLMCall, Bridge, Content), strict=True)
)
Values = Mapping[str, Any]


class Restored(NamedTuple):
    """*executions* and *llm_calls* were put back; of both, some *standing* were there, *erased* ones stay out."""

    executions: int = 0
    llm_calls: int = 0
    standing: int = 0
    erased: int = 0

    def plus(self, other: "Restored") -> "Restored":
        return Restored(*map(sum, zip(self, other, strict=True)))


def restore(
    store: Store,
    paths: Iterable[Path],
    *,
    actor: str = NOBODY,
    progress: Callable[[int], None] | None = None,
) -> Restored:
    """Put back the rows in *paths*: files that `archive` wrote, or folders of them.

    A row that stands already is left as it is: restoring twice changes nothing. Of several copies of a row the one that
    was archived last is taken. What was erased stays out, whenever that was. *progress* is called with the number of
    rows looked at so far. Raises `ConfigurationError` for what is no archive, or where pyarrow is missing, and
    `StoreUnavailable`; then do it again.
    """
    files = _files(paths)
    runs: dict[Kind, set[str]] = {kind: _runs_of_forgotten(store, files, kind) for kind in PEOPLE}
    total, seen = Restored(), 0
    for path, table in files:
        before = total
        for rows in parquet.rows_of(path, PORTION):
            total = total.plus(
                store.backend.transact(partial(_put_back, store=store, table=table, rows=rows, runs=runs))
            )
            seen += len(rows)
            if progress is not None:
                progress(seen)
        if put := sum(total[:2]) - sum(before[:2]):
            store.note(actor, RESTORE, f"{path.parent.name}/{path.name}", put)
    return total


def _files(paths: Iterable[Path]) -> Sequence[tuple[Path, Table]]:
    """In the order they are restored in, each with whose rows it holds."""
    found: list[tuple[Path, Table]] = []
    for path in paths:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise ConfigurationError(f"There are no Parquet files in {path}.")
        found += ((file, parquet.table_of(file)) for file in files)
    found.sort(key=lambda each: each[0].name, reverse=True)  # names begin with when they were written
    return sorted(found, key=lambda each: ORDER.index(each[1]))


def _runs_of_forgotten(store: Store, files: Sequence[tuple[Path, Table]], kind: Kind) -> set[str]:
    """The runs in which any row, of whatever file, names somebody who was forgotten."""
    columns = ["execution_id", "start_time", COLUMNS[kind]]
    runs: set[str] = set()
    for path, table in files:
        if table in ROWS:
            for rows in parquet.rows_of(path, 10 * PORTION, columns):
                with store.reading() as connection:
                    naming = Forgetting(store.backend, connection).naming(
                        kind, [SimpleNamespace(**row) for row in rows]
                    )
                runs.update(row.execution_id for row in naming)
    return runs


def _put_back(
    connection: Connection, store: Store, table: Table, rows: Sequence[Values], runs: Mapping[Kind, set[str]]
) -> Restored:
    store.backend.lock(connection, {row["trace_id"] for row in rows if "trace_id" in row})
    welcome = _welcome(Forgetting(store.backend, connection), table, rows, runs)
    key = [column.name for column in table.primary_key]
    first = table.c[key[0]]
    here = select(*table.primary_key).where(store.backend.among(first, {row[first.name] for row in welcome}))
    standing = {tuple(row) for row in connection.execute(here)}
    new = [row for row in welcome if tuple(row[name] for name in key) not in standing]
    if new:
        connection.execute(insert(table), new)
    if table not in ROWS:
        return Restored()
    put = Restored(executions=len(new)) if table is execution_logs else Restored(llm_calls=len(new))
    return put._replace(standing=len(welcome) - len(new), erased=len(rows) - len(welcome))


def _welcome(
    forgetting: Forgetting, table: Table, rows: Sequence[Values], runs: Mapping[Kind, set[str]]
) -> Sequence[Values]:
    """Those of *rows* that were not erased."""
    if table is former_charges:
        deleted = forgetting.deleted(row["call_id"] for row in rows)
        return [row for row in rows if row["call_id"] not in deleted]
    if table not in TABLES:
        return rows
    record = RECORDS[table.name]
    batch = forgetting.undeleted(batch_of([record(**{name: row.get(name) for name in record._fields}) for row in rows]))
    if erased := forgetting.forgotten(batch, runs):
        forgetting.refuse(erased, ())
    alive = {row.id for _, rows in by_table(without(batch, erased)) for row in rows}
    return [row for row in rows if row["id"] in alive]
