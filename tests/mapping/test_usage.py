"""What reported token counts mean, and who is believed."""

from typing import Any

import pytest

from spanledger.exporter.usage import UNSAID, interpret, read_block


def usage(**fields: Any) -> tuple[Any, ...]:
    found = interpret({f"{name}_tokens" if name in COUNTS else name: value for name, value in fields.items()})
    return found.input_tokens, found.output_tokens, found.total_tokens


COUNTS = ("input", "output", "total", "cache_read", "cache_write", "reasoning")


def rule(**fields: Any) -> str:
    found = interpret({f"{name}_tokens" if name in COUNTS else name: value for name, value in fields.items()})
    return (found.rule or "").split(":")[0]


def test_nothing_reported_is_unknown_and_not_nought() -> None:
    assert usage() == usage(input=0, output=0) == usage(input=0, output=0, total=0) == (None, None, None)


def test_a_call_that_answered_nothing_keeps_its_input() -> None:
    assert usage(input=9, output=0) == (9, 0, 9)


def test_more_cached_tokens_than_input_prove_that_the_input_left_them_out() -> None:
    assert usage(input=100, output=10, cache_read=80, cache_write=40) == (220, 10, 230)
    assert rule(input=100, output=10, cache_read=80, cache_write=40) == "exclusive"


def test_a_total_beyond_input_and_output_by_the_cached_tokens_proves_it_too() -> None:
    assert usage(input=100, output=10, total=150, cache_read=40) == (140, 10, 150)


def test_a_total_of_input_and_output_confirms_otels_meaning() -> None:
    assert usage(input=100, output=10, total=110, cache_read=40) == (100, 10, 110)


def test_an_emitter_known_to_leave_the_cache_out_is_believed_for_few_cached_tokens() -> None:
    assert usage(input=100, output=10, cache_read=40, input_excludes_cache=True) == (140, 10, 150)
    assert usage(input=100, output=10, total=110, cache_read=40, input_excludes_cache=True) == (140, 10, 150)


def test_an_input_that_may_lack_cached_tokens_nobody_counted_is_said_to() -> None:
    reported = {"input_tokens": 100, "output_tokens": 10, "input_excludes_cache": True}
    assert interpret(reported | {"model_id": "anthropic.claude-sonnet-4-5-20250929-v1:0"}).rule == UNSAID
    assert interpret(reported | {"model_id": "meta.llama3-8b-instruct-v1:0"}).rule != UNSAID, "it cannot cache"
    assert usage(input=100, output=10, input_excludes_cache=True) == (100, 10, 110)


def test_thoughts_join_an_output_that_left_them_out() -> None:
    assert usage(input=100, output=10, reasoning=5, output_excludes_reasoning=True) == (100, 15, 115)
    assert usage(input=100, output=10, reasoning=5) == (100, 10, 110)


def test_thoughts_nobody_counted_are_what_the_total_holds_beyond_input_and_output() -> None:
    found = interpret(
        {"input_tokens": 100, "output_tokens": 10, "total_tokens": 130, "output_excludes_reasoning": True}
    )
    assert (found.output_tokens, found.reasoning_tokens) == (30, 20)


def test_a_missing_side_follows_from_the_total() -> None:
    assert usage(input=100, total=110) == (100, 10, 110)
    assert usage(output=10, total=110) == (100, 10, 110)
    assert usage(total=110) == (None, None, 110)


OPENAI_CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
OPENAI_RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 130,
}
ANTHROPIC = {
    "input_tokens": 60,
    "output_tokens": 30,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 0,
    "output_tokens_details": {"thinking_tokens": 20},
}
BEDROCK = {"inputTokens": 60, "outputTokens": 30, "totalTokens": 130, "cacheReadInputTokens": 40}
GEMINI = {
    "promptTokenCount": 95,
    "toolUsePromptTokenCount": 5,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 20,
    "cachedContentTokenCount": 40,
    "totalTokenCount": 130,
}
LANGCHAIN = {
    "input_tokens": 100,
    "output_tokens": 30,
    "total_tokens": 130,
    "input_token_details": {"cache_read": 40},
    "output_token_details": {"reasoning": 20},
}


@pytest.mark.parametrize("block", [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, BEDROCK, GEMINI, LANGCHAIN])
def test_every_providers_block_of_one_request_says_the_same(block: dict[str, Any]) -> None:
    found = interpret(read_block(block))
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (100, 30, 130)
    assert found.cache_read_tokens == 40
    assert found.reasoning_tokens in (20, None)  # Bedrock does not say


@pytest.mark.parametrize("block", [{}, {"prompt_tokens": "many"}, {"input_tokens": None}, {"prompt_tokens_details": 3}])
def test_a_block_without_numbers_says_nothing(block: dict[str, Any]) -> None:
    assert interpret(read_block(block)).input_tokens is None


def test_cohere_counts_what_went_in_and_not_what_it_billed() -> None:
    block = {"billed_units": {"input_tokens": 5}, "tokens": {"input_tokens": 70, "output_tokens": 9}}
    found = read_block(block)
    assert (found["input_tokens"], found["output_tokens"]) == (70, 9)


def test_one_hour_writes_are_told_apart() -> None:
    block = {
        "input_tokens": 5,
        "output_tokens": 1,
        "cache_creation_input_tokens": 90,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 60},
    }
    assert read_block(block)["cache_write_1h_tokens"] == 60
