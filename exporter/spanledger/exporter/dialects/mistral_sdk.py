"""What Mistral's own SDK emits when its telemetry is on: OTel GenAI since 3.x, names of its own before.

Source: mistralai/client-python (``extra/observability/otel.py``), 1.9 to 3.7.
"""

from typing import Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..values import tokens
from .base import EMBEDDING, INFERENCE, Dialect, Field, Operation

SCOPE: Final = "mistralai_sdk_tracer"

FIELDS: Final = (
    Field("total_tokens", "mistral_ai.request.total_tokens", tokens),
    Field("server_address", "http.url"),
)
CLAIMS: Final = ("agent.trace.public", "http.request.method", "http.response.status_code", "mistral_ai.operation.id")


def operation(span: SpanData) -> Operation | None:
    """Before 3.x the name of the span is the API's operation: it has no operation of OTel's."""
    if semconv.OPERATION_NAME in span.attributes or semconv.REQUEST_MODEL not in span.attributes:
        return None
    return EMBEDDING if "embedding" in span.name else INFERENCE


MISTRAL_SDK: Final = Dialect("mistral_sdk", operation, FIELDS, scopes=(SCOPE,), claims=CLAIMS)
