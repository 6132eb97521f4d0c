"""The requests nobody should send, numbered as in our catalogue of faults, in both encodings.

Whatever arrives: no 5xx but 503, no answer later than five seconds, and the next good request works. Which test is
about which of the 34 rows, also in other modules, is in `test_bad_input_rows`.
"""

import base64
import gzip
import json
import resource
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api import listening
from spanledger.query_api.app import create_app

PROTOBUF, JSON = "application/x-protobuf", "application/json"
CALLS = "/execution-logs/llm-calls"
SPAN = {"traceId": "07" * 16, "spanId": "02" * 8, "name": "chat m", "startTimeUnixNano": "1700000000000000000"}
CHAT = {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}
PATIENCE = 5.0
MiB = 1024 * 1024

pytestmark = pytest.mark.parametrize("kind", [PROTOBUF, JSON], ids=["protobuf", "json"])


class Receiver:
    """A server of its own database, and how it must behave whatever it is sent."""

    def __init__(self, api: httpx.Client, database: Path) -> None:
        self.api = api
        self.database = database

    def post(self, body: bytes, kind: str, **headers: str) -> httpx.Response:
        return self._post("/v1/traces", body, kind, headers)

    def statuses(self, body: bytes, kind: str, **headers: str) -> set[int]:
        """How both signals answer."""
        return {self._post(path, body, kind, headers).status_code for path in ("/v1/traces", "/v1/logs")}

    def get(self, path: str) -> httpx.Response:
        return self._bounded(lambda: self.api.get(path))

    def send(self, kind: str, *spans: dict[str, Any]) -> int:
        """Send *spans*, and return how many were rejected."""
        answer = self.post(encoded(kind, *spans), kind)
        assert answer.status_code == 200, answer.content
        if kind == JSON:
            return int(answer.json().get("partialSuccess", {}).get("rejectedSpans", 0))
        return ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans

    def rows(self) -> list[dict[str, Any]]:
        answer = self.api.get(CALLS, params={"include_content": "true", "start_date": "1970-01-01"}).json()
        return list(answer["llm_calls"])

    def _post(self, path: str, body: bytes, kind: str, headers: dict[str, str]) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._bounded(lambda: self.api.post(path, content=body, headers={"content-type": kind, **named}))

    def _bounded(self, ask: Any) -> httpx.Response:
        begin = time.monotonic()
        answer: httpx.Response = ask()
        assert time.monotonic() - begin < PATIENCE
        assert answer.status_code < 500 or answer.status_code == 503
        assert self.api.post("/v1/traces", content=b"", headers={"content-type": PROTOBUF}).status_code == 200
        return answer


def with_base64_ids(span: dict[str, Any]) -> dict[str, Any]:
    """OTLP/JSON has ids in hex, protobuf's own JSON in base64."""
    ids = ("traceId", "spanId", "parentSpanId")
    return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in ids else v for k, v in span.items()}


def encoded(kind: str, *spans: dict[str, Any]) -> bytes:
    if kind == JSON:
        return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [with_base64_ids(span) for span in spans]}]}]}
    return ParseDict(document, ExportTraceServiceRequest(), max_recursion_depth=200).SerializeToString()


def span(*attributes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**SPAN, "attributes": [CHAT, *attributes], **fields}


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


@pytest.fixture
def receiver(sqlite: str) -> Iterator[Receiver]:
    settings = Settings(sqlite)
    ledger = Ledger.open(settings)
    app = create_app(ledger, settings)
    with (
        listening.serving(app, listening.bind("127.0.0.1", 0)) as url,
        httpx.Client(base_url=url, timeout=30) as api,
    ):
        yield Receiver(api, Path(sqlite.removeprefix("sqlite:///")))
    ledger.close()


def test_3_nothing_is_a_success(receiver: Receiver, kind: str) -> None:
    assert receiver.statuses(b"", kind) == {200}
    assert receiver.statuses(encoded(kind), kind) == {200}


def test_4_other_content_types_are_415(receiver: Receiver, kind: str) -> None:
    for other in ("text/xml", "", "multipart/form-data; boundary=x"):
        assert receiver.statuses(encoded(kind, span()), other) == {415}


def test_5_other_content_encodings_are_415(receiver: Receiver, kind: str) -> None:
    for other in ("br", "deflate", "gzip, gzip"):
        assert receiver.statuses(encoded(kind, span()), kind, content_encoding=other) == {415}


