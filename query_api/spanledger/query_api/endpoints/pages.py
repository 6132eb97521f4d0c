"""One page of a list: its rows, the true total, and the cursor that continues it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, Table

from ..parameters import Asked
from ..queries.pages import order, page, total, write_cursor

MOST_TEXT: Final = 8 * 1024 * 1024
"""Characters in the rows of one table in one answer: a row alone may have a million."""
AT_ONCE: Final = 50
"""Rows that are read from the database ahead of the count."""


class Page(NamedTuple):
    """*numbers* stand beside the rows in every list's answer."""

    rows: Sequence[Row[Any]]
    numbers: Mapping[str, Any]


def fetch(connection: Connection, table: Table, asked: Asked) -> Page:
    """Two statements in one snapshot: the rows and the total cannot contradict each other."""
    limit: int = asked["limit"]
    sort: str = asked["sort"]
    found, more = read(connection, page(table, asked), limit)
    numbers = {
        "total_count": connection.execute(total(table, asked)).scalar_one(),
        "limit": limit,
        "offset": asked["offset"],
        "next_cursor": write_cursor(sort, order(table, sort), found[-1]) if more else None,
    }
    return Page(found, numbers)


def read(connection: Connection, query: Select[Any], most: int) -> tuple[list[Row[Any]], bool]:
    """The first *most* rows of *query*, or fewer if their text is long, but one; and whether there are more."""
    found: list[Row[Any]] = []
    text = 0
    with connection.execute(query, execution_options={"yield_per": AT_ONCE}) as rows:
        for row in rows:
            text += sum(len(value) for value in row if type(value) is str)
            if len(found) == most or (found and text > MOST_TEXT):
                return found, True
            found.append(row)
    return found, False
