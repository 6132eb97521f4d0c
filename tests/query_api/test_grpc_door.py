"""The gRPC port as a stranger finds it: keys, floods, slow callers and what they cost the others."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import grpc
import httpx
import psutil
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api import app, listening
from spanledger.query_api.budget import Budget
from spanledger.query_api.doorkeeper import FAILURES, Failures
from spanledger.query_api.keys import SCOPES, Keys, new_token
from spanledger.query_api.receivers import grpc as receiver

TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
EXPORT = f"/{TRACES}/Export"
MiB = 1024 * 1024


class Doors:
    """A service with both its doors."""

    def __init__(self, ledger: Ledger, port: int, channel: grpc.Channel, api: httpx.Client) -> None:
        self.ledger = ledger
        self.keys = Keys(ledger.store)
        self.port = port
        self.channel = channel
        self.export: Any = channel.unary_unary(EXPORT)
        self.api = api

    def code(self, token: str | None = None, body: bytes = b"") -> grpc.StatusCode:
        """How an export with this key is answered."""
        metadata = [("authorization", f"Bearer {token}")] if token else None
        try:
            self.export(body, timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def status(self, token: str) -> int:
        """How the same is answered over HTTP."""
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {token}"}
        return self.api.post("/v1/traces", headers=headers).status_code

    def stored(self) -> int:
        count: int = self.api.get("/execution-logs/llm-calls").json()["total_count"]
        return count

    def close(self) -> dict[str, str]:
        """Make a key of every scope, and wait until the server knows: keys as last read are believed for a second."""
        tokens = {scope: self.keys.create(scope, [scope], actor="me") for scope in SCOPES}
        until(lambda: self.code() is grpc.StatusCode.UNAUTHENTICATED)
        return {str(scope): token for scope, token in tokens.items()}


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def doors(sqlite: str) -> Iterator[Doors]:
    settings = Settings(sqlite)
    ledger = Ledger.open(settings)
    port = listening.free_port("127.0.0.1", 0)
    service = app.create_app(ledger, settings, grpc_port=port)
    with (
        listening.serving(service, listening.bind("127.0.0.1", 0)) as url,
        httpx.Client(base_url=url, timeout=30) as api,
        grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        yield Doors(ledger, port, channel, api)
    ledger.close()


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be asked for before `doors`: room for one MiB."""
    monkeypatch.setattr(app, "Budget", partial(Budget, MiB))


@contextmanager
def held(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The database takes nothing while the block runs, and everything that waits afterwards."""
    free, transact = threading.Event(), ledger.store.backend.transact

    def wait(*arguments: Any) -> Any:
        assert free.wait(60)
        return transact(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store.backend, "transact", wait)
        try:
            yield
        finally:
            free.set()


def chat(number: int) -> bytes:
    """A request with one span."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\1" * 16, start_time_unix_nano=10**18)
    span.span_id = number.to_bytes(8, "big")
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    return bytes(request.SerializeToString())


def spans_of(content: str, number: int = 1) -> list[ReadableSpan]:
    tracer = TracerProvider().get_tracer("t")
    spans = []
    for _ in range(number):
        with tracer.start_as_current_span("chat m") as span:
            span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.input.messages": content})
        spans.append(span)
    return spans  # type: ignore[return-value]


@contextmanager
def exporter(doors: Doors, **options: Any) -> Iterator[OTLPSpanExporter]:
    made = OTLPSpanExporter(f"127.0.0.1:{doors.port}", insecure=True, **options)
    try:
        yield made
    finally:
        made.shutdown()


def refusals(doors: Doors, code: str) -> bool:
    return f'method="gRPC",path="{EXPORT}",status="{code}"' in doors.api.get("/metrics").text


