"""Agents are observed whole: without touching their code, or by building on the loop."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from spanledger.instrumentation import (
    LLM,
    Agent,
    Reply,
    Request,
    execution,
    instrument_agent,
    uninstrument_agent,
)


class Base:
    def observe(self, result: str) -> str:
        return f"seen {result}"


class Robot(Base):
    async def run(self, goal: str) -> str:
        plan = self.plan(goal)
        result = "".join(self.execute(plan))
        return self.observe(result) + await self.rest()

    def plan(self, goal: str) -> list[str]:
        return list(goal)

    def execute(self, plan: list[str]) -> Iterator[str]:
        yield from plan

    async def rest(self) -> str:
        return "."

    @staticmethod
    def measure(length: int) -> int:
        return length

    @classmethod
    def build(cls, name: str) -> str:
        return f"{cls.__name__} {name}"


@pytest.fixture
def robot() -> Iterator[type[Robot]]:
    yield instrument_agent(Robot)
    uninstrument_agent(Robot)


def test_every_step_of_an_agent_is_an_execution_beneath_its_run(spans: Any, robot: type[Robot]) -> None:
    assert asyncio.run(robot().run("ab")) == "seen ab."
    assert [span.name for span in spans.all] == ["plan Robot", "execute Robot", "observe Robot", "run Robot"]
    run = spans.named("run Robot")
    assert {span.parent.span_id for span in spans.all[:3]} == {run.context.span_id}
    assert len({span.attributes["spanledger.execution.id"] for span in spans.all}) == 1
    assert json.loads(spans.attributes("plan Robot")["spanledger.input"]) == {"goal": "ab"}
    assert json.loads(spans.attributes("execute Robot")["spanledger.output"]) == ["a", "b"]


def test_instrumenting_twice_changes_nothing(spans: Any, robot: type[Robot]) -> None:
    instrument_agent(robot)
    robot().plan("ab")
    assert len(spans) == 1


def test_uninstrumenting_gives_every_method_back(spans: Any) -> None:
    before = dict(vars(Robot))
    instrument_agent(Robot, steps=("plan", "observe", "measure", "build"))
    assert vars(Robot)["plan"] is not before["plan"]
    uninstrument_agent(Robot)
    assert dict(vars(Robot)) == before
    uninstrument_agent(Robot)
    assert Robot().observe("x") == "seen x"
    assert len(spans) == 0


def test_class_and_static_methods_stay_such(spans: Any) -> None:
    instrument_agent(Robot, steps=("measure", "build"), entry=None)
    try:
        assert (Robot.measure(3), Robot().measure(3)) == (3, 3)
        assert Robot.build("x") == "Robot x"
    finally:
        uninstrument_agent(Robot)
    assert [span.name for span in spans.all] == ["measure Robot", "measure Robot", "build Robot"]


def test_the_type_of_an_agent_is_its_own_word_or_its_class(spans: Any) -> None:
    @instrument_agent(steps=("think",))
    class Thinker:
        agent_type = "philosopher"

        def think(self) -> None: ...

    class Loud(Thinker):
        agent_type = ""

    Thinker().think()
    Loud().think()
    assert [span.name for span in spans.all] == ["think philosopher", "think Loud"]


def test_a_class_without_any_of_the_methods_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    instrument_agent(Robot, steps=("sing", "dance"), entry=None)
    uninstrument_agent(Robot)
    assert "Robot has none of the methods sing, dance" in caplog.text


class Echo:
    name = "echo"
    operation = "chat"
    address = None

    def complete(self, request: Request) -> Reply:
        return Reply(f"echo {request.messages[-1]['content']}", finish_reason="stop")

    async def acomplete(self, request: Request) -> Reply:
        return self.complete(request)

    stream = astream = complete


class Counter(Agent):
    """Counts up to its task, one turn at a time, asking the model on the way."""

    agent_type = "counter"

    def plan(self, task: int, observations: list[int]) -> int:
        return len(observations) + 1

    async def execute(self, plan: int) -> str:
        return await self.llm.ainference(str(plan))

    def observe(self, task: int, result: str) -> int | None:
        return None if result == f"echo {task}" else 1


def test_the_loop_goes_on_until_nothing_is_left_to_do(spans: Any) -> None:
    agent = Counter(llm=LLM("echo-1", provider=Echo()), report_id="r1")
    assert agent.run_sync(3) == "echo 3"
    assert [span.name for span in spans.all] == [
        *["plan counter", "chat echo-1", "execute counter", "observe counter"] * 3,
        "run counter",
    ]
    run = spans.named("run counter")
    assert json.loads(run.attributes["spanledger.metadata"]) == {"turns": 3, "finished": True}
    assert json.loads(run.attributes["spanledger.output"]) == "echo 3"
    assert json.loads(spans.all[0].attributes["spanledger.input"]) == {"task": 3, "observations": []}
    assert {span.attributes["spanledger.report.id"] for span in spans.all} == {"r1"}
    executes = {span.context.span_id for span in spans.all if span.name == "execute counter"}
    assert {span.parent.span_id for span in spans.all if span.name == "chat echo-1"} == executes


def test_the_loop_stops_at_its_limit(spans: Any) -> None:
    agent = Counter(llm=LLM("echo-1", provider=Echo()))
    agent.max_turns = 2
    agent.run_sync(9)
    assert json.loads(spans.attributes("run counter")["spanledger.metadata"]) == {"turns": 2, "finished": False}


def test_an_agent_within_an_agent_belongs_to_its_run(spans: Any) -> None:
    async def main() -> None:
        with execution("boss", "run"):
            await asyncio.gather(*(Counter(llm=LLM("echo-1", provider=Echo())).run(1) for _ in range(3)))

    asyncio.run(main())
    assert len({span.attributes["spanledger.execution.id"] for span in spans.all}) == 1


def test_a_step_that_fails_fails_the_run_with_the_same_error(spans: Any) -> None:
    with pytest.raises(ValueError, match="Counter has no model; pass model= or llm="):
        Counter().run_sync(1)
    assert {span.name: span.attributes["spanledger.status"] for span in spans.all} == {
        "plan counter": "completed",
        "execute counter": "failed",
        "run counter": "failed",
    }
