"""`LedgerSpanExporter` and `LedgerSpanProcessor`, against real SQLite files and real spool folders."""

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
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.sampling import RecordEverything
from spanledger.exporter.settings import Settings

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


@pytest.fixture
def settings(database: Path, tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{database}", spool_folder=str(tmp_path / "spool"))


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


def test_spans_become_rows_through_the_standard_interface(
    provider: TracerProvider, settings: Settings, rows: Any
) -> None:
    provider.add_span_processor(SimpleSpanProcessor(LedgerSpanExporter(settings=settings)))
    chats(provider, 3)
    provider.shutdown()
    assert [row["name"] for row in rows("llm_call_logs")] == ["chat 0", "chat 1", "chat 2"]


def test_construction_neither_raises_nor_connects(
    settings: Settings, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    LedgerSpanExporter(settings=settings).shutdown()
    assert not database.exists()
    monkeypatch.setenv("SPANLEDGER_PORT", "not a number")
    exporter = LedgerSpanExporter()
    assert "SPANLEDGER_PORT" in caplog.text
    assert exporter.export([]) is SpanExportResult.FAILURE
    exporter.shutdown()


def test_spans_wait_in_the_spool_while_the_database_is_away(
    provider: TracerProvider, settings: Settings, database: Path, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    occupied(database)
    exporter = LedgerSpanExporter(settings=settings)
    with caplog.at_level(logging.WARNING):
        assert exporter.export(chats(provider, 5)) is SpanExportResult.SUCCESS
        assert not exporter.force_flush(timeout_millis=500)
    assert "spans wait in" in caplog.text
    assert len(caplog.records) == 1, "a quiet log: the same trouble is said once a minute"
    database.unlink()
    assert exporter.force_flush()
    assert exporter.delivery == (5, {})
    assert len(rows("llm_call_logs")) == 5
    exporter.shutdown()


def test_shutdown_ends_within_its_budget_and_the_next_process_stores_what_is_left(
    provider: TracerProvider, settings: Settings, database: Path, rows: Any
) -> None:
    occupied(database)
    exporter = LedgerSpanExporter(settings=settings, exit_budget=0.5)
    exporter.export(chats(provider, 4))
    begin = time.monotonic()
    exporter.shutdown()
    assert time.monotonic() - begin < 3.0
    assert exporter.export(chats(provider, 1)) is SpanExportResult.FAILURE
    database.unlink()

    successor = LedgerSpanExporter(settings=settings)
    successor.export(chats(provider, 1))
    assert successor.force_flush()
    successor.shutdown()
    assert len(rows("llm_call_logs")) == 5


def test_an_address_of_no_database_of_ours_costs_no_exception(
    provider: TracerProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = Settings(database_url="mysql://nobody@nowhere/nothing", spool_folder=str(tmp_path / "spool"))
    exporter = LedgerSpanExporter(settings=wrong, exit_budget=0.1)
    with caplog.at_level(logging.WARNING):
        assert exporter.export(chats(provider, 2)) is SpanExportResult.SUCCESS
        assert not exporter.force_flush(timeout_millis=300)
    assert "cannot store in 'mysql'" in caplog.text
    exporter.shutdown()


def test_without_a_folder_for_the_spool_it_says_so_and_works_in_memory(
    provider: TracerProvider, database: Path, tmp_path: Path, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").write_text("where a folder should be")
    with caplog.at_level(logging.WARNING):
        exporter = LedgerSpanExporter(
            settings=Settings(database_url=f"sqlite:///{database}", spool_folder=str(tmp_path / "a file" / "spool"))
        )
    assert "spans wait in memory" in caplog.text
    assert exporter.export(chats(provider, 3)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert len(rows("llm_call_logs")) == 3


def test_spans_the_sampler_did_not_choose_are_recorded_too(settings: Settings, rows: Any) -> None:
    provider = TracerProvider(sampler=RecordEverything(ALWAYS_OFF), shutdown_on_exit=False)
    keeper = Keeper()
    provider.add_span_processor(LedgerSpanProcessor(Pipeline(settings)))
    provider.add_span_processor(keeper)
    chats(provider, 2)
    assert provider.force_flush()
    assert len(rows("llm_call_logs")) == 2
    assert not any(span.context.trace_flags.sampled for span in keeper.spans if span.context)
    provider.shutdown()


def test_a_call_that_runs_for_long_stands_as_started_and_then_ends(
    provider: TracerProvider, settings: Settings, rows: Any
) -> None:
    provider.add_span_processor(LedgerSpanProcessor(Pipeline(settings)))
    span = provider.get_tracer("test").start_span("chat slowly", attributes=CHAT)
    assert provider.force_flush()
    assert [row["status"] for row in rows("llm_call_logs")] == ["started"]
    span.end()
    assert provider.force_flush()
    assert [row["status"] for row in rows("llm_call_logs")] == ["completed"]
    provider.shutdown()


def test_a_database_locked_by_another_process_delays_spans_only(
    provider: TracerProvider, settings: Settings, database: Path, rows: Any
) -> None:
    exporter = LedgerSpanExporter(settings=settings)
    spans = chats(provider, 4)
    exporter.export(spans[:1])
    assert exporter.force_flush()
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()
    assert exporter.export(spans[1:]) is SpanExportResult.SUCCESS
    assert time.monotonic() - begin < 1.0, "the application never waits for the database"
    holder.close()
    assert exporter.force_flush()
    assert len(rows("llm_call_logs")) == 4
    exporter.shutdown()
