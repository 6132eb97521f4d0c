"""Repricing: what stored calls would cost by today's price book, and, when asked, writing that down."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from .charges import Charge, charge
from .pricing import PriceBook
from .schema import Now, former_charges, llm_call_logs
from .store import Store

PAGE: Final = 1000
MONEY: Final = ("input_cost", "output_cost", "total_cost", "cost_source", "price_ref")
_COLUMNS: Final = [
    llm_call_logs.c[name]
    for name in (
        "id",
        "start_time",
        "provider",
        "model_id",
        "response_model",
        "service_tier",
        "call_type",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "reported_cost",
        "usage_raw",
        "usage_rule",
        "counted",
        *MONEY,
    )
]


class Difference(NamedTuple):
    """What repricing changes for one model on one day (UTC), over calls that count. US dollars."""

    day: date
    provider: str
    model: str
    """The one that answered; the one that was asked for where spans do not say."""
    calls: int
    before: Decimal
    after: Decimal
    newly_priced: int
    """Calls that had no price and have one now."""
    no_longer_priced: int


class Repriced(NamedTuple):
    """*changed* calls of *examined* differ; *differences* by day, provider and model, in that order."""

    examined: int
    changed: int
    differences: Sequence[Difference]


def reprice(
    store: Store,
    prices: PriceBook,
    since: datetime,
    *,
    until: datetime | None = None,
    write: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Repriced:
    """Charge every call that started at or after *since* (and before *until*) again.

    With *write* the rows are brought up to date, a page to a transaction, and what they said before is kept in
    ``former_charges``; without it nothing is written. Safe to interrupt and to repeat, and beside writers. *progress*
    is told how many calls have been examined. Raises `StoreUnavailable`.
    """
    examined = changed = 0
    sums: dict[tuple[date, str, str], list[Any]] = defaultdict(lambda: [0, Decimal(0), Decimal(0), 0, 0])
    for page in _pages(store, since, until):
        changes = _changes(prices, page)
        if write and changes:
            ids = [row.id for row, _ in changes]
            changes = store.backend.transact(lambda connection, ids=ids: _recharge(store, prices, connection, ids))  # type: ignore[misc]
        for row, new in changes:
            if row.counted:
                _add(sums[row.start_time.date(), row.provider, row.response_model or row.model_id], row, new)
        examined += len(page)
        changed += len(changes)
        if progress is not None:
            progress(examined)
    return Repriced(examined, changed, [Difference(*key, *values) for key, values in sorted(sums.items())])


def _pages(store: Store, since: datetime, until: datetime | None) -> Iterator[Sequence[Row[Any]]]:
    """The calls of the window in order of (start_time, id)."""
    columns = llm_call_logs.c
    query = select(*_COLUMNS).where(columns.start_time >= since)
    if until is not None:
        query = query.where(columns.start_time < until)
    return store.pages(query, [columns.start_time, columns.id], PAGE)


def _changes(prices: PriceBook, rows: Iterable[Any]) -> list[tuple[Row[Any], Charge]]:
    """The rows whose money or its source changes; another version of the same price data alone is no change."""
    charged = ((row, charge(prices, row)) for row in rows)
    return [
        (row, new)
        for row, new in charged
        if (row.input_cost, row.output_cost, row.total_cost, row.cost_source) != new[:4]
    ]


def _recharge(
    store: Store, prices: PriceBook, connection: Connection, ids: Sequence[str]
) -> list[tuple[Row[Any], Charge]]:
    """Charge these calls as they stand now: since the page was read, a span's end may have brought its usage."""
    rows = select(*_COLUMNS).where(store.backend.among(llm_call_logs.c.id, ids)).order_by(llm_call_logs.c.id)
    changes = _changes(prices, connection.execute(rows.with_for_update()))
    if changes:
        _write(connection, changes)
    return changes


def _add(total: list[Any], row: Row[Any], new: Charge) -> None:
    total[0] += 1
    total[1] += Decimal(str(row.total_cost or 0))
    total[2] += Decimal(str(new.total_cost or 0))
    total[3] += row.total_cost is None and new.total_cost is not None
    total[4] += row.total_cost is not None and new.total_cost is None


def _write(connection: Connection, updates: Sequence[tuple[Row[Any], Charge]]) -> None:
    now = datetime.now(UTC)  # SQLite's own clock counts milliseconds: a row may be charged twice in one
    former = [{"call_id": row.id, "replaced_at": now} | {n: getattr(row, n) for n in MONEY} for row, _ in updates]
    connection.execute(insert(former_charges), former)
    statement = (
        update(llm_call_logs)
        .where(llm_call_logs.c.id == bindparam("row_id"))
        .values({name: bindparam(f"new_{name}") for name in MONEY} | {"updated_at": Now()})
    )
    connection.execute(statement, [_parameters(row.id, new) for row, new in updates])


def _parameters(row_id: str, new: Charge) -> Mapping[str, Any]:
    return {"row_id": row_id} | {f"new_{name}": value for name, value in new.columns().items()}
