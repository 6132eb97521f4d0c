"""One agent step is one span: as a block, as a function, by hand; and its outcome is told as it was."""

import asyncio
import inspect
import json
import threading
import uuid
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from spanledger.instrumentation import ExecutionLogger, execution, using
from spanledger.instrumentation.semconv import SCHEMA_URL, SCOPE


def error_of(span: Any) -> dict[str, Any]:
    (event,) = span.events
    assert event.name == "exception"
    return dict(event.attributes)


def test_a_span_says_who_did_which_step_in_both_vocabularies(spans: Any) -> None:
    with execution("planner", "plan", action_type="generate_plan", input_data={"goal": 1}, report_id=uuid.UUID(int=7)):
        pass
    assert spans.only.name == "plan planner"
    assert spans.only.kind is SpanKind.INTERNAL
    assert spans.only.instrumentation_scope.name == SCOPE
    assert spans.only.instrumentation_scope.schema_url == SCHEMA_URL
    seen = spans.attributes()
    execution_id = seen.pop("spanledger.execution.id")
    assert execution_id.startswith("exec_")
    assert seen == {
        "spanledger.kind": "execution",
        "gen_ai.operation.name": "plan",
        "gen_ai.agent.name": "planner",
        "spanledger.agent.type": "planner",
        "spanledger.execution.step": "plan",
        "spanledger.action.type": "generate_plan",
        "spanledger.input": '{"goal":1}',
        "spanledger.report.id": str(uuid.UUID(int=7)),
        "spanledger.status": "completed",
    }


@pytest.mark.parametrize(
    ("step", "operation"), [("observe", "invoke_agent"), ("execute_tool", "execute_tool"), ("retrieval", "retrieval")]
)
def test_a_step_the_convention_knows_is_that_operation(spans: Any, step: str, operation: str) -> None:
    with execution("a", step, action_type="search"):
        pass
    assert spans.attributes()["gen_ai.operation.name"] == operation
    assert spans.attributes().get("gen_ai.tool.name") == ("search" if step == "execute_tool" else None)


def test_one_block_object_serves_many_tasks_at_a_time(spans: Any) -> None:
    block = execution("a", "plan")

    async def agent(name: str, first: asyncio.Event, then: asyncio.Event) -> None:
        async with block as run:
            run.output_data = name
            first.set()
            await then.wait()
            with execution(name, "inner"):
                pass

    async def main() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(agent("x", one, two), agent("y", two, one))

    asyncio.run(main())
    outer = {span.context.span_id: span.attributes["spanledger.output"] for span in spans.all if span.name == "plan a"}
    inner = {outer[span.parent.span_id]: span.name for span in spans.all if span.name.startswith("inner")}
    assert inner == {'"x"': "inner x", '"y"': "inner y"}
    assert all(span.attributes["spanledger.status"] == "completed" for span in spans.all)


def test_a_block_fails_in_the_task_that_failed(spans: Any) -> None:
    block = execution("a", "plan")

    async def agent(name: str, fails: bool) -> None:
        with block as run:
            run.output_data = name
            await asyncio.sleep(0)
            if fails:
                raise ValueError(name)

    async def main() -> None:
        await asyncio.gather(agent("x", True), agent("y", False), agent("z", False), return_exceptions=True)

    asyncio.run(main())
    statuses = {span.attributes["spanledger.output"]: span.attributes["spanledger.status"] for span in spans.all}
    assert statuses == {'"x"': "failed", '"y"': "completed", '"z"': "completed"}


def test_what_is_known_at_the_start_stands_there_at_the_start(spans: Any) -> None:
    with execution("a", "plan", input_data=[1], metadata={"m": 1}) as run:
        at_start = dict(run.span.attributes)
    assert at_start["spanledger.input"] == "[1]"
    assert at_start["spanledger.metadata"] == '{"m":1}'
    assert "spanledger.status" not in at_start


