"""What a call is charged: the rules that lie between a row's columns and the price book."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from spanledger.exporter.charges import charge
from spanledger.exporter.custom_prices import CustomPrices
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.spans import SpanData

Chat = Callable[..., SpanData]


@pytest.fixture
def stored(ledger: Ledger) -> Callable[..., Any]:
    """Records spans, and answers with the only row they become; charging it again must say the same."""

    def store(*spans: SpanData, by: Ledger = ledger) -> Any:
        assert by.record(spans).rejected == 0
        with by.store.reading() as connection:
            row: Any = connection.execute(select(llm_call_logs)).one()
        columns = charge(by.prices, row).columns()
        assert columns == {name: getattr(row, name) for name in columns}
        return row

    return store


def test_a_call_costs_its_tokens_times_the_rates(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat())
    assert row.input_cost == float(Decimal("0.15") / 1000)  # gpt-4o-mini: $0.15 a million in, $0.60 out
    assert row.output_cost == float(Decimal("0.6") * 100 / 1_000_000)
    assert row.total_cost == 0.00021
    assert row.cost_source == "computed"


def test_a_failed_call_that_reports_usage_costs_it(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat(failed=True))
    assert (row.status, row.total_cost) == ("failed", 0.00021)


def test_a_failed_call_without_usage_has_no_cost(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat(failed=True, gen_ai__usage__input_tokens=None, gen_ai__usage__output_tokens=None))
    assert (row.status, row.total_cost, row.cost_source) == ("failed", None, None)


def test_the_senders_own_cost_is_used_only_where_we_have_none(stored: Callable[..., Any], chat: Chat) -> None:
    span = chat(gen_ai__request__model="nobodys-model", gen_ai__usage__cost=0.125)
    row = stored(span)
    assert (row.reported_cost, row.total_cost, row.cost_source, row.price_ref) == (0.125, 0.125, "reported", None)
    assert (row.input_cost, row.output_cost) == (None, None)


def test_the_senders_own_cost_is_kept_beside_ours(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat(gen_ai__usage__cost=0.125))
    assert (row.reported_cost, row.total_cost, row.cost_source) == (0.125, 0.00021, "computed")


@pytest.mark.parametrize("price", [0.5, "0.5"])
def test_prices_stamped_on_the_call_win_over_every_price_list(
    price: float | str, ledger: Ledger, stored: Callable[..., Any], chat: Chat, tmp_path: Path
) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"unit": "per_1k", "prices": [{"model": "gpt-4o-mini", "input": 7, "output": 7}]}')
    own = Ledger(ledger.store, PriceBook(CustomPrices.read(file)), Redactor())
    row = stored(chat(spanledger__kind="llm_call", spanledger__price__input=price, spanledger__price__output=1), by=own)
    assert (row.input_cost, row.output_cost, row.total_cost) == (0.5, 0.1, 0.6)  # a thousand tokens in, a hundred out
    assert (row.cost_source, row.price_ref) == ("custom", "token_prices")


def test_a_price_for_output_alone_is_a_price_of_its_own(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat(spanledger__kind="llm_call", spanledger__price__output=1))
    assert (row.input_cost, row.output_cost, row.total_cost) == (None, 0.1, None)  # not mixed with a list's input


@pytest.mark.parametrize("hour", [400, 400.0, "400"])
def test_cache_writes_for_an_hour_cost_more_than_those_for_five_minutes(
    hour: float | str, stored: Callable[..., Any], chat: Chat
) -> None:
    span = chat(
        scope="com.anthropic.sdk.python",
        gen_ai__provider__name="anthropic",
        gen_ai__request__model="claude-sonnet-4-5",
        gen_ai__usage__cache_creation__input_tokens=600,
        anthropic__usage__cache_creation__ephemeral_1h_input_tokens=hour,
    )
    row = stored(span)
    assert row.cache_write_tokens == 600
    rates = 400 * Decimal("3") + 200 * Decimal("3.75") + 400 * Decimal("6")  # plain, five minutes, an hour
    assert row.input_cost == float(rates / 1_000_000)


def test_one_hour_writes_are_found_in_the_providers_own_usage_block(stored: Callable[..., Any], chat: Chat) -> None:
    block = {"cache_creation_input_tokens": 300, "cache_creation": {"ephemeral_1h_input_tokens": 300}}
    row = stored(
        chat(
            gen_ai__provider__name="anthropic",
            gen_ai__request__model="claude-sonnet-4-5",
            gen_ai__usage__input_tokens=310,
            gen_ai__usage__cache_creation__input_tokens=300,
            spanledger__kind="llm_call",
            spanledger__usage__raw=json.dumps(block),
        )
    )
    assert (row.input_tokens, row.cache_write_tokens) == (310, 300)
    assert row.input_cost == float((10 * Decimal(3) + 300 * Decimal(6)) / 1_000_000)


def test_an_embedding_has_no_output_to_pay_for(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(
        chat(
            gen_ai__operation__name="embeddings",
            gen_ai__request__model="text-embedding-3-small",
            gen_ai__usage__output_tokens=None,
        )
    )
    assert (row.call_type, row.output_tokens) == ("embedding", None)
    assert row.total_cost == row.input_cost == 0.00002


def test_a_call_that_should_have_output_and_says_none_has_no_total(stored: Callable[..., Any], chat: Chat) -> None:
    row = stored(chat(gen_ai__usage__output_tokens=None))
    assert (row.input_cost, row.output_cost, row.total_cost) == (0.00015, None, None)
