"""Logfire: what its SDK writes on every span, and its OpenAI and Anthropic instrumentations.

A streamed request is two spans there: the request, which ends when the stream begins, and a log without duration when
the stream has ended; only the second knows the answer and its usage. Without a span around them they are two traces.

Source: pydantic/logfire (``_internal/integrations/llm_providers``), 1.x to 5.x.
"""

from typing import Final

from ..spans import ERROR, SpanData
from ..usage import read_block
from ..values import mapping, money, tokens
from .base import Dialect, Draft, Field, Operation

CLIENT_SCOPES: Final = ("logfire.openai", "logfire.anthropic")
STREAM_LOG: Final = "usage_on_stream_span"
"""Why a request span does not count: the log at the end of its stream does."""

FIELDS: Final = (
    Field("usage_raw", "gen_ai.usage.raw", mapping),
    Field("reported_cost", "operation.cost", money),
)
CLAIMS: Final = (
    "logfire.msg",
    "logfire.json_schema",
    "logfire.span_type",
    "logfire.level_num",
    "logfire.exception.fingerprint",
    "logfire.metrics",
)


def operation(span: SpanData) -> Operation | None:
    return None  # its names are OTel GenAI's


def adjust(span: SpanData, draft: Draft) -> None:
    if not span.scope.startswith(CLIENT_SCOPES):
        return
    for name, value in read_block(draft.get("usage_raw", {})).items():
        if name not in ("input_excludes_cache", "output_excludes_reasoning"):  # its own input and output are OTel's
            draft.setdefault(name, value)
    is_log = span.attributes.get("logfire.span_type") == "log"
    if is_log:
        draft.setdefault("is_streaming", True)
    _read_plain_data(draft)
    answered = any(name in draft for name in ("output", "response_id", "input_tokens", "output_tokens"))
    if not answered and not is_log and span.status_code != ERROR and span.end_time is not None:
        draft["not_counted_reason"] = STREAM_LOG


def _read_plain_data(draft: Draft) -> None:
    """Before OTel had names for content, Logfire kept request and response as they were."""
    leftovers = draft["leftovers"]
    request, response = mapping(leftovers.get("request_data")), mapping(leftovers.get("response_data"))
    said = {
        "model_id": request.get("model"),
        "input": request.get("messages", request.get("input")),
        "output": response.get("message", response.get("combined_chunk_content")),
        "chunks_count": tokens(response.get("chunk_count")),
        **read_block(mapping(response.get("usage"))),
    }
    for name, value in said.items():
        if value is not None:
            draft.setdefault(name, value)
    if set(request) <= {"model", "messages", "input"}:
        leftovers.pop("request_data", None)


LOGFIRE: Final = Dialect(
    "logfire",
    operation,
    FIELDS,
    marks=frozenset(("logfire.msg", "logfire.span_type", "logfire.json_schema")),
    scopes=("logfire",),
    adjust=adjust,
    claims=CLAIMS,
)
