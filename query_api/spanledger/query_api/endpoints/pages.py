"""One page of a list: its rows, the true total, and the cursor that continues it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table

from ..parameters import Asked
from ..queries.pages import order, page, total, write_cursor


class Page(NamedTuple):
    """*numbers* stand beside the rows in every list's answer."""

    rows: Sequence[Row[Any]]
    numbers: Mapping[str, Any]


def fetch(connection: Connection, table: Table, asked: Asked) -> Page:
    """Two statements in one snapshot: the rows and the total cannot contradict each other."""
    found = connection.execute(page(table, asked)).all()
    limit: int = asked["limit"]
    sort: str = asked["sort"]
    more = len(found) > limit
    numbers = {
        "total_count": connection.execute(total(table, asked)).scalar_one(),
        "limit": limit,
        "offset": asked["offset"],
        "next_cursor": write_cursor(sort, order(table, sort), found[limit - 1]) if more else None,
    }
    return Page(found[:limit], numbers)