def test_6_damaged_gzip_is_400(receiver: Receiver, kind: str) -> None:
    good = gzip.compress(encoded(kind, span()))
    for bad in (good[:-3], good[:-8] + bytes(8), good + b"tail", b"\x1f\x8b", good + good):
        assert receiver.statuses(bad, kind, content_encoding="gzip") == {400}


def test_7_what_is_too_large_is_413_also_when_it_arrives_small(receiver: Receiver, kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert receiver.post(gzip.compress(bytes(300 * MiB), 1), kind, content_encoding="gzip").status_code == 413
    assert receiver.post(bytes(21 * MiB), kind).status_code == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 450_000  # KiB; the 300 MiB are the test's own


@pytest.mark.parametrize(("length", "status"), [("1000000000000", 413), ("-1", 400), ("5, 6", 400), ("x", 400)])
def test_7_a_length_that_cannot_be_is_refused(receiver: Receiver, kind: str, length: str, status: int) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    assert raw(receiver, head.encode()) == status


def raw(receiver: Receiver, request: bytes) -> int:
    """The status of the answer to *request*, sent as it is."""
    url = receiver.api.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE) as connection:
        connection.sendall(request)
        return int(connection.recv(1000).split()[1])


def test_8_noise_is_400(receiver: Receiver, kind: str) -> None:
    # A known field of another wire type is an unknown field to protobuf, and ignored: no receiver refuses it.
    for noise in (
        b"\xff" * 50,
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0b",
        b"\x0c",
        b"\x07",
    ):
        assert receiver.statuses(noise, kind) == {400}


TOO_DEEP = {"array": 48, "kvlist": 32}
"""Levels that protobuf, which parses 100 messages in each other, does not: an array is two, a map is three."""


@pytest.mark.parametrize(
    ("shape", "levels"), [("array", 31), ("array", 47), ("array", 48), ("kvlist", 31), ("kvlist", 32)]
)
def test_9_values_are_kept_to_a_depth_and_refused_beyond_what_can_be_parsed(
    receiver: Receiver, kind: str, shape: str, levels: int
) -> None:
    value: dict[str, Any] = {"stringValue": "the bottom"}
    for _ in range(levels):
        inner = value if shape == "array" else {"key": "k", "value": value}
        value = {f"{shape}Value": {"values": [inner]}} if shape == "array" else {"kvlistValue": {"values": [inner]}}
    if kind == PROTOBUF and levels == TOO_DEEP[shape]:
        assert receiver.post(encoded(kind, span({"key": "k", "value": value})), kind).status_code == 400
        return
    assert receiver.send(kind, span({"key": "gen_ai.input.messages", "value": value})) == 0
    assert len(receiver.rows()) == 1


def deep_array(levels: int) -> bytes:
    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    value = field(1, b"x")
    for _ in range(levels):
        value = field(5, field(1, value))
    attribute = field(9, field(1, b"deep") + field(2, value))
    return field(1, field(2, field(2, attribute)))


def test_9_twenty_thousand_levels_are_400(receiver: Receiver, kind: str) -> None:
    body = deep_array(20_000) if kind == PROTOBUF else b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    assert receiver.post(body, kind).status_code == 400


def test_10_json_that_is_none_is_400_and_of_two_equal_keys_the_last_counts(receiver: Receiver, kind: str) -> None:
    bad = (b"[" * 100_000, b'{"a":NaN}', b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a":"\xff"}', b"[]")
    for body in (*bad, b'{"resourceSpans":' + b"9" * 1_000_000 + b"}"):
        assert receiver.statuses(body, JSON) == {400}
    assert receiver.statuses(b'{"resourceSpans": 1, "resourceSpans": []}', JSON) == {200}


def test_11_unknown_fields_are_ignored_and_enums_are_numbers(receiver: Receiver, kind: str) -> None:
    known = encoded(kind, span())
    unknown = known + b"\xca\x3e\x03abc" if kind == PROTOBUF else known.replace(b"{", b'{"new": [1], ', 1)
    assert receiver.post(unknown, kind).status_code == 200
    assert len(receiver.rows()) == 1
    assert (
        receiver.post(
            json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span(kind="CLIENT")]}]}]}).encode(), JSON
        ).status_code
        == 400
    )


def test_12_millions_of_empty_resources_are_413(receiver: Receiver, kind: str) -> None:
    body = b"\x0a\x00" * 8_400_000 if kind == PROTOBUF else b'{"resourceSpans":[' + b"{}," * 6_000_000 + b"{}]}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert receiver.statuses(body, kind) == {413}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB, of which the test's own are 60


