"""What agent frameworks' own spans say: Strands, Google ADK, Semantic Kernel, Agent Framework, AG2."""

import json
from collections.abc import Callable

import pytest

from spanledger.exporter.lineage import Family, settle
from spanledger.exporter.mapping import map_events, map_spans
from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import LogEvent, SpanData, SpanEvent

MakeSpan = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

STRANDS = "strands.telemetry.tracer"
ADK = "gcp.vertex.agent"


def event(name: str, **attributes: str) -> SpanEvent:
    return SpanEvent(name, 1, attributes)


@pytest.mark.parametrize(
    "events",
    [
        (
            event("gen_ai.tool.message", role="tool", content='{"city": "Paris"}', id="t1"),
            event("gen_ai.choice", message='[{"text": "18C"}]', id="t1"),
        ),
        (
            SpanEvent(
                "gen_ai.client.inference.operation.details",
                1,
                {
                    "gen_ai.input.messages": json.dumps(
                        [
                            {
                                "role": "tool",
                                "parts": [
                                    {"type": "tool_call", "name": "w", "id": "t1", "arguments": {"city": "Paris"}}
                                ],
                            }
                        ]
                    )
                },
            ),
            SpanEvent(
                "gen_ai.client.inference.operation.details",
                2,
                {
                    "gen_ai.output.messages": json.dumps(
                        [
                            {
                                "role": "tool",
                                "parts": [{"type": "tool_call_response", "id": "t1", "response": [{"text": "18C"}]}],
                            }
                        ]
                    )
                },
            ),
        ),
    ],
    ids=["one event a message", "one event for all"],
)
def test_strands_tools_are_read_from_their_events(
    a_span: MakeSpan, executions_of: ExecutionsOf, events: tuple[SpanEvent, ...]
) -> None:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"}
    [row] = executions_of(a_span(attributes, scope=STRANDS, events=events))
    assert (row.action_type, json.loads(row.input_data or ""), row.output_data) == (
        "get_weather",
        {"city": "Paris"},
        '"18C"',
    )


def test_strands_calls_are_read_from_their_events_in_milliseconds(a_span: MakeSpan, call_of: CallOf) -> None:
    events = (
        event("gen_ai.system.message", content='[{"text": "Be helpful"}]'),
        event("gen_ai.user.message", content='[{"text": "Weather?"}]'),
        event(
            "gen_ai.choice",
            finish_reason="tool_use",
            message='[{"toolUse": {"toolUseId": "t1", "name": "w", "input": {}}}]',
        ),
    )
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "strands-agents",
        "gen_ai.request.model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "gen_ai.server.time_to_first_token": 125,
    }
    call = call_of(a_span(attributes, scope=STRANDS, events=events))
    assert (call.provider, call.time_to_first_token_ms) == ("bedrock", 125)
    assert json.loads(call.prompt or "") == [
        {"role": "system", "content": "Be helpful"},
        {"role": "user", "content": "Weather?"},
    ]
    assert json.loads(call.response or "") == [
        {
            "role": "assistant",
            "tool_calls": [{"id": "t1", "name": "w", "arguments": {}}],
            "finish_reason": "tool_use",
        }
    ]


def test_strands_steps_have_kinds(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    names = ("execute_event_loop_cycle", "invoke_swarm", "invoke_agent")
    rows = executions_of(*(a_span({"gen_ai.operation.name": name}, scope=STRANDS) for name in names))
    assert [row.execution_step for row in rows] == ["chain", "workflow", "invoke_agent"]


@pytest.mark.parametrize("output_tokens", [250, 20, 50], ids=["the total", "without thoughts", "with thoughts"])
def test_adks_counts_follow_the_response_whatever_the_release_made_of_them(
    a_span: MakeSpan, call_of: CallOf, output_tokens: int
) -> None:
    usage = {
        "prompt_token_count": 200,
        "candidates_token_count": 20,
        "thoughts_token_count": 30,
        "total_token_count": 250,
        "cached_content_token_count": 150,
    }
    content = {"role": "model", "parts": [{"text": "Sunny."}]}
    request = {
        "model": "gemini-2.5-flash",
        "config": {"system_instruction": "Be brief"},
        "contents": [{"role": "user", "parts": [{"text": "Weather?"}]}],
    }
    attributes = {
        "gen_ai.system": ADK,
        "gen_ai.request.model": "gemini-2.5-flash",
        "gcp.vertex.agent.session_id": "s-1",
        "gcp.vertex.agent.llm_request": json.dumps(request),
        "gcp.vertex.agent.llm_response": json.dumps({"content": content, "usage_metadata": usage}),
        "gen_ai.usage.input_tokens": 200,
        "gen_ai.usage.output_tokens": output_tokens,
    }
    call = call_of(a_span(attributes, name="call_llm", scope=ADK))
    assert (call.input_tokens, call.output_tokens, call.reasoning_tokens, call.cache_read_tokens) == (200, 50, 30, 150)
    assert (call.provider, call.session_id) == ("google", "s-1")
    assert json.loads(call.prompt or "") == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Weather?"},
    ]
    assert json.loads(call.response or "") == [{"role": "assistant", "content": "Sunny."}]


