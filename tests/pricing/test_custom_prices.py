"""The user's prices: the file, who wins, and what is said about a bad entry."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.custom_prices import CustomPrices
from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.pricing import Buckets, Cost, PriceBook

AT = datetime(2026, 6, 15, tzinfo=UTC)
USAGE = Buckets(1000, 1000)


@pytest.fixture
def prices(tmp_path: Path) -> Any:
    def write(*entries: Any, unit: str | None = "per_million") -> Path:
        path = tmp_path / "prices.json"
        path.write_text(json.dumps({"unit": unit, "prices": entries} if unit else {"prices": entries}))
        return path

    return write


def price(path: Path, model: str, usage: Buckets = USAGE, provider: str = "openai", **more: Any) -> Cost:
    at = more.pop("at", AT)
    return PriceBook(CustomPrices.read(path)).price(usage, provider, model, more.pop("request", model), at, **more)


def test_the_users_price_wins_over_the_built_in_one(prices: Any) -> None:
    path = prices({"model": "gpt-4o-mini", "input": 0.12, "output": 0.48})
    cost = price(path, "GPT-4o-mini")
    assert cost.total_cost == Decimal("0.0006")
    assert (cost.source, cost.ref) == ("custom", "prices file prices.json: gpt-4o-mini")


def test_amounts_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(
        '{"unit": "per_million", "prices": [{"model": "x", "input": 0.1, "output": "0.30000000000000000004"}]}'
    )
    assert price(path, "x", Buckets(3, 1)).total_cost == Decimal("0.00000060000000000000000004")


def test_prices_may_be_per_thousand(prices: Any) -> None:
    path = prices({"model": "gpt-4", "input": 0.03, "output": 0.06, "unit": "per_1k"}, {"model": "x", "input": 1})
    assert price(path, "gpt-4").total_cost == Decimal("0.09")
    assert price(path, "x", Buckets(1000, 0)).total_cost == Decimal("0.001")


def test_cached_tokens_cost_as_input_unless_they_have_a_rate(prices: Any) -> None:
    usage = Buckets(1000, 0, 600, 300, 100)
    plain = price(prices({"model": "x", "input": 10}), "x", usage)
    assert plain.total_cost == Decimal("0.01")
    rates = {"cache_read": 1, "cache_write": 12.5, "cache_write_1h": 20}
    rated = price(prices({"model": "x", "input": 10, **rates}), "x", usage)
    assert rated.total_cost == (100 * 10 + 600 * 1 + 200 * Decimal("12.5") + 100 * 20) / 1_000_000


def test_an_entry_without_an_output_rate_prices_embeddings_only(prices: Any) -> None:
    path = prices({"model": "x", "input": 10})
    assert price(path, "x", Buckets(1000, 0)).total_cost == Decimal("0.01")
    chat = price(path, "x", Buckets(1000, 1))
    assert (chat.input_cost, chat.total_cost) == (Decimal("0.01"), None)


def test_an_asterisk_is_a_letter_unless_the_entry_says_glob(prices: Any) -> None:
    assert price(prices({"model": "acme-*", "input": 1, "output": 1}), "acme-7b").total_cost is None
    path = prices({"model": "acme-*", "match": "glob", "input": 1, "output": 1})
    assert price(path, "Acme-7B").total_cost == Decimal("0.002")
    assert price(path, "my-acme-7b").total_cost is None


def test_exact_beats_glob_and_provider_beats_none_and_the_last_wins(prices: Any) -> None:
    path = prices(
        {"model": "m", "input": 4, "output": 0, "provider": "openai"},
        {"model": "m", "input": 1, "output": 0},
        {"model": "m", "input": 2, "output": 0},
        {"model": "*", "match": "glob", "provider": "openai", "input": 8, "output": 0},
    )
    assert price(path, "m", Buckets(1_000_000, 0)).total_cost == 4
    assert price(path, "m", Buckets(1_000_000, 0), "azure").total_cost == 2
    assert price(path, "n", Buckets(1_000_000, 0)).total_cost == 8


def test_prices_have_days(prices: Any) -> None:
    path = prices(
        {"model": "m", "input": 1, "output": 0, "until": "2026-06-01"},
        {"model": "m", "input": 2, "output": 0, "from": "2026-06-01", "until": "2026-07-01"},
    )

    def on(month: int, day: int) -> Cost:
        return price(path, "m", Buckets(1_000_000, 0), at=datetime(2026, month, day, tzinfo=UTC))

    assert on(5, 31).total_cost == 1
    assert on(6, 1).total_cost == on(6, 30).total_cost == 2
    assert str(on(6, 1).ref).endswith("m since 2026-06-01")
    assert on(7, 1).total_cost is None


def test_the_name_may_be_the_responses_or_the_requests(prices: Any) -> None:
    path = prices({"model": "my-deployment", "input": 1, "output": 1}, {"model": "gpt-4-0613", "input": 2, "output": 2})
    assert price(path, "gpt-4", request="my-deployment", provider="azure").total_cost == Decimal("0.002")
    assert price(path, "gpt-4-0613", request="my-deployment").total_cost == Decimal("0.004")


def test_an_entry_may_be_for_one_tier(prices: Any) -> None:
    path = prices({"model": "m", "input": 1, "output": 1, "service_tier": "batch"})
    assert price(path, "m", service_tier="Batch").total_cost == Decimal("0.002")
    assert price(path, "m").total_cost is None


def test_zero_is_free(prices: Any) -> None:
    assert price(prices({"model": "llama3.2", "input": 0, "output": 0}), "llama3.2", provider="ollama").total_cost == 0


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"input": 1}, '"model" is missing'),
        ({"model": "m"}, '"input" is missing'),
        ({"model": "m", "input": 1, "ouput": 1}, "unknown key 'ouput'"),
        ({"model": "m", "input": -1}, '"input" must be a number of US dollars, 0 or more'),
        ({"model": "m", "input": "cheap"}, '"input" must be a number of US dollars'),
        ({"model": "m", "input": "NaN"}, '"input" must be a number of US dollars, 0 or more'),
        ({"model": "m", "input": True}, '"input" must be a number of US dollars, 0 or more'),
        ({"model": "m", "input": None}, '"input" must be a number of US dollars, 0 or more'),
        ({"model": "m", "input": 1, "match": "regex"}, '"match" must be "exact" or "glob"'),
        ({"model": "m", "input": 1, "unit": "per_token"}, 'say the "unit"'),
        ({"model": "m", "input": 1, "from": "soon"}, '"from" must be a date like 2026-01-31'),
        ({"model": "m", "input": 1, "from": "2026-02-01", "until": "2026-02-01"}, '"until" must be later than "from"'),
        ({"model": 7, "input": 1}, '"model" must be text'),
        ({"model": "m", "input": 1, "provider": ""}, '"provider" must be text'),
        ("m", "it must be an object"),
    ],
)
def test_a_bad_entry_is_named_with_what_is_wrong(prices: Any, entry: Any, complaint: str) -> None:
    path = prices({"model": "good", "input": 1}, entry)
    with pytest.raises(ConfigurationError) as raised:
        CustomPrices.read(path)
    text = str(raised.value)
    assert complaint in text
    assert "entry 2" in text
    assert str(path) in text
    if isinstance(entry, dict) and "model" in entry:
        assert repr(entry["model"]) in text or "7" in text


def test_a_file_without_a_unit_is_refused(prices: Any) -> None:
    with pytest.raises(ConfigurationError, match='say the "unit"'):
        CustomPrices.read(prices({"model": "m", "input": 1}, unit=None))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not JSON"), ("[]", 'must be an object with a list "prices"'), ('{"prices": {}}', "must be an object")],
)
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=complaint):
        CustomPrices.read(path)


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        CustomPrices.read(tmp_path / "absent.json")
