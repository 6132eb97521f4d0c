"""OpenTelemetry GenAI, all generations: from ``gen_ai.system`` and ``prompt_tokens`` (before v1.27) to today's.

Also the general attributes everyone shares (``session.id``, ``user.id``, ``error.type``). Every span is read with this
dialect last, because nearly every other vocabulary mixes with it.

Source: open-telemetry/semantic-conventions-genai (main, 2026), and semantic conventions v1.26 to v1.41.
"""

from typing import Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..values import first, flag, money, seconds, tokens
from .base import (
    AGENT,
    CREATE_AGENT,
    EMBEDDING,
    INFERENCE,
    PLAN,
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
from .span_events import said_in_events

OPERATIONS: Final[dict[str, Operation]] = {
    semconv.CHAT: INFERENCE,
    semconv.GENERATE_CONTENT: INFERENCE,
    semconv.TEXT_COMPLETION: INFERENCE,
    semconv.EMBEDDINGS: EMBEDDING,
    "rerank": RERANK,
    semconv.RETRIEVAL: RETRIEVAL,
    semconv.EXECUTE_TOOL: TOOL,
    semconv.CREATE_AGENT: CREATE_AGENT,
    semconv.INVOKE_AGENT: AGENT,
    semconv.INVOKE_WORKFLOW: WORKFLOW,
    semconv.PLAN: PLAN,
}

FIELDS: Final = (
    Field("provider", semconv.PROVIDER_NAME),
    Field("provider", "gen_ai.system"),
    Field("server_address", semconv.SERVER_ADDRESS),
    Field("model_id", semconv.REQUEST_MODEL),
    Field("response_model", semconv.RESPONSE_MODEL),
    Field("response_id", semconv.RESPONSE_ID),
    Field("finish_reason", semconv.RESPONSE_FINISH_REASONS, first),
    Field("service_tier", "openai.response.service_tier"),
    Field("service_tier", "gen_ai.openai.response.service_tier"),
    Field("is_streaming", semconv.REQUEST_STREAM, flag),
    Field("time_to_first_token_ms", semconv.TIME_TO_FIRST_CHUNK, seconds),
    Field("input_tokens", semconv.INPUT_TOKENS, tokens),
    Field("output_tokens", semconv.OUTPUT_TOKENS, tokens),
    Field("input_tokens", "gen_ai.usage.prompt_tokens", tokens),
    Field("output_tokens", "gen_ai.usage.completion_tokens", tokens),
    Field("total_tokens", "gen_ai.usage.total_tokens", tokens),
    Field("cache_read_tokens", semconv.CACHE_READ_TOKENS, tokens),
    Field("cache_write_tokens", semconv.CACHE_WRITE_TOKENS, tokens),
    Field("cache_write_tokens", "gen_ai.usage.cache_creation.input_tokens", tokens),
    Field("cache_read_tokens", "gen_ai.usage.cache_read_input_tokens", tokens),
    Field("cache_write_tokens", "gen_ai.usage.cache_creation_input_tokens", tokens),
    Field("cache_write_tokens", "gen_ai.usage.cache_write_input_tokens", tokens),
    Field("reasoning_tokens", semconv.REASONING_TOKENS, tokens),
    Field("reasoning_tokens", "gen_ai.usage.reasoning_tokens", tokens),
    Field("audio_input_tokens", semconv.AUDIO_INPUT_TOKENS, tokens),
    Field("audio_output_tokens", semconv.AUDIO_OUTPUT_TOKENS, tokens),
    Field("reported_cost", "gen_ai.usage.cost", money),
    Field("system", semconv.SYSTEM_INSTRUCTIONS),
    Field("input", semconv.INPUT_MESSAGES),
    Field("output", semconv.OUTPUT_MESSAGES),
    Field("input", semconv.TOOL_CALL_ARGUMENTS),
    Field("output", semconv.TOOL_CALL_RESULT),
    Field("agent_type", semconv.AGENT_NAME),
    Field("agent_type", semconv.WORKFLOW_NAME),
    Field("action_type", semconv.TOOL_NAME),
    Field("session_id", semconv.CONVERSATION_ID),
    Field("session_id", semconv.SESSION_ID),
    Field("external_user_id", semconv.USER_ID),
    Field("external_user_id", semconv.ENDUSER_ID),
    Field("error_type", semconv.ERROR_TYPE),
)

RESTATED: Final = (semconv.OPERATION_NAME, semconv.SERVER_PORT)
"""Attributes whose whole meaning is in other columns: not worth keeping as leftovers."""


def operation(span: SpanData) -> Operation | None:
    name = span.attributes.get(semconv.OPERATION_NAME)
    if isinstance(name, str):
        return OPERATIONS.get(name, TASK)
    if "gen_ai.system" in span.attributes and semconv.REQUEST_MODEL in span.attributes:
        return INFERENCE  # before v1.27 there was no operation name
    return None


EXCLUSIVE_SCOPES: Final = (
    "opentelemetry.instrumentation.botocore.bedrock-runtime",
    "opentelemetry.instrumentation.genai.bedrock",
)
"""Scopes that pass Bedrock's own count through, which leaves the cached tokens out of the input."""


def adjust(span: SpanData, draft: Draft) -> None:
    if span.scope.startswith(EXCLUSIVE_SCOPES):
        draft.setdefault("input_excludes_cache", True)
        # Of the Converse API they pass cached counts on where there are any; of InvokeModel never.
        draft.setdefault("cache_is_said", str(span.attributes.get("rpc.method", "")).startswith("Converse"))
    if span.events and not ("input" in draft and "output" in draft):
        prompt, response = said_in_events(span)
        if prompt:
            draft.setdefault("input", prompt)
        if response:
            draft.setdefault("output", response)


GENAI: Final = Dialect("otel_genai", operation, FIELDS, adjust=adjust, claims=RESTATED)
