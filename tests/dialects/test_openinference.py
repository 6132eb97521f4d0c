"""What OpenInference spans say, and where they mislead."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData, SpanEvent

MakeSpan = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

LLM = {"openinference.span.kind": "LLM", "llm.provider": "openai"}


def messages(call: LLMCall) -> tuple[Any, Any]:
    return json.loads(call.prompt or "null"), json.loads(call.response or "null")


def test_spelled_out_messages_become_one_list_in_order_of_their_numbers(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = LLM | {
        "llm.input_messages.10.message.role": "user",
        "llm.input_messages.10.message.content": "and now?",
        "llm.input_messages.2.message.role": "tool",
        "llm.input_messages.2.message.content": "18C",
        "llm.input_messages.2.message.tool_call_id": "call_1",
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.message.tool_calls.0.tool_call.id": "call_1",
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.name": "get_weather",
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments": '{"city": "Paris"}',
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
        "llm.output_messages.0.message.contents.0.message_content.text": "Let me think.",
        "llm.output_messages.0.message.contents.1.message_content.type": "text",
        "llm.output_messages.0.message.contents.1.message_content.text": "Sunny.",
    }
    prompt, response = messages(call_of(a_span(attributes)))
    assert prompt == [
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}],
        },
        {"role": "tool", "content": "18C", "tool_call_id": "call_1"},
        {"role": "user", "content": "and now?"},
    ]
    assert response == [{"role": "assistant", "reasoning": "Let me think.", "content": "Sunny."}]


def test_images_stay_parts_beside_the_text(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = LLM | {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "What is this?",
        "llm.input_messages.0.message.contents.1.message_content.type": "image",
        "llm.input_messages.0.message.contents.1.message_content.image.image.url": "https://example.com/cat.png",
    }
    prompt, _ = messages(call_of(a_span(attributes)))
    assert prompt[0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "image": {"url": "https://example.com/cat.png"}},
    ]


def test_one_model_name_is_the_answering_model_when_the_request_named_another(
    a_span: MakeSpan, call_of: CallOf
) -> None:
    call = call_of(
        a_span(LLM | {"llm.model_name": "gpt-4o-2024-08-06", "llm.invocation_parameters": '{"model": "gpt-4o"}'})
    )
    assert (call.model_id, call.response_model) == ("gpt-4o", "gpt-4o-2024-08-06")


def test_one_model_name_is_the_requested_model_when_nothing_else_is_known(a_span: MakeSpan, call_of: CallOf) -> None:
    call = call_of(a_span(LLM | {"llm.model_name": "gpt-4o"}))
    assert (call.model_id, call.response_model) == ("gpt-4o", None)


def test_the_body_of_the_response_adds_what_attributes_leave_out(a_span: MakeSpan, call_of: CallOf) -> None:
    body = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "service_tier": "flex",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 64}},
    }
    attributes = {"llm.model_name": "gpt-4o", "output.value": json.dumps(body), "llm.token_count.prompt": 100}
    call = call_of(a_span(LLM | attributes | {"llm.token_count.completion": 20}))
    assert (call.response_id, call.response_model, call.finish_reason) == ("chatcmpl-1", "gpt-4o-2024-08-06", "stop")
    assert (call.service_tier, call.input_tokens, call.cache_read_tokens) == ("flex", 100, 64)


@pytest.mark.parametrize(("reported", "expected"), [(100, 1_300), (1_300, 1_300)])
def test_anthropics_own_count_on_the_span_is_known_by_the_body_beside_it(
    a_span: MakeSpan, call_of: CallOf, reported: int, expected: int
) -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 1_000,
        "cache_creation_input_tokens": 200,
    }
    body = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": usage}
    attributes = LLM | {"llm.token_count.prompt": reported, "llm.token_count.completion": 20}
    assert call_of(a_span(attributes | {"output.value": json.dumps(body)})).input_tokens == expected


def test_a_small_cache_outside_the_input_is_known_by_the_body_too(a_span: MakeSpan, call_of: CallOf) -> None:
    usage = {"input_tokens": 1_000, "output_tokens": 20, "cache_read_input_tokens": 10}
    body = {"id": "msg_1", "role": "assistant", "content": [], "usage": usage}
    attributes = LLM | {"llm.token_count.prompt": 1_000, "llm.token_count.completion": 20}
    assert call_of(a_span(attributes | {"output.value": json.dumps(body)})).input_tokens == 1_010


def test_the_first_token_makes_a_call_a_stream_and_says_when(a_span: MakeSpan, call_of: CallOf) -> None:
    span = a_span(LLM)
    event = SpanEvent("First Token Stream Event", span.start_time + 250_000_000, {})
    call = call_of(span._replace(events=[event]))
    assert (call.call_type, call.is_streaming, call.time_to_first_token_ms) == ("inference_stream", True, 250)


def test_a_users_span_is_no_stream_because_of_its_name(a_span: MakeSpan, call_of: CallOf) -> None:
    assert not call_of(a_span(LLM, name="downstream", scope="my.app")).is_streaming
    assert call_of(a_span(LLM, name="astream_chat", scope="openinference.instrumentation.llama_index")).is_streaming


def test_litellms_provider_prefix_is_no_part_of_the_model(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = {"openinference.span.kind": "LLM", "llm.model_name": "groq/llama-3.3-70b-versatile"}
    call = call_of(a_span(attributes, scope="openinference.instrumentation.litellm"))
    assert (call.provider, call.model_id) == ("groq", "llama-3.3-70b-versatile")


def test_llama_indexs_preparations_are_no_calls(a_span: MakeSpan, call_of: CallOf) -> None:
    scope = "openinference.instrumentation.llama_index"
    agent = a_span({"openinference.span.kind": "AGENT"}, name="FunctionAgent.run", scope=scope)
    prepared = a_span(LLM, name="OpenAI._prepare_chat_with_tools", scope=scope, parent=agent)
    called = a_span(LLM, name="OpenAI.achat", scope=scope, parent=agent)
    assert call_of(agent, prepared, called).name == "OpenAI.achat"


def test_an_agents_own_sum_stands_in_only_while_nobody_saw_its_calls(a_span: MakeSpan, call_of: CallOf) -> None:
    usage = {"llm.token_count.prompt": 300, "llm.token_count.completion": 30}
    agent = a_span({"openinference.span.kind": "AGENT", "llm.model_name": "claude-sonnet-4-5"} | usage)
    alone = call_of(agent)
    assert (alone.call_type, alone.model_id, alone.input_tokens) == ("rollup", "claude-sonnet-4-5", 300)
    seen = call_of(agent, a_span(LLM | usage, parent=agent))
    assert seen.call_type == "inference"


def test_a_crews_usage_is_read_from_its_output(a_span: MakeSpan, call_of: CallOf) -> None:
    usage = {"prompt_tokens": 500, "completion_tokens": 50, "total_tokens": 550, "cached_prompt_tokens": 256}
    output = json.dumps({"raw": "Sunny.", "token_usage": usage})
    attributes = {"openinference.span.kind": "CHAIN", "output.value": output}
    call = call_of(a_span(attributes, scope="openinference.instrumentation.crewai"))
    assert (call.call_type, call.input_tokens, call.output_tokens, call.cache_read_tokens) == ("rollup", 500, 50, 256)


def test_output_counted_when_the_messages_had_only_begun_is_not_taken_for_output(
    a_span: MakeSpan, call_of: CallOf
) -> None:
    usage = {"llm.token_count.prompt": 451, "llm.token_count.completion": 2, "llm.token_count.total": 453}
    agent = {"openinference.span.kind": "AGENT", "llm.model_name": "claude-sonnet-4-5"} | usage
    scope = "openinference.instrumentation.claude_agent_sdk"
    summed_up = call_of(a_span(agent, scope=scope))
    from_messages = call_of(a_span(agent | {"llm.output_messages.0.message.role": "assistant"}, scope=scope))
    assert (summed_up.output_tokens, from_messages.output_tokens) == (2, None)
    assert (summed_up.input_tokens, from_messages.input_tokens) == (451, 451)
    assert '"llm.token_count.completion":2' in (from_messages.usage_raw or "")


def test_anybody_elses_output_is_nobodys_usage(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    output = json.dumps({"token_usage": {"prompt_tokens": 500, "completion_tokens": 50}})
    [execution] = executions_of(a_span({"openinference.span.kind": "CHAIN", "output.value": output}))
    assert execution.usage_raw is None


def test_arguments_a_tool_repeats_are_kept_once_and_its_schema_as_metadata(
    a_span: MakeSpan, executions_of: ExecutionsOf
) -> None:
    tool = {"openinference.span.kind": "TOOL", "tool.name": "get_weather"}
    arguments, schema = '{"city": "Paris"}', '{"properties": {"city": {"type": "string"}}}'
    said_twice, described, only_parameters = executions_of(
        a_span(tool | {"input.value": arguments, "tool.parameters": arguments}),
        a_span(tool | {"input.value": arguments, "tool.parameters": schema}),
        a_span(tool | {"tool.parameters": arguments}),
    )
    assert (said_twice.action_type, said_twice.input_data, said_twice.metadata) == ("get_weather", arguments, None)
    assert (described.input_data, described.metadata) == (
        arguments,
        json.dumps({"tool.parameters": schema}, separators=(",", ":")),
    )
    assert (only_parameters.input_data, only_parameters.metadata) == (arguments, None)


def test_retrieved_documents_are_the_output_of_a_retriever(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    attributes = {
        "openinference.span.kind": "RETRIEVER",
        "output.value": "[<NodeWithScore>]",
        "retrieval.documents.0.document.content": "Paris is 18C",
        "retrieval.documents.0.document.score": 0.9,
    }
    [row] = executions_of(a_span(attributes))
    assert (row.execution_step, json.loads(row.output_data or "")) == (
        "retrieval",
        [{"content": "Paris is 18C", "score": 0.9}],
    )


def test_embeddings_keep_texts_and_drop_vectors(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "text-embedding-3-small",
        "embedding.embeddings.0.embedding.text": "hello",
        "embedding.embeddings.0.embedding.vector": [0.1, 0.2],
        "output.value": '{"data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}}',
    }
    call = call_of(a_span(attributes))
    assert (call.call_type, call.input_tokens, call.response, call.metadata) == ("embedding", 5, None, None)
    assert "hello" in (call.prompt or "")


def test_a_reranker_is_a_call_with_query_and_documents(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = {
        "openinference.span.kind": "RERANKER",
        "reranker.model_name": "rerank-v3.5",
        "reranker.query": "weather",
        "reranker.input_documents.0.document.content": "Paris is 18C",
        "reranker.output_documents.0.document.score": 0.7,
    }
    call = call_of(a_span(attributes))
    assert (call.call_type, call.model_id, call.provider) == ("rerank", "rerank-v3.5", "cohere")
    assert "Paris is 18C" in (call.prompt or "")
    assert "0.7" in (call.response or "")


def test_hidden_content_is_no_content_and_says_so(a_span: MakeSpan, call_of: CallOf) -> None:
    call = call_of(a_span(LLM | {"input.value": "__REDACTED__", "output.value": "__REDACTED__"}))
    assert (call.prompt, call.response) == (None, None)
    assert "__REDACTED__" in (call.metadata or "")


def test_a_kind_added_to_a_native_span_does_not_hide_its_own_operation(
    a_span: MakeSpan, executions_of: ExecutionsOf
) -> None:
    attributes = {"openinference.span.kind": "CHAIN", "gen_ai.operation.name": "invoke_workflow"}
    [row] = executions_of(a_span(attributes))
    assert row.execution_step == "workflow"


def test_hostile_names_neither_raise_nor_nest_without_end(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = LLM | {
        "llm.input_messages." + "0." * 5_000: "deep",
        "llm.input_messages.x.message.role": "user",
        "llm.input_messages.0.message.contents.0": "no part",
        "llm.input_messages.0.message.tool_calls": "none",
        "llm.output_messages.0.message.contents.0.message_content": "no mapping",
        "llm.invocation_parameters": "not JSON",
        "output.value": "{",
    }
    assert call_of(a_span(attributes)).status == "completed"
