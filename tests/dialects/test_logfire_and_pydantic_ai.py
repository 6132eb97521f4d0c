"""Logfire's two spans for a stream, and what Pydantic AI's spans said before OTel GenAI had words for it."""

import json
from collections.abc import Callable

from spanledger.exporter.mapping import map_spans
from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData, SpanEvent

Spans = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]

REQUEST = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "logfire.span_type": "span"}
ANSWERED = REQUEST | {
    "logfire.span_type": "log",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.output.messages": "[]",
}


def test_the_request_of_a_stream_leaves_counting_to_the_log_at_its_end(a_span: Spans, call_of: CallOf) -> None:
    request, log = a_span(REQUEST, scope="logfire.openai"), a_span(ANSWERED, scope="logfire.openai", duration_ms=0)
    [row] = map_spans([request]).batch.llm_calls
    assert (row.counted, row.not_counted_reason) == (False, "usage_on_stream_span")
    call = call_of(request, log)
    assert (call.span_id, call.is_streaming, call.input_tokens) == (f"{log.span_id:016x}", True, 100)


def test_a_request_that_failed_counts_although_it_has_no_answer(a_span: Spans, call_of: CallOf) -> None:
    raised = SpanEvent("exception", 1, {"exception.type": "openai.RateLimitError"})
    call = call_of(a_span(REQUEST, scope="logfire.openai", status_code=2, events=(raised,)))
    assert call.status == "failed"


def test_a_request_that_is_running_is_not_taken_for_a_stream_yet(a_span: Spans, call_of: CallOf) -> None:
    assert call_of(a_span(REQUEST, scope="logfire.openai")._replace(end_time=None)).status == "started"


def test_logfires_raw_block_gives_the_cached_tokens_but_not_the_input_it_left_them_out_of(
    a_span: Spans, call_of: CallOf
) -> None:
    raw = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 5}
    said = ANSWERED | {"gen_ai.usage.input_tokens": 145, "gen_ai.usage.raw": json.dumps(raw)}
    call = call_of(a_span(said, scope="logfire.anthropic"))
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (145, 40, 5)


def test_an_agents_sum_counts_only_while_its_calls_are_unknown(a_span: Spans, call_of: CallOf) -> None:
    agent = a_span({"gen_ai.usage.input_tokens": 200, "agent_name": "a"}, name="agent run", scope="pydantic-ai")
    asked = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 100}
    chat = a_span(asked, scope="pydantic-ai", parent=agent)
    assert call_of(agent).call_type == "rollup"
    assert call_of(agent, chat).input_tokens == 100


def test_events_of_the_first_version_become_prompt_and_response(a_span: Spans, call_of: CallOf) -> None:
    events = [
        {"event.name": "gen_ai.user.message", "content": "Weather?", "role": "user", "gen_ai.message.index": 0},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "Sunny."}},
    ]
    said = {"gen_ai.operation.name": "chat", "events": json.dumps(events)}
    call = call_of(a_span(said, scope="pydantic-ai"))
    assert json.loads(call.prompt or "") == [{"role": "user", "content": "Weather?"}]
    assert json.loads(call.response or "") == [{"role": "assistant", "content": "Sunny."}]


def test_an_agent_was_asked_what_stands_before_its_first_new_answer(
    a_span: Spans, executions_of: Callable[..., list[Execution]]
) -> None:
    messages = [{"role": role, "parts": [{"type": "text", "content": role[0]}]} for role in ("user", "assistant") * 2]
    (row,) = executions_of(
        a_span(
            {
                "gen_ai.operation.name": "invoke_agent",
                "pydantic_ai.all_messages": json.dumps(messages),
                "pydantic_ai.new_message_index": 2,
                "final_result": "done",
            },
            scope="pydantic-ai",
        )
    )
    assert json.loads(row.input_data or "") == messages[:3]
    assert row.output_data == '"done"'


def test_the_span_around_tools_that_run_at_once_only_links_them(
    a_span: Spans, executions_of: Callable[..., list[Execution]]
) -> None:
    agent = a_span({"agent_name": "a"}, name="agent run", scope="pydantic-ai")
    around = a_span({"tools": ["t"]}, name="running tools", scope="pydantic-ai", parent=agent)
    tool = a_span({"gen_ai.tool.name": "t"}, name="running tool", scope="pydantic-ai", parent=around)
    rows = {row.execution_step: row for row in executions_of(agent, around, tool)}
    assert rows.keys() == {"invoke_agent", "execute_tool"}
    assert rows["execute_tool"].parent_id == rows["invoke_agent"].id
