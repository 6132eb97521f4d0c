"""LiteLLM, OpenLIT, Laminar, Claude Code, Haystack, and the SDKs that trace themselves."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from spanledger.exporter.charges import charge
from spanledger.exporter.lineage import Family, settle
from spanledger.exporter.mapping import map_spans
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData

Spans = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]


def settled_calls(*spans: SpanData) -> Sequence[LLMCall]:
    return settle(map_spans(spans).batch, Family()).batch.llm_calls


def litellm(operation: str = "chat", **attributes: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return {"gen_ai.operation.name": operation, "gen_ai.request.model": "gpt-4o", "gen_ai.system": "openai"} | named


@pytest.mark.parametrize(
    ("operation", "call_type"),
    [
        ("acompletion", "inference"),
        ("aembedding", "embedding"),
        ("arerank", "rerank"),
        ("responses", "inference"),
        ("atranscription", "transcription"),
    ],
)
def test_litellms_awaited_operations_are_what_their_plain_names_are(
    a_span: Spans, call_of: CallOf, operation: str, call_type: str
) -> None:
    assert call_of(a_span(litellm(operation), name="litellm_request", scope="litellm")).call_type == call_type


def test_litellms_raw_request_repeats_the_call_and_makes_no_row(a_span: Spans) -> None:
    raw = a_span({"llm.openai.usage": "{}"}, name="raw_gen_ai_request", scope="litellm")
    assert map_spans([raw]).skipped == 1


def test_litellms_nought_tokens_for_nought_dollars_are_an_unknown_usage(a_span: Spans, call_of: CallOf) -> None:
    said = litellm(gen_ai__usage__input_tokens=0, gen_ai__usage__output_tokens=0, gen_ai__cost__total_cost=0.0)
    call = call_of(a_span(said, name="litellm_request", scope="litellm"))
    assert (call.input_tokens, call.reported_cost) == (None, None)


def test_litellms_usage_object_gives_cached_and_one_hour_tokens_and_their_price(a_span: Spans, call_of: CallOf) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "prompt_tokens_details": {
            "cached_tokens": 300,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 500},
        },
        "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 300,
    }
    said = litellm(gen_ai__request__model="claude-sonnet-4-5", gen_ai__system="anthropic")
    call = call_of(a_span(said | {"metadata.usage_object": str(usage)}, name="litellm_request", scope="litellm"))
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (1000, 300, 500)
    # 200 fresh, 300 read, 500 written for an hour, 10 out: 3, 0.3, 6 and 15 dollars a million.
    assert charge(PriceBook(), call).total_cost == pytest.approx((200 * 3 + 300 * 0.3 + 500 * 6 + 10 * 15) / 1e6)


@pytest.mark.parametrize("text", ["{'a': __import__('os')}", "x" * 20_000, "[1, 2]", "{" * 500])
def test_a_usage_object_that_is_no_plain_dict_is_left_alone(a_span: Spans, call_of: CallOf, text: str) -> None:
    said = litellm(gen_ai__usage__input_tokens=7, metadata__usage_object=text)
    assert call_of(a_span(said, name="litellm_request", scope="litellm")).input_tokens == 7


def test_litellms_wrapped_response_ids_are_the_providers_own_again(a_span: Spans, call_of: CallOf) -> None:
    wrapped = base64.b64encode(b"litellm:custom_llm_provider:openai;model_id:None;response_id:resp_abc").decode()
    span = a_span(litellm(gen_ai__response__id=f"resp_{wrapped}"), name="litellm_request", scope="litellm")
    assert call_of(span).response_id == "resp_abc"
    plain = a_span(litellm(gen_ai__response__id="resp_abcd"), name="litellm_request", scope="litellm")
    assert call_of(plain).response_id == "resp_abcd"


def test_openlits_time_to_first_token_is_seconds_and_means_something_only_for_a_stream(
    a_span: Spans, call_of: CallOf
) -> None:
    said = {"gen_ai.operation.name": "chat", "gen_ai.server.time_to_first_token": 0.25}
    streamed = a_span(said | {"gen_ai.request.stream": True}, scope="openlit.instrumentation.openai")
    assert call_of(streamed).time_to_first_token_ms == 250
    whole = a_span(said | {"gen_ai.request.stream": False}, scope="openlit.instrumentation.openai")
    assert call_of(whole).time_to_first_token_ms is None


def test_openlits_anthropic_input_leaves_the_cache_out_and_its_openai_input_does_not(
    a_span: Spans, call_of: CallOf
) -> None:
    usage = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 40,
    }
    assert call_of(a_span(usage, scope="openlit.instrumentation.anthropic")).input_tokens == 140
    assert call_of(a_span(usage, scope="openlit.instrumentation.openai")).input_tokens == 100


def test_what_openlit_guessed_for_a_stream_without_usage_is_not_taken_for_usage(a_span: Spans, call_of: CallOf) -> None:
    guess = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.stream": True,
        "openai.api.type": "chat_completions",
        "gen_ai.usage.input_tokens": 36,
        "gen_ai.usage.output_tokens": 19,
        "gen_ai.client.token.usage": 55,
        "gen_ai.usage.cost": 0.001,
    }
    call = call_of(a_span(guess, scope="openlit.instrumentation.openai"))
    assert (call.input_tokens, call.output_tokens, call.reported_cost) == (None, None, None)
    assert json.loads(call.usage_raw or "")["gen_ai.usage.input_tokens"] == 36
    reported = guess | {"gen_ai.usage.cache_read.input_tokens": 0}
    assert call_of(a_span(reported, scope="openlit.instrumentation.openai")).input_tokens == 36


def test_an_agent_that_names_its_model_and_answers_was_answered_by_calls_nobody_traced(
    a_span: Spans, call_of: CallOf
) -> None:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4o", "gen_ai.output.messages": "Hi."}
    agent = a_span(said)
    call = call_of(agent)
    assert (call.call_type, call.model_id, call.response, call.input_tokens) == ("rollup", "gpt-4o", "Hi.", None)
    inner = a_span({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}, parent=agent)
    assert call_of(agent, inner).call_type == "inference"


def test_a_sum_is_not_given_up_for_a_nearer_agent_that_knows_none(a_span: Spans, call_of: CallOf) -> None:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4o", "gen_ai.output.messages": "Hi."}
    team = a_span(said | {"gen_ai.usage.input_tokens": 9})
    member = a_span(said, parent=team)
    counted = [call for call in settled_calls(team, member) if call.counted and call.input_tokens]
    assert [call.input_tokens for call in counted] == [9]


def test_laminar_says_what_a_span_is_and_what_the_user_attached(a_span: Spans, executions_of: ExecutionsOf) -> None:
    (row,) = executions_of(
        a_span(
            {
                "lmnr.span.type": "TOOL",
                "lmnr.span.input": '{"city":"Paris"}',
                "lmnr.span.path": ["flow", "get_weather"],
                "lmnr.association.properties.metadata.k": "v",
            },
            name="get_weather",
        )
    )
    assert (row.execution_step, row.action_type, row.input_data) == ("execute_tool", "get_weather", '{"city":"Paris"}')
    assert json.loads(row.metadata or "") == {"k": "v"}


def test_an_answer_laminar_took_from_its_cache_does_not_count(a_span: Spans) -> None:
    [row] = map_spans([a_span({"lmnr.span.type": "CACHED", "gen_ai.usage.input_tokens": 9})]).batch.llm_calls
    assert (row.counted, row.not_counted_reason) == (False, "framework_cache_hit")


def claude_code(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"span.type": kind, "gen_ai.provider.name": "anthropic", **attributes}


def test_claude_codes_bare_input_leaves_the_cache_out(a_span: Spans, call_of: CallOf) -> None:
    usage = {"input_tokens": 100, "output_tokens": 5, "cache_read_tokens": 40, "cache_creation_tokens": 10}
    said = claude_code("llm_request", model="claude-sonnet-4-5", ttft_ms=64, **usage)
    call = call_of(a_span(said, scope="com.anthropic.claude_code.tracing"))
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (150, 40, 10)
    assert (call.model_id, call.time_to_first_token_ms) == ("claude-sonnet-4-5", 64)


def test_claude_codes_failure_stands_in_an_attribute_and_not_in_the_status(a_span: Spans, call_of: CallOf) -> None:
    said = claude_code("llm_request", success=False, error="overloaded")
    call = call_of(a_span(said, scope="com.anthropic.claude_code.tracing"))
    assert (call.status, call.error_message) == ("failed", "overloaded")


def test_the_halves_of_claude_codes_tool_span_make_no_rows(a_span: Spans, executions_of: ExecutionsOf) -> None:
    scope = "com.anthropic.claude_code.tracing"
    tool = a_span(claude_code("tool", tool_name="Bash", full_command="ls"), scope=scope)
    halves = [
        a_span(claude_code(f"tool.{half}"), scope=scope, parent=tool) for half in ("execution", "blocked_on_user")
    ]
    (row,) = executions_of(tool, *halves)
    assert (row.action_type, row.input_data) == ("Bash", '"ls"')


@pytest.mark.parametrize(
    ("served", "provider"), [("firstParty", "anthropic"), ("bedrock", "bedrock"), ("vertex", "google")]
)
def test_claude_code_says_whose_endpoint_it_asked(a_span: Spans, call_of: CallOf, served: str, provider: str) -> None:
    said = claude_code("llm_request", **{"anthropic.provider": served})
    assert call_of(a_span(said, scope="com.anthropic.claude_code.tracing")).provider == provider


def test_anthropics_own_one_hour_writes_are_charged_as_such(a_span: Spans, call_of: CallOf) -> None:
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_write.input_tokens": 1000,
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 1000,
        "anthropic.message.stop_reason": "end_turn",
    }
    call = call_of(a_span(said, scope="com.anthropic.sdk.python"))
    assert call.finish_reason == "end_turn"
    assert charge(PriceBook(), call).total_cost == pytest.approx(1000 * 6 / 1e6)


def test_mistrals_first_own_spans_are_calls_without_an_operation(a_span: Spans, call_of: CallOf) -> None:
    said = {"gen_ai.request.model": "mistral-small-latest", "gen_ai.usage.prompt_tokens": 9}
    chat = a_span(said, name="chat_completion_v1_chat_completions_post", scope="mistralai_sdk_tracer")
    assert call_of(chat).call_type == "inference"
    embed = a_span(said, name="embeddings_v1_embeddings_post", scope="mistralai_sdk_tracer")
    assert call_of(embed).call_type == "embedding"


def haystack(kind: str, **attributes: Any) -> dict[str, Any]:
    said = {"haystack.component.name": kind.lower(), "haystack.component.type": kind}
    return said | {f"haystack.component.{name}": json.dumps(value) for name, value in attributes.items()}


def test_a_haystack_generator_that_shows_its_reply_is_a_call(a_span: Spans, call_of: CallOf) -> None:
    meta = {
        "model": "gpt-4o-mini-2024-07-18",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
    }
    said = haystack(
        "OpenAIChatGenerator",
        input={"messages": [{"role": "user", "content": [{"text": "Weather?"}]}]},
        output={"replies": [{"role": "assistant", "content": [{"text": "Sunny."}], "meta": meta}]},
    )
    call = call_of(a_span(said, name="haystack.component.run", scope="haystack"))
    assert (call.provider, call.model_id, call.finish_reason) == ("openai", "gpt-4o-mini-2024-07-18", "stop")
    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens) == (12, 3, 4)
    assert json.loads(call.prompt or "")[0]["content"] == "Weather?"
    assert json.loads(call.response or "")[0]["content"] == "Sunny."


def test_haystacks_steps_keep_their_places(a_span: Spans, executions_of: ExecutionsOf) -> None:
    pipeline = a_span({"haystack.pipeline.input_data": "{}"}, name="haystack.pipeline.run", scope="haystack")
    retriever = a_span(haystack("InMemoryBM25Retriever"), name="haystack.component.run", parent=pipeline)
    agent = a_span({"haystack.agent.max_steps": 5}, name="haystack.agent.run", parent=pipeline)
    step = a_span(name="haystack.agent.step", scope="haystack", parent=agent)
    tool = a_span({"haystack.tool.name": "search"}, name="haystack.agent.step.tool", parent=step)
    rows = {row.execution_step: row for row in executions_of(pipeline, retriever, agent, step, tool)}
    assert rows.keys() == {"workflow", "retrieval", "invoke_agent", "execute_tool"}
    assert rows["execute_tool"].parent_id == rows["invoke_agent"].id
    assert rows["execute_tool"].action_type == "search"