def test_the_row_id_is_derived_from_the_span(spans: Any) -> None:
    with execution("a", "plan") as run:
        pass
    context = spans.only.context
    assert uuid.UUID(run.id).int == (context.trace_id & (2**64 - 1)) << 64 | context.span_id
    assert (run.trace_id, run.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


def test_a_root_makes_the_execution_id_and_the_rest_inherit_it(spans: Any) -> None:
    with execution("a", "run") as root, execution("b", "plan") as child:
        pass
    assert child.execution_id == root.execution_id
    prefix, digits, seconds = root.execution_id.split("_")
    assert (prefix, len(bytes.fromhex(digits))) == ("exec", 8)
    started = spans.named("run a").start_time / 1e9
    assert started - 2 < int(seconds) <= started
    with execution("c", "run") as other:
        pass
    assert other.execution_id != root.execution_id


def test_a_given_execution_id_wins(spans: Any) -> None:
    with execution("a", "run", execution_id="exec_abc123_1704067200") as run, execution("b", "plan") as child:
        pass
    assert run.execution_id == child.execution_id == "exec_abc123_1704067200"


def test_output_and_metadata_can_be_set_until_the_end(spans: Any) -> None:
    with execution("a", "plan", metadata={"first": 1}) as run:
        run.output_data = {"plan": ["x"]}
        run.metadata = {**run.metadata, "second": 2}
    assert json.loads(spans.attributes()["spanledger.output"]) == {"plan": ["x"]}
    assert json.loads(spans.attributes()["spanledger.metadata"]) == {"first": 1, "second": 2}


def test_a_failure_is_recorded_and_raised_on_unchanged(spans: Any) -> None:
    error = ValueError("no such widget")
    with pytest.raises(ValueError) as raised, execution("a", "plan"):
        raise error
    assert raised.value is error
    assert spans.only.status.status_code is StatusCode.ERROR
    assert spans.only.status.description == "no such widget"
    assert spans.attributes()["spanledger.status"] == "failed"
    assert spans.attributes()["error.type"] == "ValueError"
    event = error_of(spans.only)
    assert event["exception.type"] == "ValueError"
    assert event["exception.message"] == "no such widget"
    assert "raise error" in event["exception.stacktrace"]


@pytest.mark.parametrize("cancellation", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_who_is_told_to_stop_is_cancelled_and_has_not_failed(spans: Any, cancellation: type[BaseException]) -> None:
    with pytest.raises(cancellation), execution("a", "plan"):
        raise cancellation
    assert spans.attributes()["spanledger.status"] == "cancelled"
    assert spans.only.status.status_code is StatusCode.UNSET
    assert "error.type" not in spans.attributes()


def test_an_exit_with_a_code_has_failed(spans: Any) -> None:
    with pytest.raises(SystemExit), execution("a", "plan"):
        raise SystemExit(3)
    assert spans.attributes()["spanledger.status"] == "failed"


def test_a_task_that_is_cancelled_ends_cancelled(spans: Any) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def agent() -> None:
            async with execution("a", "plan"):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(agent())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans.attributes()["spanledger.status"] == "cancelled"


def test_an_exception_whose_text_cannot_be_read_is_still_recorded(spans: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Mute), execution("a", "plan"):
        raise Mute
    assert error_of(spans.only)["exception.message"] == "[unreadable: RuntimeError]"


def test_a_chained_exception_keeps_its_cause_and_a_long_one_its_ends(spans: Any) -> None:
    @execution("a", "plan")
    def fail() -> None:
        try:
            raise KeyError("the cause")
        except KeyError as cause:
            raise RuntimeError("m" * 1_000_000) from cause

    with pytest.raises(RuntimeError):
        fail()
    event = error_of(spans.only)
    assert "the cause" in event["exception.stacktrace"]
    assert len(event["exception.stacktrace"]) < 70_000
    assert "characters cut" in event["exception.message"]


def test_ending_by_hand_again_changes_nothing(spans: Any) -> None:
    logger = ExecutionLogger()
    run = logger.start_execution("a", "plan")
    logger.end_execution(run, output_data=1)
    logger.end_execution(run, status="failed", error_message="too late")
    assert spans.attributes()["spanledger.status"] == "completed"


def test_two_threads_that_end_it_at_once_end_it_once(spans: Any) -> None:
    for _ in range(50):
        run = ExecutionLogger().start_execution("a", "plan")
        gate = threading.Barrier(2)

        def end(run: Any = run, gate: threading.Barrier = gate) -> None:
            gate.wait()
            run.end()

        threads = [threading.Thread(target=end) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.end()
    assert len(spans) == 50


def test_starting_by_hand_can_be_awaited_or_not(spans: Any) -> None:
    async def main() -> None:
        logger = ExecutionLogger()
        run = await logger.start_execution("a", "plan")
        assert await logger.end_execution(run) is run
        assert logger.end_execution(logger.start_execution("b", "plan")).id != run.id

    asyncio.run(main())
    assert len(spans) == 2


def test_what_runs_between_start_and_end_by_hand_belongs_to_it(spans: Any) -> None:
    logger = ExecutionLogger()
    run = logger.start_execution("a", "plan")
    with execution("b", "step"):
        pass
    logger.end_execution(run)
    with execution("c", "step"):
        pass
    assert spans.named("step b").parent.span_id == run.span.get_span_context().span_id
    assert spans.named("step c").parent is None


def test_a_failure_by_hand_without_an_exception_has_its_message(spans: Any) -> None:
    run = ExecutionLogger().start_execution("a", "plan")
    run.end("failed", error_message="no plan came out")
    assert spans.attributes()["spanledger.error.message"] == "no plan came out"
    assert spans.attributes()["error.type"] == "_OTHER"
    assert spans.only.events == ()


def test_a_decorated_function_has_arguments_result_and_name(spans: Any) -> None:
    class Planner:
        @execution()
        def make_plan(self, goal: str, *, depth: int = 1) -> list[str]:
            """Docstring."""
            return [goal] * depth

    assert Planner().make_plan("a", depth=2) == ["a", "a"]
    seen = spans.attributes("make_plan Planner")
    assert json.loads(seen["spanledger.input"]) == {"goal": "a", "depth": 2}
    assert json.loads(seen["spanledger.output"]) == ["a", "a"]
    assert Planner.make_plan.__doc__ == "Docstring."


def test_a_decorated_coroutine_function_stays_one(spans: Any) -> None:
    @execution("planner", "plan", capture=False)
    async def make_plan(goal: str) -> str:
        await asyncio.sleep(0)
        return goal

    assert inspect.iscoroutinefunction(make_plan)
    assert asyncio.run(make_plan("a")) == "a"
    assert "spanledger.input" not in spans.attributes()
    assert "spanledger.output" not in spans.attributes()


def test_a_wrong_call_of_a_decorated_function_fails_as_it_would(spans: Any) -> None:
    @execution("planner", "plan")
    def make_plan(goal: str) -> str:
        return goal

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'goal'"):
        make_plan()  # type: ignore[call-arg]
    assert spans.attributes()["spanledger.status"] == "failed"


def test_content_is_left_out_when_otel_says_so(spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "NO_CONTENT")
    with execution("a", "plan", input_data="secret") as run:
        run.output_data = "secret"
    assert "secret" not in str(spans.attributes())


def test_no_provider_costs_the_app_nothing() -> None:
    with using(report_id="r"), execution("a", "plan") as run:
        run.output_data = 1
    assert uuid.UUID(run.id)
    assert run.execution_id.startswith("exec_")
