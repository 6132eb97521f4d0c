"""Microsoft Agent Framework (Python and .NET): OTel GenAI names, and workflows whose spans are known by their names.

Source: microsoft/agent-framework (observability.py) and learn.microsoft.com/agent-framework (observability).
"""

from typing import Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from .base import TASK, WORKFLOW, Dialect, Draft, Field, Operation

FIELDS: Final = (
    Field("agent_type", "workflow.name"),
    Field("agent_type", "executor.id"),
)

RESPONSE_PREFIX: Final = "resp_"
"""How OpenAI's response ids begin; those of its conversations begin otherwise."""


def operation(span: SpanData) -> Operation | None:
    if semconv.OPERATION_NAME in span.attributes:
        return None
    if span.name.startswith(("workflow.run", "workflow_invoke")):
        return WORKFLOW
    return TASK if span.name.startswith("executor.process") else None  # the rest passes messages about


def adjust(span: SpanData, draft: Draft) -> None:
    """With OpenAI's responses the conversation is named by the response it went on from: no session."""
    if str(draft.get("session_id")).startswith(RESPONSE_PREFIX):
        del draft["session_id"]


AGENT_FRAMEWORK: Final = Dialect(
    "agent_framework",
    operation,
    FIELDS,
    scopes=("agent_framework", "Microsoft.Agents.AI", "Experimental.Microsoft.Agents.AI"),
    adjust=adjust,
)
