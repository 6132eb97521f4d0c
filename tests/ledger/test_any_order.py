"""The tables depend on the set of spans alone: not on order, batches, repetition, or whether they were seen running."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.schema import bridge_spans, content_events, execution_logs, llm_call_logs
from spanledger.exporter.spans import LogEvent, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.receivers.otlp import events_in, spans_in

GOLDEN: Final = Path(__file__).parents[1] / "dialects" / "golden"
TABLES: Final = (execution_logs, llm_call_logs, bridge_spans, content_events)
CLOCK: Final = frozenset(("created_at", "updated_at"))
Item = SpanData | LogEvent


@pytest.fixture(scope="module")
def recordings() -> list[list[Item]]:
    return [list(_items(path)) for path in sorted(GOLDEN.glob("*/*.otlp.pb")) if ".logs." not in path.name]


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, PriceBook(), Redactor())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_any_order_any_split_and_any_repetition_give_the_same_tables(
    ledger: Ledger, recordings: list[list[Item]], chance: random.Random
) -> None:
    chosen = [item for recording in chance.sample(recordings, 5) for item in recording]
    _clear(ledger.store)
    _deliver(ledger, chosen)
    expected = _tables(ledger.store)

    _clear(ledger.store)
    deliveries = [*chosen, *(item for item in chosen if chance.random() < 0.5), *_running(chosen, chance)]
    chance.shuffle(deliveries)
    while deliveries:
        size = chance.randint(1, 8)
        _deliver(ledger, deliveries[:size])
        del deliveries[:size]
    assert _tables(ledger.store) == expected


def test_every_recording_redelivered_whole_changes_nothing(ledger: Ledger, recordings: list[list[Item]]) -> None:
    for recording in recordings:
        _deliver(ledger, recording)
    expected = _tables(ledger.store)
    assert expected["llm_call_logs"]
    for recording in reversed(recordings):
        _deliver(ledger, recording)
    assert _tables(ledger.store) == expected


def _items(path: Path) -> Iterator[Item]:
    yield from spans_in(path.read_bytes()).items
    logs = path.with_name(path.name.replace(".otlp.pb", ".logs.otlp.pb"))
    if logs.exists():
        yield from events_in(logs.read_bytes()).items


def _running(items: Sequence[Item], chance: random.Random) -> Iterator[Item]:
    """Some of the spans as they were while they ran."""
    return (i._replace(end_time=None) for i in items if isinstance(i, SpanData) and chance.random() < 0.3)


def _deliver(ledger: Ledger, items: Sequence[Item]) -> None:
    assert ledger.record([item for item in items if isinstance(item, SpanData)]).rejected == 0
    assert ledger.record_events([item for item in items if isinstance(item, LogEvent)]).rejected == 0


def _clear(store: Store) -> None:
    with store.engine.begin() as connection:
        for table in TABLES:
            connection.execute(delete(table))


def _tables(store: Store) -> dict[str, dict[str, tuple[Any, ...]]]:
    found = {}
    with store.reading() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column.name not in CLOCK]
            found[table.name] = {row.id: tuple(row) for row in connection.execute(select(*columns))}
    return found
