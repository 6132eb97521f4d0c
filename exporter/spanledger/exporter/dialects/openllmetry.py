"""OpenLLMetry (Traceloop), Python and JavaScript, and its copies: from ``llm.request.type`` and messages spelled out in
attribute names (up to 0.4x, and in some packages still) to OTel GenAI names with Traceloop's own beside them.

Source: traceloop/openllmetry (``semconv-ai``, instrumentation packages 0.40 to 0.62), traceloop/openllmetry-js 0.27.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..values import decoded, flag, milliseconds, tokens
from .base import (
    AGENT,
    EMBEDDING,
    INFERENCE,
    RERANK,
    TASK,
    TOOL,
    WORKFLOW,
    Dialect,
    Draft,
    Field,
    Operation,
)
from .indexed import listed

REQUEST_TYPE: Final = "llm.request.type"
SPAN_KIND: Final = "traceloop.span.kind"
ENTITY_NAME: Final = "traceloop.entity.name"
PROMPT: Final = "gen_ai.prompt."
COMPLETION: Final = "gen_ai.completion."
FUNCTIONS: Final = "llm.request.functions."
ASSOCIATION: Final = "traceloop.association.properties."

CHUNKS: Final = frozenset(("llm.content.completion.chunk", "gen_ai.content.completion.chunk"))

REQUEST_TYPES: Final[dict[str, Operation]] = {
    "chat": INFERENCE,
    "completion": INFERENCE,
    "embedding": EMBEDDING,
    "rerank": RERANK,
}
SPAN_KINDS: Final[dict[str, Operation]] = {"workflow": WORKFLOW, "task": TASK, "agent": AGENT, "tool": TOOL}
CALLS_BY_NAME: Final[dict[str, Operation]] = {
    # The one package whose spans begin without attributes, so that a request that fails has none at all.
    "bedrock.completion": INFERENCE,
    "bedrock.converse": INFERENCE,
}

FIELDS: Final = (
    Field("total_tokens", "llm.usage.total_tokens", tokens),
    Field("is_streaming", "gen_ai.is_streaming", flag),
    Field("is_streaming", "llm.is_streaming", flag),
    Field("server_address", "gen_ai.openai.api_base"),
    Field("finish_reason", "gen_ai.completion.0.finish_reason"),
    Field("external_user_id", "gen_ai.user"),
    Field("external_user_id", "llm.user"),
    Field("external_user_id", ASSOCIATION + "user_id"),
    Field("external_user_id", ASSOCIATION + "userId"),
    Field("session_id", ASSOCIATION + "session_id"),
    Field("session_id", ASSOCIATION + "sessionId"),
    Field("session_id", ASSOCIATION + "conversation_id"),
    Field("session_id", ASSOCIATION + "thread_id"),
    Field("input", "traceloop.entity.input"),
    Field("output", "traceloop.entity.output"),
    Field("action_type", "tool.name"),
    Field("input", "tool.arguments"),
)

CLAIMS: Final = (
    REQUEST_TYPE,
    SPAN_KIND,
    ENTITY_NAME,
    PROMPT,
    COMPLETION,
    FUNCTIONS,
    "gen_ai.task.input",  # the same text as traceloop.entity.input and output
    "gen_ai.task.output",
    "llm.headers",  # headers the caller added to its request: credentials, as often as not
    "gen_ai.headers",
)

EXCLUSIVE_SCOPES: Final = ("opentelemetry.instrumentation.bedrock",)
"""Passes Bedrock's own count through, which leaves cached tokens out of the input and out of its total."""
THOUGHTLESS_SCOPES: Final = (
    "opentelemetry.instrumentation.google_generativeai",
    "opentelemetry.instrumentation.vertexai",
)
"""Pass Gemini's count of candidates through, which leaves thoughts out; only the total holds them."""
QUOTING_SCOPES: Final = ("opentelemetry.instrumentation.bedrock", "opentelemetry.instrumentation.langchain")
"""Encode the text of a message as JSON even where it is plain text."""


