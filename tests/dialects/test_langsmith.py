"""What LangSmith's spans say: a run's kind, its inputs and outputs, and whose session it is."""

import json
from collections.abc import Callable

import pytest

from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData

MakeSpan = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

USAGE = {
    "input_tokens": 1_000,
    "output_tokens": 50,
    "total_tokens": 1_050,
    "input_token_details": {"cache_read": 900},
    "output_token_details": {"reasoning": 30},
}
RESULT = {
    "generations": [
        [
            {
                "text": "Sunny.",
                "type": "ChatGeneration",
                "message": {
                    "lc": 1,
                    "type": "constructor",
                    "id": ["langchain", "schema", "messages", "AIMessage"],
                    "kwargs": {
                        "content": "Sunny.",
                        "id": "lc_run--01",
                        "usage_metadata": USAGE,
                        "response_metadata": {
                            "id": "chatcmpl-1",
                            "model_name": "gpt-4o-2024-08-06",
                            "finish_reason": "stop",
                            "token_usage": {"prompt_tokens": 1},
                        },
                    },
                },
            }
        ]
    ]
}


def test_a_run_of_a_model_is_a_call_with_what_langchain_knew(a_span: MakeSpan, call_of: CallOf) -> None:
    prompt = {
        "messages": [[{"lc": 1, "type": "constructor", "id": ["HumanMessage"], "kwargs": {"content": "Weather?"}}]]
    }
    attributes = {
        "langsmith.span.kind": "llm",
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "langchain",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 1_000,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.prompt": json.dumps(prompt),
        "gen_ai.completion": json.dumps(RESULT),
        "langsmith.metadata.ls_provider": "azure",
        "langsmith.metadata.thread_id": "thread-1",
        "langsmith.trace.session_id": "a project",
    }
    call = call_of(a_span(attributes, scope="langsmith"))
    assert (call.provider, call.model_id, call.response_model) == ("azure", "gpt-4o", "gpt-4o-2024-08-06")
    assert (call.response_id, call.finish_reason, call.session_id) == ("chatcmpl-1", "stop", "thread-1")
    assert (call.input_tokens, call.cache_read_tokens, call.reasoning_tokens) == (1_000, 900, 30)
    assert json.loads(call.prompt or "") == [{"role": "user", "content": "Weather?"}]
    assert json.loads(call.response or "")[0]["content"] == "Sunny."


@pytest.mark.parametrize("details", ["{'cache_read': 900, 'audio': None}", '{"cache_read": 900}'])
def test_details_are_read_as_json_or_as_pythons_repr(a_span: MakeSpan, call_of: CallOf, details: str) -> None:
    attributes = {"langsmith.span.kind": "llm", "gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 50}
    call = call_of(a_span(attributes | {"gen_ai.usage.input_token_details": details}))
    assert (call.input_tokens, call.cache_read_tokens) == (1_000, 900)


def test_the_kind_of_a_run_beats_its_operation_name(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    retriever, prompt, parser = executions_of(
        a_span({"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings"}),
        a_span({"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat"}),
        a_span({"langsmith.span.kind": "parser", "gen_ai.operation.name": "parser"}),
    )
    assert [row.execution_step for row in (retriever, prompt, parser)] == ["retrieval", "prompt", "task"]


def test_a_session_id_is_a_session_unless_the_sdk_means_its_project(
    a_span: MakeSpan, executions_of: ExecutionsOf
) -> None:
    attributes = {"langsmith.span.kind": "chain", "langsmith.trace.session_id": "s-1"}
    by_hand, by_sdk = executions_of(a_span(attributes, scope="my.app"), a_span(attributes, scope="langsmith"))
    assert (by_hand.session_id, by_sdk.session_id) == ("s-1", None)
    assert "s-1" in (by_sdk.metadata or "")


def test_a_tool_is_named_by_its_run(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    [row] = executions_of(
        a_span({"langsmith.span.kind": "tool", "gen_ai.prompt": '{"input": "Paris"}'}, name="get_weather")
    )
    assert (row.execution_step, row.action_type, row.input_data) == (
        "execute_tool",
        "get_weather",
        '{"input": "Paris"}',
    )
