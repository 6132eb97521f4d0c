"""Archiving: copies old rows into Parquet files, and deletes the rows once their file is safely on disk.

Whenever it is killed, no row is lost: at worst some are in a file and still in their table, and go with the next
archive, into another file. `restore` takes what was written last.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Row, Table, Text, bindparam, cast, delete, select, true

from . import parquet
from .errors import SpanledgerError
from .outdated import Outdated, outdated
from .schema import Json, deliveries, execution_logs, llm_call_logs
from .store import ARCHIVE, NOBODY, PORTION, Store

PAGE: Final = 200
"""Rows read at a time: one may have a megabyte."""
PAGES: Final = 500
"""Of one file, which so holds 100,000 rows at most."""


class Archived(NamedTuple):
    """How many rows are in *files* now: these, and what they need."""

    executions: int
    llm_calls: int
    files: Sequence[Path]


def archive(
    store: Store,
    folder: Path,
    older_than: datetime,
    *,
    statuses: Collection[str] | None = None,
    keep: bool = False,
    actor: str = NOBODY,
    progress: Callable[[int], None] | None = None,
) -> Archived:
    """Move the rows that started before *older_than* (with *statuses*: only those in one of them) to *folder*.

    A folder in it for each table, files of 100,000 rows at most in each. With *keep* the rows stay as well. Writers go
    on meanwhile; a row that changes after it was copied stays. *progress* is called with the number of rows copied so
    far, of any table. Each file is written to the audit log. Raises `StoreUnavailable`, `ConfigurationError` where
    pyarrow is missing, and `SpanledgerError` if a file cannot be written; what was moved by then is moved.
    """
    counts: Counter[Table] = Counter()
    files: list[Path] = []
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"
    with store.backend.alone(ARCHIVE) as alone:
        if not alone:
            raise SpanledgerError("Another process is archiving rows of this database right now.")
        for part in _parts(older_than, statuses, staying=keep):
            pages = _pages(store, part)
            for number, first in enumerate(pages, 1):
                path = folder / part.table.name / f"{stamp}-{number:04}.parquet"
                before = counts[part.table]
                _write(
                    path, part.table, _counting(counts, part.table, chain([first], islice(pages, PAGES - 1)), progress)
                )
                files.append(path)
                store.note(actor, ARCHIVE, str(path.relative_to(folder)), counts[part.table] - before)
                if not keep:
                    _delete(store, part, path)
    return Archived(counts[execution_logs], counts[llm_call_logs], files)


def _parts(older_than: datetime, statuses: Collection[str] | None, *, staying: bool) -> Iterator[Outdated]:
    yield from outdated(older_than, statuses, staying=staying)
    old = deliveries.c.written_at < older_than
    yield Outdated(deliveries, deliveries.c.written_at, old, true())


def _pages(store: Store, part: Outdated) -> Iterator[Sequence[Row[Any]]]:
    """The rows of *part* in the order of its key."""
    order = [part.key, *(column for column in part.table.primary_key if column is not part.key)]
    # JSON as text: as it stands in SQLite, and without a look into it from PostgreSQL.
    columns = [cast(c, Text).label(c.name) if isinstance(c.type, Json) else c for c in part.table.c]
    return store.pages(select(*columns).where(part.reach, part.doomed), order, PAGE)


def _counting(
    counts: Counter[Table],
    table: Table,
    pages: Iterable[Sequence[Row[Any]]],
    progress: Callable[[int], None] | None,
) -> Iterator[Sequence[Row[Any]]]:
    for page in pages:
        counts[table] += len(page)
        if progress is not None:
            progress(counts.total())
        yield page


def _write(path: Path, table: Table, pages: Iterable[Sequence[Row[Any]]]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parquet.write(path, table, pages)
    except OSError as error:
        raise SpanledgerError(f"The archive cannot be written: {error}.") from error


def _delete(store: Store, part: Outdated, path: Path) -> None:
    """Delete the rows that are in the file, as they are in the file; a portion to a transaction, as `Store.purge`."""
    table = part.table
    own: list[Column[Any]] = [*table.primary_key, *(c for c in table.c if c.name == "updated_at")]
    same = (column == bindparam(f"its_{column.name}", type_=column.type) for column in own)
    statement = delete(table).where(*same, part.reach, part.doomed)
    for rows in parquet.rows_of(path, PORTION, [column.name for column in own]):
        began = time.monotonic()
        its = [{f"its_{name}": value for name, value in row.items()} for row in rows]
        store.backend.transact(lambda connection, its=its: connection.execute(statement, its))  # type: ignore[misc]
        time.sleep(time.monotonic() - began)
