"""POST /v1/traces and /v1/logs: what is acknowledged is stored, what is not says why, and nothing breaks the server."""

import gzip
import json
import socket
import threading
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.ledger import Ledger

DATA = Path(__file__).parent / "data"
TRACE = (DATA / "traceloop-openai.openai_chat_tools.otlp.pb").read_bytes()
TRACE_JSON = (DATA / "traceloop-openai.openai_chat_tools.json").read_bytes()
LOGS = (DATA / "otel-genai-openai.latest_event.openai_chat.logs.otlp.pb").read_bytes()
PROTOBUF, JSON = "application/x-protobuf", "application/json"
LIMIT = 256 * 1024


def post(
    api: httpx.Client, body: Any, kind: str = PROTOBUF, path: str = "/v1/traces", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post(path, content=body, headers={"content-type": kind, **named})


def refused(answer: httpx.Response) -> str:
    """The message of a ``google.rpc.Status`` in the request's own encoding."""
    kind = answer.headers["content-type"]
    if kind == PROTOBUF:
        return Status.FromString(answer.content).message
    assert kind == JSON
    return str(answer.json()["message"])


def stored(api: httpx.Client) -> int:
    return sum(api.get(f"/execution-logs/{path}").json()["total_count"] for path in ("executions", "llm-calls"))


@pytest.mark.parametrize("encoding", ["identity", "gzip", ""])
@pytest.mark.parametrize(
    ("body", "kind"), [(TRACE, PROTOBUF), (TRACE_JSON, JSON), (TRACE_JSON, "Application/JSON; charset=utf-8")]
)
def test_acknowledged_spans_are_stored(api: httpx.Client, body: bytes, kind: str, encoding: str) -> None:
    sent = gzip.compress(body) if encoding == "gzip" else body
    answer = post(api, sent, kind, **({"content_encoding": encoding} if encoding else {}))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind.partition(";")[0].lower()
    if kind == PROTOBUF:
        assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    else:
        assert answer.json() == {}
    assert stored(api) > 0


def test_the_same_batch_twice_is_the_same_rows(api: httpx.Client) -> None:
    post(api, TRACE)
    once = stored(api)
    assert post(api, TRACE_JSON, JSON).status_code == 200
    assert stored(api) == once > 0


def test_log_records_bring_the_content_of_their_span(api: httpx.Client) -> None:
    trace = (DATA / "otel-genai-openai.latest_event.openai_chat.otlp.pb").read_bytes()
    for path, body in (("/v1/logs", LOGS), ("/v1/traces", trace)):
        answer = post(api, body, path=path)
        assert (answer.status_code, answer.content) == (200, b"")
    (call,) = api.get("/execution-logs/llm-calls", params={"include_content": "true"}).json()["llm_calls"]
    assert call["prompt"]
    assert call["response"]


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_an_empty_request_is_a_success(sqlite_api: httpx.Client, kind: str, path: str) -> None:
    assert post(sqlite_api, b"", kind, path).status_code == 200
    if kind == JSON:
        assert post(sqlite_api, b"{}", kind, path).json() == {}


def two_spans(**bad: Any) -> ExportTraceServiceRequest:
    good = {"trace_id": b"\7" * 16, "span_id": b"\2" * 8, "name": "chat m", "start_time_unix_nano": 10**18}
    attributes = [{"key": "gen_ai.operation.name", "value": {"string_value": "chat"}}]
    spans = [{**good, "attributes": attributes}, {**good, **bad}]
    return ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{"spans": spans}]}])


def test_bad_spans_are_counted_in_a_partial_success_and_good_ones_kept(api: httpx.Client) -> None:
    answer = post(api, two_spans(span_id=b"").SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_spans) == (200, 1)
    assert partial.error_message == "A span id must be 8 bytes and not all zero."
    assert stored(api) == 1
    text = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00"}]}]}]}
    assert post(api, json.dumps(text), JSON).json()["partialSuccess"]["rejectedSpans"] == "1"


def test_rejected_log_records_are_counted_too(sqlite_api: httpx.Client) -> None:
    text = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "ab"}, {}]}]}]}
    answer = post(sqlite_api, json.dumps(text), JSON, "/v1/logs").json()
    assert answer["partialSuccess"]["rejectedLogRecords"] == "1"


