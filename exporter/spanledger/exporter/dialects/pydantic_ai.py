"""Pydantic AI's own spans, versions 1 to 6 of its instrumentation: OTel GenAI names, and its own where those had none.

Source: pydantic/pydantic-ai (``models/instrumented.py``, ``agent``), 0.x to 2.x.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..contents import messages_of_events
from ..spans import Attributes, SpanData
from ..values import decoded, mapping, money, seconds, tokens
from .base import AGENT, PLUMBING, TOOL, Dialect, Draft, Field, Operation

DETAILS: Final = "gen_ai.usage.details."
AGGREGATED: Final = "gen_ai.aggregated_usage."
"""What an agent's calls used together, under a name of its own so that nobody adds it to theirs."""

OPERATIONS: Final[dict[str, Operation]] = {
    # Before its spans had an operation name; and the span around tools that are run at once, which is no step.
    "agent run": AGENT,
    "running tool": TOOL,
    "running tools": PLUMBING,
}

FIELDS: Final = (
    Field("agent_type", "agent_name"),
    Field("input", "tool_arguments"),
    Field("output", "tool_response"),
    Field("output", "final_result"),
    Field("model_id", "model_name"),
    Field("reported_cost", "operation.cost", money),
    Field("time_to_first_token_ms", "gen_ai.client.operation.time_to_first_chunk", seconds),
    Field("cache_read_tokens", DETAILS + "cache_read_input_tokens", tokens),
    Field("cache_read_tokens", DETAILS + "cache_read_tokens", tokens),
    Field("cache_read_tokens", DETAILS + "cached_tokens", tokens),
    Field("cache_read_tokens", DETAILS + "cached_content_tokens", tokens),
    Field("cache_write_tokens", DETAILS + "cache_creation_input_tokens", tokens),
    Field("cache_write_tokens", DETAILS + "cache_write_tokens", tokens),
    Field("reasoning_tokens", DETAILS + "reasoning_tokens", tokens),
    Field("reasoning_tokens", DETAILS + "thoughts_tokens", tokens),
    Field("input", "inputs"),
    Field("input_tokens", AGGREGATED + "input_tokens", tokens),
    Field("output_tokens", AGGREGATED + "output_tokens", tokens),
    Field("cache_read_tokens", AGGREGATED + "cache_read.input_tokens", tokens),
    Field("cache_write_tokens", AGGREGATED + "cache_creation.input_tokens", tokens),
)
CLAIMS: Final = (
    "events",  # read below
    "all_messages_events",
    "pydantic_ai.all_messages",
    "pydantic_ai.new_message_index",
    DETAILS,
    AGGREGATED,
    "embeddings",
)


def operation(span: SpanData) -> Operation | None:
    return None if "gen_ai.operation.name" in span.attributes else OPERATIONS.get(span.name)


def adjust(span: SpanData, draft: Draft) -> None:
    attributes = span.attributes
    if "events" in attributes:
        _offer(draft, *messages_of_events(decoded(attributes["events"])))
    elif (everything := _everything_said(attributes)) and isinstance(everything, list):
        answer = _first_answer(everything, attributes.get("pydantic_ai.new_message_index", 0))
        _offer(draft, everything[:answer], everything[answer:][-1:])
    reported = draft["reported_usage"]
    for key, value in attributes.items():
        if key.startswith((DETAILS, AGGREGATED)):
            reported.setdefault(key, value)
    if said := mapping(draft["leftovers"].get("metadata")):
        del draft["leftovers"]["metadata"]
        draft["metadata"] = {**said, **draft.get("metadata", {})}


def _everything_said(attributes: Attributes) -> Any:
    if "all_messages_events" in attributes:
        prompt, answer = messages_of_events(decoded(attributes["all_messages_events"]))
        return [*prompt, *answer]
    return decoded(attributes.get("pydantic_ai.all_messages"))


def _first_answer(messages: Sequence[Any], first_new: Any) -> int:
    """Where this run's first answer stands: what comes before it is what the agent was asked."""
    start = first_new if isinstance(first_new, int) and first_new > 0 else 0
    for i, message in enumerate(messages):
        if i >= start and isinstance(message, Mapping) and message.get("role") == "assistant":
            return i
    return len(messages)


def _offer(draft: Draft, prompt: Sequence[Any], response: Sequence[Any]) -> None:
    if prompt:
        draft.setdefault("input", prompt)
    if response:
        draft.setdefault("output", response)


PYDANTIC_AI: Final = Dialect("pydantic_ai", operation, FIELDS, scopes=("pydantic-ai",), adjust=adjust, claims=CLAIMS)