@pytest.mark.parametrize(
    "bad",
    [{"traceId": ""}, {"traceId": "07" * 15}, {"traceId": "07" * 17}, {"traceId": "00" * 16}]
    + [{"spanId": ""}, {"spanId": "00" * 8}, {"parentSpanId": "01" * 7}],
    ids=str,
)
def test_13_bad_ids_are_rejected_and_their_neighbours_kept(receiver: Receiver, kind: str, bad: dict[str, str]) -> None:
    assert receiver.send(kind, span(), span(**bad)) == 1
    assert len(receiver.rows()) == 1


def test_13_a_span_may_be_its_own_parent_and_parents_may_go_in_circles(receiver: Receiver, kind: str) -> None:
    own = span(parentSpanId=SPAN["spanId"])
    first, second = span(spanId="03" * 8, parentSpanId="04" * 8), span(spanId="04" * 8, parentSpanId="03" * 8)
    assert receiver.send(kind, own, first, second) == 0
    assert len(receiver.rows()) == 3
    run = receiver.rows()[0]["execution_id"]
    assert receiver.get(f"/execution-logs/executions/{run}").status_code in (200, 404)


def test_14_impossible_times_are_stored_as_possible_ones(receiver: Receiver, kind: str) -> None:
    times = [("1700000000000000000", "1600000000000000000"), ("0", "0"), (str(2**64 - 1), str(2**64 - 1))]
    times.append(("7258118400000000000", "7258118401000000000"))  # 2200-01-01
    spans = [
        span(spanId=f"{number + 1:016x}", startTimeUnixNano=start, endTimeUnixNano=end)
        for number, (start, end) in enumerate(times)
    ]
    assert receiver.send(kind, *spans) == 0
    with sqlite3.connect(receiver.database) as database:
        stored = database.execute("SELECT start_time, duration_ms FROM llm_call_logs").fetchall()
    database.close()
    assert len(stored) == 4
    assert all(start and (duration is None or duration >= 0) for start, duration in stored)


ODD_TEXTS = {
    "NUL": "a\0b", "noncharacter": "a\ufffeb", "right to left": "\u202egnp.exe", "a megabyte": "x" * MiB, "nothing": ""
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_15_odd_texts_are_stored_as_far_as_a_database_can(receiver: Receiver, kind: str, odd: str) -> None:
    attributes = (
        text("gen_ai.request.model", odd),
        text("gen_ai.input.messages", odd),
        text(odd[: 64 * 1024], "value"),
    )
    assert receiver.send(kind, span(*attributes, name=odd)) == 0
    (row,) = receiver.rows()
    assert len(json.dumps(row)) < 2 * MiB
    assert row["sanitized"] is (odd in (ODD_TEXTS["NUL"], ODD_TEXTS["a megabyte"]))


def test_15_ten_thousand_attributes_are_one_row(receiver: Receiver, kind: str) -> None:
    assert receiver.send(kind, span(*(text(f"key{number}", "x") for number in range(10_000)))) == 0
    assert len(receiver.rows()) == 1


IMPOSSIBLE = [{"intValue": "-1"}, {"intValue": str(2**63 - 1)}, {"doubleValue": 1e308}, {"doubleValue": "NaN"}]
IMPOSSIBLE += [{"doubleValue": "Infinity"}, {"stringValue": "12abc"}, {"boolValue": True}, {"arrayValue": {}}]


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: str(*value.values()))
def test_16_impossible_numbers_are_no_tokens_and_no_costs(receiver: Receiver, kind: str, value: dict[str, Any]) -> None:
    keys = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost", "llm.usage.total_cost")
    assert receiver.send(kind, span(*({"key": key, "value": value} for key in keys))) == 0
    (row,) = receiver.rows()
    for column in ("input_tokens", "output_tokens"):
        assert row[column] is None or 0 <= row[column] < 2**63
    assert receiver.get("/execution-logs/analytics/summary?start_date=2020-01-01").status_code == 200


LITERAL = ["__proto__", "constructor.prototype.x", "$where", "'; DROP TABLE llm_call_logs; --", "{{7*7}}", "a.b", "a"]


def test_17_keys_and_values_are_data(receiver: Receiver, kind: str) -> None:
    attributes = [text(key, key) for key in LITERAL]
    for number, literal in enumerate(LITERAL):
        model = text("gen_ai.request.model", literal)
        assert receiver.send(kind, span(model, *attributes, spanId=f"{number + 1:016x}", name=literal)) == 0
    assert {row["model_id"] for row in receiver.rows()} == set(LITERAL)


