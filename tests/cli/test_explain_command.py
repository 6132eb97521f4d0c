"""`spanledger explain`: any name of a call shows its arithmetic; a wrong one is a sentence."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.query_api.cli import main
from spanledger.query_api.receivers.otlp import spans_in

GOLDEN = Path(__file__).parents[1] / "dialects" / "golden"
TWO_CALLS = GOLDEN / "ag2-native" / "agent_tools.otlp.pb"
DUPLICATE = GOLDEN / "openinference-anthropic" / "anthropic_cached.otlp.pb"

Explain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def explain(database_url: str, capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["explain", "--database-url", database_url, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def recorded(database_url: str, recording: Path) -> list[Any]:
    """Its calls, oldest first."""
    ledger = Ledger.open(Settings(database_url=database_url))
    ledger.record(spans_in(recording.read_bytes()).items)
    with ledger.store.reading() as connection:
        rows = list(connection.execute(select(llm_call_logs).order_by(llm_call_logs.c.start_time)))
    ledger.close()
    return rows


def test_a_call_is_found_by_its_id_its_span_and_its_trace(database_url: str, explain: Explain) -> None:
    first, second = recorded(database_url, TWO_CALLS)
    for name in (first.id, first.id.upper(), first.span_id):
        status, text, _ = explain(name)
        assert status == 0
        assert text.startswith(f"Call {first.id}: ")
        assert second.id not in text
    status, text, _ = explain(first.trace_id)
    assert status == 0
    assert text.index(first.id) < text.index(second.id)
    total = Decimal(str(first.total_cost)) + Decimal(str(second.total_cost))
    assert text.splitlines()[-1] == f"Sum of the 2 of 2 calls that count: ${float(total)}"


def test_the_arithmetic_reproduces_the_stored_cost(database_url: str, explain: Explain) -> None:
    call, _ = recorded(database_url, TWO_CALLS)
    _, text, _ = explain(call.id)
    for line in (
        "  input: 217 tokens x $0.15 per million = $0.00003255",
        "  cache_read: 256 tokens x $0.075 per million = $0.000019200",
        "  output: 47 tokens x $0.6 per million = $0.0000282",
        "  total: $0.000079950 (the row says the same)",
        f"  {call.price_ref}, as of {call.start_time:%Y-%m-%d}",
        f"  {call.usage_rule}",
        "  counted once",
    ):
        assert line in text.splitlines()
    assert float("0.000079950") == call.total_cost


def test_json_holds_what_the_api_shows_for_each_call(database_url: str, explain: Explain) -> None:
    calls = recorded(database_url, TWO_CALLS)
    status, text, _ = explain(calls[0].trace_id, "--json")
    assert status == 0
    documents = json.loads(text)
    assert [document["call_id"] for document in documents] == [call.id for call in calls]
    for document, call in zip(documents, calls, strict=True):
        assert float(sum(Decimal(line["cost"]) for line in document["lines"])) == call.total_cost


def test_a_duplicate_names_the_row_that_counts_in_its_place(database_url: str, explain: Explain) -> None:
    calls = recorded(database_url, DUPLICATE)
    (counted,) = (call for call in calls if call.counted)
    (duplicate,) = (call for call in calls if not call.counted)
    _, text, _ = explain(duplicate.id)
    assert f"  not counted: a duplicate of {counted.id} ({counted.name})" in text.splitlines()
    _, text, _ = explain(duplicate.trace_id)
    assert f"Sum of the 1 of 2 calls that count: ${counted.total_cost}" in text


def test_prices_given_to_the_command_show_what_a_call_would_cost(
    database_url: str, explain: Explain, tmp_path: Path
) -> None:
    call, _ = recorded(database_url, TWO_CALLS)
    prices = tmp_path / "mine.json"
    prices.write_text(
        '{"unit": "per_1k", "prices": [{"model": "gpt-4o-mini*", "match": "glob", "input": 1, "output": 2}]}'
    )
    _, text, _ = explain(call.id, "--prices", str(prices))
    assert "prices file mine.json: gpt-4o-mini*" in text
    assert f"(the row says ${call.total_cost} by {call.price_ref}: prices have changed" in text


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("00000000-0000-0000-0000-000000000001", 1, "There is no call, and no span or trace with calls, of the id"),
        ("0" * 15 + "1", 1, "There is no call"),
        ("0" * 31 + "1", 1, "There is no call"),
        ("call-42", 2, "'call-42' is not the id of a call (a UUID), of a span (16 hexadecimal digits)"),
        ("", 2, "'' is not the id of a call"),
    ],
)
def test_what_is_no_call_is_one_sentence(name: str, status: int, sentence: str, explain: Explain) -> None:
    ended, printed, said = explain(name)
    assert (ended, printed) == (status, "")
    assert said.startswith(f"spanledger: {sentence}")
    assert len(said.splitlines()) == 1


def test_the_cost_page_shows_what_is_printed(database_url: str, explain: Explain) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
    shown = re.search(r"<!-- explained -->\n```\n(.*?)```", page, re.DOTALL)
    assert shown
    recorded(database_url, TWO_CALLS)
    _, text, _ = explain(shown[1].split()[1].rstrip(":"))
    assert text == re.sub(r"genai-prices \S+", f"genai-prices {version('genai-prices')}", shown[1])
