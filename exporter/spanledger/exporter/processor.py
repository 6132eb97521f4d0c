"""The span processors: one hands an execution's ids to every span beneath it, one feeds the ledger.

`LedgerSpanProcessor` differs from the SDK's batch processor in what a ledger must do and a sampling exporter need not:
it takes spans that were recorded but not sampled, and its flush reaches the spans the exporter still holds.
"""

import os
from copy import copy
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags

from spanledger.instrumentation.context import context_attributes

from .exporter import LedgerSpanExporter

QUEUE_SPANS: Final = 16_384
"""Spans that may wait for the exporting thread: eight times the SDK's default, whose overflow is silent."""
SCHEDULE_DELAY_MS: Final = 1_000
"""A row is visible about a second after its span ended."""


class ContextSpanProcessor(SpanProcessor):
    """Stamps the ids of the enclosing execution on every span, whoever starts it, unless the span has its own."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        inherited = context_attributes(parent_context)
        if not inherited:
            return
        own = span.attributes or {}
        span.set_attributes({name: value for name, value in inherited.items() if name not in own})


class LedgerSpanProcessor(BatchSpanProcessor):
    """Batches ended spans for a `LedgerSpanExporter`, sampled or not.

    ``OTEL_BSP_*`` variables apply; where they are unset, a batch is written after a second at the latest.
    """

    def __init__(self, exporter: LedgerSpanExporter) -> None:
        super().__init__(
            exporter,
            max_queue_size=None if OTEL_BSP_MAX_QUEUE_SIZE in os.environ else QUEUE_SPANS,
            schedule_delay_millis=None if OTEL_BSP_SCHEDULE_DELAY in os.environ else SCHEDULE_DELAY_MS,
        )
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and not span.context.trace_flags.sampled:
            span = _as_sampled(span, span.context)
        super().on_end(span)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Write everything now. True when nothing is left, neither in the queue nor in the exporter."""
        # The SDK's own flush hands the queue to the exporter and never asks whether the exporter kept it.
        queued = super().force_flush(timeout_millis)
        return self._exporter.force_flush(30_000 if timeout_millis is None else timeout_millis) and queued


def _as_sampled(span: ReadableSpan, context: SpanContext) -> ReadableSpan:
    """*span* for a batch processor that refuses what the sampler did not choose for the other exporters."""
    twin = copy(span)
    flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
    twin._context = SpanContext(context.trace_id, context.span_id, context.is_remote, flags, context.trace_state)
    return twin
