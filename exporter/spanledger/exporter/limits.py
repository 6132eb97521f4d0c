"""`Limits`: how old rows may get, and how much room they may take; and which have to go for that."""

import math
import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import func, or_, select, true

from .applying import ROWS
from .errors import ConfigurationError
from .store import Store

UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
BYTES: Final = {"K": 1, "M": 2, "G": 3, "T": 4}
CAUTION: Final = 0.9
"""How much of what seems to be too much goes at a time: rows differ in size, and none shall go needlessly."""
LEAST: Final = 100
"""Rows that go at a time at least, so that there is an end to it."""


class Limits(NamedTuple):
    """What rows go: those that started before *older_than*, and the oldest while all take more than *max_bytes*.

    With *statuses* only those in one of them.
    """

    older_than: datetime | None = None
    max_bytes: int | None = None
    statuses: Collection[str] | None = None


def age(text: str) -> timedelta | None:
    """``30d`` (also m, h, w); None if it is something else."""
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def size(text: str) -> int:
    """``20GB`` (also KB, MB, TB, and GiB) in bytes. Raises `ConfigurationError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", text)
    if not found:
        raise ConfigurationError(f"{text!r} is not a size such as 500MB, 20GB or 1.5TB.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** BYTES[found[2]])


def cut_offs(store: Store, limits: Limits) -> Iterator[datetime]:
    """The moments before which rows have to go, one after the other, until *limits* hold.

    For a size there are several, each measured once the caller has deleted what started before the last one.
    """
    if limits.older_than is not None:
        yield limits.older_than
    last: datetime | None = None
    while limits.max_bytes is not None and (moment := _cut_off(store, limits.max_bytes, limits.statuses)):
        if last is not None and moment <= last:
            return  # what is too large is not rows
        yield moment
        last = moment


def _cut_off(store: Store, max_bytes: int, statuses: Collection[str] | None) -> datetime | None:
    """Before when the rows started that are too much; None if there are none."""
    with store.reading() as connection:
        bytes = store.backend.size(connection)
        if bytes <= max_bytes:
            return None
        share = CAUTION * (1 - max_bytes / bytes)
        moments = []
        for table in ROWS:
            its = true() if statuses is None else or_(*(table.c.status == status for status in statuses))
            count = connection.scalar(select(func.count()).select_from(table).where(its)) or 0
            if count:
                last = min(max(math.ceil(count * share), LEAST), count) - 1
                moment = select(table.c.start_time).where(its).order_by(table.c.start_time).offset(last).limit(1)
                moments.append(connection.execute(moment).scalar_one())
    return min(moments) + timedelta(microseconds=1) if moments else None
