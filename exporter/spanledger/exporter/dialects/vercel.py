"""Vercel AI SDK, versions 4 to 6 (scope ``ai``): a function of the SDK, its requests ``….do…`` and its tool calls.

Only the ``….do…`` spans are requests; the function around them repeats their sum, or the last of them. Version 7 writes
OTel GenAI and needs nothing of this.

Source: vercel/ai (``packages/ai/src/telemetry``, ``generate-text``, the providers' ``usage``), 4.3 to 6.
"""

from collections.abc import Mapping
from typing import Any, Final

from ..spans import SpanData
from ..usage import read_block
from ..values import decoded, mapping, milliseconds, tokens
from .base import AGENT, EMBEDDING, INFERENCE, RERANK, TASK, TOOL, Dialect, Draft, Field, Operation

OPERATION: Final = "ai.operationId"
TELEMETRY: Final = "ai.telemetry.metadata."

OPERATIONS: Final[dict[str, Operation]] = {
    "ai.generateText": AGENT,
    "ai.streamText": AGENT,
    "ai.generateObject": AGENT,
    "ai.streamObject": AGENT,
    "ai.embed": TASK,
    "ai.embedMany": TASK,
    "ai.rerank": TASK,
    "ai.generateText.doGenerate": INFERENCE,
    "ai.streamText.doStream": INFERENCE,
    "ai.generateObject.doGenerate": INFERENCE,
    "ai.streamObject.doStream": INFERENCE,
    "ai.embed.doEmbed": EMBEDDING,
    "ai.embedMany.doEmbed": EMBEDDING,
    "ai.rerank.doRerank": RERANK,
    "ai.toolCall": TOOL,
}

FIELDS: Final = (
    Field("agent_type", "ai.telemetry.functionId"),
    Field("action_type", "ai.toolCall.name"),
    Field("input", "ai.toolCall.args"),
    Field("output", "ai.toolCall.result"),
    Field("input", "ai.prompt.messages"),
    Field("input", "ai.prompt"),
    Field("input", "ai.value"),
    Field("input", "ai.values"),
    Field("provider", "ai.model.provider"),
    Field("model_id", "ai.model.id"),
    Field("response_model", "ai.response.model"),
    Field("response_id", "ai.response.id"),
    Field("finish_reason", "ai.response.finishReason"),
    Field("finish_reason", "ai.finishReason"),
    Field("time_to_first_token_ms", "ai.response.msToFirstChunk", milliseconds),
    Field("input_tokens", "ai.usage.inputTokens", tokens),
    Field("output_tokens", "ai.usage.outputTokens", tokens),
    Field("input_tokens", "ai.usage.promptTokens", tokens),
    Field("output_tokens", "ai.usage.completionTokens", tokens),
    Field("input_tokens", "ai.usage.tokens", tokens),
    Field("total_tokens", "ai.usage.totalTokens", tokens),
    Field("cache_read_tokens", "ai.usage.inputTokenDetails.cacheReadTokens", tokens),
    Field("cache_read_tokens", "ai.usage.cachedInputTokens", tokens),
    Field("cache_write_tokens", "ai.usage.inputTokenDetails.cacheWriteTokens", tokens),
    Field("reasoning_tokens", "ai.usage.outputTokenDetails.reasoningTokens", tokens),
    Field("reasoning_tokens", "ai.usage.reasoningTokens", tokens),
    Field("session_id", TELEMETRY + "sessionId"),
    Field("session_id", TELEMETRY + "session_id"),
    Field("session_id", TELEMETRY + "session.id"),
    Field("external_user_id", TELEMETRY + "userId"),
    Field("external_user_id", TELEMETRY + "user_id"),
    Field("external_user_id", TELEMETRY + "user.id"),
)
IDENTIFIERS: Final = frozenset(field.attribute for field in FIELDS if field.attribute.startswith(TELEMETRY))
CLAIMS: Final = (
    OPERATION,
    TELEMETRY,
    "operation.name",  # the two above, joined
    "resource.name",
    "ai.response.text",
    "ai.response.object",
    "ai.response.reasoning",
    "ai.response.toolCalls",
    "ai.response.timestamp",
    "ai.response.avg",
    "ai.response.msToFinish",
    "ai.result.",  # what 3.x called ai.response
    "ai.embedding",
    "ai.prompt.format",
)

