"""The audit log: who did what to the books, when, and to how many rows.

Entries are only ever appended, in the transaction of the deed itself: neither can exist without the other. The digest
of each covers the entry before it, so that one changed, removed or slipped in breaks the chain from there on. What a
chain cannot show is that its end was cut off: keep the newest digest elsewhere to know that, too.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import orjson
from sqlalchemy import Connection, func, insert, select

from .backends import Backend
from .schema import Now, audit_log, timestamp_text

LOCK: Final = "audit"
NOTHING: Final = ""
"""What comes before the first entry."""


class Entry(NamedTuple):
    """One deed. *actor* is the id of an API key or who ran a command; *object* never says a user's name in clear."""

    number: int
    time: datetime
    actor: str
    action: str
    object: str
    row_count: int | None
    digest: str

    def expected(self, previous: str) -> str:
        """The digest this entry must have after one whose digest is *previous*."""
        said = [previous, self.number, timestamp_text(self.time), *self[2:6]]
        return hashlib.sha256(orjson.dumps(said)).hexdigest()


def append(
    backend: Backend, connection: Connection, *, actor: str, action: str, object: str, row_count: int | None = None
) -> None:
    """Write down one deed, in the write transaction that does it."""
    backend.lock(connection, (LOCK,))
    last = connection.execute(select(audit_log).order_by(audit_log.c.number.desc()).limit(1)).first()
    number, previous = (last.number + 1, last.digest) if last else (1, NOTHING)
    now = connection.execute(select(Now())).scalar_one()
    entry = Entry(number, now, actor, action, object, row_count, "")
    connection.execute(insert(audit_log).values(**entry._replace(digest=entry.expected(previous))._asdict()))


def entries(connection: Connection, *, last: int | None = None) -> list[Entry]:
    """All entries, or the *last* ones, oldest first."""
    found = select(audit_log).order_by(audit_log.c.number)
    if last is not None:
        newest = select(func.max(audit_log.c.number)).scalar_subquery()
        found = found.where(audit_log.c.number > newest - last)
    return [Entry(*row) for row in connection.execute(found)]


def first_broken(chain: Iterable[Entry]) -> int | None:
    """The number at which *chain*, which begins with the first entry, is not what was written; None if it all is."""
    previous = NOTHING
    for number, entry in enumerate(chain, 1):
        if entry.number != number or entry.digest != entry.expected(previous):
            return number
        previous = entry.digest
    return None
