"""A planner, a designer and an answer agent that make a report together, each in a plan → execute → observe loop.

    pip install "spanledger[openai]"
    python examples/local_provider.py &                                   # or use a real OPENAI_API_KEY
    OPENAI_BASE_URL=http://127.0.0.1:8319/v1 OPENAI_API_KEY=any spanledger run python examples/report_agents.py
    spanledger summary

The planner asks the model which actions a request needs and hands each to another agent. The designer asks for a widget
until it is whole: what it observes is in its next plan. The answer agent streams. Nothing here mentions logging.
"""

import asyncio
import json
import os
import sys
from typing import Any

from spanledger.instrumentation import LLM, Agent, execution, using


def schema(name: str, **properties: Any) -> dict[str, Any]:
    """A ``response_format`` that makes the model answer with an object of these properties."""
    wanted = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": wanted, "strict": True}}


TEXT = {"type": "string"}
WIDGET = schema("widget", title=TEXT, chart={"type": "string", "enum": ["bar", "line", "table"]}, sql=TEXT)
ACTION = {
    "type": "object",
    "properties": {"action": {"type": "string", "enum": ["create_widget", "answer_question"]}, "details": TEXT},
    "required": ["action", "details"],
    "additionalProperties": False,
}
PLAN = schema("plan", actions={"type": "array", "items": ACTION})


class Planner(Agent):
    """Decides which actions a request needs and has the other agents carry them out."""

    agent_type = "planner"

    def __init__(self, llm: LLM) -> None:
        super().__init__(llm=llm)
        self._agents = {"create_widget": Designer(llm=llm), "answer_question": Answer(llm=llm)}

    async def plan(self, task: str, observations: list[Any]) -> list[dict[str, str]]:
        answer = await self.llm.ainference(
            task, system="Name the actions this request needs, in order.", response_format=PLAN
        )
        actions: list[dict[str, str]] = json.loads(answer)["actions"]
        return actions

    async def execute(self, plan: list[dict[str, str]]) -> list[Any]:
        return await asyncio.gather(*(self._agents[step["action"]].run(step["details"]) for step in plan))

    def observe(self, task: str, result: list[Any]) -> str | None:
        return None if result else "No action was taken. Name at least one."


class Designer(Agent):
    """Makes one widget, and tries again with what was wrong with it."""

    agent_type = "designer"
    max_turns = 3

    async def plan(self, task: str, observations: list[str]) -> dict[str, str]:
        prompt = "\n".join([task, *(f"The last widget was wrong: {observation}" for observation in observations)])
        widget: dict[str, str] = json.loads(
            await self.llm.ainference(prompt, system="Design one widget.", response_format=WIDGET)
        )
        return widget

    def execute(self, plan: dict[str, str]) -> dict[str, Any]:
        return self.create_widget(plan)

    def observe(self, task: str, result: dict[str, Any]) -> str | None:
        return f"{', '.join(result['missing'])} missing" if result["missing"] else None

    @execution("designer", "execute_tool", action_type="create_widget")
    def create_widget(self, plan: dict[str, str]) -> dict[str, Any]:
        return {"widget": plan, "missing": [name for name in ("title", "chart", "sql") if not plan.get(name)]}


class Answer(Agent):
    """Answers a question in prose, and again if nothing came."""

    agent_type = "answer"
    max_turns = 2

    def plan(self, task: str, observations: list[str]) -> str:
        return "\n".join([task, *observations])

    async def execute(self, plan: str) -> str:
        return "".join([piece async for piece in self.llm.inference_stream(plan, system="Two sentences at most.")])

    def observe(self, task: str, result: str) -> str | None:
        return None if result.strip() else "Answer in words."


async def main(request: str, model: str) -> list[Any]:
    """The report on *request*: one widget or answer for each action of the plan."""
    async with LLM(model) as llm:
        with using(report_id="report_456", external_platform="example"):
            report: list[Any] = await Planner(llm).run(request)
    return report


if __name__ == "__main__":
    request = " ".join(sys.argv[1:]) or "Create a sales dashboard by region and say which product lost most."
    print(json.dumps(asyncio.run(main(request, os.environ.get("MODEL", "gpt-4o-mini"))), indent=2))
