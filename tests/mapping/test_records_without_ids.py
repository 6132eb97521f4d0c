"""Log records that name no span: whose content they are is known only while one call could have written them."""

from typing import Any

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.spans import LogEvent, Resource, SpanData
from spanledger.exporter.store import Store

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND


def call(number: int, begin: float, end: float, service: str = "shop") -> SpanData:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    return SpanData(
        trace_id=number,
        span_id=number,
        parent_span_id=None,
        name=f"chat {number}",
        kind=3,
        start_time=START + int(begin * SECOND),
        end_time=START + int(end * SECOND),
        status_code=0,
        status_message=None,
        attributes=attributes,
        events=[],
        resource=Resource(service, None),
        scope="emitter",
        scope_version="1",
        dropped_attributes=0,
    )


def answer(at: float, text: str, service: str = "shop") -> LogEvent:
    body = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return LogEvent(0, 0, "gen_ai.choice", START + int(at * SECOND), {}, body, "emitter", service)


def responses(store: Store) -> dict[str, Any]:
    with store.reading() as connection:
        rows = connection.execute(llm_call_logs.select()).all()
    return {row.name: row.response for row in rows}


def test_the_only_call_that_ran_then_has_said_it(store: Store) -> None:
    ledger = Ledger(store, PriceBook(), Redactor())
    ledger.record_events([answer(0.9, "Paris")])  # before its span
    ledger.record([call(1, 0, 1), call(2, 2, 3), call(3, 0, 1, service="another")])
    ledger.record_events([answer(2.5, "Rome")])  # after its span
    found = responses(store)
    assert "Paris" in found["chat 1"]
    assert "Rome" in found["chat 2"]
    assert found["chat 3"] is None


def test_two_calls_at_a_time_leave_it_unsaid_also_when_the_second_comes_later(store: Store) -> None:
    ledger = Ledger(store, PriceBook(), Redactor())
    ledger.record([call(1, 0, 1)])
    ledger.record_events([answer(0.5, "Paris")])
    assert "Paris" in responses(store)["chat 1"]
    ledger.record([call(2, 0.2, 0.8)])
    assert responses(store) == {"chat 1": None, "chat 2": None}
