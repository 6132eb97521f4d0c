"""The classic surface: loggers that end what they start, and touch no session."""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session

from spanledger.instrumentation import Agent, ExecutionLogger, LLMCallLogger, use_database
from spanledger.instrumentation.database import url_of


def test_a_call_by_hand_is_one_span(spans: Any) -> None:
    async def main() -> None:
        logger = LLMCallLogger(token_prices={"my-model": {"input": 0.001, "output": 0.002}})
        call = await logger.start_llm_call("acme", "my-model", "What is AI?", report_id="r1", execution_log_id="e1")
        await logger.end_llm_call(
            call, response="A field.", input_tokens=4, output_tokens=3, metadata={"cached": False}
        )

    asyncio.run(main())
    seen = spans.attributes()
    assert seen["gen_ai.provider.name"] == "acme"
    assert seen["spanledger.prompt"] == "What is AI?"
    assert seen["spanledger.response"] == "A field."
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (4, 3)
    assert seen["spanledger.price.output"] == 0.002
    assert seen["spanledger.execution_log.id"] == "e1"
    assert seen["spanledger.report.id"] == "r1"
    assert json.loads(seen["spanledger.metadata"]) == {"cached": False}
    assert seen["spanledger.status"] == "completed"


def test_a_failed_call_by_hand_keeps_what_it_cost(spans: Any) -> None:
    logger = LLMCallLogger()
    call = logger.start_llm_call("acme", "my-model", is_streaming=True)
    try:
        raise TimeoutError("too slow")
    except TimeoutError:
        logger.end_llm_call(call, status="failed", input_tokens=4, output_tokens=0, chunks_count=2)
    seen = spans.attributes()
    assert seen["spanledger.status"] == "failed"
    assert seen["error.type"] == "TimeoutError"
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (4, 0)
    assert seen["spanledger.stream.chunks"] == 2


def test_a_stream_of_texts_logs_itself(spans: Any) -> None:
    async def words() -> Any:
        yield "a "
        yield "b"

    async def main() -> list[str]:
        return [word async for word in LLMCallLogger().log_streaming(words(), "acme", "my-model", "say")]

    assert asyncio.run(main()) == ["a ", "b"]
    assert list(LLMCallLogger().log_streaming(["c"], "acme", "my-model")) == ["c"]
    first, second = (span.attributes for span in spans.all)
    assert (first["spanledger.response"], first["spanledger.stream.chunks"]) == ("a b", 2)
    assert (second["spanledger.response"], second["spanledger.call.type"]) == ("c", "inference_stream")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What an installed exporter is told; no tracer provider is configured yet."""
    package = tmp_path / "fake_exporter-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-exporter\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[spanledger_database]\nfake = fake_exporter:use\n")
    (tmp_path / "fake_exporter.py").write_text("urls = []\nuse = urls.append\n")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # the real exporter is not found there
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "fake_exporter", raising=False)
    import fake_exporter

    return fake_exporter.urls  # type: ignore[no-any-return]


def test_the_database_of_the_session_is_told_and_nothing_is_asked_of_it(told: list[Any], tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    touched: list[str] = []
    for name in ("connect", "begin", "commit", "rollback", "before_execute"):
        target = engine.pool if name == "connect" else engine
        event.listen(target, name, lambda *_, name=name: touched.append(name))
    with Session(engine) as session:
        ExecutionLogger(session)
        LLMCallLogger(session)
        Agent(db=session)
        assert not session.in_transaction()
    assert told == [f"sqlite:///{tmp_path}/app.db"] * 4
    assert touched == []
    engine.dispose()


def test_no_session_means_the_default_database(told: list[Any]) -> None:
    ExecutionLogger()
    assert told == [None]


def test_once_a_provider_is_configured_nobody_is_told(told: list[Any], spans: Any) -> None:
    ExecutionLogger("sqlite:///other.db")
    assert told == []


def test_the_password_arrives_and_the_driver_is_left_open(told: list[Any]) -> None:
    class AsyncEngine:  # as SQLAlchemy's: it has a URL, and nothing here is connected
        url = create_engine("postgresql+psycopg://me:se%2Fcret@db:5432/app").url

    use_database(AsyncEngine())
    assert told == ["postgresql://me:se%2Fcret@db:5432/app"]


def test_a_database_in_the_memory_of_the_app_is_not_ours(told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    assert url_of(create_engine("sqlite://")) is None
    assert "no other connection finds it" in caplog.text


def test_something_that_is_no_database_is_one_warning(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANLEDGER_RAISE", "false")
    ExecutionLogger(object())
    assert "Could not find out which database to use" in caplog.text
    assert told == []
