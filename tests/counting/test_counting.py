"""Which calls count once: every rule with the situation it was learnt from."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanledger.exporter.counting import ROLLUP, Candidate, Verdict, verdicts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def call(id: str, start: float = 0, end: float | None = 1, **facts: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "parent": None,
        "owned": False,
        "call_type": "inference",
        "trace_id": "t",
        "scope": "framework",
        "models": frozenset({"gpt-4o"}),
        "response_id": None,
        "input_tokens": 100,
        "output_tokens": 10,
        "stated": None,
    }
    return Candidate(
        id=id,
        start=NOON + timedelta(seconds=start),
        end=None if end is None else NOON + timedelta(seconds=end),
        **defaults | facts,
    )


def counted(decided: Mapping[str, Verdict]) -> set[str]:
    return {id for id, verdict in decided.items() if verdict.counted}


def test_the_innermost_of_nested_calls_counts() -> None:
    decided = verdicts([call("outer"), call("inner", parent="outer")])
    assert decided == {"outer": Verdict(False, "duplicate_of:inner"), "inner": Verdict(True)}


def test_the_outer_call_counts_when_only_it_has_usage() -> None:
    inner = call("inner", parent="outer", input_tokens=None, output_tokens=None)
    decided = verdicts([call("outer"), inner])
    assert decided["inner"] == Verdict(False, "duplicate_of:outer")
    assert counted(decided) == {"outer"}


def test_three_views_of_one_request_count_once() -> None:
    calls = [call("a"), call("b", parent="a", input_tokens=None, output_tokens=None), call("c", parent="b")]
    assert counted(verdicts(calls)) == {"c"}


def test_a_call_that_sums_up_several_is_their_rollup() -> None:
    calls = [
        call("outer", input_tokens=300, output_tokens=30, end=9),
        call("first", 1, 2, parent="outer", input_tokens=100, output_tokens=10),
        call("second", 3, 4, parent="outer", input_tokens=200, output_tokens=20),
    ]
    decided = verdicts(calls)
    assert counted(decided) == {"first", "second"}
    assert decided["outer"].reason == ROLLUP


def test_a_call_that_made_another_one_with_its_own_response_counts_beside_it() -> None:
    calls = [call("outer", response_id="r1"), call("inner", parent="outer", response_id="r2", input_tokens=7)]
    assert counted(verdicts(calls)) == {"outer", "inner"}


def test_an_embedding_inside_a_generation_is_another_request() -> None:
    calls = [call("chat"), call("embed", parent="chat", call_type="embedding", output_tokens=None)]
    assert counted(verdicts(calls)) == {"chat", "embed"}


def test_the_same_response_id_in_another_trace_is_the_same_request() -> None:
    calls = [call("agent", owned=True, response_id="r"), call("sdk", 0.1, 0.9, trace_id="u", response_id="r")]
    decided = verdicts(calls)
    assert decided["sdk"] == Verdict(False, "duplicate_of:agent"), "the one that hangs on an execution is kept"


def test_a_server_that_repeats_its_ids_does_not_hide_requests() -> None:
    calls = [call("first", 0, 1, response_id="chatcmpl-1"), call("second", 2, 3, response_id="chatcmpl-1")]
    assert counted(verdicts(calls)) == {"first", "second"}
    calls = [call("first", response_id="x"), call("second", response_id="x", input_tokens=5)]
    assert counted(verdicts(calls)) == {"first", "second"}


def test_two_scopes_that_saw_one_request_are_matched_by_time_model_and_tokens() -> None:
    calls = [call("agent", owned=True), call("sdk", 0.1, 0.9, trace_id="u", scope="sdk")]
    assert counted(verdicts(calls)) == {"agent"}


@pytest.mark.parametrize(
    "other",
    [
        {"input_tokens": 101},
        {"models": frozenset({"gpt-4o-mini"})},
        {"response_id": "another"},
        {"scope": "framework"},
        {"service": "another process"},
    ],
)
def test_calls_that_differ_in_what_a_twin_must_share_both_count(other: dict[str, Any]) -> None:
    first = call("first", response_id="mine" if "response_id" in other else None)
    second = call("second", 0.1, 0.9, trace_id="u", **{"scope": "sdk"} | other)
    assert counted(verdicts([first, second])) == {"first", "second"}


def test_equal_calls_made_at_once_are_matched_one_to_one() -> None:
    calls = [
        call("agent 1", 0.00, 1.0, owned=True),
        call("agent 2", 0.01, 1.0, owned=True),
        call("sdk 1", 0.02, 0.9, trace_id="u", scope="sdk"),
        call("sdk 2", 0.03, 0.9, trace_id="v", scope="sdk"),
    ]
    assert counted(verdicts(calls)) == {"agent 1", "agent 2"}


def test_without_usage_only_an_sdks_own_span_is_a_twin() -> None:
    lost = call("wrapper", input_tokens=None, output_tokens=None)
    native = call("native", 0.1, 0.9, trace_id="u", scope="com.anthropic.sdk.python")
    assert counted(verdicts([lost, native])) == {"native"}
    stranger = native._replace(id="stranger", scope="another.instrumentation")
    assert counted(verdicts([lost, stranger])) == {"wrapper", "stranger"}


def test_what_a_span_says_of_itself_stands() -> None:
    decided = verdicts([call("cached", stated="framework_cache_hit"), call("real", 5, 6)])
    assert decided["cached"] == Verdict(False, "framework_cache_hit")


def test_a_cycle_of_parents_ends() -> None:
    calls = [call("a", parent="b"), call("b", parent="a"), call("c", parent="c")]
    assert set(verdicts(calls)) == {"a", "b", "c"}


def test_a_call_still_running_contains_what_is_inside_it() -> None:
    running = call("outer", end=None, input_tokens=None, output_tokens=None)
    assert counted(verdicts([running, call("inner", 5, 6, parent="outer")])) == {"inner"}


def test_a_framework_and_the_sdk_beneath_it_are_one_request_though_no_usage_was_sent() -> None:
    silent = {"input_tokens": None, "output_tokens": None}
    outer = call("outer", scope="openinference.instrumentation.langchain", trace_id="t1", **silent)
    inner = call("inner", 0.1, 0.9, scope="openinference.instrumentation.openai", trace_id="t2", **silent)
    assert len(counted(verdicts([outer, inner]))) == 1


def test_two_sdks_calls_without_usage_are_two_requests() -> None:
    silent = {"input_tokens": None, "output_tokens": None}
    one = call("one", scope="openinference.instrumentation.openai", trace_id="t1", **silent)
    other = call("other", 0.1, 0.9, scope="openinference.instrumentation.bedrock", trace_id="t2", **silent)
    assert len(counted(verdicts([one, other]))) == 2
