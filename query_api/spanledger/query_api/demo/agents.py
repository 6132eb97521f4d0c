"""Three agents that plan, execute and observe: a planner that has a designer make widgets and an answerer write.

``python -m spanledger.query_api.demo.agents`` runs them over a few tasks, in a process that records itself as any
application would, with one call of `configure`; it prints one JSON object a task.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from spanledger.exporter import configure
from spanledger.instrumentation import LLM, Agent, execution
from spanledger.instrumentation.context import Ids

from .wire import WireProvider

TABLES: Final = "\n".join(
    f"sales_{year}_{month:02}(order_id BIGINT, region TEXT, product TEXT, quantity INT, amount NUMERIC, sold DATE)"
    for year in (2023, 2024, 2025, 2026)
    for month in range(1, 13)
)
PLANNER: Final = f"You plan reports over a warehouse. Name the actions a request needs, in order.\n\n{TABLES}"
DESIGNER: Final = "You turn a request into the definition of one widget."
ANSWER: Final = "You answer a question about a report in two sentences a manager understands."
CHECK: Final = "Say whether the answer below is complete, in one short sentence."


def _json_schema(name: str, **properties: Any) -> dict[str, Any]:
    """A ``response_format`` for a JSON object with *properties*."""
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


TEXT: Final = {"type": "string"}
ACTION: Final = {
    "type": "object",
    "properties": {"action": {"type": "string", "enum": ["create_widget", "answer_question"]}, "details": TEXT},
    "required": ["action", "details"],
    "additionalProperties": False,
}
PLAN: Final = _json_schema("plan", actions={"type": "array", "items": ACTION})
WIDGET: Final = _json_schema("widget", title=TEXT, chart={"type": "string", "enum": ["bar", "line"]}, sql=TEXT)


class Task(NamedTuple):
    """What somebody asks for. *fails* tasks are asked of the local provider only, which fails them on request."""

    report_id: str
    user: str
    text: str
    fails: bool = False


TASKS: Final = (
    Task("report_1", "ada", "Create a sales dashboard for the last quarter by region."),
    Task("report_2", "grace", "Which product lost the most revenue this year? (provider: fail 429 once)"),
    Task("report_3", "ada", "Compare both halves of the year. (provider: fail 503)", fails=True),
)


class Models(NamedTuple):
    """Which model each agent talks to, and over what."""

    planner: LLM
    designer: LLM
    answer: LLM
    check: LLM


class Designer(Agent):
    """Makes one widget."""

    agent_type = "designer"

    async def plan(self, task: str, observations: list[Any]) -> Any:
        return json.loads(await self.llm.ainference(task, system=DESIGNER, response_format=WIDGET))

    async def execute(self, plan: Mapping[str, str]) -> Any:
        with execution("designer", "execute_tool", action_type="create_widget", input_data=plan) as tool:
            tool.output_data = {"widget": plan["title"], "rows": 12}
        return tool.output_data

    def observe(self, task: str, result: Any) -> None:
        """Done when there is a widget."""


class Answer(Agent):
    """Writes an answer, a piece at a time, and has it checked by another model."""

    agent_type = "answer"

    def __init__(self, llm: LLM, check: LLM) -> None:
        super().__init__(llm=llm)
        self._check = check

    def plan(self, task: str, observations: list[Any]) -> str:
        return task.partition("(provider:")[0]

    async def execute(self, plan: str) -> str:
        return "".join([piece async for piece in self.llm.inference_stream(plan, system=ANSWER)])

    async def observe(self, task: str, result: str) -> None:
        await self._check.ainference(result, system=CHECK)


class Planner(Agent):
    """Decides what a request needs and has the others do it."""

    agent_type = "planner"

    def __init__(self, models: Models) -> None:
        super().__init__(llm=models.planner)
        self._helpers: Mapping[str, Agent] = {
            "create_widget": Designer(llm=models.designer),
            "answer_question": Answer(models.answer, models.check),
        }

    async def plan(self, task: str, observations: list[Any]) -> Sequence[Mapping[str, str]]:
        plan = json.loads(await self.llm.ainference(task, system=PLANNER, response_format=PLAN))
        actions: Sequence[Mapping[str, str]] = plan["actions"]
        return actions

    async def execute(self, plan: Sequence[Mapping[str, str]]) -> list[Any]:
        return [await self._helpers[step["action"]].run(step["details"]) for step in plan]

    def observe(self, task: str, result: Any) -> None:
        """Done when every action is."""


def models(local: bool) -> Models:
    """Over the ``openai`` SDK where it is installed; ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` say where it goes.

    The real provider gets the cheapest model throughout.
    """
    provider = (
        None if find_spec("openai") else WireProvider(os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"])
    )
    names = ("gpt-4.1", "gpt-4.1-mini", "gpt-4o-mini", "o4-mini") if local else ("gpt-4o-mini",) * 4
    return Models(*(LLM(name, provider=provider) for name in names))


async def run(task: Task, models: Models) -> dict[str, Any]:
    """One task's outcome: its run's execution id, and the result or the error."""
    ids: Ids = {
        "report_id": task.report_id,
        "external_user_id": task.user,
        "external_platform": "demo",
        "session_id": "demo",
    }
    with execution("report", "execute", input_data={"task": task.text}, **ids) as whole:
        outcome = {"task": task.text, "execution_id": whole.execution_id}
        try:
            whole.output_data = await Planner(models).run(task.text)
        except Exception as error:  # the provider's own, whichever client is in use
            whole.end("failed", error=error)
            return {**outcome, "expected": task.fails, "error": f"{type(error).__name__}: {error}"}
    return {**outcome, "expected": not task.fails, "error": None}


async def main() -> int:
    """Exit status 0 if every task ended as it should and every span is stored."""
    local = "--local" in sys.argv
    handle = configure(service_name="spanledger-demo")
    talkers = models(local)
    outcomes = []
    for task in TASKS:
        if local or not task.fails:
            outcomes.append(await run(task, talkers))
            print(json.dumps(outcomes[-1]), flush=True)
    for talker in talkers:
        await talker.aclose()
    flushed = handle.force_flush()
    delivery = handle.delivery
    print(json.dumps({"stored": delivery.kept, "instrumented": handle.instrumented}), flush=True)
    return 0 if flushed and not delivery.lost and all(outcome["expected"] for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