def operation(span: SpanData) -> Operation | None:
    attributes = span.attributes
    if (found := REQUEST_TYPES.get(str(attributes.get(REQUEST_TYPE)))) is not None:
        return found
    kind = SPAN_KINDS.get(str(attributes.get(SPAN_KIND)))
    if kind is TASK and "tool.name" in attributes:
        return TOOL  # LlamaIndex's agents run their tools in spans of the kind "task"
    if kind is not None and semconv.OPERATION_NAME not in attributes:
        return kind
    if kind is None and span.scope.startswith(EXCLUSIVE_SCOPES):
        return CALLS_BY_NAME.get(span.name)
    return None


def adjust(span: SpanData, draft: Draft) -> None:
    attributes, scope = span.attributes, span.scope
    if SPAN_KIND in attributes:
        _name_entity(span, draft)
    if scope.startswith(EXCLUSIVE_SCOPES):
        draft["input_excludes_cache"] = True
        draft["provider"] = "aws.bedrock"  # up to 0.4x it names the model's vendor there
    elif scope.startswith(THOUGHTLESS_SCOPES):
        draft["output_excludes_reasoning"] = True
    if REQUEST_TYPE in attributes:
        _assemble(span, draft)
    if draft.get("is_streaming"):
        _time_chunks(span, draft)


def _name_entity(span: SpanData, draft: Draft) -> None:
    name = span.attributes.get(ENTITY_NAME)
    if not isinstance(name, str) or not name:
        return
    kind = span.attributes[SPAN_KIND]
    if kind == "tool":
        draft.setdefault("action_type", name)
    elif kind in ("agent", "workflow"):
        draft.setdefault("agent_type", name)


def _assemble(span: SpanData, draft: Draft) -> None:
    """Messages and tools from the attributes that spell them out."""
    quoted = span.scope.startswith(QUOTING_SCOPES)
    if prompt := listed(span.attributes, PROMPT):
        draft.setdefault("input", _messages(prompt, quoted))
    if completion := listed(span.attributes, COMPLETION):
        draft.setdefault("output", _messages(completion, quoted))
        for message in completion:
            if isinstance(message, Mapping) and message.get("finish_reason"):
                draft.setdefault("finish_reason", message["finish_reason"])
    if tools := listed(span.attributes, FUNCTIONS):
        draft["metadata"] = {"tools": tools, **draft.get("metadata", {})}


def _time_chunks(span: SpanData, draft: Draft) -> None:
    """Every chunk of a stream is an event of its own."""
    arrivals = [event.time for event in span.events if event.name in CHUNKS]
    if arrivals:
        draft.setdefault("chunks_count", len(arrivals))
        draft.setdefault("time_to_first_token_ms", milliseconds((min(arrivals) - span.start_time) / 1e6))


def _messages(spelled: Sequence[Any], quoted: bool) -> list[Any]:
    """The messages; thinking, which is spelled as a message of its own, joins the answer that follows it."""
    messages: list[Any] = []
    thoughts = None
    for message in spelled:
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        if quoted and isinstance(content, str) and content[:1] == '"':
            message["content"] = decoded(content)
        if message.get("role") == "thinking":
            thoughts = message.get("content")
            continue
        if thoughts is not None:
            message["content"] = [{"type": "thinking", "thinking": thoughts}, {"type": "text", "text": content or ""}]
            thoughts = None
        messages.append(message)
    if thoughts is not None:
        messages.append({"role": "assistant", "content": [{"type": "thinking", "thinking": thoughts}]})
    return messages


OPENLLMETRY: Final = Dialect(
    "openllmetry",
    operation,
    FIELDS,
    marks=frozenset(
        (
            REQUEST_TYPE,
            SPAN_KIND,
            "traceloop.workflow.name",
            "gen_ai.is_streaming",
            ASSOCIATION + "session_id",
            ASSOCIATION + "user_id",
            ASSOCIATION + "userId",
            ASSOCIATION + "thread_id",
        )
    ),
    scopes=(
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.google_generativeai",
        "opentelemetry.instrumentation.vertexai",
        "opentelemetry.instrumentation.openai.v1",
        "traceloop.tracer",
        "@traceloop/",
    ),
    adjust=adjust,
    claims=CLAIMS,
)
