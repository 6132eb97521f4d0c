"""OpenLLMetry's traps: two generations under the same scopes, messages in attribute names, counts that leave out."""

import json
from collections.abc import Callable

import pytest

from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData, SpanEvent

Spans = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

LEGACY = {"llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4o"}
BEDROCK = "opentelemetry.instrumentation.bedrock"


def test_messages_spelled_out_in_names_become_one_list_in_the_order_of_their_numbers(
    a_span: Spans, call_of: CallOf
) -> None:
    spelled = {f"gen_ai.prompt.{n}.content": f"message {n}" for n in (10, 2, 0)}
    spelled |= {f"gen_ai.prompt.{n}.role": "user" for n in (10, 2, 0)}
    call = call_of(a_span(LEGACY | spelled))
    assert [m["content"] for m in json.loads(call.prompt or "")] == ["message 0", "message 2", "message 10"]
    assert call.metadata is None


def test_tool_calls_spelled_out_in_names_keep_their_arguments_as_an_object(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(
        a_span(
            LEGACY
            | {
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.finish_reason": "tool_calls",
                "gen_ai.completion.0.tool_calls.0.id": "call_1",
                "gen_ai.completion.0.tool_calls.0.name": "get_weather",
                "gen_ai.completion.0.tool_calls.0.arguments": '{"city": "Paris"}',
            }
        )
    )
    assert json.loads(call.response or "")[0]["tool_calls"] == [
        {"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}
    ]
    assert call.finish_reason == "tool_calls"


def test_thinking_spelled_as_a_message_of_its_own_joins_the_answer(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(
        a_span(
            LEGACY
            | {
                "gen_ai.completion.0.role": "thinking",
                "gen_ai.completion.0.content": "Hm.",
                "gen_ai.completion.1.role": "assistant",
                "gen_ai.completion.1.content": "Sunny.",
            }
        )
    )
    assert json.loads(call.response or "") == [{"role": "assistant", "reasoning": "Hm.", "content": "Sunny."}]


def test_bedrocks_input_gains_the_cached_tokens_even_where_they_are_few(a_span: Spans, call_of: CallOf) -> None:
    usage = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 200,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.total_tokens": 210,
        "gen_ai.usage.cache_read.input_tokens": 50,
    }
    call = call_of(a_span(usage, scope=BEDROCK))
    assert (call.input_tokens, call.total_tokens) == (250, 260)
    assert (call.usage_rule or "").startswith("exclusive")
    assert call_of(a_span(usage, scope="opentelemetry.instrumentation.openai.v1")).input_tokens == 200


def test_bedrock_is_the_provider_although_the_span_names_the_models_vendor(a_span: Spans, call_of: CallOf) -> None:
    assert call_of(a_span(LEGACY | {"gen_ai.system": "anthropic"}, scope=BEDROCK)).provider == "bedrock"


def test_a_bedrock_request_that_failed_before_it_had_attributes_is_a_failed_call(
    a_span: Spans, call_of: CallOf
) -> None:
    raised = SpanEvent("exception", 1, {"exception.type": "ThrottlingException", "exception.message": "slow down"})
    call = call_of(a_span(name="bedrock.converse", scope=BEDROCK, status_code=2, events=(raised,)))
    assert (call.status, call.error_type, call.error_message) == ("failed", "ThrottlingException", "slow down")


def test_geminis_thoughts_are_found_in_the_total_that_alone_holds_them(a_span: Spans, call_of: CallOf) -> None:
    call = call_of(
        a_span(
            {
                "gen_ai.operation.name": "generate_content",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 40,
                "gen_ai.usage.total_tokens": 200,
            },
            scope="opentelemetry.instrumentation.google_generativeai",
        )
    )
    assert (call.output_tokens, call.reasoning_tokens, call.total_tokens) == (100, 60, 200)


@pytest.mark.parametrize("names", [("user_id", "session_id"), ("userId", "sessionId")])
def test_association_properties_say_whose_session_it_is(
    a_span: Spans, executions_of: ExecutionsOf, names: tuple[str, str]
) -> None:
    user, session = (f"traceloop.association.properties.{name}" for name in names)
    (row,) = executions_of(
        a_span({"traceloop.span.kind": "workflow", "traceloop.entity.name": "flow", user: "u", session: "s"})
    )
    assert (row.agent_type, row.execution_step) == ("flow", "workflow")
    assert (row.external_user_id, row.session_id) == ("u", "s")
    assert row.metadata is None


def test_a_tool_that_llamaindex_calls_a_task_is_a_tool(a_span: Spans, executions_of: ExecutionsOf) -> None:
    (row,) = executions_of(
        a_span({"traceloop.span.kind": "task", "tool.name": "get_weather", "tool.arguments": '{"city": "Paris"}'})
    )
    assert (row.execution_step, row.action_type, row.input_data) == ("execute_tool", "get_weather", '{"city": "Paris"}')


def test_the_first_chunk_event_of_a_stream_times_its_first_token(a_span: Spans, call_of: CallOf) -> None:
    span = a_span(LEGACY | {"llm.is_streaming": True})
    chunks = [SpanEvent("llm.content.completion.chunk", span.start_time + ms * 1_000_000, {}) for ms in (80, 90, 120)]
    call = call_of(span._replace(events=tuple(chunks)))
    assert (call.call_type, call.chunks_count, call.time_to_first_token_ms) == ("inference_stream", 3, 80)


def test_the_headers_of_a_request_are_not_kept(a_span: Spans, call_of: CallOf) -> None:
    assert call_of(a_span(LEGACY | {"llm.headers": "{'Authorization': 'Bearer x'}"})).metadata is None
