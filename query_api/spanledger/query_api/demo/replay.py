"""Recorded traces: what real instrumentations of other projects emitted, shipped as OTLP and replayed as if new."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse as Response
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger.exporter.errors import SpanledgerError

SUFFIX: Final = ".otlp.pb"


class Recording(NamedTuple):
    """One recorded export request. *producer* is the instrumentation that made it, *scenario* what it watched."""

    producer: str
    scenario: str
    request: ExportTraceServiceRequest

    @property
    def spans(self) -> Sequence[Span]:
        return [s for r in self.request.resource_spans for scope in r.scope_spans for s in scope.spans]


def recordings() -> Iterator[Recording]:
    """The traces that are shipped, by name."""
    for file in sorted(files("spanledger.query_api.demo").joinpath("traces").iterdir(), key=lambda file: file.name):
        if file.name.endswith(SUFFIX):
            producer, scenario = file.name.removesuffix(SUFFIX).split(".", 1)
            yield Recording(producer, scenario, ExportTraceServiceRequest.FromString(file.read_bytes()))


def shift(recording: Recording, end: int) -> None:
    """Move every time of the recording by the same amount, so that its last span ends at *end* (ns since the epoch)."""
    by = end - max(span.end_time_unix_nano for span in recording.spans)
    for span in recording.spans:
        span.start_time_unix_nano += by
        span.end_time_unix_nano += by
        for event in span.events:
            event.time_unix_nano += by


def send(recording: Recording, server: str) -> None:
    """POST it to the OTLP receiver of *server*. Raises `SpanledgerError` unless every span was taken."""
    body = recording.request.SerializeToString()
    request = Request(f"{server}/v1/traces", body, {"Content-Type": "application/x-protobuf"})
    try:
        with urlopen(request, timeout=30) as answer:
            response = Response.FromString(answer.read())
    except (HTTPError, URLError, TimeoutError) as error:
        raise SpanledgerError(f"The trace of {recording.producer} could not be sent: {error}.") from None
    if rejected := response.partial_success.rejected_spans:
        reason = response.partial_success.error_message
        raise SpanledgerError(f"{rejected} spans of {recording.producer} were rejected: {reason}")
