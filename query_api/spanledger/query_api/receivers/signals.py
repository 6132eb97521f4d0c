"""The two signals OTLP brings us, traces and logs: how each is read, recorded and answered, however it arrived."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from spanledger.exporter.records import Receipt

from ..metrics import Metrics
from ..state import State
from . import otlp, otlp_json

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

LEDGER: Final = "refused by the ledger"
"""Label of rejections whose sentence (which may quote the span) is in the answer, not in the metrics."""


class Signal(NamedTuple):
    """One kind of telemetry: how its body is read (by media type), recorded and answered."""

    name: str
    decode: Mapping[str, Callable[[bytes], otlp.Decoded[Any]]]
    record: Callable[[State, list[Any]], Receipt]
    response: Callable[[int, str], Message]


TRACES: Final = Signal(
    "traces",
    {PROTOBUF: otlp.spans_in, JSON: otlp_json.spans_in},
    lambda state, spans: state["commits"].record(spans),
    lambda rejected, message: ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=rejected, error_message=message) if rejected else None
    ),
)
LOGS: Final = Signal(
    "logs",
    {PROTOBUF: otlp.events_in, JSON: otlp_json.events_in},
    lambda state, events: state["ledger"].record_events(events),
    lambda rejected, message: ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
        if rejected
        else None
    ),
)


def accept(state: State, signal: Signal, media_type: str, body: bytes) -> Message:
    """Record what *body* holds and say so, for a thread to run: walking and committing take their time.

    When it returns, everything that the answer does not count as rejected is committed. Raises `UndecodableSpans`,
    `BodyTooLarge`, or `StoreUnavailable` when the same body may be accepted later.
    """
    decoded = signal.decode[media_type](body)
    receipt = signal.record(state, decoded.items) if decoded.items else Receipt(0, 0, 0, 0)
    _count(state["metrics"], signal.name, decoded, receipt)
    rejected = sum(decoded.rejected.values()) + receipt.rejected
    return signal.response(rejected, " ".join([*decoded.rejected, *receipt.reasons]))


def _count(metrics: Metrics, signal: str, decoded: otlp.Decoded[Any], receipt: Receipt) -> None:
    rejected = {**decoded.rejected, LEDGER: receipt.rejected}
    outcomes = {
        "recorded": receipt.recorded,
        "skipped": receipt.skipped + decoded.skipped,
        "rejected": sum(rejected.values()),
    }
    for outcome, count in outcomes.items():
        metrics.spans.labels(signal, outcome).inc(count)
    for reason, count in rejected.items():
        metrics.rejected.labels(signal, reason).inc(count)
