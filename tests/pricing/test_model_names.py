"""The forms of a model id: what is taken off, in which order, and what never is."""

import time

import pytest

from spanledger.exporter.model_names import VERSION, forms


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-mini", ["gpt-4o-mini"]),
        (" GPT-4o-Mini ", ["gpt-4o-mini"]),
        ("gpt-4o-mini-2024-07-18", ["gpt-4o-mini-2024-07-18", "gpt-4o-mini"]),
        ("gpt-5.2-20251211", ["gpt-5.2-20251211", "gpt-5.2-2025-12-11", "gpt-5.2"]),
        ("claude-sonnet-4-5@20250929", ["claude-sonnet-4-5@20250929", "claude-sonnet-4-5"]),
        ("claude-3-5-sonnet-latest", ["claude-3-5-sonnet-latest", "claude-3-5-sonnet"]),
        ("llama3.2:latest", ["llama3.2:latest", "llama3.2"]),
        ("models/gemini-2.5-flash", ["models/gemini-2.5-flash", "gemini-2.5-flash"]),
        ("openrouter/openai/gpt-4o", ["openrouter/openai/gpt-4o", "openai/gpt-4o", "gpt-4o"]),
        (
            "projects/p/locations/l/publishers/google/models/gemini-2.5-pro",
            ["projects/p/locations/l/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"],
        ),
        ("ft:gpt-4o-mini-2024-07-18:org::id", ["ft:gpt-4o-mini-2024-07-18:org::id", "ft:gpt-4o-mini-2024-07-18"]),
        ("gpt-4o-mini-2024-07-18.ft-abc", ["gpt-4o-mini-2024-07-18.ft-abc", "gpt-4o-mini-2024-07-18.ft-"]),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0", None),
        ("acme/gpt-4", ["acme/gpt-4"]),
        ("", []),
        ("/", ["/"]),
    ],
)
def test_decoration_comes_off_one_piece_at_a_time(model: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["eu.amazon.nova-lite-v1:0", "eu.amazon.nova-lite", "amazon.nova-lite-v1:0"]
        expected += ["amazon.nova-lite", "nova-lite-v1:0", "nova-lite"]
    assert list(forms(model)) == expected


def test_a_bedrock_id_loses_its_region_before_its_vendor_and_its_revision_first() -> None:
    assert list(forms("us.anthropic.claude-sonnet-4-5-20250929-v1:0")) == [
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929",
        "us.anthropic.claude-sonnet-4-5",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic.claude-sonnet-4-5-20250929",
        "anthropic.claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929-v1:0",
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5",
    ]


@pytest.mark.parametrize(
    "model",
    ["gpt-4.1-nano", "claude-opus-4-1", "mistral-small-2506", "gpt-4-32k", "o1-preview", "titan-embed-v2", "x:free"],
)
def test_what_makes_another_model_stays(model: str) -> None:
    assert forms(model) == (model,)


def test_a_newer_revision_of_an_undated_model_is_another_model() -> None:
    assert "amazon.titan-embed-text" not in forms("amazon.titan-embed-text-v2")


@pytest.mark.parametrize(
    "rest",
    ["", "-20241022", "-2024-10-22", "@20241022", "-latest", "-v1:0", "-20241022-v2:0", "-v2@20241022", ":0"]
    + ["-001", "-preview-05-20", "-exp-0827", "-preview-09-2025", "@default"],
)
def test_versions_and_dates_may_follow_a_name(rest: str) -> None:
    assert VERSION.fullmatch(rest)


@pytest.mark.parametrize(
    "rest", ["-5", "0", ".1", "-mini", "-1-20250805", "-8b", "-foo", "-v2:0", "-tts", "-lite", "-preview-tts", "x"]
)
def test_nothing_else_may(rest: str) -> None:
    assert not VERSION.fullmatch(rest)


@pytest.mark.parametrize("model", ["1" * 400 + "x", "-2024" * 90 + "x", "openai/" * 70, "us." * 150, "a" * 10_000_000])
def test_a_hostile_id_is_taken_apart_at_once(model: str) -> None:
    start = time.process_time()
    assert len(forms(model)) < 30
    assert not VERSION.fullmatch(model[:500])
    assert time.process_time() - start < 0.1
