"""`LedgerSpanExporter`, against real SQLite files."""

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanledger.exporter import LedgerSpanExporter, LedgerSpanProcessor
from spanledger.exporter.sampling import RecordEverything

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


class Keeper(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def chats(provider: TracerProvider, count: int) -> list[ReadableSpan]:
    keeper = Keeper()
    provider.add_span_processor(keeper)
    for number in range(count):
        provider.get_tracer("test").start_span(f"chat {number}", attributes=CHAT).end()
    return keeper.spans


def occupied(path: Path) -> Path:
    """Something else where the database should be: unavailable until it is taken away."""
    path.write_bytes(b"not a database, but large enough to look like one " * 50)
    return path


def test_spans_become_rows_through_the_standard_interface(provider: TracerProvider, database: Path, rows: Any) -> None:
    provider.add_span_processor(SimpleSpanProcessor(LedgerSpanExporter(database_url=f"sqlite:///{database}")))
    chats(provider, 3)
    assert [row["name"] for row in rows("llm_call_logs")] == ["chat 0", "chat 1", "chat 2"]


def test_construction_neither_raises_nor_connects(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgerSpanExporter(database_url=f"sqlite:///{database}").shutdown()
    assert not database.exists()
    monkeypatch.setenv("SPANLEDGER_PORT", "not a number")
    LedgerSpanExporter().shutdown()


def test_spans_wait_in_memory_while_the_database_is_away(
    provider: TracerProvider, database: Path, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{occupied(database)}")
    spans = chats(provider, 5)
    with caplog.at_level(logging.WARNING):
        assert exporter.export(spans[:2]) is SpanExportResult.SUCCESS
        assert exporter.export(spans[2:]) is SpanExportResult.SUCCESS
    assert exporter.delivery.pending == 5
    assert len(caplog.records) == 1
    assert "2 spans wait in memory" in caplog.text
    database.unlink()
    assert exporter.force_flush()
    assert exporter.delivery == (5, 0, 0, 0, {})
    assert len(rows("llm_call_logs")) == 5
    exporter.shutdown()


def test_memory_is_bounded_and_every_lost_span_is_counted(provider: TracerProvider, database: Path) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{occupied(database)}", max_pending=10, exit_budget=0.5)
    spans = chats(provider, 8)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert exporter.export(spans) is SpanExportResult.FAILURE
    assert exporter.delivery == (0, 0, 0, 8, {"memory full while the database is away": 8})
    exporter.shutdown()


def test_shutdown_gives_up_within_its_budget_and_says_what_is_lost(
    provider: TracerProvider, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{occupied(database)}", exit_budget=1.0)
    exporter.export(chats(provider, 4))
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING):
        exporter.shutdown()
    assert time.monotonic() - begin < 3.0
    assert exporter.delivery.lost == {"the process ended before the database could take them": 4}
    assert "4 spans are lost" in caplog.text
    assert exporter.export(chats(provider, 1)) is SpanExportResult.FAILURE


def test_shutdown_still_writes_what_waits(provider: TracerProvider, database: Path, rows: Any) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{occupied(database)}")
    exporter.export(chats(provider, 4))
    database.unlink()
    exporter.shutdown()
    assert len(rows("llm_call_logs")) == 4


def test_a_wrong_address_costs_spans_but_never_an_exception(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = LedgerSpanExporter(database_url="mysql://nobody@nowhere/nothing")
    with caplog.at_level(logging.WARNING):
        assert exporter.export(chats(provider, 2)) is SpanExportResult.FAILURE
    assert "cannot store in 'mysql'" in caplog.text
    assert sum(exporter.delivery.lost.values()) == 2


def test_spans_the_sampler_did_not_choose_are_recorded_too(database: Path, rows: Any) -> None:
    provider = TracerProvider(sampler=RecordEverything(ALWAYS_OFF), shutdown_on_exit=False)
    keeper = Keeper()
    provider.add_span_processor(LedgerSpanProcessor(LedgerSpanExporter(database_url=f"sqlite:///{database}")))
    provider.add_span_processor(keeper)
    chats(provider, 2)
    assert provider.force_flush()
    assert len(rows("llm_call_logs")) == 2
    assert not any(span.context.trace_flags.sampled for span in keeper.spans if span.context)
    provider.shutdown()


def test_flushing_the_provider_reaches_the_spans_the_exporter_kept(
    provider: TracerProvider, database: Path, rows: Any
) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{occupied(database)}")
    provider.add_span_processor(LedgerSpanProcessor(exporter))
    chats(provider, 3)
    assert provider.force_flush(timeout_millis=10) is False
    database.unlink()
    assert provider.force_flush() is True
    assert len(rows("llm_call_logs")) == 3


def test_a_database_locked_by_another_process_delays_spans_only(
    provider: TracerProvider, database: Path, rows: Any
) -> None:
    exporter = LedgerSpanExporter(database_url=f"sqlite:///{database}")
    spans = chats(provider, 4)
    exporter.export(spans[:1])
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert exporter.export(spans[1:]) is SpanExportResult.SUCCESS
    assert exporter.delivery.pending == 3
    holder.close()
    assert exporter.force_flush()
    assert len(rows("llm_call_logs")) == 4
    exporter.shutdown()
