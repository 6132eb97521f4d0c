"""What Langfuse's spans say: buckets that do not overlap, provider's blocks that do, JSON in JSON."""

import json
from collections.abc import Callable

import pytest

from spanledger.exporter.records import Execution, LLMCall
from spanledger.exporter.spans import SpanData

MakeSpan = Callable[..., SpanData]
CallOf = Callable[..., LLMCall]
ExecutionsOf = Callable[..., list[Execution]]

GENERATION = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "claude-sonnet-4-5"}


def usage(call: LLMCall) -> tuple[int | None, ...]:
    return (
        call.input_tokens,
        call.output_tokens,
        call.cache_read_tokens,
        call.cache_write_tokens,
        call.reasoning_tokens,
    )


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"input": 100, "output": 20}, (100, 20, None, None, None)),
        (
            {"input": 100, "input_cache_read": 900, "input_cache_creation": 50, "output": 20, "output_reasoning": 30},
            (1_050, 50, 900, 50, 30),
        ),
        ({"input": 100, "output": 20, "cache_read_input_tokens": 900, "total": 1_020}, (1_000, 20, 900, None, None)),
        ({"input": 1_000, "output": 20, "cache_read_input_tokens": 900, "total": 1_020}, (1_000, 20, 900, None, None)),
        (
            {"prompt_tokens": 1_000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 900}},
            (1_000, 50, 900, None, None),
        ),
        (
            {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 900},
            (1_000, 20, 900, None, None),
        ),
    ],
    ids=[
        "buckets",
        "langchain's buckets",
        "the total says the cache is outside",
        "the total says the cache is inside",
        "openai's own",
        "anthropic's own",
    ],
)
def test_usage_details_become_tokens_in_otels_meaning(
    a_span: MakeSpan, call_of: CallOf, details: dict[str, object], expected: tuple[int | None, ...]
) -> None:
    call = call_of(a_span(GENERATION | {"langfuse.observation.usage_details": json.dumps(details)}))
    assert usage(call) == expected
    assert json.loads(call.usage_raw or "") == details


def test_langchains_word_names_the_requested_model_and_the_provider(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "gpt-4o-2024-08-06",
        "langfuse.observation.metadata.ls_model_name": '"gpt-4o"',
        "langfuse.observation.metadata.ls_provider": '"azure"',
    }
    call = call_of(a_span(attributes))
    assert (call.provider, call.model_id, call.response_model) == ("azure", "gpt-4o", "gpt-4o-2024-08-06")


def test_the_start_of_the_completion_is_the_time_to_first_token(a_span: MakeSpan, call_of: CallOf) -> None:
    span = a_span(GENERATION | {"langfuse.observation.completion_start_time": '"2027-01-15T08:00:00.251000Z"'})
    call = call_of(span)
    assert (call.is_streaming, call.time_to_first_token_ms) == (True, 250)


def test_an_error_level_fails_the_row_with_its_message(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    attributes = {"langfuse.observation.type": "span", "langfuse.observation.level": "ERROR"}
    [row] = executions_of(a_span(attributes | {"langfuse.observation.status_message": "no answer"}))
    assert (row.status, row.error_message) == ("failed", "no answer")


def test_a_warning_stays_metadata_of_a_completed_row(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    attributes = {"langfuse.observation.type": "span", "langfuse.observation.level": "WARNING"}
    [row] = executions_of(a_span(attributes | {"langfuse.observation.status_message": "slow"}))
    assert (row.status, row.error_message) == ("completed", None)
    assert json.loads(row.metadata or "") == {"level": "WARNING", "status_message": "slow"}


def test_metadata_loses_its_prefix_and_its_quotes(a_span: MakeSpan, executions_of: ExecutionsOf) -> None:
    attributes = {
        "langfuse.observation.type": "tool",
        "langfuse.observation.metadata.team": '"search"',
        "langfuse.trace.metadata.team": '"other"',
        "langfuse.trace.metadata.depth": "3",
    }
    [row] = executions_of(a_span(attributes, name="get_weather"))
    assert json.loads(row.metadata or "") == {"team": "search", "depth": 3}
    assert (row.execution_step, row.action_type) == ("execute_tool", "get_weather")


def test_a_cost_of_zero_is_not_known(a_span: MakeSpan, call_of: CallOf) -> None:
    def reported(total: float) -> float | None:
        return call_of(
            a_span(GENERATION | {"langfuse.observation.cost_details": json.dumps({"total": total})})
        ).reported_cost

    assert (reported(0), reported(0.003)) == (None, 0.003)


def test_langchains_list_of_tools_is_no_call_of_a_tool(a_span: MakeSpan, call_of: CallOf) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    prompt = [{"role": "user", "content": "weather?"}, {"role": "tool", "content": tool}]
    call = call_of(a_span(GENERATION | {"langfuse.observation.input": json.dumps(prompt)}))
    assert json.loads(call.prompt or "") == [
        {"role": "user", "content": "weather?"},
        {"role": "tool", "content": [tool]},
    ]


def test_garbage_where_json_belongs_does_not_raise(a_span: MakeSpan, call_of: CallOf) -> None:
    attributes = GENERATION | {
        "langfuse.observation.usage_details": "[1, 2]",
        "langfuse.observation.cost_details": '"free"',
        "langfuse.observation.completion_start_time": "soon",
        "langfuse.observation.model.parameters": "17",
    }
    assert usage(call_of(a_span(attributes))) == (None,) * 5
