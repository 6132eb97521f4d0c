"""LiteLLM's ``otel`` callback: one ``litellm_request`` a call, and plumbing around it that repeats it in other names.

Source: BerriAI/litellm (``integrations/opentelemetry.py``, ``types/utils.py``), 1.5x to 1.106.
"""

import ast
import base64
import binascii
from typing import Any, Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..usage import read_block
from ..values import flag, mapping, money, tokens
from .base import EMBEDDING, GUARDRAIL, INFERENCE, PLUMBING, RERANK, Dialect, Draft, Field, Operation
from .indexed import listed

SCOPE: Final = "litellm"
RAW_REQUEST: Final = "raw_gen_ai_request"
IDENTIFIER: Final = "litellm.call_id"

OPERATIONS: Final[dict[str, Operation]] = {
    "embedding": EMBEDDING,
    "embeddings": EMBEDDING,
    "rerank": RERANK,
    "image_generation": Operation("llm_call", "image_generation"),
    "image_edit": Operation("llm_call", "image_generation"),
    "speech": Operation("llm_call", "speech"),
    "transcription": Operation("llm_call", "transcription"),
    "moderation": Operation("llm_call", "moderation"),
}
"""Kinds of request by their name in the library; every other one generates, and ``a…`` is the same awaited."""
SPANS: Final[dict[str, Operation]] = {"litellm_request": INFERENCE, "guardrail": GUARDRAIL}

FIELDS: Final = (
    Field("is_streaming", "llm.is_streaming", flag),
    Field("reported_cost", "gen_ai.cost.total_cost", money),
    Field("total_tokens", "llm.usage.total_tokens", tokens),
    Field("external_user_id", "llm.user"),
    Field("external_user_id", "metadata.user_api_key_end_user_id"),
    Field("external_user_id", "metadata.user_api_key_user_id"),
    Field("error_message", "error.message"),
)
CLAIMS: Final = (
    "llm.request.type",
    "gen_ai.completion.",
    "gen_ai.prompt.",
    "llm.request.functions.",
    "metadata.usage_object",
    "error.stack_trace",  # also the exception event's
    "hidden_params",  # the cost, the model and the address again, and the answer's headers
)


def operation(span: SpanData) -> Operation | None:
    if span.name == RAW_REQUEST:
        return PLUMBING
    name = span.attributes.get(semconv.OPERATION_NAME)
    if span.name in SPANS and isinstance(name, str):
        return OPERATIONS.get(name, OPERATIONS.get(name[1:], INFERENCE) if name[:1] == "a" else INFERENCE)
    return SPANS.get(span.name, PLUMBING if span.scope == SCOPE else None)


def adjust(span: SpanData, draft: Draft) -> None:
    attributes = span.attributes
    if block := _literal(attributes.get("metadata.usage_object")):
        if written := mapping(block.get("prompt_tokens_details")).get("cache_creation_token_details"):
            block.setdefault("cache_creation", written)  # where Anthropic's own block has it
        for name, value in read_block(block).items():
            draft.setdefault(name, value)
        draft.setdefault("usage_raw", block)
    if not draft.get("input_tokens") and not draft.get("output_tokens"):
        draft.pop("reported_cost", None)  # nought dollars for nought tokens is a stream whose usage never came
    draft.setdefault("server_address", mapping(attributes.get("hidden_params")).get("api_base"))
    if isinstance(identifier := draft.get("response_id"), str):
        draft["response_id"] = _provider_id(identifier)
    completion = [m for m in listed(attributes, "gen_ai.completion.") if isinstance(m, dict) and "function_call" in m]
    if completion:  # gen_ai.output.messages leaves the calls out
        draft["output"] = [{"role": "assistant", "tool_calls": [m["function_call"] for m in completion]}]
    if tools := listed(attributes, "llm.request.functions."):
        draft["metadata"] = {"tools": tools, **draft.get("metadata", {})}


def _literal(value: Any) -> dict[str, Any]:
    """A dict the library wrote with ``str``; the empty one for anything else."""
    if not isinstance(value, str) or len(value) > 10_000:
        return {}
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _provider_id(identifier: str) -> str:
    """The provider's id of a response: LiteLLM wraps those of the Responses API to route what follows."""
    prefix, _, wrapped = identifier.partition("_")
    if prefix != "resp" or not wrapped:
        return identifier
    try:
        text = base64.b64decode(wrapped, validate=True).decode()
    except (binascii.Error, ValueError):
        return identifier
    inner = text.rpartition("response_id:")[2]
    return inner if text.startswith("litellm:") and inner else identifier


LITELLM: Final = Dialect(
    "litellm", operation, FIELDS, marks=frozenset((IDENTIFIER,)), scopes=(SCOPE,), adjust=adjust, claims=CLAIMS
)
