"""Laminar (lmnr): its own ``lmnr.*`` beside a fork of OpenLLMetry's legacy names.

Source: lmnr-ai/lmnr-python and lmnr-ts (``attributes``), 0.7.
"""

from typing import Any, Final

from ..spans import SpanData
from ..values import tokens
from .base import EVALUATION, INFERENCE, TASK, TOOL, Dialect, Draft, Field, Operation

SPAN_TYPE: Final = "lmnr.span.type"
ASSOCIATION: Final = "lmnr.association.properties."
USER_METADATA: Final = ASSOCIATION + "metadata."

SPAN_TYPES: Final[dict[str, Operation]] = {
    "DEFAULT": TASK,
    "TOOL": TOOL,
    "LLM": INFERENCE,
    "CACHED": INFERENCE,
    "EVALUATION": EVALUATION,
    "EXECUTOR": TASK,
    "EVALUATOR": EVALUATION,
    "HUMAN_EVALUATOR": EVALUATION,
}

FIELDS: Final = (
    Field("input", "lmnr.span.input"),
    Field("output", "lmnr.span.output"),
    Field("session_id", ASSOCIATION + "session_id"),
    Field("external_user_id", ASSOCIATION + "user_id"),
    Field("total_tokens", "llm.usage.total_tokens", tokens),
)
CLAIMS: Final = (
    SPAN_TYPE,
    USER_METADATA,
    "lmnr.span.path",  # the names and ids of the spans above, which the spans above say themselves
    "lmnr.span.ids_path",
    "lmnr.span.instrumentation_source",
    "lmnr.span.language_version",
    "lmnr.span.sdk_version",
)


def operation(span: SpanData) -> Operation | None:
    return SPAN_TYPES.get(str(span.attributes.get(SPAN_TYPE)))


def adjust(span: SpanData, draft: Draft) -> None:
    kind = span.attributes.get(SPAN_TYPE)
    if kind == "TOOL":
        draft.setdefault("action_type", span.name)
    elif kind == "CACHED":
        draft["not_counted_reason"] = "framework_cache_hit"
    said: dict[str, Any] = {
        key[len(USER_METADATA) :]: value for key, value in span.attributes.items() if key.startswith(USER_METADATA)
    }
    if said:
        draft["metadata"] = {**said, **draft.get("metadata", {})}


LAMINAR: Final = Dialect(
    "laminar",
    operation,
    FIELDS,
    marks=frozenset((SPAN_TYPE, "lmnr.span.path")),
    scopes=("lmnr.",),
    adjust=adjust,
    claims=CLAIMS,
)
