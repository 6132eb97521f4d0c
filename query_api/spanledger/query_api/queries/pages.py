"""Pages that stay in place while rows arrive: keyset order over (start_time, id), and the cursor that continues it.

A cursor is opaque to clients: base64url of the JSON list ``[sort, key values…]`` of the page's last row.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Column, ColumnElement, Double, Integer, Row, Select, Table, func, literal, select, tuple_

from spanledger.exporter.errors import BadParameter
from spanledger.exporter.schema import Identifier, Timestamp

from ..parameters import FILTERS, MAX_INTEGER, Asked
from .conditions import through_the_other

BODIES: Final = frozenset({"prompt", "response", "input_data", "output_data"})
"""Columns that lists leave out unless they are asked for."""

UNKNOWN: Final = -1
"""Stands for NULL in a keyset: what is unknown counts as smaller than any value."""


class Order(NamedTuple):
    """The keyset of a sort: all of its columns in the same direction, the last one unique."""

    columns: tuple[Column[Any], ...]
    descending: bool

    def keys(self) -> list[ColumnElement[Any]]:
        return [func.coalesce(c, literal(UNKNOWN, c.type)) if c.nullable else c for c in self.columns]

    def key_of(self, row: Row[Any]) -> list[Any]:
        values = [row._mapping[column.name] for column in self.columns]
        return [UNKNOWN if value is None else value for value in values]


def order(table: Table, sort: str) -> Order:
    """The keyset of a value of the ``sort`` parameter."""
    name = sort.removeprefix("-")
    leading = () if name == "start_time" else (table.c[name],)
    return Order((*leading, table.c.start_time, table.c.id), descending=sort.startswith("-"))


def narrowed(table: Table, asked: Asked) -> list[ColumnElement[bool]]:
    """The conditions of every filter in *asked*, on the rows of *table*."""
    conditions = []
    for wanted in FILTERS:
        if wanted.name not in asked:
            continue
        values = asked[wanted.name] if wanted.repeatable else (asked[wanted.name],)
        if table in wanted.tables:
            conditions.append(wanted.condition(table, values))
        else:
            conditions.append(through_the_other(wanted.condition, table, values))
    return conditions


def columns(table: Table, *, content: bool) -> list[Column[Any]]:
    return [column for column in table.c if content or column.name not in BODIES]


def page(table: Table, asked: Asked) -> Select[Any]:
    """One row more than ``limit``: the last tells whether there is a next page.

    Raises `BadParameter` when the cursor was not made by us for this sort, or comes with an offset.
    """
    by = order(table, asked["sort"])
    keys = by.keys()
    query = select(*columns(table, content=asked["include_content"])).where(*narrowed(table, asked))
    if cursor := asked.get("cursor"):
        if asked["offset"]:
            raise BadParameter("offset", "offset and cursor were both given; cursor alone continues a list.")
        after = tuple_(
            *(
                literal(value, c.type)
                for value, c in zip(read_cursor(cursor, asked["sort"], by), by.columns, strict=True)
            )
        )
        query = query.where(tuple_(*keys) < after if by.descending else tuple_(*keys) > after)
    return (
        query.order_by(*(key.desc() if by.descending else key.asc() for key in keys))
        .limit(asked["limit"] + 1)
        .offset(asked["offset"])
    )


def total(table: Table, asked: Asked) -> Select[int]:
    """How many rows the filters leave, on all pages together."""
    return select(func.count()).select_from(table).where(*narrowed(table, asked))


def write_cursor(sort: str, by: Order, row: Row[Any]) -> str:
    return urlsafe_b64encode(orjson.dumps([sort, *by.key_of(row)])).decode().rstrip("=")


def read_cursor(cursor: str, sort: str, by: Order) -> list[Any]:
    """The key values of a cursor; raises `BadParameter` for one that is forged or belongs to another sort."""
    try:
        made_for, *values = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for == sort:
            return [READ_KEY[type(c.type)](value) for value, c in zip(values, by.columns, strict=True)]
    except (ValueError, TypeError, AttributeError, OverflowError):
        pass
    raise BadParameter("cursor", f"cursor is not a next_cursor of this list sorted by {sort}; start again without it.")


def _integer(value: Any) -> int:
    if not isinstance(value, int) or not UNKNOWN <= value <= MAX_INTEGER:
        raise ValueError
    return value


READ_KEY: Final[dict[type, Callable[[Any], Any]]] = {
    Timestamp: lambda value: datetime.fromisoformat(value).astimezone(UTC),
    Identifier: lambda value: str(UUID(value)),
    Integer: _integer,
    Double: float,
}
"""How the key of a column type is read back; anything else would reach the database as an error of its own."""