def retry_seconds(error: grpc.RpcError) -> float:
    """When the sender is asked to come back; 0 if it is not."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    again = RetryInfo()
    return max(
        [again.retry_delay.seconds for packed in Status.FromString(details).details if packed.Unpack(again)] + [0]
    )


def test_a_call_needs_a_key_that_may_ingest(doors: Doors) -> None:
    assert doors.code() is grpc.StatusCode.OK
    tokens = doors.close()
    codes = {scope: doors.code(token).name for scope, token in tokens.items()}
    assert codes == {"ingest": "OK", "read": "PERMISSION_DENIED", "delete": "PERMISSION_DENIED", "admin": "OK"}
    for wrong in (None, "x", new_token(), tokens["ingest"][:-1] + "g", tokens["ingest"].upper()):
        assert doors.code(wrong) is grpc.StatusCode.UNAUTHENTICATED
    doors.keys.revoke(tokens["ingest"].split("_")[1], actor="me")
    until(lambda: doors.code(tokens["ingest"]) is grpc.StatusCode.UNAUTHENTICATED, 2)
    assert doors.code(tokens["admin"]) is grpc.StatusCode.OK


def test_a_key_is_refused_before_the_message_is_looked_at(doors: Doors) -> None:
    doors.close()
    assert doors.code(body=b"\xff" * MiB) is grpc.StatusCode.UNAUTHENTICATED


def test_two_keys_are_one_too_many(doors: Doors) -> None:
    token = doors.close()["ingest"]
    with pytest.raises(grpc.RpcError) as refused:
        doors.export(b"", timeout=30, metadata=[("authorization", f"Bearer {token}"), ("authorization", "Bearer x")])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_opentelemetrys_own_exporter_delivers_with_a_key_and_not_without(doors: Doors) -> None:
    tokens = doors.close()
    token = tokens["ingest"]
    for headers, result in (
        ({}, SpanExportResult.FAILURE),
        ({"authorization": "Bearer x"}, SpanExportResult.FAILURE),
        ({"authorization": f"Bearer {token}"}, SpanExportResult.SUCCESS),
    ):
        with exporter(doors, headers=headers) as otlp:
            assert otlp.export(spans_of("hello")) is result
    doors.api.headers["Authorization"] = f"Bearer {tokens['read']}"
    assert doors.stored() == 1


def test_wrong_keys_are_counted_together_with_those_over_http_and_right_ones_are_heard(doors: Doors) -> None:
    token = doors.close()["ingest"]
    codes = [doors.code(new_token()).name for _ in range(FAILURES - 3)]
    statuses = [doors.status(new_token()) for _ in range(3)]
    assert (set(codes), set(statuses)) == ({"UNAUTHENTICATED"}, {401})
    assert doors.status(new_token()) == 429
    with pytest.raises(grpc.RpcError) as refused:
        doors.export(b"", timeout=30, metadata=[("authorization", f"Bearer {new_token()}")])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not retry_seconds(refused.value)  # the same key will be as wrong later
    assert doors.code(token) is grpc.StatusCode.OK
    assert doors.status(token) == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("a" * 60_000, "b", True),
    ],
)
def test_an_address_counts_as_what_one_sender_can_have(one: str, other: str, same: bool) -> None:
    failures = Failures()
    assert [failures.add(one) for _ in range(FAILURES)] == [0.0] * FAILURES
    assert (failures.add(other) > 0) is same


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:192.0.2.1:80", "192.0.2.1"), ("ipv6:%5B2001:db8::1%5D:80", "2001:db8::1"), ("unix:", "")],
)
def test_a_peer_has_the_address_it_has_over_http(peer: str, address: str) -> None:
    assert receiver._address(peer) == address


def test_health_is_for_anyone_to_ask(doors: Doors) -> None:
    doors.close()
    health = HealthStub(doors.channel)
    for service in ("", TRACES):
        assert health.Check(HealthCheckRequest(service=service), timeout=30).status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        health.Check(HealthCheckRequest(service="another"), timeout=30)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as endless:
        next(health.Watch(HealthCheckRequest(), timeout=30))
    assert endless.value.code() is grpc.StatusCode.UNIMPLEMENTED


def deep(levels: int) -> bytes:
    request = ExportTraceServiceRequest()
    value = request.resource_spans.add().scope_spans.add().spans.add().attributes.add(key="deep").value
    for _ in range(levels):
        value = value.array_value.values.add()
    value.string_value = "the bottom"
    return bytes(request.SerializeToString())


def many_spans() -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(50_001):
        spans.add()
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (many_spans(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\x0a\x00" * 1_000_001, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (bytes(21 * MiB), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (deep(48), grpc.StatusCode.INVALID_ARGUMENT),
        (deep(47), grpc.StatusCode.OK),
    ],
    ids=["50,001 spans", "a million fields", "21 MiB", "48 levels", "47 levels"],
)
def test_what_is_too_much_for_good_is_refused_for_good(doors: Doors, body: bytes, code: grpc.StatusCode) -> None:
    if code is grpc.StatusCode.OK:
        doors.export(body, timeout=30)
        return
    with pytest.raises(grpc.RpcError) as refused:
        doors.export(body, timeout=30)
    assert refused.value.code() is code
    assert not retry_seconds(refused.value)
    assert doors.code() is grpc.StatusCode.OK


def test_more_than_can_be_held_is_asked_to_come_back_over_either_door(
    small_budget: None, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"\xa2\x06\x80\x80\x20" + bytes(512 * 1024)  # a field nobody knows
    with held(doors.ledger, monkeypatch):
        waiting = doors.export.future(chat(1) + body, timeout=60)
        until(lambda: doors.code(body=body) is grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(grpc.RpcError) as refused:
            doors.export(body, timeout=30)
        assert (refused.value.code(), retry_seconds(refused.value)) == (grpc.StatusCode.UNAVAILABLE, 5)
        answer = doors.api.post("/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert doors.code() is grpc.StatusCode.OK  # what is small has room still
    assert waiting.result(timeout=30) == b""
    until(lambda: doors.code(body=body) is grpc.StatusCode.OK)


def test_opentelemetrys_own_exporter_comes_back_and_delivers(
    small_budget: None, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        with exporter(doors, timeout=30) as otlp:
            results.append(otlp.export(spans_of("x" * 40_000, 10)))

    results: list[SpanExportResult] = []
    senders = [threading.Thread(target=send) for _ in range(5)]
    with held(doors.ledger, monkeypatch):
        for sender in senders:
            sender.start()
        until(lambda: refusals(doors, "UNAVAILABLE"))
    for sender in senders:
        sender.join(60)
    assert results == [SpanExportResult.SUCCESS] * 5
    assert doors.stored() == 50


def test_who_calls_and_says_nothing_holds_nobody_up_for_long(doors: Doors) -> None:
    def silence() -> Iterator[bytes]:
        over.wait(60)
        yield b""

    over = threading.Event()
    call = doors.channel.stream_unary(EXPORT)
    calls = [call.future(silence(), timeout=60) for _ in range(50)]
    begin = time.monotonic()
    assert doors.code() is grpc.StatusCode.OK
    assert time.monotonic() - begin < 3  # in the order of their coming it would be a dozen
    assert calls[0].code() is grpc.StatusCode.DEADLINE_EXCEEDED
    over.set()


def test_hundreds_of_calls_at_once_wait_for_their_turn(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(doors.ledger, monkeypatch):
        calls = [doors.export.future(chat(number + 1), timeout=60) for number in range(800)]
        assert doors.api.get("/healthz").status_code == 200
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}
    assert doors.stored() == 800


def test_beyond_a_thousand_calls_at_once_none_is_told_that_it_is_hopeless(doors: Doors) -> None:
    calls = [doors.export.future(b"", timeout=60) for _ in range(2_000)]
    # gRPC itself cancels what exceeds its own queue; OTLP counts that among what a sender tries again.
    assert {call.code() for call in calls} <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    }
    assert doors.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("metadata", [("authorization", "Bearer " + "x" * 1_000_000), ("x", "y" * 1_000_000)])
def test_a_megabyte_of_metadata_is_refused(doors: Doors, metadata: tuple[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        doors.export(b"", timeout=30, metadata=[metadata])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert doors.code() is grpc.StatusCode.OK


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
FLOODS = {
    "pings": b"\0\0\x08\6\0\0\0\0\0" + bytes(8),
    "settings": b"\0\0\0\4\0\0\0\0\0",
    "noise": b"\xff" * 64,
    "an endless head": b"\0\x40\0\1\0\0\0\0\1" + bytes(16384),
}


@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_frames_takes_no_more_than_its_own_connection(doors: Doors, frames: bytes) -> None:
    with socket.create_connection(("127.0.0.1", doors.port), timeout=10) as connection:
        try:
            connection.sendall(PREFACE + frames * 1000)
        except OSError:  # refused while we were still talking
            pass
        assert doors.code() is grpc.StatusCode.OK


def test_large_messages_from_many_connections_do_not_become_memory(tmp_path: Path) -> None:
    port = listening.free_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", "0", "--grpc-port", str(port)]
    environment = {**os.environ, "SPANLEDGER_SPOOL_FOLDER": str(tmp_path / "spool")}
    body = b"\xa2\x06\x80\x80\xc0\x07" + bytes(15 * MiB)  # a field nobody knows

    def send() -> None:
        own = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
            calls = (channel.unary_unary(EXPORT).future(body, timeout=60) for _ in range(6))
            codes.update(call.code().name for call in calls)

    codes: set[str] = set()
    senders = [threading.Thread(target=send) for _ in range(20)]
    with Popen([*command, "--database-url", f"sqlite:///{tmp_path / 'x.db'}"], env=environment, stdout=PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"Look at it"):
                break
        before = psutil.Process(process.pid).memory_info().rss
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        status = Path(f"/proc/{process.pid}/status")
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        process.terminate()
        process.communicate(timeout=30)
    assert codes <= {"OK", "UNAVAILABLE"}
    assert peak / 1024 - before / MiB < 500  # with windows that grow it was 720
