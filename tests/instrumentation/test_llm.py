"""One request to a model is one span and one call of the provider, streamed or not, however it ends."""

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from spanledger.instrumentation import LLM, LLMCallLogger, Reply, Request, Usage, execution, llm_call


class Parrot:
    """A custom provider: says the words of the prompt, and its usage with the last one."""

    name = "parrot"
    operation = "chat"
    address = None

    def __init__(self, fail_after: int | None = None) -> None:
        self.calls = 0
        self.closed = 0
        self._fail_after = fail_after

    def complete(self, request: Request) -> Reply:
        self.calls += 1
        return Reply(request.messages[-1]["content"], finish_reason="stop", usage=Usage(3, 2, raw={"words": 2}))

    async def acomplete(self, request: Request) -> Reply:
        return self.complete(request)

    def stream(self, request: Request) -> Iterator[Reply]:
        self.calls += 1
        try:
            for number, word in enumerate(request.messages[-1]["content"].split()):
                if number == self._fail_after:
                    raise ConnectionError("the line is dead")
                yield Reply(word, usage=Usage(3))
            yield Reply(finish_reason="stop", usage=Usage(3, number + 1))
        finally:
            self.closed += 1

    async def astream(self, request: Request) -> AsyncIterator[Reply]:
        for piece in self.stream(request):
            await asyncio.sleep(0)
            yield piece


def test_a_call_says_what_was_asked_and_what_came_back(spans: Any, wire: Any, completion: Callable[..., Any]) -> None:
    wire.answers_with(completion("Forty-two."))
    with LLM("gpt-4o-mini", temperature=0.5) as llm:
        assert llm.inference("Why?", system="Be brief.", max_tokens=9, metadata={"try": 1}) == "Forty-two."
    assert len(wire.requests) == 1
    sent = wire.requests[0]["body"]
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert spans.only.name == "chat gpt-4o-mini"
    assert spans.only.kind is SpanKind.CLIENT
    seen = spans.attributes()
    assert json.loads(seen.pop("gen_ai.input.messages")) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Why?"}]},
    ]
    assert json.loads(seen.pop("gen_ai.output.messages")) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Forty-two."}], "finish_reason": "stop"}
    ]
    assert json.loads(seen.pop("spanledger.usage.raw"))["prompt_tokens_details"] == {
        "cached_tokens": 64,
        "audio_tokens": 3,
    }
    assert seen == {
        "spanledger.kind": "llm_call",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "spanledger.call.type": "inference",
        "server.address": "127.0.0.1",
        "server.port": int(wire.url.rpartition(":")[2]),
        "spanledger.metadata": '{"try":1}',
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ("stop",),
        "spanledger.service_tier": "default",
        "spanledger.response": "Forty-two.",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 47,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 17,
        "gen_ai.usage.audio.input_tokens": 3,
        "gen_ai.usage.audio.output_tokens": 2,
        "spanledger.status": "completed",
    }


def test_a_call_in_an_execution_belongs_to_it(spans: Any) -> None:
    with execution("planner", "plan", report_id="r1") as run:
        LLM("parrot-1", provider=Parrot()).inference("hello", completion_id="c1")
    call = spans.named("chat parrot-1")
    assert call.parent.span_id == run.span.get_span_context().span_id
    assert call.attributes["spanledger.execution.id"] == run.execution_id
    assert call.attributes["spanledger.report.id"] == "r1"
    assert call.attributes["spanledger.completion.id"] == "c1"
    assert "spanledger.completion.id" not in spans.attributes("plan planner")


def test_what_start_execution_gave_can_be_the_execution_log_id(spans: Any) -> None:
    with execution("planner", "plan") as run:
        pass
    LLM("parrot-1", provider=Parrot()).inference("hello", execution_log_id=run)
    assert spans.attributes("chat parrot-1")["spanledger.execution_log.id"] == run.id


def test_a_provider_error_reaches_the_caller_unchanged_after_one_request(spans: Any, wire: Any) -> None:
    error = {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}
    wire.answers_with(error, status=404)
    with LLM("gpt-9") as llm, pytest.raises(openai.NotFoundError):
        llm.inference("hello")
    assert len(wire.requests) == 1
    seen = spans.attributes()
    assert seen["spanledger.status"] == "failed"
    assert seen["error.type"] == "openai.NotFoundError"
    assert "no such model" in seen["spanledger.error.message"]
    assert "gen_ai.usage.input_tokens" not in seen


