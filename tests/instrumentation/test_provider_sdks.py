"""The real SDKs of Anthropic, Google and OpenAI against their wire formats: usage is read in OTel's meaning."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from spanledger.instrumentation import LLM, LLMCallLogger
from spanledger.instrumentation.providers import anthropic as anthropic_provider
from spanledger.instrumentation.providers import google as google_provider
from spanledger.instrumentation.providers import openai as openai_provider

ANTHROPIC_USAGE = {
    "input_tokens": 200,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 30,
    "output_tokens": 47,
    "output_tokens_details": {"thinking_tokens": 20},
    "service_tier": "standard",
}
GOOGLE_USAGE = {
    "promptTokenCount": 120,
    "cachedContentTokenCount": 50,
    "candidatesTokenCount": 40,
    "thoughtsTokenCount": 17,
    "toolUsePromptTokenCount": 11,
    "totalTokenCount": 188,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}, {"modality": "AUDIO", "tokenCount": 20}],
}
TOKENS = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "read": "gen_ai.usage.cache_read.input_tokens",
    "write": "gen_ai.usage.cache_write.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
    "audio": "gen_ai.usage.audio.input_tokens",
}
ANTHROPIC_TOKENS = {"input": 1230, "output": 47, "read": 1000, "write": 30, "reasoning": 20}
GOOGLE_TOKENS = {"input": 131, "output": 57, "read": 50, "reasoning": 17, "audio": 20}


def tokens(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: seen[attribute] for name, attribute in TOKENS.items() if attribute in seen}


def anthropic_message(*texts: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-20260401",
        "content": [{"type": "text", "text": text} for text in texts],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def anthropic_events(*texts: str) -> list[dict[str, Any]]:
    start = {**anthropic_message(), "stop_reason": None}
    start["usage"] = {**ANTHROPIC_USAGE, "output_tokens": 1, "output_tokens_details": None}
    end = {"output_tokens": 47, "output_tokens_details": {"thinking_tokens": 20}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": end},
        {"type": "message_stop"},
    ]


def google_response(text: str, *, usage: Any = GOOGLE_USAGE, finish_reason: str | None = "STOP") -> dict[str, Any]:
    thought = {"text": "let me think", "thought": True}
    return {
        "responseId": "resp-1",
        "modelVersion": "gemini-2.5-flash-001",
        "candidates": [
            {"content": {"role": "model", "parts": [thought, {"text": text}]}, "finishReason": finish_reason}
        ],
        "usageMetadata": usage,
    }


def test_anthropic_input_includes_what_the_cache_served_and_took(spans: Any, wire: Any) -> None:
    wire.answers_with(anthropic_message("Bon", "jour"))
    with LLM("claude-sonnet-5") as llm:
        assert llm.inference("Greet me", system="In French.", stop_sequences=["."]) == "Bonjour"
    sent = wire.requests[0]["body"]
    assert wire.requests[0]["path"] == "/v1/messages"
    assert (sent["system"], sent["stop_sequences"], sent["max_tokens"]) == ("In French.", ["."], 4096)
    assert sent["messages"] == [{"role": "user", "content": "Greet me"}]
    seen = spans.attributes()  # the only span: the SDK's own is off
    assert tokens(seen) == ANTHROPIC_TOKENS
    assert json.loads(seen["spanledger.usage.raw"]) == ANTHROPIC_USAGE
    assert seen["gen_ai.provider.name"] == "anthropic"
    assert seen["gen_ai.response.id"] == "msg_1"
    assert seen["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert seen["spanledger.service_tier"] == "standard"


def test_an_anthropic_stream_tells_its_usage_in_two_parts(spans: Any, wire: Any) -> None:
    wire.answers_with(events=anthropic_events("Bon", "jour"))
    with LLM("claude-sonnet-5") as llm:
        assert list(llm.inference_stream_sync("Greet me")) == ["Bon", "jour"]
    seen = spans.attributes()
    assert tokens(seen) == ANTHROPIC_TOKENS
    assert seen["spanledger.stream.chunks"] == 2
    assert seen["spanledger.status"] == "completed"


def test_an_abandoned_anthropic_stream_knows_its_input_and_not_its_output(spans: Any, wire: Any) -> None:
    wire.answers_with(events=anthropic_events("Bon", "jour"))

    async def main() -> None:
        async with LLM("claude-sonnet-5") as llm:
            async for _ in llm.inference_stream("Greet me"):
                break

    asyncio.run(main())
    gc.collect()
    seen = spans.attributes()
    assert tokens(seen) == {"input": 1230, "read": 1000, "write": 30}
    assert seen["spanledger.status"] == "cancelled"


def test_an_anthropic_client_of_ones_own_keeps_its_span_within_ours(spans: Any, wire: Any) -> None:
    wire.answers_with(anthropic_message("Bonjour"))
    with anthropic.Anthropic() as client:
        provider = anthropic_provider.Anthropic(client=client)
        LLM("claude-sonnet-5", provider=provider).inference("Greet me")
    inner, outer = spans.all
    assert inner.instrumentation_scope.name == "com.anthropic.sdk.python"
    assert inner.parent.span_id == outer.context.span_id


def test_google_input_includes_tools_and_output_includes_thoughts(spans: Any, wire: Any) -> None:
    wire.answers_with(google_response("Ciao"))
    with LLM("gemini-2.5-flash") as llm:
        messages = [
            {"role": "system", "content": "In Italian."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Salve"},
            {"role": "user", "content": "Less formal"},
        ]
        assert llm.inference(messages, max_tokens=50) == "Ciao"
    sent = wire.requests[0]["body"]
    assert wire.requests[0]["path"].endswith("/models/gemini-2.5-flash:generateContent")
    assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]
    assert sent["systemInstruction"]["parts"] == [{"text": "In Italian."}]
    assert sent["generationConfig"] == {"maxOutputTokens": 50}
    seen = spans.attributes()
    assert spans.only.name == "generate_content gemini-2.5-flash"
    assert tokens(seen) == GOOGLE_TOKENS
    assert json.loads(seen["spanledger.usage.raw"]) == GOOGLE_USAGE
    assert seen["gen_ai.provider.name"] == "gcp.gemini"
    assert seen["gen_ai.response.finish_reasons"] == ("stop",)
    assert seen["gen_ai.response.model"] == "gemini-2.5-flash-001"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_google_stream_reports_usage_that_grows(spans: Any, wire: Any, asynchronous: bool) -> None:
    growing = {**GOOGLE_USAGE, "candidatesTokenCount": 3}
    wire.answers_with(events=[google_response("Ci", usage=growing, finish_reason=None), google_response("ao")])

    async def main() -> list[str]:
        async with LLM("gemini-2.5-flash") as llm:
            return [chunk async for chunk in llm.inference_stream("Greet me")]

    if asynchronous:
        assert asyncio.run(main()) == ["Ci", "ao"]
    else:
        with LLM("gemini-2.5-flash") as llm:
            assert list(llm.inference_stream_sync("Greet me")) == ["Ci", "ao"]
    assert tokens(spans.attributes()) == GOOGLE_TOKENS
    assert spans.attributes()["spanledger.stream.chunks"] == 2
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("model", "body", "text"),
    [("claude-sonnet-5", anthropic_message("Hi"), "Hi"), ("gemini-2.5-flash", google_response("Hi"), "Hi")],
)
def test_the_async_twin_says_the_same(spans: Any, wire: Any, model: str, body: Any, text: str) -> None:
    async def main() -> str:
        async with LLM(model) as llm:
            return await llm.ainference("Greet me")

    wire.answers_with(body)
    assert asyncio.run(main()) == text
    assert tokens(spans.attributes()) in (ANTHROPIC_TOKENS, GOOGLE_TOKENS)


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("gpt-4o", openai.BadRequestError),
        ("claude-sonnet-5", anthropic.BadRequestError),
        ("gemini-2.5-flash", genai.errors.ClientError),
    ],
)
def test_the_error_of_every_sdk_is_raised_on_and_recorded(
    spans: Any, wire: Any, model: str, error: type[Exception]
) -> None:
    wire.answers_with({"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}, status=400)
    with LLM(model) as llm, pytest.raises(error):
        llm.inference("Greet me")
    assert len(wire.requests) == 1
    assert spans.attributes()["error.type"] == f"{error.__module__}.{error.__qualname__}"


def test_clients_of_ones_own_are_used(spans: Any, wire: Any, completion: Callable[..., Any]) -> None:
    wire.answers_with(completion("Hi"))
    wire.answers_with(google_response("Hi"))
    with openai.OpenAI(api_key="mine") as client, genai.Client(api_key="mine") as google_client:
        LLM("gpt-4o", provider=openai_provider.OpenAI(client=client)).inference("Hello")
        LLM("gemini-2.5-flash", provider=google_provider.Google(client=google_client)).inference("Hello")
    assert wire.requests[0]["headers"]["Authorization"] == "Bearer mine"
    assert wire.requests[1]["headers"]["x-goog-api-key"] == "mine"


def test_streams_of_ones_own_pass_unchanged_and_are_read(spans: Any, wire: Any, chunks: Callable[..., Any]) -> None:
    wire.answers_with(events=chunks("one ", "two"))
    wire.answers_with(events=anthropic_events("Bon", "jour"))
    logger = LLMCallLogger()
    with openai.OpenAI() as client:
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[], stream=True, stream_options={"include_usage": True}
        )
        seen = list(logger.log_streaming(stream, "openai", "gpt-4o"))
    assert [type(chunk).__name__ for chunk in seen] == ["ChatCompletionChunk"] * 5
    with anthropic.Anthropic(open_telemetry=False) as client:
        events = client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=[], stream=True)
        assert len(list(logger.log_streaming(events, "anthropic", "claude-sonnet-5"))) == 7  # the SDK keeps the ping
    first, second = (dict(span.attributes) for span in spans.all)
    assert (tokens(first)["input"], first["spanledger.response"]) == (120, "one two")
    assert (tokens(second), second["spanledger.response"]) == (ANTHROPIC_TOKENS, "Bonjour")


def test_a_stream_may_be_refused_its_usage(spans: Any, wire: Any, chunks: Callable[..., Any]) -> None:
    wire.answers_with(events=chunks("one", usage=None))
    with LLM("local-model", provider=openai_provider.OpenAI(stream_usage=False)) as llm:
        assert list(llm.inference_stream_sync("count")) == ["one"]
    assert "stream_options" not in wire.requests[0]["body"]
