"""What reading a span costs: CPU per span of mapping, redacting and pricing, beside OTLP encoding of the same spans.

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

from spanledger.exporter.charges import charged
from spanledger.exporter.mapping import map_spans
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.records import Batch
from spanledger.exporter.redaction import Redactor
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


def measure(variants: Mapping[str, Callable[[], object]], units: int, rounds: int) -> dict[str, list[float]]:
    """CPU microseconds per unit of every variant, one value a round, after one round that warms the caches."""
    order, values = random.Random(7), {name: list[float]() for name in variants}
    for work in variants.values():
        work()
    times = max(1, 5_000 // units)
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            work, start = variants[name], time.process_time()
            for _ in range(times):
                work()
            values[name].append((time.process_time() - start) * 1e6 / (units * times))
    return values


def redact(redactor: Redactor, batch: Batch) -> None:
    for execution in batch.executions:
        redactor.execution(execution)
    for call in batch.llm_calls:
        redactor.llm_call(call)


def report(spans: Sequence[SpanData], rounds: int) -> str:
    batch = map_spans(spans).batch
    prices, redactor, sdk_spans = PriceBook(), Redactor(), [as_sdk_span(span) for span in spans]
    values = measure(
        {
            ENCODING: lambda: encode_spans(sdk_spans).SerializeToString(),
            "mapping": lambda: map_spans(spans),
            "redaction": lambda: redact(redactor, batch),
            "pricing": lambda: [charged(prices, call) for call in batch.llm_calls],
        },
        len(spans),
        rounds,
    )
    rows = {
        name: (spread(measured, 2), spread(paired(measured, values[ENCODING]), 2)) for name, measured in values.items()
    }
    attributes = sum(len(span.attributes) for span in spans) / len(spans)
    title = f"{len(spans)} spans, {len(batch.llm_calls)} calls, {attributes:.1f} attributes a span, {rounds} rounds"
    return table(title, ("CPU µs a span: median [min–max]", f"times {ENCODING}"), rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--traces", type=Path, default=GOLDEN, help="a folder of *.otlp.pb files, at any depth")
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    print(report(traces(given.traces), given.rounds))


if __name__ == "__main__":
    main()
