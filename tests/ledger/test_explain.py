"""The arithmetic of stored calls adds up to what is stored, to the last digit, for whatever was recorded."""

from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from spanledger.exporter.catalogue import OUTPUT_BUCKETS
from spanledger.exporter.explain import CostExplanation, explain_call
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.spans import SpanData
from spanledger.query_api.endpoints.llm_calls import explained

Chat = Callable[..., SpanData]


def all_explained(ledger: Ledger) -> list[tuple[Any, CostExplanation]]:
    """Every stored call with its explanation, oldest first."""
    with ledger.store.reading() as connection:
        rows = connection.execute(select(llm_call_logs).order_by(llm_call_logs.c.start_time)).all()
        return list(zip(rows, explained(connection, ledger.prices, rows), strict=True))


def test_the_lines_of_every_golden_call_add_up_to_the_stored_cost(golden_ledger: Ledger) -> None:
    known: Counter[str] = Counter()
    for row, explanation in all_explained(golden_ledger):
        assert explanation.agrees
        document = explanation.as_dict()
        for line in document["lines"]:
            assert Decimal(line["cost"]) == line["tokens"] * Decimal(line["usd_per_million"]) / 1_000_000
        output = _sum(line for line in document["lines"] if line["bucket"] in OUTPUT_BUCKETS)
        whole = _sum(document["lines"]) + Decimal(document["request_fee"] or 0)
        sums = {"input_cost": _sum(document["lines"]) - output, "output_cost": output, "total_cost": whole}
        stored = {name: getattr(row, name) for name in sums}
        assert {name: float(amount) for name, amount in sums.items() if stored[name] is not None} == {
            name: amount for name, amount in stored.items() if amount is not None
        }
        assert document["total"] is None if row.total_cost is None else Decimal(document["total"]) == whole
        assert row.total_cost is not None or document["reason"]
        known.update(name for name, amount in stored.items() if amount is not None)
    assert known["total_cost"] > 100
    assert known["input_cost"] > known["total_cost"]


def _sum(lines: Iterable[dict[str, Any]]) -> Decimal:
    return sum((Decimal(line["cost"]) for line in lines), Decimal(0))


def test_the_parts_of_every_golden_call_add_up_to_its_tokens(golden_ledger: Ledger) -> None:
    priced = [(row, call) for row, call in all_explained(golden_ledger) if row.total_cost]
    assert any(row.cache_read_tokens and row.cache_write_tokens for row, _ in priced)
    for row, call in priced:
        output = sum(line.tokens for line in call.lines if line.bucket in OUTPUT_BUCKETS)
        assert output == (row.output_tokens or 0)
        assert sum(line.tokens for line in call.lines) - output == row.input_tokens


def test_a_call_that_does_not_count_is_explained_with_the_row_that_counts_in_its_place(golden_ledger: Ledger) -> None:
    calls = all_explained(golden_ledger)
    names = {row.id: row.name for row, _ in calls if row.counted}
    duplicates = [call for _, call in calls if call.duplicate_of]
    assert duplicates
    for call in duplicates:
        assert call.duplicate_of is not None
        assert call.duplicate_of.name == names[call.duplicate_of.id]
        assert f"not counted: a duplicate of {call.duplicate_of.id} ({call.duplicate_of.name})" in str(call)
        assert bool(call.lines) == (call.stored_total is not None)
    assert any(call.lines for call in duplicates)
    others = {call.not_counted_reason for _, call in calls if not call.counted and not call.duplicate_of}
    assert others == {"usage_on_stream_span"}


def test_the_rule_the_buckets_and_the_rates_are_told(ledger: Ledger, chat: Chat) -> None:
    ledger.record([chat(gen_ai__usage__cache_read__input_tokens=400)])
    ((_, call),) = all_explained(ledger)
    assert str(call).splitlines() == [
        f"Call {call.call_id}: chat, openai gpt-4o-mini",
        "Usage as reported",
        "  gen_ai.usage.input_tokens: 1000",
        "  gen_ai.usage.output_tokens: 100",
        "  gen_ai.usage.cache_read.input_tokens: 400",
        "Understood as",
        "  inclusive: OTel's meaning, no sign against it",
        "  input 1000, output 100, cache_read 400",
        "Price",
        f"  {call.price_ref}, as of 2026-01-31",
        "  input: 600 tokens x $0.15 per million = $0.00009000",
        "  cache_read: 400 tokens x $0.075 per million = $0.000030000",
        "  output: 100 tokens x $0.6 per million = $0.0000600",
        "  total: $0.000180000 (the row says the same)",
        "In sums",
        "  counted once",
    ]


def test_a_cost_the_sender_reported_says_so(ledger: Ledger, chat: Chat) -> None:
    ledger.record([chat(gen_ai__request__model="nobodys-model", gen_ai__usage__cost=0.125)])
    ((_, call),) = all_explained(ledger)
    assert (call.total, call.cost_source, call.agrees, call.lines) == ("0.125", "reported", True, [])
    assert "as the sender reported it" in str(call)
    assert "no price known for model 'nobodys-model'" in str(call)


def test_a_call_without_usage_says_that_nothing_was_reported(ledger: Ledger, chat: Chat) -> None:
    ledger.record([chat(gen_ai__usage__input_tokens=None, gen_ai__usage__output_tokens=None)])
    ((_, call),) = all_explained(ledger)
    text = str(call)
    assert "Usage as reported\n  nothing\nUnderstood as\n  none reported\n" in text
    assert "total: unknown, no usage (the row says the same)" in text


def test_prices_that_changed_since_are_told_apart_from_the_stored_cost(ledger: Ledger, chat: Chat) -> None:
    ledger.record([chat()])
    ((row, _),) = all_explained(ledger)
    cheaper = row._asdict() | {"total_cost": 0.0002, "price_ref": "last year's"}
    call = explain_call(ledger.prices, type("Row", (), cheaper)())
    assert not call.agrees
    assert "the row says $0.0002 by last year's: prices have changed; see `spanledger reprice`" in str(call)


def test_a_duplicate_whose_original_is_gone_is_still_explained(ledger: Ledger, chat: Chat) -> None:
    ledger.record([chat()])
    ((row, _),) = all_explained(ledger)
    orphan = row._asdict() | {
        "counted": False,
        "not_counted_reason": "duplicate_of:00000000-0000-0000-0000-000000000001",
    }
    text = str(explain_call(ledger.prices, type("Row", (), orphan)()))
    assert "a duplicate of 00000000-0000-0000-0000-000000000001 (which is gone)" in text
