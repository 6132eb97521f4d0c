"""`Costed`: another exporter that is told what every model call cost, so that Jaeger shows the ledger's own figure."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanledger.instrumentation import semconv
from spanledger.instrumentation.guard import guard

from .charges import Charge, charge
from .custom_prices import CustomPrices
from .mapping import map_spans
from .pricing import PriceBook
from .settings import Settings
from .spans import from_sdk, row_id

ATTRIBUTES: Final = {
    "input_cost": semconv.INPUT_COST,
    "output_cost": semconv.OUTPUT_COST,
    "total_cost": semconv.TOTAL_COST,
}


class Costed(SpanExporter):
    """Passes spans on to *exporter*; those that become a row with a cost carry it, in US dollars.

    For the thread of a batch processor: prices are loaded with the first call. What a call costs follows from its span
    alone, as in the ledger before other spans of the call have lent it anything. The spans themselves stay as they are.
    """

    def __init__(self, exporter: SpanExporter, settings: Settings) -> None:
        self._exporter = exporter
        self._settings = settings

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """The other exporter's answer. Spans that cannot be priced go as they are."""
        with guard("tell other exporters what calls cost"):
            spans = self._costed(spans)
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _costed(self, spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
        calls = map_spans(map(from_sdk, spans)).batch.llm_calls
        costs = {call.id: cost for call in calls if (cost := _attributes(charge(self._prices, call)))}
        return [_CostedSpan(span, costs[row]) if (row := _row_id(span)) in costs else span for span in spans]

    @cached_property
    def _prices(self) -> PriceBook:
        file = self._settings.price_file()
        return PriceBook(CustomPrices.read(file) if file else None)


class _CostedSpan(ReadableSpan):
    """*span* with more attributes, and all it says of itself otherwise."""

    def __init__(self, span: ReadableSpan, more: Mapping[str, float]) -> None:
        vars(self).update(vars(span))
        self._more = more

    @property
    def attributes(self) -> Mapping[str, Any]:
        return {**(super().attributes or {}), **self._more}


def _attributes(charge: Charge) -> Mapping[str, float]:
    columns = charge.columns()
    return {name: cost for column, name in ATTRIBUTES.items() if (cost := columns[column]) is not None}


def _row_id(span: ReadableSpan) -> str:
    assert span.context is not None, "an SDK span always has a context"
    return row_id(span.context.trace_id, span.context.span_id)
