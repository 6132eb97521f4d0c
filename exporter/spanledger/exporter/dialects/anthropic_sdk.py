"""What Anthropic's own SDK adds to OTel GenAI on the spans it emits by itself.

Source: the OpenTelemetry pages of the Claude API's documentation (span reference), SDK 2.x.
"""

from typing import Final

from ..spans import SpanData
from ..values import tokens
from .base import Dialect, Field, Operation

FIELDS: Final = (
    Field("finish_reason", "anthropic.message.stop_reason"),
    Field("service_tier", "anthropic.response.service_tier"),
    Field("cache_write_1h_tokens", "anthropic.usage.cache_creation.ephemeral_1h_input_tokens", tokens),
    Field("output", "anthropic.tool_result.content"),
)
CLAIMS: Final = (
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",  # the rest of what was written
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "url.",
)


def operation(span: SpanData) -> Operation | None:
    return None  # its names are OTel GenAI's


ANTHROPIC_SDK: Final = Dialect("anthropic_sdk", operation, FIELDS, scopes=("com.anthropic.sdk",), claims=CLAIMS)