UNREADABLE = [
    (b"\xff" * 100, PROTOBUF, {}, 400),
    (b"not json", JSON, {}, 400),
    (b"[" * 100_000, JSON, {}, 400),
    (gzip.compress(TRACE)[:-1], PROTOBUF, {"content_encoding": "gzip"}, 400),
    (gzip.compress(TRACE)[:-8] + b"\0" * 8, PROTOBUF, {"content_encoding": "gzip"}, 400),
    (gzip.compress(TRACE) + b"garbage", PROTOBUF, {"content_encoding": "gzip"}, 400),
    (TRACE, PROTOBUF, {"content_encoding": "gzip"}, 400),
    (b"", PROTOBUF, {"content_encoding": "gzip"}, 400),
    (b"\0" * (LIMIT + 1), PROTOBUF, {}, 413),
    (gzip.compress(b"\0" * (LIMIT + 1)), PROTOBUF, {"content_encoding": "gzip"}, 413),
    (gzip.compress(b" " * 50_000_000), JSON, {"content_encoding": "gzip"}, 413),
    (TRACE, PROTOBUF, {"content_encoding": "br"}, 415),
    (zlib.compress(TRACE), PROTOBUF, {"content_encoding": "deflate"}, 415),
    (gzip.compress(gzip.compress(TRACE)), PROTOBUF, {"content_encoding": "gzip, gzip"}, 415),
]


@pytest.mark.parametrize(("body", "kind", "headers", "status"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_is_refused_in_its_own_encoding_and_the_next_request_works(
    sqlite_api: httpx.Client, body: bytes, kind: str, headers: dict[str, str], status: int
) -> None:
    answer = post(sqlite_api, body, kind, **headers)
    assert answer.status_code == status, answer.content
    assert refused(answer).endswith((".", ")"))
    assert "retry-after" not in answer.headers
    assert post(sqlite_api, b"", kind).status_code == 200


def test_a_body_of_exactly_the_limit_is_read(sqlite_api: httpx.Client) -> None:
    text = b'{"a": "' + b"x" * (LIMIT - 9) + b'"}'
    assert len(text) == LIMIT
    assert post(sqlite_api, text, JSON).status_code == 200
    assert post(sqlite_api, gzip.compress(text), JSON, content_encoding="gzip").status_code == 200
    assert post(sqlite_api, text + b" ", JSON).status_code == 413


def test_a_body_without_a_length_is_bounded_as_it_arrives(sqlite_api: httpx.Client) -> None:
    def endless() -> Any:
        while True:
            yield b"x" * 65_536

    try:
        answer = post(sqlite_api, endless())
        assert answer.status_code == 413
    except (httpx.WriteError, httpx.RemoteProtocolError):  # refused while we were still talking
        pass
    assert post(sqlite_api, b"").status_code == 200


def test_a_length_beyond_the_limit_is_refused_before_the_body_arrives(sqlite_api: httpx.Client) -> None:
    url = sqlite_api.base_url
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: 1000000000000\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("kind", ["text/xml", "", "multipart/form-data; boundary=x", "application/grpc"])
def test_other_content_types_are_415(sqlite_api: httpx.Client, kind: str) -> None:
    answer = post(sqlite_api, TRACE, kind)
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
    assert "application/x-protobuf" in answer.json()["detail"]


def test_an_unavailable_database_is_503_with_a_time_to_come_back(
    api: httpx.Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is restarting.")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store.backend, "transact", down)
        for body, kind in ((TRACE, PROTOBUF), (TRACE_JSON, JSON)):
            answer = post(api, body, kind)
            assert (answer.status_code, refused(answer)) == (503, "PostgreSQL is restarting.")
            assert int(answer.headers["retry-after"]) > 0
    assert stored(api) == 0
    assert post(api, TRACE).status_code == 200
    assert stored(api) > 0


def test_many_senders_at_once_lose_nothing(api: httpx.Client) -> None:
    def send(sender: int) -> None:
        for batch in range(5):
            request = two_spans(trace_id=bytes([sender + 1, batch + 1]) * 8, span_id=b"\3" * 8)
            spans = request.resource_spans[0].scope_spans[0].spans
            spans[0].trace_id = spans[1].trace_id
            answers.append(post(api, request.SerializeToString()).status_code)

    answers: list[int] = []
    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 40
    assert stored(api) == 40


def test_what_was_received_is_counted_with_reasons(api: httpx.Client) -> None:
    post(api, two_spans(span_id=b"").SerializeToString())
    post(api, b"\xff")
    lines = api.get("/metrics").text.splitlines()
    assert 'spanledger_spans_total{outcome="recorded",signal="traces"} 1.0' in lines
    assert 'spanledger_spans_total{outcome="rejected",signal="traces"} 1.0' in lines
    reason = "A span id must be 8 bytes and not all zero."
    assert f'spanledger_rejected_total{{reason="{reason}",signal="traces"}} 1.0' in lines
    assert 'spanledger_requests_total{method="POST",path="/v1/traces",status="200"} 1.0' in lines
    assert 'spanledger_requests_total{method="POST",path="/v1/traces",status="400"} 1.0' in lines