def test_adks_name_is_no_provider_of_another_vendors_model(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = {"gen_ai.system": ADK, "gen_ai.request.model": "openai/gpt-4o"}
    assert call_of(a_span(attributes, name="call_llm", scope=ADK)).provider == "openai"


def test_adks_merged_tools_are_no_tool(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    agent = a_span(name="agent_run [root]", scope=ADK)
    tool = {"gen_ai.operation.name": "execute_tool"}
    arguments = {"gcp.vertex.agent.tool_call_args": '{"city": "Paris"}', "gcp.vertex.agent.llm_request": "{}"}
    one = a_span(tool | {"gen_ai.tool.name": "get_weather"} | arguments, scope=ADK, parent=agent)
    merged = a_span(tool | {"gen_ai.tool.name": "(merged tools)"}, scope=ADK, parent=agent)
    run, row = executions_of(agent, one, merged)
    assert (run.agent_type, run.execution_step) == ("root", "invoke_agent")
    assert (row.action_type, row.input_data, row.metadata) == ("get_weather", '{"city": "Paris"}', None)


def test_semantic_kernels_operations_words_and_log_records_are_understood(a_span: MakeSpan) -> None:
    attributes = {
        "gen_ai.operation.name": "chat.streaming_completions",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.finish_reason": "FinishReason.STOP",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
        "error.type": "<class 'openai.RateLimitError'>",
    }
    span = a_span(attributes, scope="semantic_kernel.utils.telemetry.model_diagnostics.decorators")
    user = json.dumps({"role": "user", "content": "Weather?"})
    choice = json.dumps({"message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "stop", "index": 0})
    contents = map_events(
        LogEvent(span.trace_id, span.span_id, name, time, {"event.name": name}, body, span.scope)
        for time, (name, body) in enumerate([("gen_ai.user.message", user), ("gen_ai.choice", choice)])
    )
    [call] = settle(map_spans([span]).batch._replace(contents=contents), Family()).batch.llm_calls
    assert (call.call_type, call.finish_reason, call.error_type) == (
        "inference_stream",
        "stop",
        "openai.RateLimitError",
    )
    assert json.loads(call.prompt or "") == [{"role": "user", "content": "Weather?"}]
    assert json.loads(call.response or "") == [{"role": "assistant", "content": "Sunny.", "finish_reason": "stop"}]


def test_semantic_kernels_loop_is_a_step(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    [row] = executions_of(a_span(name="AutoFunctionInvocationLoop", scope="semantic_kernel.connectors.ai"))
    assert row.execution_step == "chain"


def test_a_response_id_is_no_session_of_agent_framework(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    agent = {"gen_ai.operation.name": "invoke_agent"}
    response, conversation = executions_of(
        a_span(agent | {"gen_ai.conversation.id": "resp_1"}, scope="agent_framework"),
        a_span(agent | {"gen_ai.conversation.id": "conv_1"}, scope="agent_framework"),
    )
    assert (response.session_id, conversation.session_id) == (None, "conv_1")


def test_agent_frameworks_workflows_are_steps_and_its_messages_are_not(
    a_span: MakeSpan, executions_of: ExecutionsOf
) -> None:
    scope = "agent_framework"
    run = a_span({"workflow.name": "review"}, name="workflow.run", scope=scope)
    executor = a_span({"executor.id": "writer"}, name="executor.process writer", scope=scope, parent=run)
    sent = a_span({"message.type": "x"}, name="message.send", scope=scope, parent=executor)
    agent = a_span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, scope=scope, parent=sent)
    rows = executions_of(run, executor, sent, agent)
    assert [(row.agent_type, row.execution_step) for row in rows] == [
        ("review", "workflow"),
        ("writer", "task"),
        ("a", "invoke_agent"),
    ]
    assert rows[2].parent_id == rows[1].id


def test_what_ag2_repeats_of_a_call_is_not_counted(a_span: MakeSpan, call_of: CallOf) -> None:
    agent = a_span({"ag2.span.type": "agent", "gen_ai.operation.name": "invoke_agent"})
    usage = {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 10}
    called = a_span(usage | {"ag2.span.type": "llm", "gen_ai.operation.name": "chat"}, parent=agent)
    repeated = a_span(usage | {"ag2.span.type": "usage"}, parent=agent)
    assert call_of(agent, called, repeated).input_tokens == 10
