"""`Redactor` on rows: the content policy, secrets in every column, and a hook that may fail."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from spanledger.exporter.records import Content, Execution, LLMCall
from spanledger.exporter.redaction import Redactor

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "sk-ant-api03-" + "abcDEF012" * 8
BLANK_CALL = dict.fromkeys(LLMCall._fields)
BLANK_EXECUTION = dict.fromkeys(Execution._fields)


def call(**columns: Any) -> LLMCall:
    return LLMCall(**{**BLANK_CALL, "sanitized": False, **columns})


def execution(**columns: Any) -> Execution:
    return Execution(**{**BLANK_EXECUTION, "sanitized": False, **columns})


def content(body: Any) -> Content:
    return Content("id", "t", "s", "gen_ai.choice", AT, json.dumps(body), "scope")


def test_rows_without_secrets_come_back_as_the_same_object() -> None:
    redactor = Redactor()
    rows = (
        call(prompt='[{"role": "user", "content": "hi"}]', response="plain", metadata='{"a": 1}'),
        call(),
    )
    assert all(redactor.llm_call(row) is row for row in rows)
    row = execution(input_data='{"total_tokens": 5}', error_message="boom")
    assert redactor.execution(row) is row
    record = content({"attributes": {}, "body": {"content": "hi"}})
    assert redactor.content(record) is record


@pytest.mark.parametrize("column", ["prompt", "response", "error_message", "error_stacktrace", "metadata"])
def test_secrets_are_masked_in_every_text_of_a_call(column: str) -> None:
    for text in (f"use {KEY} now", json.dumps({"a": [f"use {KEY} now"]})):
        masked = Redactor().llm_call(call(**{column: text}))
        assert KEY not in str(masked)
        assert "[REDACTED anthropic key]" in getattr(masked, column)
        assert masked.sanitized


@pytest.mark.parametrize("column", ["input_data", "output_data", "error_message", "error_stacktrace", "metadata"])
def test_secrets_are_masked_in_every_text_of_an_execution(column: str) -> None:
    masked = Redactor().execution(execution(**{column: json.dumps({"a": KEY})}))
    assert json.loads(getattr(masked, column)) == {"a": "[REDACTED anthropic key]"}
    assert masked.sanitized


def test_usage_as_reported_is_never_touched() -> None:
    raw = json.dumps({"prompt_tokens": 5, "api_key": KEY})
    assert Redactor("none", hook=lambda text: "gone").llm_call(call(usage_raw=raw)).usage_raw == raw


def test_masking_can_be_switched_off() -> None:
    row = call(prompt=KEY, metadata=json.dumps({"password": "hunter2"}))
    assert Redactor(secrets=False).llm_call(row) is row


def test_values_under_the_names_of_credentials_are_masked_at_any_depth() -> None:
    document = {
        "OPENAI_API_KEY": "x1",
        "headers": {"X-Api-Key": "x2", "Set-Cookie": ["x3", "x4"], "Accept": "json"},
        "db": [{"password": "x5", "pin": 1234, "client-secret": 98765}],
        "arguments": json.dumps({"user": "eve", "accessToken": 'x6"\\', "nested": json.dumps({"pwd": "x7"})}),
    }
    masked = Redactor().execution(execution(input_data=json.dumps(document))).input_data
    result = json.loads(str(masked))
    mask = "[REDACTED credential]"
    assert result["OPENAI_API_KEY"] == mask
    assert result["headers"] == {"X-Api-Key": mask, "Set-Cookie": [mask, mask], "Accept": "json"}
    assert result["db"] == [{"password": mask, "pin": 1234, "client-secret": mask}]
    arguments = json.loads(result["arguments"])
    assert arguments["user"] == "eve"
    assert arguments["accessToken"] == mask
    assert json.loads(arguments["nested"]) == {"pwd": mask}


def test_usage_keys_schemas_and_empty_values_are_not_credentials() -> None:
    document = {
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": "4"},
        "max_completion_tokens": 5,
        "token": "Hello",
        "password": None,
        "secret": "",
        "parameters": {"properties": {"password": {"type": "string", "description": "of the user"}}},
        "has_password": True,
    }
    text = json.dumps(document, indent=1)
    row = execution(input_data=text)
    assert Redactor().execution(row) is row


def test_numbers_of_any_size_survive_the_masking_of_their_neighbours() -> None:
    text = '{"password": "x", "n": 123456789012345678901234567890, "f": 0.1, "é": "日本"}'
    masked = Redactor().execution(execution(output_data=text)).output_data
    assert masked == ('{"password":"[REDACTED credential]","n":123456789012345678901234567890,"f":0.1,"é":"日本"}')


def test_json_deeper_than_the_stack_is_masked_as_text_and_stays_json_text() -> None:
    text = "[" * 1020 + json.dumps(KEY) + "]" * 1020
    masked = Redactor().execution(execution(input_data=text)).input_data
    assert masked == "[" * 1020 + '"[REDACTED anthropic key]"' + "]" * 1020


@pytest.mark.parametrize(
    "text", ["{broken " + KEY, '{"a": "' + KEY, "[1, " + KEY + "]", '{"a": NaN, "b": "' + KEY + '"}']
)
def test_what_only_looks_like_json_is_masked_as_text(text: str) -> None:
    masked = Redactor().llm_call(call(prompt=text)).prompt
    assert masked == text.replace(KEY, "[REDACTED anthropic key]")


def test_policy_none_stores_no_content() -> None:
    redacted = Redactor("none").llm_call(call(prompt="CANARY", response='["CANARY"]', error_message="rate limited"))
    assert redacted.prompt is None
    assert redacted.response is None
    assert redacted.error_message == "rate limited"
    assert not redacted.sanitized
    step = Redactor("none").execution(execution(input_data='{"a": "CANARY"}', output_data='"CANARY"'))
    assert "CANARY" not in str(step)


def test_policy_metadata_stores_sizes() -> None:
    redactor = Redactor("metadata")
    redacted = redactor.llm_call(call(prompt="CANARY", response=None))
    assert json.loads(str(redacted.prompt)) == {"redacted": "metadata", "chars": 6}
    assert redacted.response is None
    assert redactor.llm_call(redacted) is redacted
    step = redactor.execution(execution(input_data='{"a": "CANARY"}'))
    assert json.loads(str(step.input_data)) == {"redacted": "metadata", "chars": 15}


@pytest.mark.parametrize("policy", ["metadata", "none"])
def test_without_content_metadata_keeps_numbers_and_identifiers_and_no_prose(policy: Any) -> None:
    metadata = {
        "gen_ai.usage.input_tokens": 12,
        "temperature": 0.5,
        "stream": True,
        "gen_ai.request.model": "gpt-4o-mini",
        "traceloop.entity.input": "CANARY",
        "note": "a CANARY sentence",
        "long": "CANARY" * 100,
        "json": '{"x":"CANARY"}',
        "nested": {"prompt": "CANARY", "id": "abc", "list": ["x", "CANARY y", 3]},
    }
    kept = Redactor(policy).execution(execution(metadata=json.dumps(metadata))).metadata
    assert json.loads(str(kept)) == {
        "gen_ai.usage.input_tokens": 12,
        "temperature": 0.5,
        "stream": True,
        "gen_ai.request.model": "gpt-4o-mini",
        "nested": {"id": "abc", "list": ["x", 3]},
    }


@pytest.mark.parametrize("policy", ["metadata", "none"])
def test_without_content_a_log_record_keeps_its_identifiers_only(policy: Any) -> None:
    record = content({"attributes": {"gen_ai.system": "openai", "n": 1}, "body": {"content": "a CANARY"}})
    kept = Redactor(policy).content(record)
    assert json.loads(kept.body) == {"attributes": {"gen_ai.system": "openai", "n": 1}, "body": None}
    text = Redactor(policy).content(content({"attributes": {}, "body": "CANARY"}))
    assert json.loads(text.body) == {"attributes": {}, "body": None}


def test_secrets_are_masked_in_log_records() -> None:
    kept = Redactor().content(content({"attributes": {}, "body": {"content": KEY, "password": "x"}}))
    assert json.loads(kept.body)["body"] == {
        "content": "[REDACTED anthropic key]",
        "password": "[REDACTED credential]",
    }


def test_the_hook_sees_each_text_after_the_built_in_masks() -> None:
    seen: list[str] = []

    def hook(text: str) -> str:
        seen.append(text)
        return text.replace("Eve", "E.")

    row = call(prompt=json.dumps([{"content": "Eve"}, json.dumps({"a": "Eve"})]), response=f"Eve {KEY}")
    redacted = Redactor(hook=hook).llm_call(row)
    assert json.loads(str(redacted.prompt)) == [{"content": "E."}, '{"a":"E."}']
    assert redacted.response == "E. [REDACTED anthropic key]"
    assert seen == ["Eve", "Eve", "Eve [REDACTED anthropic key]"]
    assert redacted.sanitized


@pytest.mark.parametrize("data", ["Eve", 5, True, None, ["Eve"], {"a": "Eve"}, "", '"Eve"'])
def test_json_columns_stay_json_whatever_the_hook_returns(data: Any) -> None:
    redacted = Redactor(hook=lambda text: 'not "JSON').execution(execution(input_data=json.dumps(data)))
    result = json.loads(str(redacted.input_data))
    assert "Eve" not in str(result)
    assert type(result) is type(data)


def _fail(text: str) -> str:
    raise RuntimeError("no")


@pytest.mark.parametrize("hook", [_fail, lambda text: None, lambda text: 5])
def test_a_hook_that_fails_costs_the_text_and_never_the_row(hook: Any) -> None:
    redacted = Redactor(hook=hook).llm_call(
        call(prompt="CANARY", response='["CANARY"]', metadata='{"n": 1}', input_tokens=5)
    )
    assert (redacted.prompt, redacted.response) == (None, None)
    assert redacted.metadata == '{"n": 1}'
    assert redacted.input_tokens == 5
    assert redacted.sanitized
    record = Redactor(hook=hook).content(content({"attributes": {}, "body": "CANARY"}))
    assert json.loads(record.body) == {"attributes": {}, "body": None}


def test_a_hook_may_stop_the_program() -> None:
    def interrupt(text: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Redactor(hook=interrupt).llm_call(call(prompt="x"))
