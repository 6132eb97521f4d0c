"""OpenLIT: OTel GenAI names, with a few of its own and its own reading of some.

Source: openlit/openlit (``sdk/python/src/openlit``), 1.33 to 1.45.
"""

from typing import Final

from ..spans import SpanData
from ..values import seconds, tokens
from .base import Dialect, Draft, Field, Operation

FIELDS: Final = (
    Field("time_to_first_token_ms", "gen_ai.server.time_to_first_token", seconds),
    Field("total_tokens", "gen_ai.client.token.usage", tokens),
    Field("external_user_id", "gen_ai.request.user"),
    Field("external_user_id", "gen_ai.user"),
)
CLAIMS: Final = (
    "telemetry.sdk.name",
    "deployment.environment",  # the resource's, again
    "service.name",
    "gen_ai.sdk.version",
    "gen_ai.tool.name",  # the calls of the answer, again
    "gen_ai.tool.call.id",
    "gen_ai.tool.args",
)
EXCLUSIVE_SCOPES: Final = ("openlit.instrumentation.anthropic", "openlit.instrumentation.bedrock")
"""Pass the provider's own input through, which leaves cached tokens out."""

API_TYPE: Final = "openai.api.type"
ESTIMATED: Final = ("input_tokens", "output_tokens", "total_tokens", "reported_cost")
"""What a tokenizer guessed for a stream that reported no usage: where OpenAI did report it, cached tokens stand beside
it, also when there are none."""


def operation(span: SpanData) -> Operation | None:
    return None  # its names are OTel GenAI's


def adjust(span: SpanData, draft: Draft) -> None:
    if span.scope.startswith(EXCLUSIVE_SCOPES):
        draft["input_excludes_cache"] = True
    if not draft.get("is_streaming"):
        draft.pop("time_to_first_token_ms", None)  # without a stream it is how long the whole answer took
    if '"role": "system"' in str(draft.get("input")):
        draft.pop("system", None)  # said there already
    if draft.get("is_streaming") and API_TYPE in span.attributes and "cache_read_tokens" not in draft:
        for name in ESTIMATED:
            draft.pop(name, None)
    _read_content_events(span, draft)


def _read_content_events(span: SpanData, draft: Draft) -> None:
    """Before 1.34 prompt and completion were events of the span, as OTel GenAI v1.26 had them."""
    for event in span.events:
        if event.name == "gen_ai.content.prompt":
            draft.setdefault("input", event.attributes.get("gen_ai.prompt"))
        elif event.name == "gen_ai.content.completion":
            draft.setdefault("output", event.attributes.get("gen_ai.completion"))


OPENLIT: Final = Dialect("openlit", operation, FIELDS, scopes=("openlit",), adjust=adjust, claims=CLAIMS)