EXCLUSIVE_PROVIDERS: Final = ("anthropic", "amazon-bedrock", "bedrock", "vertex.anthropic", "google.vertex.anthropic")
"""Before version 6 counted details, these providers' own input was passed through, without the cached tokens."""
THOUGHTLESS_PROVIDERS: Final = ("google", "vertex")
"""And these providers' own output, without thoughts."""
BESIDE_THE_BLOCK: Final = {
    "cachedPromptTokens": "cache_read_tokens",
    "cacheReadInputTokens": "cache_read_tokens",
    "cacheCreationInputTokens": "cache_write_tokens",
    "reasoningTokens": "reasoning_tokens",
}
"""Counts that providers put into their metadata while usage had no place for them (4.x)."""


def operation(span: SpanData) -> Operation | None:
    return OPERATIONS.get(str(span.attributes.get(OPERATION)))


def adjust(span: SpanData, draft: Draft) -> None:
    attributes = span.attributes
    name = str(attributes.get(OPERATION, ""))
    if name.endswith("doStream") or name.startswith("ai.stream"):
        draft.setdefault("is_streaming", True)
    if isinstance(values := attributes.get("ai.values"), list | tuple):
        draft["input"] = [{"role": "user", "content": decoded(value)} for value in values]
    if (answer := _answer(span)) is not None:
        draft.setdefault("output", answer)
    _read_metadata_of_provider(span, draft)
    said = {
        key[len(TELEMETRY) :]: value
        for key, value in attributes.items()
        if key.startswith(TELEMETRY) and key not in IDENTIFIERS
    }
    if said:
        draft["metadata"] = {**said, **draft.get("metadata", {})}


def _answer(span: SpanData) -> Any:
    attributes = span.attributes
    text = attributes.get("ai.response.text", attributes.get("ai.result.text"))
    text = text or attributes.get("ai.response.object", attributes.get("ai.result.object"))
    calls = decoded(attributes.get("ai.response.toolCalls", attributes.get("ai.result.toolCalls")))
    thoughts = attributes.get("ai.response.reasoning")
    if not isinstance(calls, list) and not thoughts:
        return text or None
    message: dict[str, Any] = {"role": "assistant"}
    if text:
        message["content"] = text
    if thoughts:
        message["content"] = [{"type": "reasoning", "text": thoughts}, {"type": "text", "text": text or ""}]
    if isinstance(calls, list):
        message["tool_calls"] = calls
    return [message]


def _read_metadata_of_provider(span: SpanData, draft: Draft) -> None:
    attributes = span.attributes
    counts_details = any(key.startswith("ai.usage.inputTokenDetails.") for key in attributes)
    provider = str(attributes.get("ai.model.provider", ""))
    if not counts_details and provider.startswith(EXCLUSIVE_PROVIDERS):
        draft["input_excludes_cache"] = True
    elif not counts_details and provider.startswith(THOUGHTLESS_PROVIDERS):
        draft["output_excludes_reasoning"] = True
    for said in mapping(attributes.get("ai.response.providerMetadata")).values():
        if not isinstance(said, Mapping):
            continue
        block = said.get("usage", said.get("usageMetadata"))
        counts = read_block(block) if isinstance(block, Mapping) else {}
        counts |= {name: tokens(said[key]) for key, name in BESIDE_THE_BLOCK.items() if key in said}
        for name in ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"):
            if counts.get(name) is not None:
                draft.setdefault(name, counts[name])
        if isinstance(block, Mapping):
            draft.setdefault("usage_raw", dict(block))
        if isinstance(tier := said.get("serviceTier"), str):
            draft.setdefault("service_tier", tier)


VERCEL: Final = Dialect("vercel_ai", operation, FIELDS, marks=frozenset((OPERATION,)), adjust=adjust, claims=CLAIMS)
