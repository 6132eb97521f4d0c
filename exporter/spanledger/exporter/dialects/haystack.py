"""Haystack's own spans: a pipeline, its components, its agents and their steps, under names of one vocabulary.

A component that generates says what model answered, and with what usage, only in its output, which is there when
content tracing is on; without it such a span is a step whose calls nobody saw.

Source: deepset-ai/haystack (``core/pipeline``, ``components/agents/agent.py``, ``tracing``), 2.x and 3.0.
"""

from collections.abc import Mapping
from typing import Any, Final

from ..spans import SpanData
from ..usage import read_block
from ..values import first, mapping, text
from .base import (
    AGENT,
    EMBEDDING,
    INFERENCE,
    PLUMBING,
    RETRIEVAL,
    TASK,
    TOOL,
    WORKFLOW,
    Dialect,
    Draft,
    Field,
    Operation,
)

COMPONENT_NAME: Final = "haystack.component.name"
COMPONENT_TYPE: Final = "haystack.component.type"
OUTPUTS: Final = ("haystack.component.output", "haystack.agent.step.llm.output")

OPERATIONS: Final[dict[str, Operation]] = {
    "haystack.pipeline.run": WORKFLOW,
    "haystack.async_pipeline.run": WORKFLOW,
    "haystack.agent.run": AGENT,
    "haystack.agent.step": PLUMBING,
    "haystack.agent.step.llm": INFERENCE,
    "haystack.agent.step.tool": TOOL,
}

FIELDS: Final = (
    Field("agent_type", COMPONENT_NAME),
    Field("action_type", "haystack.tool.name"),
    Field("input", "haystack.component.input"),
    Field("input", "haystack.agent.step.llm.input"),
    Field("input", "haystack.agent.step.tool.input"),
    Field("input", "haystack.agent.input"),
    Field("input", "haystack.pipeline.input_data"),
    Field("output", "haystack.component.output"),
    Field("output", "haystack.agent.step.llm.output"),
    Field("output", "haystack.agent.step.tool.output"),
    Field("output", "haystack.agent.output"),
    Field("output", "haystack.pipeline.output_data"),
)
CLAIMS: Final = (
    "haystack.component.input_types",
    "haystack.component.input_spec",
    "haystack.component.output_spec",
)


def operation(span: SpanData) -> Operation | None:
    if (found := OPERATIONS.get(span.name)) is not None:
        return found
    if span.name != "haystack.component.run":
        return None
    kind = str(span.attributes.get(COMPONENT_TYPE, ""))
    if kind.endswith("Generator"):
        return INFERENCE if _meta(span) else TASK
    if kind.endswith("Embedder"):
        return EMBEDDING if _meta(span) else TASK
    if kind.endswith("Retriever"):
        return RETRIEVAL
    return {"Agent": PLUMBING, "ToolInvoker": TASK}.get(kind, TASK)


def adjust(span: SpanData, draft: Draft) -> None:
    if not (meta := _meta(span)):
        return
    draft.setdefault("model_id", text(meta.get("model")))
    draft.setdefault("finish_reason", first(meta.get("finish_reason")))
    block = meta.get("usage")
    if isinstance(block, Mapping):
        draft["usage_raw"] = dict(block)
        for name, value in read_block(block).items():
            draft.setdefault(name, value)
    said = mapping(draft.get("input"))
    draft["input"] = said.get("messages", said.get("prompt", draft.get("input")))
    draft["output"] = mapping(draft.get("output")).get("replies", draft.get("output"))


def _meta(span: SpanData) -> Mapping[str, Any]:
    """What the output says of the answer: the ``meta`` of its first reply, or of an embedder's result."""
    for name in OUTPUTS:
        output = mapping(span.attributes.get(name))
        replies = output.get("replies")
        if isinstance(replies, list) and replies and isinstance(replies[0], Mapping):
            meta = replies[0].get("meta", replies[0].get("_meta"))
        else:
            meta = output.get("meta")
            meta = meta[0] if isinstance(meta, list) and meta else meta
        if isinstance(meta, Mapping) and "model" in meta:
            return meta
    return {}


HAYSTACK: Final = Dialect(
    "haystack",
    operation,
    FIELDS,
    marks=frozenset((COMPONENT_NAME, "haystack.pipeline.input_data", "haystack.agent.max_steps", "haystack.tool.name")),
    scopes=("haystack",),
    adjust=adjust,
    claims=CLAIMS,
)
