"""Strands Agents: OTel GenAI names, content in the span's events, and the framework's name as the provider.

Source: strandsagents.com (user guide, traces) and strands-agents/sdk-python (telemetry/tracer.py).
"""

from typing import Any, Final

from spanledger.instrumentation import semconv

from ..messages import Message
from ..spans import SpanData
from ..values import milliseconds
from .base import AGENT, CHAIN, INFERENCE, TOOL, WORKFLOW, Dialect, Draft, Field, Operation
from .span_events import said_in_events

FIRST_GENERATION: Final = (("Cycle", CHAIN), ("Tool:", TOOL), ("Model invoke", INFERENCE))
"""Beginnings of the names of spans of the first releases, which named no operation."""

FIELDS: Final = (
    Field("time_to_first_token_ms", "gen_ai.server.time_to_first_token", milliseconds),
    Field("input", "gen_ai.prompt"),
    Field("output", "gen_ai.completion"),
    Field("action_type", "tool.name"),
    Field("input", "tool.parameters"),
    Field("output", "tool.result"),
    Field("agent_type", "agent.name"),
)

CLAIMS: Final = ("gen_ai.event.start_time", "gen_ai.event.end_time")
"""The span's own times, said once more."""


def operation(span: SpanData) -> Operation | None:
    name = span.attributes.get(semconv.OPERATION_NAME)
    if isinstance(name, str):
        several = name.startswith("invoke_") and name != semconv.INVOKE_AGENT  # invoke_swarm, invoke_graph
        return WORKFLOW if several else CHAIN if name == "execute_event_loop_cycle" else None
    for beginning, meant in FIRST_GENERATION:
        if span.name.startswith(beginning):
            return meant
    return AGENT if "agent.name" in span.attributes else None


def adjust(span: SpanData, draft: Draft) -> None:
    """A tool's events hold its arguments and its result, not a conversation."""
    if not span.events or span.attributes.get(semconv.OPERATION_NAME) != semconv.EXECUTE_TOOL:
        return
    prompt, response = said_in_events(span)
    if prompt:
        draft.setdefault("input", _arguments(prompt[0]))
    if response:
        draft.setdefault("output", response[0].get("content"))


def _arguments(message: Message) -> Any:
    calls = message.get("tool_calls")
    return calls[0].get("arguments") if calls else message.get("content")


STRANDS: Final = Dialect("strands", operation, FIELDS, scopes=("strands",), adjust=adjust, claims=CLAIMS)
