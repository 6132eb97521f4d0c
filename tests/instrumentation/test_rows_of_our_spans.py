"""From the application's code to the rows: what our own spans, and others inside them, become in a real database."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from sqlalchemy import Row, select

from spanledger.exporter.identifiers import as_uuid
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.processor import ContextSpanProcessor
from spanledger.exporter.redaction import Redactor
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.spans import from_sdk
from spanledger.exporter.store import Store
from spanledger.instrumentation import LLM, ExecutionLogger, LLMCallLogger

instrumentor_module = pytest.importorskip("opentelemetry.instrumentation.genai.openai")


@pytest.fixture
def recorded(spans: Any, store: Store) -> Callable[[], tuple[list[Row[Any]], list[Row[Any]]]]:
    """Records the spans that have ended and returns the executions and calls that stand."""
    trace.get_tracer_provider().add_span_processor(ContextSpanProcessor())  # type: ignore[attr-defined]

    def record() -> tuple[list[Row[Any]], list[Row[Any]]]:
        Ledger(store, PriceBook(), Redactor()).record([from_sdk(span) for span in spans.all])
        with store.reading() as connection:
            executions = connection.execute(select(execution_logs).order_by(execution_logs.c.start_time)).all()
            calls = connection.execute(select(llm_call_logs).order_by(llm_call_logs.c.start_time)).all()
        return list(executions), list(calls)

    return record


@pytest.fixture
def instrumented(spans: Any) -> Iterator[None]:
    instrumentor = instrumentor_module.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=trace.get_tracer_provider())
    yield
    instrumentor.uninstrument()


def test_a_step_and_its_call_become_two_linked_rows(recorded: Any, wire: Any, completion: Callable[..., Any]) -> None:
    wire.answers_with(completion("Hi"))
    asyncio.run(_one_step())
    _check_step(*recorded())


async def _one_step() -> None:
    execution_logger, llm_call_logger = ExecutionLogger(None), LLMCallLogger(None)
    async with execution_logger.log_execution(
        agent_type="planner",
        execution_step="plan",
        action_type="generate_plan",
        input_data={"prompt": "p"},
        report_id="report_456",
    ) as context:
        with LLM(model="gpt-4o-mini", llm_call_logger=llm_call_logger) as llm:
            llm.inference(prompt="Hello")
        context.output_data = {"plan": [1]}
        context.metadata = {"additional": "info"}


def _check_step(executions: list[Row[Any]], calls: list[Row[Any]]) -> None:
    (execution,), (call,) = executions, calls
    assert (execution.agent_type, execution.execution_step, execution.action_type) == (
        "planner",
        "plan",
        "generate_plan",
    )
    assert execution.status == "completed"
    assert execution.input_data == {"prompt": "p"}
    assert execution.output_data == {"plan": [1]}
    assert execution.metadata["additional"] == "info"
    assert execution.report_id == call.report_id == as_uuid("report_456")
    assert execution.metadata["report_id"] == "report_456"
    assert call.execution_log_id == execution.id
    assert call.execution_id == execution.execution_id
    assert (call.provider, call.model_id, call.prompt, call.response) == ("openai", "gpt-4o-mini", "Hello", "Hi")
    assert call.total_tokens == call.input_tokens + call.output_tokens
    assert call.total_cost == pytest.approx(call.input_cost + call.output_cost)
    assert call.cost_source == "computed"


def test_the_users_prices_decide_though_another_instrumentors_span_is_the_one_that_counts(
    recorded: Any, wire: Any, completion: Callable[..., Any], instrumented: None
) -> None:
    wire.answers_with(completion("Hi"))
    logger = LLMCallLogger(None)
    logger.token_prices = {"gpt-4o-mini": {"input": 1.0, "output": 2.0}}
    with LLM(model="gpt-4o-mini", llm_call_logger=logger) as llm:
        llm.inference(prompt="Hello", execution_log_id="exec_123")
    _, calls = recorded()
    assert len(calls) == 2
    (counted,) = [call for call in calls if call.counted]
    assert counted.scope != "spanledger.instrumentation"
    assert counted.cost_source == "custom"
    assert counted.total_cost == counted.input_tokens / 1000 * 1.0 + counted.output_tokens / 1000 * 2.0
    assert counted.execution_log_id == as_uuid("exec_123"), "the owner the application named"
    assert "spanledger.token_prices" not in (counted.metadata or {})
