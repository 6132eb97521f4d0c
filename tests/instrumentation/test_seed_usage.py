"""The seed's usage snippets, sections 1 to 4 and Token Pricing, run as they stand but for the import paths."""

import json
import textwrap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

BASIC_SETUP = """
    from spanledger.instrumentation import Agent
    from spanledger.instrumentation import ExecutionLogger, LLMCallLogger

    # Logging is automatically set up in Agent.__init__
    agent = Agent(db=db_session, model=model, ...)
    # agent.execution_logger and agent.llm_call_logger are now available
""".replace(", ...", "")  # the seed's own ellipsis

MANUAL_LOGGER_USAGE = """
    from spanledger.instrumentation import ExecutionLogger, LLMCallLogger

    # Initialize loggers
    execution_logger = ExecutionLogger(db_session)
    llm_call_logger = LLMCallLogger(db_session)

    # Context manager approach (recommended)
    async with execution_logger.log_execution(
        agent_type="custom_agent",
        execution_step="custom_task",
        input_data={"param": "value"}
    ) as log_context:
        # Your agent logic here
        result = await perform_task()

        # Set output data
        log_context.output_data = {"result": result}
        log_context.metadata = {"additional": "info"}
"""

LLM_CALL_LOGGING = """
    from spanledger.instrumentation import LLM

    # LLM with automatic logging
    llm = LLM(model=model, llm_call_logger=llm_call_logger)

    # Regular inference (automatically logged)
    response = llm.inference(
        prompt="What is AI?",
        execution_log_id="exec_123",  # Optional: link to execution
        report_id="report_456"        # Optional: link to report
    )

    # Streaming inference (automatically logged)
    async for chunk in llm.inference_stream(
        prompt="Explain machine learning",
        execution_log_id="exec_123"
    ):
        print(chunk)
"""

CUSTOM_EXECUTION_LOGGING = """
    # Start execution manually
    execution_log = await execution_logger.start_execution(
        agent_type="planner",
        execution_step="plan",
        action_type="generate_plan",
        input_data={"schemas": schemas, "prompt": prompt},
        report_id=report_id,
        completion_id=completion_id
    )

    try:
        # Your execution logic
        plan = await generate_plan()

        # End with success
        await execution_logger.end_execution(
            execution_log,
            status="completed",
            output_data={"plan": plan}
        )
    except Exception as e:
        # End with failure
        await execution_logger.end_execution(
            execution_log,
            status="failed",
            error_message=str(e)
        )
"""

TOKEN_PRICING = """
    self.token_prices = {
        'gpt-4': {'input': 0.03, 'output': 0.06},
        'custom-model': {'input': 0.001, 'output': 0.002},
        # Add your models here
    }
"""


async def run(snippet: str, **names: Any) -> dict[str, Any]:
    """Execute *snippet* in a coroutine with *names* in scope; what it named."""
    body = textwrap.indent(textwrap.dedent(snippet), "    ")
    scope = dict(names)
    exec(f"async def snippet():\n{body}\n    globals().update(locals())", scope)  # noqa: S102
    await scope["snippet"]()
    return scope


async def perform_task() -> str:
    return "done"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_agent_has_both_loggers_when_it_is_made(spans: Any, wire: Any) -> None:
    scope = await run(BASIC_SETUP, db_session=None, model="gpt-4o-mini")
    assert isinstance(scope["agent"].execution_logger, scope["ExecutionLogger"])
    assert isinstance(scope["agent"].llm_call_logger, scope["LLMCallLogger"])


@pytest.mark.anyio
async def test_a_block_of_the_logger_is_an_execution(spans: Any) -> None:
    await run(MANUAL_LOGGER_USAGE, db_session=None, perform_task=perform_task)
    seen = spans.attributes()
    assert seen["spanledger.kind"] == "execution"
    assert seen["spanledger.agent.type"] == "custom_agent"
    assert seen["spanledger.execution.step"] == "custom_task"
    assert seen["spanledger.status"] == "completed"
    assert json.loads(seen["spanledger.input"]) == {"param": "value"}
    assert json.loads(seen["spanledger.output"]) == {"result": "done"}
    assert json.loads(seen["spanledger.metadata"]) == {"additional": "info"}


