"""`Custody`: the drainer's book: what each segment delivered, what is still running, who has died, what was refused."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, Update, bindparam, delete, exists, insert, or_, select, update

from .losses import Loss
from .records import ABANDONED, CANCELLED, STARTED, DeadLetter, Handover
from .schema import Now, dead_letters, deliveries, execution_logs, llm_call_logs, open_rows, producers
from .store import Store
from .values import MAX_INT, json_text, moment

SILENCE: Final = timedelta(seconds=90)
"""How long another host's drainer may be silent before its running rows are given up."""
DIED: Final = "the process that ran it died"
LOST: Final = ".lost"
PORTION: Final = 1000
"""Rows given up in one transaction. A process may have had any number running, and a transaction has a deadline."""


class Custody:
    """The book of one spool folder (*host*) in the database its spans go to. For one drainer at a time."""

    def __init__(self, store: Store, host: str = "") -> None:
        self._store = store
        self._host = host

    def enter(self, handovers: Sequence[Handover]) -> None:
        """Write down what became of some segments, whose rows are already committed. Idempotent."""
        self._store.backend.transact(lambda connection: self._enter(connection, handovers))

    def attend(self, is_alive: Callable[[str], bool], losses: Sequence[Loss] = ()) -> int:
        """Say that this host's running processes are alive, and cancel what dead ones left running: how many rows.

        *is_alive* answers for producers of this host. Others are given up after `SILENCE`, by the database's clock.
        *losses* replace what was written down for the same producers and minutes. While nothing runs and nothing is
        lost, this only looks.
        """
        with self._store.reading() as connection:
            nothing_runs = connection.execute(select(open_rows.c.row_id).limit(1)).first() is None
        if nothing_runs and not losses:
            return 0
        cancelled, portion = 0, PORTION
        while portion == PORTION:
            portion = self._store.backend.transact(lambda connection: self._attend(connection, is_alive, losses))
            cancelled += portion
        return cancelled

    def dead_letters(self) -> Sequence[DeadLetter]:
        """All of them, the latest first."""
        columns = [dead_letters.c[name] for name in DeadLetter._fields]
        with self._store.reading() as connection:
            found = connection.execute(select(*columns).order_by(dead_letters.c.created_at.desc(), dead_letters.c.id))
            return [DeadLetter(*row) for row in found]

    def forget(self, letters: Collection[str]) -> None:
        """Remove dead letters, by their ids."""
        among = self._store.backend.among(dead_letters.c.id, letters)
        self._store.backend.transact(lambda connection: connection.execute(delete(dead_letters).where(among)))

    def _enter(self, connection: Connection, handovers: Sequence[Handover]) -> None:
        names = {handover.producer for handover in handovers}
        known = set(connection.scalars(select(producers.c.id).where(producers.c.id.in_(names))))
        _insert(connection, producers, [{"id": name, "host": self._host} for name in sorted(names - known)])
        _replace(connection, deliveries.c.segment, [_delivery(*handover[:7]) for handover in handovers])
        opened = {row_id: h.producer for h in handovers for row_id in h.opened}
        _replace(connection, open_rows.c.row_id, [{"row_id": id, "producer": name} for id, name in opened.items()])
        letters = {letter.id: letter for h in handovers for letter in h.dead}
        _replace(connection, dead_letters.c.id, [letter._asdict() for letter in letters.values()])

    def _attend(self, connection: Connection, is_alive: Callable[[str], bool], losses: Sequence[Loss]) -> int:
        _replace(connection, deliveries.c.segment, [_lost(loss) for loss in losses])
        _forget_ended(connection)
        running = connection.execute(
            select(producers.c.id, producers.c.host, producers.c.last_seen).where(
                exists().where(open_rows.c.producer == producers.c.id)
            )
        ).all()
        if not running:
            return 0
        now = connection.execute(select(Now())).scalar_one()
        alive, dead = [], {}
        for name, host, last_seen in running:
            if host == self._host and is_alive(name):
                alive.append(name)
            elif host == self._host or last_seen < now - SILENCE:
                dead[name] = last_seen
        connection.execute(update(producers).where(producers.c.id.in_(alive)).values(last_seen=Now()))
        return self._abandon(connection, dead)

    def _abandon(self, connection: Connection, dead: Mapping[str, datetime]) -> int:
        """Cancel what the *dead* left running, a portion of it, as of when each was last seen: how many rows it had.

        A late end still replaces what is cancelled.
        """
        among = self._store.backend.among
        left = connection.execute(
            select(open_rows.c.row_id, open_rows.c.producer)
            .where(among(open_rows.c.producer, dead))
            .order_by(open_rows.c.row_id)
            .limit(PORTION)
        ).all()
        last_seen = {row_id: dead[producer] for row_id, producer in left}
        tables = [(table, among(table.c.id, last_seen)) for table in (execution_logs, llm_call_logs)]
        traces = {trace for table, rows in tables for trace in connection.scalars(select(table.c.trace_id).where(rows))}
        self._store.backend.lock(connection, traces)  # like everyone who writes rows that others may be reading
        for table, rows in tables:
            started = select(table.c.id, table.c.start_time).where(rows, table.c.status == STARTED)
            if values := [_cancelled(id, start, last_seen[id]) for id, start in connection.execute(started)]:
                connection.execute(_cancelling(table), values)
        connection.execute(delete(open_rows).where(among(open_rows.c.row_id, last_seen)))
        return len(left)


def _delivery(
    segment: str,
    producer: str,
    written_at: datetime,
    produced: int,
    stored: int,
    skipped: int,
    dropped: Mapping[str, int],
) -> dict[str, Any]:
    return {
        "segment": segment,
        "producer": producer,
        "written_at": written_at,
        "produced": produced,
        "stored": stored,
        "skipped": skipped,
        "dropped": json_text(dropped) if dropped else None,
    }


def _lost(loss: Loss) -> dict[str, Any]:
    """Spans that never reached a segment, as a delivery of none."""
    name = f"{loss.since:020d}-{loss.producer}{LOST}"
    return _delivery(name, loss.producer, moment(loss.since), sum(loss.counts.values()), 0, 0, loss.counts)


def _cancelling(table: Table) -> Update:
    return (
        update(table)
        .where(table.c.id == bindparam("row"), table.c.status == STARTED)
        .values(
            status=CANCELLED,
            error_type=ABANDONED,
            error_message=DIED,
            end_time=bindparam("end"),
            duration_ms=bindparam("duration"),
            updated_at=Now(),
        )
    )


def _cancelled(row: str, start: datetime, last_seen: datetime) -> Mapping[str, Any]:
    end = max(start, last_seen)
    return {"row": row, "end": end, "duration": min((end - start) // timedelta(milliseconds=1), MAX_INT)}


def _forget_ended(connection: Connection) -> None:
    still_running = or_(
        *(
            exists().where(table.c.id == open_rows.c.row_id, table.c.status == STARTED)
            for table in (execution_logs, llm_call_logs)
        )
    )
    connection.execute(delete(open_rows).where(~still_running))


def _replace(connection: Connection, key: Column[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert *rows* in place of those with their keys: the same again, after a crash, changes nothing."""
    if rows:
        connection.execute(delete(key.table).where(key.in_([row[key.name] for row in rows])))
        _insert(connection, key.table, rows)


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    if rows := list(rows):
        connection.execute(insert(table), rows)