def test_18_the_same_batch_twice_is_the_same_rows_and_half_a_bad_one_is_half_stored(
    receiver: Receiver, kind: str
) -> None:
    batch = [span(spanId=f"{number + 1:016x}") for number in range(4)]
    assert receiver.send(kind, *batch) == receiver.send(kind, *batch) == 0
    assert len(receiver.rows()) == 4
    assert receiver.send(kind, *(span(spanId=bad) for bad in ("00" * 8, "11" * 8, "22" * 4, "33" * 8))) == 2
    assert len(receiver.rows()) == 6


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=1001", "limit=1000000000", "limit=abc", "limit=1&limit=2"]
)
def test_21_limits_are_bounded(receiver: Receiver, kind: str, query: str) -> None:
    assert receiver.get(f"{CALLS}?{query}").status_code == 400


@pytest.mark.parametrize("cursor", ["x", "A" * 10_000, base64.b64encode(b'["a", "b"]').decode(), "%00", "null"])
def test_21_a_cursor_nobody_gave_is_400(receiver: Receiver, kind: str, cursor: str) -> None:
    assert receiver.get(f"{CALLS}?cursor={cursor}").status_code == 400


BAD_DATES = ["start_date=2026-02-01&end_date=2026-01-01", "start_date=2026-13-01", "start_date=0000-01-01"]
BAD_DATES += ["start_date=2026-01-01T00:00:00%2B99:00", "start_date=yesterday", "end_date=%00"]


@pytest.mark.parametrize("query", BAD_DATES)
def test_22_dates_that_are_none_are_400(receiver: Receiver, kind: str, query: str) -> None:
    assert receiver.get(f"{CALLS}?{query}").status_code == 400


def test_22_ten_years_are_a_long_time_but_no_error(receiver: Receiver, kind: str) -> None:
    # Every question is bounded in rows and in seconds, so a range need not be.
    assert receiver.get(f"{CALLS}?start_date=2016-01-01&end_date=2026-01-01").status_code == 200


IDS = ["../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%00", "x" * 10_000, "ABCDEF", "%ff", "%F0%9F%92%A9"]


@pytest.mark.parametrize("identifier", IDS, ids=range(len(IDS)))
def test_24_ids_that_cannot_be_are_not_found(receiver: Receiver, kind: str, identifier: str) -> None:
    for path in ("executions", "llm-calls"):
        assert receiver.get(f"/execution-logs/{path}/{identifier}").status_code in (400, 404)


HEADERS = {
    "long": b"X: " + b"x" * 200_000 + b"\r\n",
    "many": b"".join(b"X%d: x\r\n" % number for number in range(30_000)),
    "line breaks": b"X: a\rb\r\nno colon\r\n",
    "NUL": b"X: a\0b\r\n",
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_28_heads_that_are_too_long_or_broken_are_400(receiver: Receiver, kind: str, headers: bytes) -> None:
    # h11 answers 400 to all of them, where 431 would say more. What fits into one read of 64 KiB is heard out.
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers
    try:
        assert raw(receiver, head + b"\r\n") in (400, 431)
    except ConnectionResetError:  # refused while we were still talking
        pass
    assert receiver.get("/healthz").status_code == 200


def test_29_others_are_served_while_some_hold_on_to_their_connections(receiver: Receiver, kind: str) -> None:
    # That a body which drips is given up after 30 seconds is tested where bodies are read.
    url = receiver.api.base_url
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 9\r\n\r\nx".encode()
    connections = [socket.create_connection((url.host, url.port or 80)) for _ in range(300)]
    try:
        for connection in connections[:150]:
            connection.sendall(head)
        assert receiver.send(kind, span()) == 0
        assert len(receiver.rows()) == 1
    finally:
        for connection in connections:
            connection.close()


def test_30_deleting_what_is_not_there_is_404_and_twice_is_harmless(receiver: Receiver, kind: str) -> None:
    receiver.send(kind, span())
    run = receiver.rows()[0]["execution_id"]
    first, second = (receiver.api.delete(f"/execution-logs/executions/{run}").status_code for _ in range(2))
    assert (first, second) in ((200, 404), (200, 200))
    assert receiver.api.delete(f"/execution-logs/executions/{'x' * 10_000}").status_code in (200, 400, 404)
    assert receiver.send(kind, span()) == 0
    assert receiver.rows() == []
