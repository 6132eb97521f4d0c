"""`LedgerSpanExporter`: a standard OTel span exporter that writes rows, by way of the crash-safe spool."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .errors import ConfigurationError
from .frames import Kind
from .health import Delivery
from .pipeline import EXIT_BUDGET, Pipeline
from .settings import Settings

if TYPE_CHECKING:  # SQLAlchemy is imported by the draining thread, not by the application's start
    from sqlalchemy import Engine

    from .ledger import Ledger


_log = logging.getLogger(__name__)


class LedgerSpanExporter(SpanExporter):
    """For ``BatchSpanProcessor`` and ``OTEL_TRACES_EXPORTER=spanledger``; `configure` uses `LedgerSpanProcessor`.

    What is exported is safe: it stands in the spool, and this or another process brings it to the database. What waits
    in the batch processor's own queue is not: that is lost with SIGKILL, SIGTERM or ``os._exit``, as with any exporter.

    Made without arguments it reads ``SPANLEDGER_*``. Construction never raises and never connects. Thread-safe; correct
    after ``fork``. *ledger* stays the caller's to close; otherwise one is opened on *engine*, *database_url* or the
    environment's.
    """

    def __init__(
        self,
        ledger: "Ledger | None" = None,
        *,
        database_url: str | None = None,
        engine: "Engine | None" = None,
        settings: Settings | None = None,
        exit_budget: float = EXIT_BUDGET,
    ) -> None:
        self._exit_budget = exit_budget
        self._closed = False
        try:
            settings = settings or Settings.from_environment(database_url=database_url)
        except ConfigurationError as error:
            # Not with defaults instead: they could store content the user meant to leave out, or elsewhere.
            _log.error("spanledger: nothing is recorded: %s", error)
            self._closed = True
            settings = Settings(durability="memory")
        self._pipeline = Pipeline(settings, engine=engine, ledger=ledger)

    @property
    def ledger(self) -> "Ledger":
        """The ledger behind this exporter, opened if need be. Raises `ConfigurationError` or `StoreUnavailable`."""
        return self._pipeline.open_ledger()

    @property
    def delivery(self) -> Delivery:
        """What became of the spans so far."""
        return self._pipeline.delivery

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS: all are kept. FAILURE: some are lost for good, and counted in `delivery`."""
        if self._closed:
            return SpanExportResult.FAILURE
        kept = [self._pipeline.keep(Kind.END, span) for span in spans]
        return SpanExportResult.SUCCESS if all(kept) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Bring what is kept to the database, trying until *timeout_millis* have passed. True when nothing is left."""
        return self._pipeline.flush(timeout_millis / 1000)

    # No timeout parameter: the batch processor would pass what is left of its 30 seconds, and a process must end.
    def shutdown(self) -> None:
        """Flush within the exit budget; what is left waits in the spool for the next process."""
        if not self._closed:
            self._closed = True
            self._pipeline.close(self._exit_budget)
