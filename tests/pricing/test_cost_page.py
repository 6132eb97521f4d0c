"""docs/cost.md shows what the code does: its prices file is accepted, its arithmetic is the printed one."""

import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from spanledger.exporter.custom_prices import CustomPrices
from spanledger.exporter.pricing import Buckets, PriceBook

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text("utf-8")


def test_the_prices_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    shown = re.search(r"<!-- prices -->\n```json\n(.*?)```", PAGE, re.S)
    assert shown
    path = tmp_path / "prices.json"
    path.write_text(shown[1])
    book = PriceBook(CustomPrices.read(path))
    for model in ("gpt-4o-mini", "acme-7b", "house-model", "gpt-4"):
        cost = book.price(Buckets(1000, 1000), "openai", model, None, datetime(2026, 6, 1, tzinfo=UTC))
        assert cost.source == "custom", model


def test_the_arithmetic_of_the_page_is_what_is_printed() -> None:
    shown = re.search(r"```\n(input: .*?)```", PAGE, re.S)
    assert shown
    usage = Buckets(input_tokens=473, output_tokens=47, cache_read_tokens=256)
    at = datetime(2026, 11, 1, tzinfo=UTC)
    printed = str(PriceBook().explain(usage, "openai", "gpt-4o-mini-2024-07-18", None, at))
    assert re.sub(r"genai-prices \S+", f"genai-prices {version('genai-prices')}", shown[1].strip()) == printed


def test_every_key_of_the_file_is_explained() -> None:
    from spanledger.exporter.custom_prices import _KEYS

    table = PAGE.partition("| key | meaning |")[2].partition("\n\n")[0]
    assert {key for key in _KEYS if f"`{key}`" not in table} == set()


def test_every_rule_about_the_input_is_explained() -> None:
    from spanledger.exporter import usage

    rules = {v for v in vars(usage).values() if isinstance(v, str) and v.startswith(("inclusive: ", "exclusive: "))}
    assert len(rules) == 7
    assert {rule for rule in rules | {usage.NO_USAGE} if f"| *{rule}* |" not in PAGE} == set()
