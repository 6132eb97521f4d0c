"""Google's Agent Development Kit: OTel GenAI names, and ``gcp.vertex.agent.*`` with whole requests and responses.

Releases before 1.2 wrote the total as the output tokens, later ones leave thoughts out of them, today's do not; so the
usage block in the response decides wherever it is there.

Source: google/adk-python (telemetry), adk.dev (observability).
"""

from typing import Any, Final

from spanledger.instrumentation import semconv

from ..bodies import read_response
from ..messages import parse
from ..spans import SpanData
from .base import AGENT, INFERENCE, PLUMBING, WORKFLOW, Dialect, Draft, Field, Operation

REQUEST: Final = "gcp.vertex.agent.llm_request"
RESPONSE: Final = "gcp.vertex.agent.llm_response"
OWN_NAME: Final = "gcp.vertex.agent"
"""What the kit calls itself where the provider belongs; the model may be anybody's, through LiteLLM."""
MERGED: Final = "(merged tools)"
NOTHING: Final = ("{}", "N/A", "<not serializable>", "<not specified>")
"""Placeholders for content that is not applicable or was switched off."""


def content(value: Any) -> Any:
    return None if not value or value in NOTHING else value


CONTENTS: Final = (REQUEST, RESPONSE, "gcp.vertex.agent.tool_call_args", "gcp.vertex.agent.tool_response")

FIELDS: Final = (
    Field("session_id", "gcp.vertex.agent.session_id"),
    Field("input", REQUEST, content),
    Field("output", RESPONSE, content),
    Field("input", "gcp.vertex.agent.tool_call_args", content),
    Field("output", "gcp.vertex.agent.tool_response", content),
)


def operation(span: SpanData) -> Operation | None:
    if span.attributes.get(semconv.TOOL_NAME) == MERGED:
        return PLUMBING  # the results of tools that ran side by side, each with a span of its own
    if semconv.OPERATION_NAME in span.attributes:
        return None
    if span.name == "call_llm":
        return INFERENCE
    if span.name.startswith("agent_run"):
        return AGENT
    return WORKFLOW if span.name.startswith("invocation") else None


def adjust(span: SpanData, draft: Draft) -> None:
    if draft.get("provider") == OWN_NAME:
        del draft["provider"]
    if span.name.startswith("agent_run ["):
        draft.setdefault("agent_type", span.name[len("agent_run [") : -1])
    for name in CONTENTS:
        draft["leftovers"].pop(name, None)
    answer = parse(content(span.attributes.get(RESPONSE)))
    said = read_response(answer)
    if "input_tokens" in said:
        for name in ("output_tokens", "total_tokens"):
            draft.pop(name, None)
        draft.update({name: fact for name, fact in said.items() if name != "finish_reason"})
        draft.setdefault("finish_reason", said.get("finish_reason"))
    if isinstance(answer, dict) and draft.get("output") == span.attributes[RESPONSE]:
        draft["output"] = answer.get("content") or answer  # beside it stand only usage and grounding


GOOGLE_ADK: Final = Dialect("google_adk", operation, FIELDS, scopes=(OWN_NAME,), adjust=adjust)
