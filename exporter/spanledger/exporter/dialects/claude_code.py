"""Claude Code (and the Claude Agent SDK, which runs it): bare names on spans of scope ``com.anthropic.claude_code``.

Source: the monitoring page of Claude Code's documentation; traces are in beta there, and their names may change.
"""

from typing import Final

from spanledger.instrumentation import semconv

from ..spans import ERROR, SpanData
from ..values import milliseconds, tokens
from .base import AGENT, INFERENCE, PLUMBING, TOOL, Dialect, Draft, Field, Operation

SPAN_TYPE: Final = "span.type"
SCOPE: Final = "com.anthropic.claude_code"

SPAN_TYPES: Final[dict[str, Operation]] = {
    "interaction": AGENT,
    "llm_request": INFERENCE,
    "tool": TOOL,
    "tool.execution": PLUMBING,  # the two halves of a tool span: waiting for leave, and running
    "tool.blocked_on_user": PLUMBING,
    "hook": PLUMBING,
}

FIELDS: Final = (
    Field("model_id", "model"),
    Field("input_tokens", "input_tokens", tokens),
    Field("output_tokens", "output_tokens", tokens),
    Field("cache_read_tokens", "cache_read_tokens", tokens),
    Field("cache_write_tokens", "cache_creation_tokens", tokens),
    Field("time_to_first_token_ms", "ttft_ms", milliseconds),
    Field("finish_reason", "stop_reason"),
    Field("response_id", "request_id"),  # the request's id: the spans do not have the message's
    Field("action_type", "tool_name"),
    Field("input", "user_prompt"),
    Field("input", "tool_input"),
    Field("input", "full_command"),
    Field("input", "file_path"),
    Field("output", "tool_output"),
    Field("session_id", semconv.SESSION_ID),
    Field("error_message", "error"),
)
CLAIMS: Final = (SPAN_TYPE, "duration_ms", "interaction.duration_ms", "tool_name_safe", "tool_use_id")

CLOUDS: Final = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "foundry": "azure.ai.inference"}


def operation(span: SpanData) -> Operation | None:
    return SPAN_TYPES.get(str(span.attributes.get(SPAN_TYPE)), PLUMBING)


def adjust(span: SpanData, draft: Draft) -> None:
    draft["input_excludes_cache"] = True
    draft["provider"] = _provider(span)
    if span.attributes.get(SPAN_TYPE) == "interaction":
        draft.setdefault("agent_type", "claude_code")
    if span.attributes.get("success") in (False, "false") and span.status_code != ERROR:
        draft["status"] = "failed"


def _provider(span: SpanData) -> str:
    """Whose endpoint was asked: Anthropic's own, or a cloud's that serves its models."""
    served = CLOUDS.get(str(span.attributes.get("anthropic.provider", "")).lower())
    return served or str(span.attributes.get(semconv.PROVIDER_NAME, "anthropic"))


CLAUDE_CODE: Final = Dialect(
    "claude_code", operation, FIELDS, marks=frozenset(), scopes=(SCOPE,), adjust=adjust, claims=CLAIMS
)
