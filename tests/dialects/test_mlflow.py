"""What MLflow's spans say: JSON everywhere, requests and responses whole."""

import json
from collections.abc import Callable

from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData

MakeSpan = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

CHAT = {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.message.format": '"openai"'}
REQUEST = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]})


def test_request_and_response_tell_the_two_models_apart(a_span: MakeSpan, call_of: CallOf) -> None:
    response = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "finish_reason": "stop"}]}
    attributes = {"mlflow.spanInputs": REQUEST, "mlflow.spanOutputs": json.dumps(response)}
    call = call_of(a_span(CHAT | attributes | {"mlflow.llm.model": '"gpt-4o"'}))
    assert (call.model_id, call.response_model, call.response_id) == ("gpt-4o", "gpt-4o-2024-08-06", "chatcmpl-1")
    assert (call.provider, call.finish_reason) == ("openai", "stop")
    assert json.loads(call.prompt or "") == [{"role": "user", "content": "Hi"}]


def test_the_model_may_be_named_by_the_response_only(a_span: MakeSpan, call_of: CallOf) -> None:
    call = call_of(a_span(CHAT | {"mlflow.spanInputs": REQUEST, "mlflow.llm.model": '"gpt-4o-2024-08-06"'}))
    assert (call.model_id, call.response_model) == ("gpt-4o", "gpt-4o-2024-08-06")


def test_mlflows_count_includes_the_cache_and_older_releases_is_anthropics(a_span: MakeSpan, call_of: CallOf) -> None:
    raw = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 0}
    outputs = json.dumps({"id": "msg_1", "role": "assistant", "content": [], "usage": raw})
    today = {"input_tokens": 1_000, "output_tokens": 20, "total_tokens": 1_020, "cache_read_input_tokens": 900}
    before = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    for block in (today, before):
        attributes = {"mlflow.chat.tokenUsage": json.dumps(block), "mlflow.spanOutputs": outputs}
        call = call_of(a_span(CHAT | attributes))
        assert (call.input_tokens, call.cache_read_tokens) == (1_000, 900)


def test_a_stream_nobody_recorded_has_no_response(a_span: MakeSpan, call_of: CallOf) -> None:
    request = json.dumps({"model": "claude-sonnet-4-5", "stream": True})
    outputs = '"<anthropic.Stream object at 0x7f352b334190>"'
    call = call_of(a_span(CHAT | {"mlflow.spanInputs": request, "mlflow.spanOutputs": outputs}))
    assert (call.call_type, call.response, call.input_tokens) == ("inference_stream", None, None)


def test_a_tool_is_named_by_its_function(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    attributes = {
        "mlflow.spanType": '"TOOL"',
        "mlflow.spanFunctionName": '"get_weather"',
        "mlflow.spanInputs": '{"city": "Paris"}',
        "mlflow.spanOutputs": '"18C"',
    }
    [row] = executions_of(a_span(attributes, name="get_weather_1"))
    assert (row.execution_step, row.action_type, row.input_data) == ("execute_tool", "get_weather", '{"city": "Paris"}')
    assert row.output_data == '"18C"'


def test_kinds_nobody_listed_are_tasks(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    [row] = executions_of(a_span({"mlflow.spanType": '"MEMORY"'}))
    assert row.execution_step == "task"
