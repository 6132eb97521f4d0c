"""What reading a span costs: CPU per span of mapping and pricing, beside OTLP encoding of the same spans.

The spans are real traces of many instrumentations (by default the golden ones of the tests). All variants run in one
process, interleaved, each round in another order; ratios are taken within a round.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from spanledger.exporter.charges import charge
from spanledger.exporter.mapping import map_spans
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.spans import SpanData
from spanledger.query_api.receivers.otlp import spans_in

from .measured import paired, spread, table

GOLDEN: Final = Path(__file__).parent.parent / "tests" / "dialects" / "golden"
ENCODING: Final = "OTLP encoding"


def traces(folder: Path) -> list[SpanData]:
    files = sorted(path for path in folder.rglob("*.otlp.pb") if not path.name.endswith(".logs.otlp.pb"))
    return [span for file in files for span in spans_in(file.read_bytes()).items]


def as_sdk_span(span: SpanData) -> ReadableSpan:
    """The span as the SDK would hand it to an exporter."""
    parent = span.parent_span_id and _context(span.trace_id, span.parent_span_id)
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=parent or None,
        resource=Resource({"service.name": span.resource.service_name or "unknown"}),
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.time) for event in span.events],
        kind=SpanKind(max(span.kind - 1, 0)),
        status=Status(StatusCode(span.status_code), span.status_message if span.status_code == 2 else None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=InstrumentationScope(span.scope, span.scope_version),
    )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))


def cpu_microseconds(work: Callable[[], object], units: int) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e6 / units


def measure(variants: Mapping[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, list[float]]:
    """CPU microseconds per unit of every variant, one value a round, after one round that warms the caches."""
    order, values = random.Random(7), {name: list[float]() for name in variants}
    for work, _ in variants.values():
        work()
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            values[name].append(cpu_microseconds(*variants[name]))
    return values


def repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def report(spans: Sequence[SpanData], rounds: int) -> str:
    calls = map_spans(spans).batch.llm_calls
    prices, sdk_spans = PriceBook(), [as_sdk_span(span) for span in spans]
    times = max(1, 5_000 // len(spans))
    values = measure(
        {
            ENCODING: (repeated(lambda: encode_spans(sdk_spans), times), len(spans) * times),
            "mapping": (repeated(lambda: map_spans(spans), times), len(spans) * times),
            "pricing, a call": (repeated(lambda: [charge(prices, call) for call in calls], times), len(calls) * times),
        },
        rounds,
    )
    rows = {
        name: (spread(measured, 2), spread(paired(measured, values[ENCODING]), 2)) for name, measured in values.items()
    }
    attributes = sum(len(span.attributes) for span in spans) / len(spans)
    title = f"{len(spans)} spans, {len(calls)} calls, {attributes:.1f} attributes a span, {rounds} rounds"
    return table(title, ("CPU µs: median [min–max]", f"times {ENCODING}"), rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--traces", type=Path, default=GOLDEN, help="a folder of *.otlp.pb files, at any depth")
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    print(report(traces(given.traces), given.rounds))


if __name__ == "__main__":
    main()
