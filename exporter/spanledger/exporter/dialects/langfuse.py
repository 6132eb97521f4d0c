"""Langfuse SDKs v3 to v5 (Python and JavaScript): ``langfuse.observation.*`` and ``langfuse.trace.*``.

Values that are no text are JSON text, also in ``metadata`` (``"\\"v\\""``). One attribute holds all counts, either the
provider's own usage block or Langfuse's buckets, which do not overlap: the cached tokens are not in ``input``.

Source: langfuse.com/integrations/native/opentelemetry (property mapping) and the SDKs' attribute constants.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ..spans import SpanData
from ..usage import read_block
from ..values import decoded, mapping, money, number, text, tokens
from .base import (
    AGENT,
    CHAIN,
    EMBEDDING,
    EVALUATION,
    GUARDRAIL,
    INFERENCE,
    RETRIEVAL,
    TASK,
    TOOL,
    Dialect,
    Draft,
    Field,
    Operation,
)

TYPE: Final = "langfuse.observation.type"
TYPES: Final[dict[str, Operation]] = {
    "generation": INFERENCE,
    "embedding": EMBEDDING,
    "agent": AGENT,
    "tool": TOOL,
    "chain": CHAIN,
    "retriever": RETRIEVAL,
    "evaluator": EVALUATION,
    "guardrail": GUARDRAIL,
    "span": TASK,
    "event": Operation("execution", "event"),
}

USAGE: Final = "langfuse.observation.usage_details"
COST: Final = "langfuse.observation.cost_details"
LEVEL: Final = "langfuse.observation.level"
MESSAGE: Final = "langfuse.observation.status_message"
FIRST_TOKEN: Final = "langfuse.observation.completion_start_time"
METADATA: Final = ("langfuse.observation.metadata.", "langfuse.trace.metadata.")


def unquoted(value: Any) -> str | None:
    """Text, also where it is a JSON string."""
    return text(decoded(value) if isinstance(value, str) and value[:1] == '"' else value)


FIELDS: Final = (
    Field("provider", "langfuse.observation.metadata.ls_provider", unquoted),  # LangChain's word, via the handler
    Field("model_id", "langfuse.observation.metadata.ls_model_name", unquoted),
    Field("model_id", "langfuse.observation.model.name"),
    Field("response_id", "langfuse.observation.metadata.id", unquoted),  # the OpenAI wrapper's, for responses
    Field("finish_reason", "langfuse.observation.metadata.finish_reason", unquoted),
    Field("reported_cost", COST, lambda value: money(mapping(value).get("total")) or None),  # 0: not known
    Field("input", "langfuse.observation.input"),
    Field("output", "langfuse.observation.output"),
    Field("session_id", "langfuse.session.id"),
    Field("session_id", "langfuse.observation.metadata.langfuse_session_id", unquoted),  # as LangChain's users say it
    Field("external_user_id", "langfuse.user.id"),
    Field("external_user_id", "langfuse.observation.metadata.langfuse_user_id", unquoted),
)

CLAIMS: Final = (TYPE, USAGE, COST, LEVEL, MESSAGE, FIRST_TOKEN, *METADATA, "langfuse.internal.")


def operation(span: SpanData) -> Operation | None:
    kind = span.attributes.get(TYPE)
    return TYPES.get(kind, TASK) if isinstance(kind, str) else None


def adjust(span: SpanData, draft: Draft) -> None:
    get = span.attributes.get
    if isinstance(block := decoded(get(USAGE)), Mapping):
        draft.update(_usage(block))
        draft["usage_raw"] = dict(block)
    named = text(get("langfuse.observation.model.name"))
    if named and named != draft.get("model_id"):
        draft.setdefault("response_model", named)
    if isinstance(tier := mapping(get("langfuse.observation.model.parameters")).get("service_tier"), str):
        draft.setdefault("service_tier", tier)
    if (first_token := _nanoseconds(get(FIRST_TOKEN))) is not None:
        draft.setdefault("is_streaming", True)
        draft.setdefault("time_to_first_token_ms", max(first_token - span.start_time, 0) // 1_000_000)
    if get(TYPE) == "tool":
        draft.setdefault("action_type", span.name)
    draft["metadata"] = {**_metadata(span), **draft.get("metadata", {})}
    _state(span, draft)


def _usage(block: Mapping[str, Any]) -> dict[str, Any]:
    """Langfuse's buckets in OTel's meaning: every ``input…`` is part of the input; a provider's block as it is."""
    if "input" not in block and "output" not in block:
        return read_block(block)
    found: dict[str, Any] = {}
    for name, count in ((name, tokens(value)) for name, value in block.items()):
        if count is None:
            continue
        if name == "total":
            found["total_tokens"] = count
            continue
        side = "output" if name.startswith("output") else "input" if name.startswith(("input", "cache")) else None
        if side is not None:
            found[f"{side}_tokens"] = found.get(f"{side}_tokens", 0) + count
        if part := _part(name):
            found[part] = found.get(part, 0) + count
    whole = (tokens(block.get("input")) or 0) + (tokens(block.get("output")) or 0)
    if found.get("total_tokens") == whole:  # the total shows that the parts are inside after all
        found |= {"input_tokens": tokens(block.get("input")), "output_tokens": tokens(block.get("output"))}
    return found


def _part(name: str) -> str | None:
    """The column a bucket is a part of: buckets are named as LangChain, OpenAI or Anthropic name them."""
    if "creation" in name or "write" in name:
        return "cache_write_tokens"
    if "cache" in name:
        return "cache_read_tokens"
    if "reasoning" in name:
        return "reasoning_tokens"
    if "audio" in name:
        return "audio_input_tokens" if name.startswith("input") else "audio_output_tokens"
    return None


def _metadata(span: SpanData) -> dict[str, Any]:
    """What the user or a handler attached, without prefix and quotes; the observation's own before the trace's."""
    kept: dict[str, Any] = {}
    for prefix in METADATA:
        for key, value in span.attributes.items():
            if key.startswith(prefix):
                kept.setdefault(key[len(prefix) :], decoded(value))
    return kept


def _state(span: SpanData, draft: Draft) -> None:
    level, message = span.attributes.get(LEVEL), span.attributes.get(MESSAGE)
    if level == "ERROR":
        draft.setdefault("status", "failed")
        if message:
            draft.setdefault("error_message", text(message))
        return
    if level and level != "DEFAULT":
        draft["metadata"]["level"] = level
    if message:
        draft["metadata"]["status_message"] = message


def _nanoseconds(value: Any) -> int | None:
    """The moment of an ISO 8601 text (in JSON quotes) in nanoseconds since the epoch."""
    said: Any = unquoted(value)
    if isinstance(said, str):
        try:
            return int(datetime.fromisoformat(said).timestamp() * 1_000_000) * 1000
        except ValueError:
            return None
    amount = number(said)
    return None if amount is None else int(amount)


LANGFUSE: Final = Dialect(
    "langfuse",
    operation,
    FIELDS,
    marks=frozenset((TYPE,)),
    adjust=adjust,
    claims=CLAIMS,
)
