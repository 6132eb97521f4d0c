"""The golden traces, recorded in a ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.receivers.otlp import events_in, spans_in

GOLDEN: Final = Path(__file__).parents[1] / "dialects" / "golden"
NOON: Final = 1_769_860_800_000_000_000
"""2026-01-31T12:00Z, in nanoseconds."""


def record(ledger: Ledger, recording: Path) -> None:
    """Store a recorded trace, with its log records."""
    assert ledger.record(spans_in(recording.read_bytes()).items).rejected == 0
    logs = recording.with_name(recording.name.replace(".otlp.pb", ".logs.otlp.pb"))
    if logs.exists():
        ledger.record_events(events_in(logs.read_bytes()).items)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, PriceBook(), Redactor())


@pytest.fixture
def recordings() -> dict[str, Path]:
    """Every golden trace, by the names of its producer and scenario."""
    return {
        f"{path.parent.name}/{path.name.removesuffix('.otlp.pb')}": path
        for path in sorted(GOLDEN.glob("*/*.otlp.pb"))
        if ".logs." not in path.name
    }


@pytest.fixture
def golden_ledger(ledger: Ledger, recordings: dict[str, Path]) -> Ledger:
    for recording in recordings.values():
        record(ledger, recording)
    return ledger


@pytest.fixture
def chat() -> Callable[..., SpanData]:
    """Makes the span of a call: 1,000 input and 100 output tokens of gpt-4o-mini, unless it says otherwise."""

    def make(number: int = 1, *, day: int = 0, failed: bool = False, scope: str = "test", **more: object) -> SpanData:
        start = NOON + day * 86_400_000_000_000 + number * 1_000_000
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 100,
        } | {name.replace("__", "."): value for name, value in more.items()}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        return SpanData(
            number, number, None, "chat", 3, start, start + 10**9, 2 if failed else 0, None, attributes, (),
            Resource("test"), scope, "1", 0,
        )  # fmt: skip

    return make