def test_a_reply_we_cannot_read_still_reaches_the_caller(
    spans: Any, wire: Any, completion: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLEDGER_RAISE", "false")
    wire.answers_with(completion("paid for", usage={"prompt_tokens": "many", "completion_tokens": -1}))
    with LLM("gpt-4o-mini") as llm:
        assert llm.inference("hello") == "paid for"
    assert "gen_ai.usage.input_tokens" not in spans.attributes()
    assert json.loads(spans.attributes()["spanledger.usage.raw"]) == {"prompt_tokens": "many", "completion_tokens": -1}


def test_a_stream_counts_its_chunks_and_asks_for_its_usage(spans: Any, wire: Any, chunks: Callable[..., Any]) -> None:
    wire.answers_with(events=chunks("one ", "two ", "three"))
    with LLM("gpt-4o-mini") as llm:
        assert list(llm.inference_stream_sync("count")) == ["one ", "two ", "three"]
    assert wire.requests[0]["body"]["stream_options"] == {"include_usage": True}
    seen = spans.attributes()
    assert seen["gen_ai.request.stream"] is True
    assert seen["spanledger.stream.chunks"] == 3
    assert 0 < seen["gen_ai.response.time_to_first_chunk"] <= (spans.only.end_time - spans.only.start_time) / 1e9
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (120, 47)
    assert seen["spanledger.response"] == "one two three"
    assert seen["spanledger.status"] == "completed"


def test_a_stream_without_usage_has_none(spans: Any, wire: Any, chunks: Callable[..., Any]) -> None:
    wire.answers_with(events=chunks("one", usage=None))
    with LLM("gpt-4o-mini") as llm:
        assert list(llm.inference_stream_sync("count")) == ["one"]
    assert "gen_ai.usage.input_tokens" not in spans.attributes()


def test_a_stream_cut_off_in_the_middle_fails_and_keeps_what_came(
    spans: Any, wire: Any, chunks: Callable[..., Any]
) -> None:
    wire.answers_with(events=chunks("one ", "two ", "three")[:3], cut=True)
    with LLM("gpt-4o-mini") as llm:
        got: list[str] = []
        with pytest.raises(openai.APIConnectionError):
            got.extend(iter(llm.inference_stream_sync("count")))
    assert spans.attributes()["spanledger.status"] == "failed"
    assert spans.attributes()["spanledger.response"] == "one two "
    assert len(wire.requests) == 1


@pytest.mark.parametrize("how", ["break", "close", "with", "garbage"])
def test_a_stream_the_consumer_abandons_ends_exactly_once(spans: Any, how: str) -> None:
    parrot = Parrot()
    stream = LLM("parrot-1", provider=parrot).inference_stream_sync("a b c")
    if how == "with":
        with stream as words:
            assert next(words) == "a"
    else:
        for word in stream:
            assert word == "a"
            break
        if how == "close":
            stream.close()
            stream.close()
    del stream
    gc.collect()
    assert (parrot.calls, parrot.closed) == (1, 1)
    seen = spans.attributes()
    assert seen["spanledger.status"] == "cancelled"
    assert seen["spanledger.stream.chunks"] == 1
    assert seen["spanledger.response"] == "a"
    assert seen["gen_ai.usage.input_tokens"] == 3  # what was reported is kept


def test_a_stream_whose_model_had_finished_is_complete(spans: Any) -> None:
    class Brief(Parrot):
        def stream(self, request: Request) -> Iterator[Reply]:
            yield Reply("all", finish_reason="stop", usage=Usage(3, 1))

    next(LLM("parrot-1", provider=Brief()).inference_stream_sync("a"))
    gc.collect()
    assert spans.attributes()["spanledger.status"] == "completed"


@pytest.mark.parametrize("name", ["inference_stream", "inference_stream_sync"])
def test_a_stream_nobody_reads_asks_nobody(spans: Any, name: str) -> None:
    parrot = Parrot()
    getattr(LLM("parrot-1", provider=parrot), name)("a b")
    gc.collect()
    assert (parrot.calls, len(spans)) == (0, 0)


def test_an_error_in_the_middle_of_a_stream_reaches_the_consumer(spans: Any) -> None:
    stream = LLM("parrot-1", provider=Parrot(fail_after=1)).inference_stream_sync("a b c")
    assert next(stream) == "a"
    with pytest.raises(ConnectionError, match="the line is dead"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert spans.attributes()["spanledger.status"] == "failed"


def test_an_error_in_the_consumer_cancels_the_stream(spans: Any) -> None:
    def consume() -> None:
        for _ in LLM("parrot-1", provider=Parrot()).inference_stream_sync("a b"):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        consume()
    gc.collect()
    assert spans.attributes()["spanledger.status"] == "cancelled"


def test_what_the_consumer_does_between_chunks_is_not_beneath_the_call(spans: Any) -> None:
    with execution("answer", "execute") as run:
        for word in LLM("parrot-1", provider=Parrot()).inference_stream_sync("a b"):
            with execution("consumer", word):
                pass
    assert spans.named("a consumer").parent.span_id == run.span.get_span_context().span_id
    assert spans.named("chat parrot-1").parent.span_id == run.span.get_span_context().span_id


@pytest.mark.parametrize("how", ["break", "aclose", "async with", "cancel"])
def test_an_async_stream_the_consumer_abandons_ends_exactly_once(
    spans: Any, wire: Any, chunks: Callable[..., Any], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    answer = wire.answers_with(events=chunks("one ", "two ", "three"), hold_after=2)

    async def main() -> None:
        async with LLM("gpt-4o-mini") as llm:
            stream = llm.inference_stream("count")
            if how == "async with":
                async with stream:
                    assert await anext(stream) == "one "
            elif how == "cancel":
                assert await anext(stream) == "one "
                waiting = asyncio.create_task(anext(stream))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                async for chunk in stream:
                    assert chunk == "one "
                    break
            if how == "aclose":
                await stream.aclose()
            del stream
            assert spans.attributes()["spanledger.status"] == "cancelled"  # at once, not when the loop gets to it

    asyncio.run(main())
    answer.released.set()
    gc.collect()
    assert spans.attributes()["spanledger.stream.chunks"] == 1
    assert caplog.records == []


def test_an_async_stream_that_outlives_its_loop_ends_once(spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    kept = []

    async def main() -> None:
        stream = LLM("parrot-1", provider=Parrot()).inference_stream("a b")
        assert await anext(stream) == "a"
        kept.append(stream)

    asyncio.run(main())
    kept.clear()
    gc.collect()
    assert spans.attributes()["spanledger.status"] == "cancelled"
    assert caplog.records == []


def test_a_stream_left_open_when_the_interpreter_exits_has_ended(wire: Any, chunks: Callable[..., Any]) -> None:
    wire.answers_with(events=chunks("one ", "two"))
    program = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.attributes["spanledger.status"])
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from spanledger.instrumentation import LLM
stream = LLM("gpt-4o-mini").inference_stream_sync("count")
next(stream)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "cancelled"


def test_async_calls_and_streams_gathered_in_executions_find_their_own(spans: Any) -> None:
    llm = LLM("parrot-1", provider=Parrot())

    async def agent(name: str) -> str:
        async with execution(name, "run"):
            first = await llm.ainference(name)
            return first + "".join([word async for word in llm.inference_stream("x y")])

    async def main() -> list[str]:
        return await asyncio.gather(*(agent(f"a{number}") for number in range(5)))

    assert asyncio.run(main()) == [f"a{number}xy" for number in range(5)]
    runs = {span.context.span_id: span.name for span in spans.all if span.name.startswith("run")}
    calls = [runs[span.parent.span_id] for span in spans.all if span.name.startswith("chat")]
    assert sorted(calls) == sorted(2 * list(runs.values()))


def test_one_llm_serves_one_event_loop_after_the_other(spans: Any, wire: Any, completion: Callable[..., Any]) -> None:
    llm = LLM("gpt-4o-mini")

    async def ask() -> str:
        try:
            return await llm.ainference("again?")
        finally:
            await llm.aclose()

    for _ in range(2):
        wire.answers_with(completion("yes"))
        assert asyncio.run(ask()) == "yes"
    assert len(spans) == 2


def test_prices_are_those_of_the_model_that_answered_or_else_was_asked(spans: Any) -> None:
    logger = LLMCallLogger(token_prices={"asked": {"input": 1, "output": 2}, "answered": {"input": 3}})

    class Other(Parrot):
        def complete(self, request: Request) -> Reply:
            return Reply("a", model="answered")

    LLM("asked", logger, provider=Parrot()).inference("a")
    LLM("asked", logger, provider=Other()).inference("a")
    logger.token_prices["asked"] = {"input": 5, "output": 6}
    LLM("asked", logger, provider=Parrot()).inference("a")
    LLM("asked-too", logger, provider=Parrot()).inference("a")
    prices = [
        (span.attributes.get("spanledger.price.input"), span.attributes.get("spanledger.price.output"))
        for span in spans.all
    ]
    assert prices == [(1, 2), (3, None), (5, 6), (None, None)]


def test_a_call_of_ones_own_reads_the_sdk_response(spans: Any, wire: Any, completion: Callable[..., Any]) -> None:
    wire.answers_with(completion("Paris."))
    messages = [{"role": "user", "content": "Capital of France?"}]
    with openai.OpenAI() as client, llm_call("gpt-4o-mini", "openai", prompt=messages) as call:
        call.record(client.chat.completions.create(model="gpt-4o-mini", messages=messages))
    assert spans.attributes()["spanledger.response"] == "Paris."
    assert spans.attributes()["gen_ai.usage.input_tokens"] == 120
    assert "spanledger.prompt" not in spans.attributes()


def test_messages_keep_the_parts_otel_has_no_word_for(spans: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with llm_call("gpt-4o", "openai", prompt=[{"role": "user", "name": "ann", "content": [image]}]):
        pass
    assert json.loads(spans.attributes()["gen_ai.input.messages"]) == [
        {"role": "user", "name": "ann", "parts": [image]}
    ]


@pytest.mark.parametrize(
    ("model", "provider", "model_id"),
    [
        ("gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("claude-sonnet-5", "anthropic", "claude-sonnet-5"),
        ("gemini-2.5-flash", "gcp.gemini", "gemini-2.5-flash"),
        ("anthropic/claude-sonnet-5", "anthropic", "claude-sonnet-5"),
        ("meta-llama/Llama-3.1-8B", "openai", "meta-llama/Llama-3.1-8B"),
        (SimpleNamespace(model_id="m", provider="google"), "gcp.gemini", "m"),
        (SimpleNamespace(model_id="m", provider=SimpleNamespace(provider_type="Anthropic")), "anthropic", "m"),
        ({"model_id": "m", "provider": {"name": "openai"}, "credentials": {"api_key": "k"}}, "openai", "m"),
        (SimpleNamespace(model_id="claude-3", provider=None), "anthropic", "claude-3"),
    ],
    ids=str,
)
def test_a_model_is_a_name_or_an_object(spans: Any, model: Any, provider: str, model_id: str) -> None:
    llm = LLM(model)
    assert (llm._provider.name, llm.model_id) == (provider, model_id)


def test_credentials_of_the_model_are_used(
    spans: Any, wire: Any, completion: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    wire.answers_with(completion("ok"))
    owner = SimpleNamespace(provider_type="openai", credentials={"api_key": "from-the-model"})
    model = SimpleNamespace(model_id="gpt-4o", provider=owner, base_url=f"{wire.url}/v1")
    with LLM(model) as llm:
        llm.inference("hello")
    assert wire.requests[0]["headers"]["Authorization"] == "Bearer from-the-model"
    assert "from-the-model" not in str(spans.attributes())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_only_the_first_request_needs_is_no_part_of_its_duration(spans: Any, asynchronous: bool) -> None:
    class Slow(Parrot):
        prepared: list[Any]

        def prepare(self, asynchronous: bool) -> None:
            self.prepared = [asynchronous, trace.get_current_span()]

    parrot = Slow()
    llm = LLM("parrot-1", provider=parrot)
    assert (asyncio.run(llm.ainference("a")) if asynchronous else llm.inference("a")) == "a"
    assert parrot.prepared == [asynchronous, trace.INVALID_SPAN]


def test_an_sdk_that_is_not_installed_is_a_sentence_and_no_call(spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'spanledger\[openai\]'"):
        LLM("gpt-4o").inference("hello")
    assert len(spans) == 0


def test_a_provider_that_does_not_exist_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="There is no provider 'acme'; use one of openai, anthropic, google"):
        LLM("m", provider="acme")


def test_content_is_left_out_when_otel_says_so(spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "false")
    LLM("parrot-1", provider=Parrot()).inference("secret")
    assert "secret" not in str(spans.attributes())
    assert spans.attributes()["gen_ai.usage.input_tokens"] == 3