@pytest.mark.anyio
async def test_inference_and_its_stream_are_two_calls(
    spans: Any,
    wire: Any,
    completion: Callable[..., Any],
    chunks: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from spanledger.instrumentation import LLMCallLogger

    wire.answers_with(completion("Artificial intelligence."))
    wire.answers_with(events=chunks("Machines ", "learn ", "from data."))
    model = SimpleNamespace(model_id="gpt-4o-mini", provider="openai", credentials={"api_key": "not-a-key"})
    scope = await run(LLM_CALL_LOGGING, model=model, llm_call_logger=LLMCallLogger(None))
    await scope["llm"].aclose()

    assert scope["response"] == "Artificial intelligence."
    assert capsys.readouterr().out == "Machines \nlearn \nfrom data.\n"
    first, second = (dict(span.attributes) for span in spans.all)
    assert (first["spanledger.call.type"], second["spanledger.call.type"]) == ("inference", "inference_stream")
    assert first["spanledger.execution_log.id"] == second["spanledger.execution_log.id"] == "exec_123"
    assert first["spanledger.report.id"] == "report_456"
    assert first["spanledger.prompt"] == "What is AI?"
    assert second["spanledger.response"] == "Machines learn from data."
    assert second["spanledger.stream.chunks"] == 3
    for call in (first, second):
        assert call["spanledger.kind"] == "llm_call"
        assert call["gen_ai.provider.name"] == "openai"
        assert call["gen_ai.request.model"] == "gpt-4o-mini"
        assert call["gen_ai.usage.input_tokens"] == 120
        assert call["gen_ai.usage.output_tokens"] == 47
        assert call["spanledger.status"] == "completed"


@pytest.mark.anyio
async def test_an_execution_by_hand_completes(spans: Any) -> None:
    async def generate_plan() -> list[str]:
        return ["create_widget"]

    scope = await run_custom_execution(generate_plan)
    seen = spans.attributes()
    assert seen["spanledger.status"] == "completed"
    assert seen["spanledger.action.type"] == "generate_plan"
    assert seen["spanledger.report.id"] == "report_456"
    assert seen["spanledger.completion.id"] == "completion_789"
    assert json.loads(seen["spanledger.output"]) == {"plan": ["create_widget"]}
    assert scope["execution_log"].id.replace("-", "").endswith(f"{spans.only.context.span_id:016x}")


@pytest.mark.anyio
async def test_an_execution_by_hand_fails_with_class_and_stack_trace(spans: Any) -> None:
    async def generate_plan() -> list[str]:
        raise LookupError("no such schema")

    await run_custom_execution(generate_plan)
    seen = spans.attributes()
    assert seen["spanledger.status"] == "failed"
    assert seen["spanledger.error.message"] == "no such schema"
    (event,) = spans.only.events
    assert event.attributes["exception.type"] == "LookupError"
    assert "in generate_plan" in event.attributes["exception.stacktrace"]


async def run_custom_execution(generate_plan: Callable[..., Any]) -> dict[str, Any]:
    from spanledger.instrumentation import ExecutionLogger

    return await run(
        CUSTOM_EXECUTION_LOGGING,
        execution_logger=ExecutionLogger(None),
        generate_plan=generate_plan,
        schemas=["sales"],
        prompt="Create a sales dashboard",
        report_id="report_456",
        completion_id="completion_789",
    )


def test_token_prices_set_in_init_reach_the_calls_of_their_models(
    spans: Any, wire: Any, completion: Callable[..., Any]
) -> None:
    from spanledger.instrumentation import LLM, LLMCallLogger

    class Priced(LLMCallLogger):
        def __init__(self, db_session: Any = None) -> None:
            super().__init__(db_session)
            exec(textwrap.dedent(TOKEN_PRICING), {"self": self})  # noqa: S102

    wire.answers_with(completion("Yes.", model="custom-model"))
    wire.answers_with(completion("No.", model="gpt-4.1-nano"))
    logger = Priced()
    with LLM(model="custom-model", llm_call_logger=logger) as llm, LLM("gpt-4.1-nano", logger) as other:
        llm.inference(prompt="Is it?")
        other.inference(prompt="Is it?")
    priced, unpriced = (span.attributes for span in spans.all)
    assert (priced["spanledger.price.input"], priced["spanledger.price.output"]) == (0.001, 0.002)
    assert "spanledger.price.input" not in unpriced
