"""One row tells the whole request, although two instrumentations shared the work of seeing it."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select

from spanledger.exporter.lineage import Family, settle
from spanledger.exporter.mapping import map_events, map_spans
from spanledger.exporter.records import Batch, LLMCall
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.spans import LogEvent, Resource, SpanData
from spanledger.exporter.store import Store

SECOND = 10**9
START = 1_760_000_000 * SECOND
SDK, FRAMEWORK = "com.anthropic.sdk.python", "opentelemetry.instrumentation.genai.anthropic"


def span(span_id: int, parent: int | None, scope: str, *, trace_id: int = 7, **attributes: Any) -> SpanData:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return SpanData(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name="chat claude-sonnet-4-5",
        kind=3,
        start_time=START + span_id,
        end_time=START + SECOND - span_id,
        status_code=0,
        status_message=None,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.response.id": "msg_1",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            **named,
        },
        events=(),
        resource=Resource(),
        scope=scope,
        scope_version="",
        dropped_attributes=0,
    )


OUTER = span(1, None, FRAMEWORK, gen_ai__input__messages="[]", gen_ai__output__messages="It is sunny.")
INNER = span(2, 1, SDK)
OUTERMOST = span(3, None, "opentelemetry.instrumentation.langchain", trace_id=9, gen_ai__output__messages="Sunny!")


def rows(store: Store) -> list[Any]:
    columns = [c for c in llm_call_logs.c if c.name not in ("created_at", "updated_at")]
    with store.reading() as connection:
        return connection.execute(select(*columns).order_by(llm_call_logs.c.id)).all()


def settled(*spans: SpanData) -> dict[str, LLMCall]:
    calls: Sequence[LLMCall] = settle(map_spans(spans).batch, Family()).batch.llm_calls
    return {call.span_id: call for call in calls}


def test_the_call_that_counts_borrows_what_only_its_duplicate_says() -> None:
    inner = settled(OUTER, INNER)[f"{2:016x}"]
    outer_id = settled(OUTER)[f"{1:016x}"].id
    assert inner.counted
    assert inner.response == "It is sunny."
    assert inner.inherited == f"response={outer_id}"


def test_a_call_that_speaks_for_itself_borrows_nothing() -> None:
    speaking = INNER._replace(attributes={**INNER.attributes, "gen_ai.output.messages": "My own word."})
    inner = settled(OUTER, speaking)[f"{2:016x}"]
    assert (inner.response, inner.inherited) == ("My own word.", None)


def test_two_requests_of_one_model_lend_each_other_nothing() -> None:
    other = INNER._replace(
        attributes={**INNER.attributes, "gen_ai.response.id": "msg_2", "gen_ai.usage.input_tokens": 5}
    )
    inner = settled(OUTER, other)[f"{2:016x}"]
    assert (inner.counted, inner.response) == (True, None)


@pytest.mark.parametrize("order", list(permutations((OUTER, INNER, OUTERMOST))))
def test_whatever_the_order_of_arrival_the_same_rows_tell_it(store: Store, order: Sequence[SpanData]) -> None:
    for arriving in order:
        store.write(map_spans([arriving]).batch)
        store.write(map_spans([arriving]).batch)
    apart = rows(store)
    together = settle(map_spans((OUTER, INNER, OUTERMOST)).batch, Family()).batch.llm_calls
    expected = {call.id: (call.counted, call.not_counted_reason, call.response, call.inherited) for call in together}
    assert {row.id: (row.counted, row.not_counted_reason, row.response, row.inherited) for row in apart} == expected


def test_content_is_taken_back_when_its_lender_is_no_duplicate_any_more(store: Store) -> None:
    middle = span(2, 1, SDK, gen_ai__response__id="")
    store.write(map_spans([OUTER, middle]).batch)
    assert {row.span_id: row.response for row in rows(store)}[f"{2:016x}"] == "It is sunny."
    store.write(map_spans([span(4, 2, "innermost")]).batch)
    said = {row.span_id: row.response for row in rows(store)}
    assert said[f"{4:016x}"] == "It is sunny."
    assert said[f"{2:016x}"] is None


def claude_code(name: str, **attributes: Any) -> LogEvent:
    return LogEvent(7, 1, name, START, attributes, f"claude_code.{name}", "com.anthropic.claude_code.events")


@pytest.mark.parametrize("late", [True, False])
def test_claude_codes_events_reach_the_request_they_name_and_not_the_span_they_stand_under(
    store: Store, late: bool
) -> None:
    request = span(2, 1, "com.anthropic.claude_code.tracing", span__type="llm_request", request_id="msg_1")
    events = map_events([
        claude_code("api_request", request_id="msg_1", model="claude-sonnet-4-5-20250929"),
        claude_code("assistant_response", request_id="msg_1", response="Sunny."),
        claude_code("assistant_response", request_id="another", response="Rain."),
    ])  # fmt: skip
    batches = [map_spans([request]).batch, Batch(contents=events)]
    for batch in batches if late else reversed(batches):
        store.write(batch)
    (row,) = rows(store)
    assert row.response_model == "claude-sonnet-4-5-20250929"
    assert '"Sunny."' in row.response
    assert "Rain" not in row.response
