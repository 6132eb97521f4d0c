"""The span processors: one hands an execution's ids to every span beneath it, one feeds the ledger."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from spanledger.instrumentation import semconv
from spanledger.instrumentation.context import context_attributes
from spanledger.instrumentation.guard import guard

from .frames import Kind
from .pipeline import EXIT_BUDGET, Pipeline

FLUSH_SECONDS: Final = 30.0


class ContextSpanProcessor(SpanProcessor):
    """Stamps the ids of the enclosing execution on every span, whoever starts it, unless the span has its own."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        inherited = context_attributes(parent_context)
        if not inherited:
            return
        own = span.attributes or {}
        span.set_attributes({name: value for name, value in inherited.items() if name not in own})


class LedgerSpanProcessor(SpanProcessor):
    """Keeps every span the moment it ends, sampled or not, and GenAI spans also when they start.

    What ended is in the spool before ``end()`` returns to the application, so no death of the process loses it; what
    had only started is then marked cancelled. Tens of microseconds in the caller's thread; no lock is shared with the
    database's I/O, no signal handler is installed, and nothing is ever raised into the application.
    """

    def __init__(self, pipeline: Pipeline, *, exit_budget: float = EXIT_BUDGET) -> None:
        self._pipeline = pipeline
        self._exit_budget = exit_budget
        self._closed = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        attributes = span.attributes or {}
        if not self._closed and (semconv.KIND in attributes or semconv.OPERATION_NAME in attributes):
            self._keep(Kind.START, span)

    def on_end(self, span: ReadableSpan) -> None:
        if not self._closed:
            self._keep(Kind.END, span)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Bring everything that ended to the database. True when nothing waits any more."""
        return self._pipeline.flush(FLUSH_SECONDS if timeout_millis is None else timeout_millis / 1000)

    def shutdown(self) -> None:
        """Flush within the exit budget; what is left waits in the spool for the next process."""
        if not self._closed:
            self._closed = True
            with guard("bring the last spans to the database"):
                self._pipeline.close(self._exit_budget)

    def _keep(self, kind: Kind, span: ReadableSpan) -> None:
        # The SDK calls processors in the application's own thread and does not catch what they raise.
        with guard("keep a span"):
            self._pipeline.keep(kind, span)
