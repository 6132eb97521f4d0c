"""How rows look in Parquet files, so that DuckDB, pandas or Spark read them without us.

Times are UTC with microseconds, ids and JSON are text, costs are decimals that say what the row says to the last digit.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Boolean, Column, Double, Integer, Row, Table

from .errors import ConfigurationError
from .schema import Timestamp, metadata

DIGITS: Final = 38
"""Of a decimal: what Parquet's readers agree on."""
PLACES: Final = 28
"""Of them after the point: a price per token times a number of tokens has some fifteen."""
BEYOND: Final = "beyond_decimal"
"""The column for costs a decimal of this size cannot say exactly, as JSON; there they are null in their own column."""
GROUP_BYTES: Final = 8 * 1024 * 1024
"""What is held in memory before it is written as one row group."""
TABLE_KEY: Final = b"spanledger.table"


def write(path: Path, table: Table, pages: Iterable[Sequence[Row[Any]]]) -> None:
    """Write rows of *table* as the file *path*, which appears whole, and on disk, or not at all.

    Raises `OSError`, and `ConfigurationError` where pyarrow is missing.
    """
    arrow, parquet = library()
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "xb", opener=_private) as file:
            with parquet.ParquetWriter(file, _schema(table), compression="zstd") as writer:
                for group in _groups(arrow, table, pages):
                    writer.write_table(group)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def table_of(path: Path) -> Table:
    """Whose rows are in the file. Raises `ConfigurationError` if it is not one of ours, or of a newer version's."""
    arrow, parquet = library()
    try:
        schema = parquet.read_schema(path)
    except (OSError, arrow.ArrowInvalid) as error:
        raise ConfigurationError(f"{path} cannot be read as an archive: {error}.") from None
    table = metadata.tables.get(((schema.metadata or {}).get(TABLE_KEY) or b"").decode())
    if table is None:
        raise ConfigurationError(f"{path} was not written by `spanledger archive`.")
    if unknown := set(schema.names) - {*table.c.keys(), BEYOND}:
        raise ConfigurationError(
            f"{path} was written by a newer spanledger; this one does not know {', '.join(sorted(unknown))}."
        )
    return table


def rows_of(path: Path, portion: int, columns: Sequence[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """A file's rows as the database takes them, a portion at a time; or only some *columns*, none of them a cost."""
    _, parquet = library()
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=portion, columns=columns):
            yield [_restored(row) for row in batch.to_pylist()]


def _restored(row: dict[str, Any]) -> dict[str, Any]:
    beyond = row.pop(BEYOND, None)
    values = {name: float(value) if isinstance(value, Decimal) else value for name, value in row.items()}
    return values | (orjson.loads(beyond) if beyond else {})


def _groups(arrow: Any, table: Table, pages: Iterable[Sequence[Row[Any]]]) -> Iterator[Any]:
    waiting: list[Any] = []
    for page in pages:
        waiting.append(_batch(arrow, table, page))
        if sum(batch.nbytes for batch in waiting) >= GROUP_BYTES:
            yield arrow.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield arrow.Table.from_batches(waiting)


def _batch(arrow: Any, table: Table, page: Sequence[Row[Any]]) -> Any:
    beyond: list[dict[str, float]] = [{} for _ in page]
    columns = dict(zip(table.c.keys(), zip(*page, strict=True), strict=True))
    for name in _money(table):
        exact = [None if cost is None else Decimal(repr(cost)) for cost in columns[name]]
        for cost, others in zip(exact, beyond, strict=True):
            if cost is not None and not _fits(cost):
                others[name] = float(cost)
        columns[name] = tuple(cost if cost is None or _fits(cost) else None for cost in exact)
    if _money(table):
        columns[BEYOND] = tuple(orjson.dumps(others).decode() if others else None for others in beyond)
    return arrow.RecordBatch.from_pydict({name: list(values) for name, values in columns.items()}, _schema(table))


def _schema(table: Table) -> Any:
    arrow, _ = library()
    fields = [arrow.field(column.name, _type(arrow, column), nullable=bool(column.nullable)) for column in table.c]
    if _money(table):
        fields.append(arrow.field(BEYOND, arrow.string()))
    return arrow.schema(fields, {TABLE_KEY: table.name})


def _type(arrow: Any, column: Column[Any]) -> Any:
    match column.type:
        case Timestamp():
            return arrow.timestamp("us", tz="UTC")
        case Double():
            return arrow.decimal128(DIGITS, PLACES)
        case Integer():
            return arrow.int64()
        case Boolean():
            return arrow.bool_()
        case _:
            return arrow.string()


def _money(table: Table) -> list[str]:
    """The columns that are US dollars: no other number of ours has a fraction."""
    return [str(column.name) for column in table.c if isinstance(column.type, Double)]


def _fits(cost: Decimal) -> bool:
    exponent = cost.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -PLACES and cost.adjusted() < DIGITS - PLACES


def library() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``. Raises `ConfigurationError` where they are missing."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigurationError(
            "An archive is made of Parquet files, which takes pyarrow: pip install 'spanledger[archive]'."
        ) from None
    return pyarrow, pyarrow.parquet


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # there are prompts in it


def _sync_folder(folder: Path) -> None:
    """Make the file's new name survive a loss of power, too."""
    if sys.platform == "win32":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
