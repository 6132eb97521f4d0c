"""A bug of ours is one log line in production and a failure in tests."""

import logging

import pytest

from spanledger.instrumentation import execution, llm_call
from spanledger.instrumentation.guard import RAISE_VARIABLE, guard


def fail(doing: str) -> None:
    with guard(doing):
        raise ZeroDivisionError("ours")


def test_under_pytest_a_bug_of_ours_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        fail("test the guard")


def test_in_production_it_is_one_warning_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(RAISE_VARIABLE, "false")
    for _ in range(3):
        fail("count to one")
    fail("count to two")
    assert [record.getMessage().partition(".")[0] for record in caplog.records] == [
        "Could not count to one",
        "Could not count to two",
    ]
    assert caplog.records[0].exc_info is not None


def test_the_minute_passes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(RAISE_VARIABLE, "false")
    fail("wait a minute")
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    fail("wait a minute")
    assert len(caplog.records) == 2


def test_without_pytest_in_the_environment_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    fail("be seen")
    assert caplog.records[0].levelno == logging.WARNING


def test_what_is_not_an_exception_is_never_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAISE_VARIABLE, "false")
    with pytest.raises(KeyboardInterrupt), guard("stop"):
        raise KeyboardInterrupt


class BrokenProvider:
    def get_tracer(self, *_: object, **__: object) -> object:
        raise RuntimeError("a tracer provider that does not work")


def test_the_app_runs_on_when_no_span_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAISE_VARIABLE, "false")
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", BrokenProvider())
    with execution("planner", "plan", input_data={"a": 1}) as run, llm_call("gpt-4o", "openai") as call:
        call.record("text")
        run.output_data = 1
    assert run.id != call.id
    assert run.execution_id == ""
