"""Charging calls again: what changes, what is kept, and what interruptions and late spans leave behind."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from spanledger.exporter.custom_prices import CustomPrices
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.reprice import MONEY, PAGE, Difference, reprice
from spanledger.exporter.schema import former_charges, llm_call_logs
from spanledger.exporter.spans import SpanData

Chat = Callable[..., SpanData]
EVER = datetime(2020, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def doubled(tmp_path: Path) -> PriceBook:
    """Twice what gpt-4o-mini costs, and a price for a model that had none."""
    file = tmp_path / "prices.json"
    file.write_text(
        '{"unit": "per_million", "prices": [{"model": "gpt-4o-mini", "input": 0.30, "output": 1.20},'
        '{"model": "nobodys-model", "input": 1, "output": 1}]}'
    )
    return PriceBook(CustomPrices.read(file))


def calls(ledger: Ledger) -> list[Any]:
    with ledger.store.reading() as connection:
        return list(connection.execute(select(llm_call_logs).order_by(llm_call_logs.c.start_time)))


def former(ledger: Ledger) -> list[Any]:
    with ledger.store.reading() as connection:
        return list(connection.execute(select(former_charges).order_by(former_charges.c.call_id)))


def test_unchanged_prices_change_nothing(golden_ledger: Ledger) -> None:
    repriced = reprice(golden_ledger.store, golden_ledger.prices, EVER, write=True)
    assert repriced.examined == len(calls(golden_ledger))
    assert (repriced.changed, repriced.differences, former(golden_ledger)) == (0, [], [])


def test_looking_writes_nothing_and_shows_each_model_and_day(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    unpriced = chat(4, gen_ai__request__model="nobodys-model")
    ledger.record([chat(1), chat(2), chat(3, day=1), unpriced, chat(5, gen_ai__request__model="gpt-4o")])
    before = calls(ledger)
    repriced = reprice(ledger.store, doubled, EVER)
    assert (repriced.examined, repriced.changed) == (5, 4)
    assert repriced.differences == [
        Difference(date(2026, 1, 31), "openai", "gpt-4o-mini", 2, Decimal("0.00042"), Decimal("0.00084"), 0, 0),
        Difference(date(2026, 1, 31), "openai", "nobodys-model", 1, Decimal(0), Decimal("0.0011"), 1, 0),
        Difference(date(2026, 2, 1), "openai", "gpt-4o-mini", 1, Decimal("0.00021"), Decimal("0.00042"), 0, 0),
    ]
    assert calls(ledger) == before
    assert former(ledger) == []


def test_writing_charges_anew_and_keeps_what_was_charged_before(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    ledger.record([chat()])
    (before,) = calls(ledger)
    shown = reprice(ledger.store, doubled, EVER)
    assert reprice(ledger.store, doubled, EVER, write=True) == shown
    (after,) = calls(ledger)
    assert (after.input_cost, after.output_cost, after.total_cost) == (0.0003, 0.00012, 0.00042)
    assert (after.cost_source, after.price_ref) == ("custom", "prices file prices.json: gpt-4o-mini")
    changed = {name for name, value in after._asdict().items() if value != before._asdict()[name]}
    assert changed <= {*MONEY, "updated_at"}
    (kept,) = former(ledger)
    assert kept.call_id == before.id
    assert all(getattr(kept, name) == getattr(before, name) for name in MONEY)


def test_a_reported_cost_gives_way_to_a_price_and_comes_back_without_it(
    ledger: Ledger, doubled: PriceBook, chat: Chat
) -> None:
    ledger.record([chat(gen_ai__request__model="nobodys-model", gen_ai__usage__cost=0.125)])
    (difference,) = reprice(ledger.store, doubled, EVER, write=True).differences
    assert (difference.before, difference.after) == (Decimal("0.125"), Decimal("0.0011"))
    (row,) = calls(ledger)
    assert (row.total_cost, row.cost_source, row.reported_cost) == (0.0011, "custom", 0.125)
    reprice(ledger.store, ledger.prices, EVER, write=True)
    (row,) = calls(ledger)
    assert (row.input_cost, row.total_cost, row.cost_source, row.price_ref) == (None, 0.125, "reported", None)


def test_a_price_stamped_on_the_call_is_not_changed_by_a_list(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    ledger.record([chat(spanledger__kind="llm_call", spanledger__price__input=1, spanledger__price__output=2)])
    assert reprice(ledger.store, doubled, EVER, write=True).changed == 0


def test_the_window_is_from_since_up_to_until(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    ledger.record([chat(1), chat(2, day=1), chat(3, day=2)])
    second = NOON + timedelta(days=1, milliseconds=2)
    third = NOON + timedelta(days=2, milliseconds=3)
    assert reprice(ledger.store, doubled, second, until=third).examined == 1
    assert reprice(ledger.store, doubled, second).examined == 2
    assert reprice(ledger.store, doubled, EVER, until=second).examined == 1


def test_calls_that_do_not_count_are_charged_but_not_shown(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    ledger.record([chat()])
    with ledger.store.engine.begin() as connection:
        connection.execute(update(llm_call_logs).values(counted=False, not_counted_reason="rollup_of_children"))
    repriced = reprice(ledger.store, doubled, EVER, write=True)
    assert (repriced.changed, repriced.differences) == (1, [])
    assert calls(ledger)[0].total_cost == 0.00042


@pytest.fixture
def many(ledger: Ledger, chat: Chat) -> Ledger:
    """More calls than three pages hold, several of them at each moment."""
    spans = [chat(1 + n)._replace(start_time=chat().start_time + n // 7 * 1_000_000) for n in range(3 * PAGE + 17)]
    ledger.record(spans)
    return ledger


def test_thousands_of_calls_are_each_charged_once_however_often_it_is_repeated(
    many: Ledger, doubled: PriceBook
) -> None:
    told: list[int] = []
    first = reprice(many.store, doubled, EVER, write=True, progress=told.append)
    assert told == [1000, 2000, 3000, 3017]
    assert (first.examined, first.changed) == (3017, 3017)
    assert sum(d.after for d in first.differences) == 3017 * Decimal("0.00042")
    again = reprice(many.store, doubled, EVER, write=True)
    assert (again.examined, again.changed) == (3017, 0)
    assert {row.total_cost for row in calls(many)} == {0.00042}
    assert len({row.call_id for row in former(many)}) == len(former(many)) == 3017


def test_an_interruption_leaves_whole_pages_and_the_next_run_does_the_rest(many: Ledger, doubled: PriceBook) -> None:
    def interrupt(examined: int) -> None:
        if examined == 2 * PAGE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reprice(many.store, doubled, EVER, write=True, progress=interrupt)
    new = {row.id for row in calls(many) if row.total_cost == 0.00042}
    assert len(new) == 2 * PAGE
    assert {row.call_id for row in former(many)} == new
    rest = reprice(many.store, doubled, EVER, write=True)
    assert rest.changed == 3017 - 2 * PAGE
    assert [row.total_cost for row in former(many)] == [0.00021] * 3017


def test_a_span_that_ends_meanwhile_is_charged_what_it_used_in_the_end(
    ledger: Ledger, doubled: PriceBook, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A call whose first version, still running, had other usage: it ends between the look and the write.
    ledger.record([chat(gen_ai__usage__output_tokens=1)._replace(end_time=None)])
    transact = ledger.store.backend.transact

    def after_its_end(work: Any) -> Any:
        monkeypatch.undo()
        ledger.record([chat()])
        return transact(work)

    monkeypatch.setattr(ledger.store.backend, "transact", after_its_end)
    repriced = reprice(ledger.store, doubled, EVER, write=True)
    (row,) = calls(ledger)
    assert (row.status, row.output_tokens, row.total_cost) == ("completed", 100, 0.00042)
    assert repriced.differences[0].before == Decimal("0.00021")
    assert [row.total_cost for row in former(ledger)] == [0.00021]


def test_what_a_call_was_charged_before_goes_when_the_call_goes(ledger: Ledger, doubled: PriceBook, chat: Chat) -> None:
    ledger.record([chat(1), chat(2, day=1), chat(3, day=2)])
    reprice(ledger.store, doubled, EVER, write=True)
    first, second, third = calls(ledger)
    ledger.store.delete_execution(first.execution_id)
    assert {row.call_id for row in former(ledger)} == {second.id, third.id}
    ledger.store.purge(NOON + timedelta(days=1, hours=1))
    assert [row.call_id for row in former(ledger)] == [third.id]
