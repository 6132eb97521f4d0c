"""What other backends than the ledger are told a call cost."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanledger.exporter.costed import Costed
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import from_sdk

CALL: Mapping[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 34,
}
UNKNOWN: Mapping[str, str | int] = {**CALL, "gen_ai.request.model": "nobody-knows-1"}
RATES = {"input": 10, "output": 20}
QUERY: Mapping[str, str | int] = {"db.system.name": "sqlite"}


def passed_on(attributes: Mapping[str, Any], settings: Settings, limits: SpanLimits | None = None) -> ReadableSpan:
    """What an exporter behind `Costed` gets of a span with *attributes*."""
    other = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits or SpanLimits())
    provider.add_span_processor(SimpleSpanProcessor(Costed(other, settings)))
    provider.get_tracer("app").start_span("chat", attributes=attributes).end()
    provider.shutdown()
    (span,) = other.get_finished_spans()
    return span


def costs(span: ReadableSpan) -> dict[str, Any]:
    prefix = "spanledger.cost."
    attributes = span.attributes or {}
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


def charged(span: ReadableSpan, settings: Settings) -> Any:
    """The money columns of the row that the ledger makes of *span*."""
    ledger = Ledger.open(settings)
    (row,) = ledger.prepare([from_sdk(span)]).batch.llm_calls
    ledger.close()
    return row


def test_a_call_carries_the_cost_of_its_row(sqlite: str) -> None:
    settings = Settings(database_url=sqlite)
    span = passed_on(CALL, settings)
    row = charged(span, settings)
    assert row.total_cost > 0
    assert costs(span) == {"input": row.input_cost, "output": row.output_cost, "total": row.total_cost}
    assert {name: value for name, value in (span.attributes or {}).items() if name in CALL} == CALL


@pytest.mark.parametrize("attributes", [UNKNOWN, QUERY])
def test_a_span_without_a_known_cost_carries_none(attributes: Mapping[str, Any]) -> None:
    span = passed_on(attributes, Settings())
    assert dict(span.attributes or {}) == attributes


def test_what_it_says_of_itself_otherwise_is_encoded_as_before() -> None:
    limits = SpanLimits(max_span_attributes=len(CALL))
    span = passed_on({"app.first": 1, **CALL}, Settings(), limits)
    (resource,) = encode_spans([span]).resource_spans
    (encoded,) = resource.scope_spans[0].spans
    assert (encoded.name, encoded.dropped_attributes_count) == ("chat", 1)
    assert {attribute.key for attribute in encoded.attributes} > CALL.keys()


def test_the_users_own_prices_decide(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"unit": "per_million", "prices": [{"model": "nobody-*", "match": "glob", **RATES}]}))
    span = passed_on(UNKNOWN, Settings(prices=str(prices)))
    assert costs(span)["total"] == pytest.approx(1200 * 10e-6 + 34 * 20e-6)


def test_a_span_makes_the_same_row_with_and_without_them(sqlite: str) -> None:
    settings = Settings(database_url=sqlite)
    span = passed_on(CALL, settings)
    plain = from_sdk(span)._replace(attributes=CALL)
    assert dict(plain.attributes) != dict(from_sdk(span).attributes)
    ledger = Ledger.open(settings)
    (row,), (same,) = (ledger.prepare([data]).batch.llm_calls for data in (from_sdk(span), plain))
    ledger.close()
    assert row == same


def test_prices_that_cannot_be_read_cost_the_other_backend_no_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANLEDGER_RAISE", "false")
    span = passed_on(CALL, Settings(prices=str(tmp_path / "nowhere.json")))
    assert dict(span.attributes or {}) == CALL
    assert "tell other exporters what calls cost" in caplog.text
