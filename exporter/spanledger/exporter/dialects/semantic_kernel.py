"""Semantic Kernel (Python and .NET): OTel GenAI names of v1.27, operations by its own names, content in log records.

Source: microsoft/semantic-kernel (utils/telemetry) and learn.microsoft.com/semantic-kernel (observability).
"""

import re
from typing import Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..values import first
from .base import CHAIN, INFERENCE, Dialect, Draft, Field, Operation

COMPLETIONS: Final = (
    "chat.completions",
    "chat.streaming_completions",
    "text.completions",
    "text.streaming_completions",
)
LOOP: Final = "AutoFunctionInvocationLoop"
CLASS: Final = re.compile(r"<class '(.+)'>")

FIELDS: Final = (Field("finish_reason", "gen_ai.response.finish_reason", first),)


def operation(span: SpanData) -> Operation | None:
    if span.attributes.get(semconv.OPERATION_NAME) in COMPLETIONS:
        return INFERENCE
    return CHAIN if span.name == LOOP else None


def adjust(span: SpanData, draft: Draft) -> None:
    """Python's words for enum members and classes, put into everybody's."""
    if "streaming" in str(span.attributes.get(semconv.OPERATION_NAME)):
        draft.setdefault("is_streaming", True)
    if isinstance(reason := draft.get("finish_reason"), str) and reason.startswith("FinishReason."):
        draft["finish_reason"] = reason.partition(",")[0].removeprefix("FinishReason.").lower()
    if (kind := CLASS.fullmatch(str(draft.get("error_type")))) is not None:
        draft["error_type"] = kind[1]


SEMANTIC_KERNEL: Final = Dialect(
    "semantic_kernel",
    operation,
    FIELDS,
    scopes=("semantic_kernel", "Microsoft.SemanticKernel"),
    adjust=adjust,
)
