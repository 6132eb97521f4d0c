"""The receipt says what became of every span: recorded, skipped or rejected, and they add up."""

import pytest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.records import Receipt
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, PriceBook(), Redactor())


def span(span_id: int, trace_id: int = 1, **attributes: str) -> SpanData:
    return SpanData(
        trace_id, span_id, None, "a span", 1, 10**18, 10**18 + 1, 0, None, attributes, [], Resource(), "tests", "", 0
    )


def chat(span_id: int, trace_id: int = 1) -> SpanData:
    return span(span_id, trace_id, **{"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"})


def test_calls_are_recorded_plumbing_is_skipped_and_impossible_ids_are_rejected(ledger: Ledger) -> None:
    receipt = ledger.record([chat(1), chat(2), span(3), span(0)])
    assert receipt == Receipt(4, 2, 1, 1, ("a trace or span id is zero or too long",))


def test_what_was_deleted_is_skipped_when_it_is_delivered_again(ledger: Ledger) -> None:
    ledger.record([chat(1, 5), chat(2, 6)])
    ledger.store.delete_execution(f"exec_{5:032x}")
    assert ledger.record([chat(1, 5), chat(2, 6)]) == Receipt(2, 1, 1, 0)


def test_nothing_gives_an_empty_receipt(ledger: Ledger) -> None:
    assert ledger.record([]) == Receipt(0, 0, 0, 0)
    assert ledger.record_events([]) == Receipt(0, 0, 0, 0)
