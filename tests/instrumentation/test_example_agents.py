"""The agents in ``examples/`` really run their loops: through the real SDK, over a socket, into spans."""

import asyncio
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

from spanledger.instrumentation import instrument_agent, uninstrument_agent

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_report_agents_plan_execute_observe_and_try_again(
    spans: Any, wire: Any, completion: Callable[..., Any]
) -> None:
    example = runpy.run_path(str(EXAMPLES / "report_agents.py"))
    wire.answers_with(completion(json.dumps({"actions": [{"action": "create_widget", "details": "Sales by region"}]})))
    wire.answers_with(completion(json.dumps({"title": "Sales", "chart": "bar", "sql": ""})))
    wire.answers_with(completion(json.dumps({"title": "Sales", "chart": "bar", "sql": "SELECT 1"})))
    (widget,) = asyncio.run(example["main"]("Create a sales dashboard", "gpt-4o-mini"))
    assert widget["widget"]["sql"] == "SELECT 1"
    assert "The last widget was wrong: sql missing" in wire.requests[2]["body"]["messages"][-1]["content"]
    steps = [span.name for span in spans.all if span.attributes["spanledger.kind"] == "execution"]
    turn = ["plan designer", "execute_tool designer", "execute designer", "observe designer"]
    assert steps == [
        "plan planner",
        *turn * 2,
        "run designer",
        "execute planner",
        "observe planner",
        "run planner",
    ]
    assert len({span.attributes["spanledger.execution.id"] for span in spans.all}) == 1
    assert {span.attributes["spanledger.report.id"] for span in spans.all} == {"report_456"}
    plans = {span.context.span_id for span in spans.all if span.name.startswith("plan ")}
    assert {span.parent.span_id for span in spans.all if span.name.startswith("chat ")} == plans


def test_the_answer_agent_streams(
    spans: Any, wire: Any, completion: Callable[..., Any], chunks: Callable[..., Any]
) -> None:
    example = runpy.run_path(str(EXAMPLES / "report_agents.py"))
    wire.answers_with(completion(json.dumps({"actions": [{"action": "answer_question", "details": "Which?"}]})))
    wire.answers_with(events=chunks(" "))
    wire.answers_with(events=chunks("The ", "blue one."))
    assert asyncio.run(example["main"]("Which?", "gpt-4o-mini")) == ["The blue one."]
    streams = [span.attributes for span in spans.all if span.attributes.get("gen_ai.request.stream")]
    assert [stream["spanledger.stream.chunks"] for stream in streams] == [1, 2]
    assert json.loads(spans.attributes("run answer")["spanledger.metadata"]) == {"turns": 2, "finished": True}


def test_an_agent_that_knows_nothing_of_us_is_observed(spans: Any, wire: Any, completion: Callable[..., Any]) -> None:
    greeter = runpy.run_path(str(EXAMPLES / "your_own_agent.py"))["Greeter"]
    wire.answers_with(completion("Hello Ada, lovely to meet"))
    instrument_agent(greeter)
    with openai.OpenAI() as client:
        assert greeter(client).run("Ada") == ["Hello Ada, lovely to meet"]
    uninstrument_agent(greeter)
    names = ["plan Greeter", "chat gpt-4o-mini", "execute Greeter", "observe Greeter", "run Greeter"]
    assert [span.name for span in spans.all] == names
    assert spans.named("chat gpt-4o-mini").parent.span_id == spans.named("execute Greeter").context.span_id
