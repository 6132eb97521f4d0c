"""The Vercel AI SDK's traps: functions around requests that repeat their usage, NaN, and three ways to count."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from spanledger.exporter.mapping import map_spans
from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData

Spans = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]


def request(provider: str = "openai.chat", **usage: Any) -> dict[str, Any]:
    said = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "gpt-4o", "ai.model.provider": provider}
    return said | {name.replace("__", "."): value for name, value in usage.items()}


def test_the_function_around_its_requests_is_an_agent_and_no_call(
    a_span: Spans, call_of: CallOf, executions_of: Callable[..., list[Execution]]
) -> None:
    around = a_span({"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 30, "ai.usage.completionTokens": 3})
    inside = a_span(request(ai__usage__promptTokens=10, ai__usage__completionTokens=1), parent=around)
    call = call_of(around, inside)
    assert (call.span_id, call.input_tokens) == (f"{inside.span_id:016x}", 10)
    assert [row.execution_step for row in executions_of(around, inside)] == ["invoke_agent"]


def test_nan_is_not_a_number_of_tokens(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(a_span(request(ai__usage__promptTokens=math.nan, ai__usage__completionTokens=math.nan)))
    assert (call.input_tokens, call.output_tokens, call.metadata) == (None, None, None)


@pytest.mark.parametrize(
    ("provider", "details", "expected"),
    [
        ("openai.chat", {}, 100),
        ("anthropic.messages", {}, 140),
        ("amazon-bedrock", {}, 140),
        ("anthropic.messages", {"ai__usage__inputTokenDetails__cacheReadTokens": 40}, 100),
    ],
)
def test_input_leaves_the_cache_out_where_the_provider_did_and_version_6_did_not_count_anew(
    a_span: Spans, call_of: CallOf, provider: str, details: dict[str, int], expected: int
) -> None:
    usage = {"ai__usage__inputTokens": 100, "ai__usage__outputTokens": 5, "ai__usage__cachedInputTokens": 40}
    assert call_of(a_span(request(provider, **usage, **details))).input_tokens == expected


def test_geminis_thoughts_join_the_output_they_were_left_out_of(a_span: Spans, call_of: CallOf) -> None:
    usage = {"ai__usage__inputTokens": 100, "ai__usage__outputTokens": 5, "ai__usage__reasoningTokens": 20}
    assert call_of(a_span(request("google.generative-ai", **usage))).output_tokens == 25
    assert call_of(a_span(request("openai.responses", **usage))).output_tokens == 5


def test_counts_that_stand_only_in_the_providers_metadata_are_read(a_span: Spans, call_of: CallOf) -> None:
    metadata = {"openai": {"cachedPromptTokens": 64, "reasoningTokens": 16, "serviceTier": "flex"}}
    call = call_of(
        a_span(
            request(
                ai__usage__promptTokens=100,
                ai__usage__completionTokens=30,
                ai__response__providerMetadata=json.dumps(metadata),
            )
        )
    )
    assert (call.cache_read_tokens, call.reasoning_tokens, call.service_tier) == (64, 16, "flex")


def test_an_answer_of_calls_and_text_is_one_message(a_span: Spans, call_of: CallOf) -> None:
    calls = [{"toolCallId": "c1", "toolName": "get_weather", "input": '{"city":"Paris"}'}]
    call = call_of(a_span(request(ai__response__text="Let me see.", ai__response__toolCalls=json.dumps(calls))))
    assert json.loads(call.response or "") == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "name": "get_weather", "arguments": {"city": "Paris"}}],
        }
    ]


def test_what_the_caller_attached_is_metadata_under_its_own_name(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(a_span(request(ai__telemetry__metadata__userId="u", ai__telemetry__metadata__tenant="t")))
    assert (call.external_user_id, json.loads(call.metadata or "")) == ("u", {"tenant": "t"})


def test_embedding_many_values_is_one_call_of_their_texts(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(
        a_span({"ai.operationId": "ai.embedMany.doEmbed", "ai.values": ['"a"', '"b"'], "ai.usage.tokens": 7})
    )
    assert (call.call_type, call.input_tokens) == ("embedding", 7)
    assert [m["content"] for m in json.loads(call.prompt or "")] == ["a", "b"]


def test_an_operation_nobody_knows_yet_makes_no_row(a_span: Spans) -> None:
    assert map_spans([a_span({"ai.operationId": "ai.somethingNew"}, scope="ai")]).skipped == 1
