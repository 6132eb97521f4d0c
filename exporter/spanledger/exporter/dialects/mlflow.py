"""MLflow Tracing over OTLP: ``mlflow.*``, where every value is JSON, even a word (``"\\"CHAT_MODEL\\""``).

The span's inputs and outputs are the call's own request and response, in the shape of ``mlflow.message.format``.

Source: mlflow/tracing/constant.py (span attribute keys) and mlflow.org/docs (OpenTelemetry export).
"""

from typing import Any, Final

from .. import bodies
from ..spans import SpanData
from ..usage import read_block
from ..values import decoded, mapping, money
from .base import (
    AGENT,
    CHAIN,
    EMBEDDING,
    EVALUATION,
    GUARDRAIL,
    INFERENCE,
    RERANK,
    RETRIEVAL,
    TASK,
    TOOL,
    WORKFLOW,
    Dialect,
    Draft,
    Field,
    Operation,
)

TYPE: Final = "mlflow.spanType"
TYPES: Final[dict[str, Operation]] = {
    "CHAT_MODEL": INFERENCE,
    "LLM": INFERENCE,
    "EMBEDDING": EMBEDDING,
    "RERANKER": RERANK,
    "AGENT": AGENT,
    "TOOL": TOOL,
    "CHAIN": CHAIN,
    "RETRIEVER": RETRIEVAL,
    "GUARDRAIL": GUARDRAIL,
    "EVALUATOR": EVALUATION,
    "WORKFLOW": WORKFLOW,
}

INPUTS: Final = "mlflow.spanInputs"
OUTPUTS: Final = "mlflow.spanOutputs"
USAGE: Final = "mlflow.chat.tokenUsage"
MODEL: Final = "mlflow.llm.model"
ABANDONED: Final = "<"
"""How Python's ``repr`` of an object begins: a stream nobody read through is recorded as its ``repr``."""


def word(value: Any) -> str | None:
    """A JSON string's text."""
    said = decoded(value)
    return said if isinstance(said, str) and said else None


def said(value: Any) -> Any:
    """JSON text as it is, a JSON string as its text."""
    return decoded(value) if isinstance(value, str) and value[:1] == '"' else value


FIELDS: Final = (
    Field("provider", "mlflow.llm.provider", word),
    Field("provider", "mlflow.message.format", word),
    Field("input", INPUTS, said),
    Field("output", OUTPUTS, said),
    Field("session_id", "mlflow.trace.session", word),
    Field("external_user_id", "mlflow.trace.user", word),
    Field("reported_cost", "mlflow.llm.cost", lambda value: money(mapping(value).get("total_cost"))),
)

CLAIMS: Final = (TYPE, USAGE, MODEL, "mlflow.traceRequestId", "mlflow.spanFunctionName", "mlflow.spanLogLevel")


def operation(span: SpanData) -> Operation | None:
    kind = word(span.attributes.get(TYPE))
    return None if kind is None else TYPES.get(kind, TASK)


def adjust(span: SpanData, draft: Draft) -> None:
    kind = operation(span)
    if isinstance(block := decoded(span.attributes.get(USAGE)), dict):
        draft.update(read_block(block))
        draft["usage_raw"] = block
    if kind is None or kind.table is None:
        return
    named = word(span.attributes.get(MODEL))
    if kind.table == "llm_call":
        _call(span, draft, named, kind)
        return
    if named is not None:
        draft.setdefault("model_id", named)
    if kind is TOOL:
        draft.setdefault("action_type", word(span.attributes.get("mlflow.spanFunctionName")) or span.name)


def _call(span: SpanData, draft: Draft, named: str | None, kind: Operation) -> None:
    """Request and response are whole: which model was asked, which answered, and what the provider counted."""
    request = mapping(draft.get("input"))
    asked = word(span.attributes.get("model")) or request.get("model") or request.get("model_name")
    draft.setdefault("model_id", asked if isinstance(asked, str) and asked else named)
    if request.get("stream") is True or decoded(span.attributes.get("stream")) is True:
        draft.setdefault("is_streaming", True)
    bodies.complete(draft, bodies.read_response(draft.get("output")))
    if named is not None and named != draft["model_id"]:
        draft.setdefault("response_model", named)
    output = draft.get("output")
    if kind is EMBEDDING or (isinstance(output, str) and output.startswith(ABANDONED)):
        draft.pop("output", None)


MLFLOW: Final = Dialect(
    "mlflow",
    operation,
    FIELDS,
    marks=frozenset((TYPE,)),
    adjust=adjust,
    claims=CLAIMS,
)
