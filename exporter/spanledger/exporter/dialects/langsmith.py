"""LangSmith: runs exported as OTel spans (Python and JavaScript SDKs), and spans written for its OTLP endpoint.

The run's inputs and outputs stand in ``gen_ai.prompt`` and ``gen_ai.completion``, and its kind says more than
``gen_ai.operation.name``, which calls a retriever "embeddings" and the rendering of a prompt "chat".

Source: docs.langchain.com/langsmith/trace-with-opentelemetry (attribute mapping), langsmith-sdk (OTel exporter).
"""

from typing import Any, Final

from .. import bodies
from ..spans import SpanData
from ..usage import read_block
from ..values import decoded, flag, mapping, text
from .base import (
    CHAIN,
    EMBEDDING,
    INFERENCE,
    RETRIEVAL,
    TASK,
    TOOL,
    Dialect,
    Draft,
    Field,
    Operation,
)

KIND: Final = "langsmith.span.kind"
KINDS: Final[dict[str, Operation]] = {
    "llm": INFERENCE,
    "embedding": EMBEDDING,
    "chain": CHAIN,
    "tool": TOOL,
    "retriever": RETRIEVAL,
    "prompt": Operation("execution", "prompt"),
}
SDK_SCOPE: Final = "langsmith"
PROJECT: Final = "langsmith.trace.session_id"
DETAILS: Final = ("input_token_details", "output_token_details")

FIELDS: Final = (
    Field("provider", "langsmith.metadata.ls_provider"),
    Field("model_id", "langsmith.metadata.ls_model_name"),
    Field("service_tier", "gen_ai.response.service_tier"),
    Field("is_streaming", "langsmith.request.streaming", flag),
    Field("input", "gen_ai.prompt"),
    Field("output", "gen_ai.completion"),
    Field("session_id", "langsmith.metadata.thread_id"),
    Field("session_id", "langsmith.metadata.session_id"),
    Field("session_id", "langsmith.metadata.conversation_id"),
    Field("external_user_id", "langsmith.metadata.user_id"),
)

CLAIMS: Final = (
    KIND,
    *(f"gen_ai.usage.{name}" for name in DETAILS),
    "langsmith.trace.id",
    "langsmith.trace.name",
    "langsmith.span.id",
    "langsmith.span.parent_id",
    "langsmith.span.dotted_order",
)


def operation(span: SpanData) -> Operation | None:
    kind = span.attributes.get(KIND)
    return KINDS.get(kind, TASK) if isinstance(kind, str) else None


def adjust(span: SpanData, draft: Draft) -> None:
    kind = span.attributes.get(KIND)
    if kind == "tool":
        draft.setdefault("action_type", span.name)
    if kind == "llm":
        bodies.complete(draft, bodies.read_response(draft.get("output")))
    details = {name: _details(span.attributes.get(f"gen_ai.usage.{name}")) for name in DETAILS}
    for name, count in read_block(details).items():
        draft.setdefault(name, count)
    if span.scope != SDK_SCOPE and PROJECT in span.attributes:  # the SDK puts its project there
        draft.setdefault("session_id", text(span.attributes[PROJECT]))


def _details(value: Any) -> Any:
    """The details of a count: JSON, or the ``repr`` of a Python dict."""
    found = decoded(value)
    if isinstance(found, str) and found[:1] == "{":
        return mapping(found.replace("'", '"').replace("None", "null"))
    return found


LANGSMITH: Final = Dialect(
    "langsmith",
    operation,
    FIELDS,
    marks=frozenset((KIND,)),
    adjust=adjust,
    claims=CLAIMS,
)
