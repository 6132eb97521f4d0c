"""What agents' processes produced and what became of it, from the book that the drainer keeps."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from spanledger.exporter.schema import deliveries, producers

from ..parameters import Asked

MOST: Final = 100
"""Processes, and minutes of losses, that one answer lists."""


def delivered(connection: Connection, asked: Asked) -> dict[str, Any]:
    """Totals, processes and losses of the segments begun within the window of *asked*."""
    within = _within(asked)
    losses = [
        {"time": row.written_at, "producer": row.producer, "dropped": row.dropped}
        for row in connection.execute(
            select(deliveries.c.written_at, deliveries.c.producer, deliveries.c.dropped)
            .where(within, deliveries.c.dropped.is_not(None))
            .order_by(deliveries.c.written_at.desc(), deliveries.c.segment)
        )
    ]
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for loss in losses:
        dropped[loss["producer"]].update(loss["dropped"])
    processes = [{**row._mapping, "dropped": dropped[row.producer]} for row in _by_process(connection, within)]
    processes.sort(key=lambda each: (-sum(each["dropped"].values()), -each["produced"], each["producer"]))
    return {
        **{name: sum(each[name] for each in processes) for name in ("produced", "stored", "skipped")},
        "dropped": sum(dropped.values(), Counter()),
        "producers": processes[:MOST],
        "total_producers": len(processes),
        "losses": losses[:MOST],
    }


def _by_process(connection: Connection, within: ColumnElement[bool]) -> Iterable[Any]:
    sums = [func.sum(deliveries.c[name]).label(name) for name in ("produced", "stored", "skipped")]
    book = deliveries.outerjoin(producers, producers.c.id == deliveries.c.producer)
    last_seen = func.max(producers.c.last_seen, type_=producers.c.last_seen.type).label("last_seen")
    return connection.execute(
        select(deliveries.c.producer, *sums, last_seen).select_from(book).where(within).group_by(deliveries.c.producer)
    ).all()


def _within(asked: Asked) -> ColumnElement[bool]:
    return and_(deliveries.c.written_at >= asked["start_date"], deliveries.c.written_at <= asked["end_date"])
