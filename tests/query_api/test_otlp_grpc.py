"""OTLP over gRPC: the same spans, the same promises, other words."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from spanledger.exporter.errors import ConfigurationError, StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api import listening
from spanledger.query_api.app import create_app

DATA = Path(__file__).parent / "data"
TRACE = ExportTraceServiceRequest.FromString((DATA / "traceloop-openai.openai_chat_tools.otlp.pb").read_bytes())
LOGS = (DATA / "otel-genai-openai.latest_event.openai_chat.logs.otlp.pb").read_bytes()
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LIMIT = 256 * 1024


class Server:
    """Both doors of one service."""

    def __init__(self, port: int, channel: grpc.Channel, api: httpx.Client) -> None:
        self.port = port
        self.traces = TraceServiceStub(channel)
        self.logs = LogsServiceStub(channel)
        self.send: Callable[..., bytes] = channel.unary_unary(EXPORT)  # bytes as they are, good or bad
        self.metrics: Callable[..., bytes] = channel.unary_unary(EXPORT.replace("Trace", "Metrics"))
        self.api = api

    def stored(self) -> int:
        counts = (self.api.get(f"/execution-logs/{path}").json() for path in ("executions", "llm-calls"))
        return sum(count["total_count"] for count in counts)


@pytest.fixture
def server(ledger: Ledger, settings: Settings) -> Iterator[Server]:
    port = listening.free_port(settings.host, 0)
    app = create_app(ledger, settings, grpc_port=port)
    options = [("grpc.max_send_message_length", -1)]
    with (
        listening.serving(app, listening.bind(settings.host, 0)) as url,
        httpx.Client(base_url=url, timeout=30) as api,
        grpc.insecure_channel(f"{settings.host}:{port}", options=options) as channel,
    ):
        yield Server(port, channel, api)


def refused(call: Callable[[], Any]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_spans_are_stored_when_the_call_returns(server: Server, compression: grpc.Compression) -> None:
    answer = server.traces.Export(TRACE, compression=compression, timeout=30)
    assert answer == ExportTraceServiceResponse()
    assert server.stored() > 0
    before = server.stored()
    server.traces.Export(TRACE, timeout=30)
    assert server.stored() == before


def test_log_records_bring_the_content_of_their_span_over_grpc(server: Server) -> None:
    trace = (DATA / "otel-genai-openai.latest_event.openai_chat.otlp.pb").read_bytes()
    server.logs.Export(ExportLogsServiceRequest.FromString(LOGS), timeout=30)
    server.send(trace, timeout=30)
    (call,) = server.api.get("/execution-logs/llm-calls", params={"include_content": "true"}).json()["llm_calls"]
    assert call["prompt"]
    assert call["response"]


def test_an_empty_message_is_a_success_over_grpc(server: Server) -> None:
    assert server.send(b"", timeout=30) == b""


def test_bad_spans_are_counted_in_the_answer_and_good_ones_kept(server: Server) -> None:
    good = {"trace_id": b"\7" * 16, "span_id": b"\2" * 8, "name": "chat m", "start_time_unix_nano": 10**18}
    attributes = [{"key": "gen_ai.operation.name", "value": {"string_value": "chat"}}]
    spans = [{**good, "attributes": attributes}, {**good, "span_id": b""}]
    request = ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{"spans": spans}]}])
    partial = server.traces.Export(request, timeout=30).partial_success
    assert (partial.rejected_spans, partial.error_message) == (1, "A span id must be 8 bytes and not all zero.")
    assert server.stored() == 1


@pytest.mark.parametrize("body", [b"\xff" * 100, b"\x0a\x05\x01", b"\x0b"], ids=["noise", "cut off", "half a group"])
def test_what_is_no_request_is_an_invalid_argument(server: Server, body: bytes) -> None:
    error = refused(lambda: server.send(body, timeout=30))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in error.details()
    assert server.send(b"", timeout=30) == b""


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_beyond_the_limit_is_refused_for_good_also_when_it_arrives_small(
    server: Server, compression: grpc.Compression
) -> None:
    error = refused(lambda: server.send(bytes(100 * LIMIT), compression=compression, timeout=30))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())  # without RetryInfo nobody tries again
    assert server.send(b"", timeout=30) == b""


def test_an_unavailable_database_is_unavailable_with_a_time_to_come_back(
    server: Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is restarting.")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store.backend, "transact", down)
        error = refused(lambda: server.traces.Export(TRACE, timeout=30))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "PostgreSQL is restarting.")
    (packed,) = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details
    again = RetryInfo()
    assert packed.Unpack(again)
    assert again.retry_delay.seconds > 0
    assert server.stored() == 0
    server.traces.Export(TRACE, timeout=30)
    assert server.stored() > 0


def test_a_bug_of_ours_says_nothing_of_our_insides_over_grpc(
    server: Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store.backend, "transact", broken)
        error = refused(lambda: server.traces.Export(TRACE, timeout=30))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()


def test_metrics_have_no_service_here(server: Server) -> None:
    error = refused(lambda: server.metrics(b"", timeout=30))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_many_callers_at_once_lose_nothing_and_idle_ones_hold_nobody_up(server: Server) -> None:
    def send(sender: int) -> None:
        for batch in range(5):
            request = ExportTraceServiceRequest()
            span = request.resource_spans.add().scope_spans.add().spans.add()
            span.trace_id, span.span_id = bytes([sender + 1, batch + 1]) * 8, b"\3" * 8
            span.start_time_unix_nano = 10**18
            span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
            server.traces.Export(request, timeout=60)
            answered.append(span.trace_id)

    answered: list[bytes] = []
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for connection in idle:
        connection.close()
    assert len(answered) == len(set(answered)) == 100
    assert server.stored() == 100


def test_calls_are_counted_as_requests_are(server: Server) -> None:
    server.send(b"", timeout=30)
    refused(lambda: server.send(b"\xff", timeout=30))
    lines = server.api.get("/metrics").text.splitlines()
    for status in ("OK", "INVALID_ARGUMENT"):
        assert f'spanledger_requests_total{{method="gRPC",path="{EXPORT}",status="{status}"}} 1.0' in lines


def test_a_grpc_port_that_is_taken_is_one_sentence() -> None:
    with listening.bind("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="Cannot listen"):
        listening.free_port("127.0.0.1", taken.getsockname()[1])
