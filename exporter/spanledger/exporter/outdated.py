"""`Outdated`: the rows of one table that go when everything of some age goes."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Table, and_, exists, false, or_, true

from .applying import ROWS
from .schema import bridge_spans, content_events, former_charges, llm_call_logs

LEFT_OVERS: Final = (
    (bridge_spans, "start_time", ("trace_id",)),
    (content_events, "time", ("trace_id", "span_id")),
)
"""Tables of what other rows need: their time, and the columns they share with whom they are for."""


class Outdated(NamedTuple):
    """Those *doomed* among the rows within *reach*, which are together in the order of *key*, an index."""

    table: Table
    key: Column[Any]
    reach: ColumnElement[bool]
    doomed: ColumnElement[bool]


def outdated(
    older_than: datetime, statuses: Collection[str] | None = None, *, staying: bool = False
) -> Iterator[Outdated]:
    """Executions and calls that started before *older_than*, then what nobody needs any more once those are gone.

    With *statuses* only those in one of them. If they are *staying*, then what such rows need.
    """
    for table in ROWS:
        yield Outdated(table, table.c.start_time, table.c.start_time < older_than, _in_one_of(table, statuses))
    for table, moment, whose in LEFT_OVERS:
        whoever_s = (exists().where(*(rows.c[name] == table.c[name] for name in whose)) for rows in ROWS)
        needless = true() if staying else and_(*(~anybody_s for anybody_s in whoever_s))
        yield Outdated(table, table.c.id, true(), and_(table.c[moment] < older_than, needless))
    charge = former_charges.c.call_id
    its_call = exists().where(llm_call_logs.c.id == charge)
    old_call = its_call.where(llm_call_logs.c.start_time < older_than, _in_one_of(llm_call_logs, statuses))
    yield Outdated(former_charges, charge, true(), old_call if staying else ~its_call)


def _in_one_of(table: Table, statuses: Collection[str] | None) -> ColumnElement[bool]:
    if statuses is None:
        return true()
    return or_(false(), *(table.c.status == status for status in statuses))  # IN is not for executemany
