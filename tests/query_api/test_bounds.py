"""Bodies that would become far more than they are."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.exporter.errors import UndecodableSpans
from spanledger.query_api.problems import BodyTooLarge
from spanledger.query_api.receivers import otlp, otlp_json
from spanledger.query_api.receivers.bounds import MAX_FIELDS, MAX_ITEMS, check_json, check_protobuf, shape_of

TRACES = shape_of(ExportTraceServiceRequest.DESCRIPTOR)
MOST = 20 * 1024 * 1024


def request_with(attributes: int, text: str) -> bytes:
    """A request of *attributes* attributes in all, 30 a span."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(attributes // 30):
        span = spans.add(trace_id=b"\1" * 16, span_id=(number + 1).to_bytes(8, "big"), start_time_unix_nano=10**18)
        for key in range(30):
            span.attributes.add(key=f"k{key}").value.string_value = text
    return request.SerializeToString()


AMPLIFIED = {
    "empty resources": b"\x0a\x00" * (MOST // 2),
    "resources of one empty scope": b"\x0a\x02\x12\x00" * (MOST // 4),
    "fields nobody knows": b"\x78\x01" * (MOST // 2),
    "long tags": b"\x8a\x80\x00\x00" * (MOST // 4),
}


@pytest.mark.parametrize("body", AMPLIFIED.values(), ids=AMPLIFIED)
def test_millions_of_empty_messages_are_refused_before_they_exist(body: bytes) -> None:
    begin = time.monotonic()
    with pytest.raises(BodyTooLarge, match="1,000,000 fields"):
        otlp.spans_in(body)
    assert time.monotonic() - begin < 5


def test_refusing_them_takes_little_more_memory_than_the_body() -> None:
    program = f"""
import resource
from spanledger.query_api.problems import BodyTooLarge
from spanledger.query_api.receivers import otlp
bodies = [b"\\x0a\\x00" * {MOST // 2}, b"\\x0a\\x02\\x12\\x00" * {MOST // 4}]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for body in bodies:
    try:
        otlp.spans_in(body)
    except BodyTooLarge:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    grown = [int(line) for line in ran.stdout.split()]
    assert len(grown) == 2
    assert max(grown) < 10_000  # KiB; decoded, the first of them takes 390,000


def test_a_large_body_of_ordinary_spans_is_read_whole() -> None:
    body = request_with(240_000, "x" * 40)
    assert len(body) > 2 * MAX_FIELDS
    assert len(otlp.spans_in(body).items) == 8_000


def test_fields_are_counted_however_deep_they_lie() -> None:
    body = request_with(300_000, "")
    assert len(body) > 2 * MAX_FIELDS
    with pytest.raises(BodyTooLarge):
        check_protobuf(body, TRACES)


def test_the_shape_knows_messages_inside_of_values_and_of_logs() -> None:
    value = b"\x2a\x00" * 1_500_000  # an AnyValue of empty arrays
    kept = TRACES[1][2][2][9][2]
    with pytest.raises(BodyTooLarge):
        check_protobuf(value, kept)
    assert kept[5][1] is kept
    assert shape_of(ExportLogsServiceRequest.DESCRIPTOR)[1][2][2][5] is not None


@pytest.mark.parametrize(
    "end", [b"\x0a\x05\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\x80" * 20, b"\x09", b"\x0a\x03\x12\x05\x01"]
)
def test_a_long_body_that_is_cut_off_is_undecodable_and_not_counted_on(end: bytes) -> None:
    body = b"\x12\xc0\x84\x3d" + bytes(1_000_000) + b"\x12\xc0\x84\x3d" + bytes(1_000_000) + end
    with pytest.raises(UndecodableSpans):
        check_protobuf(body, TRACES)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_fifty_thousand_spans_are_the_most_of_a_request(encoding: str, more: int) -> None:
    number = MAX_ITEMS + more
    body = b'{"resourceSpans": [{"scopeSpans": [{"spans": [' + b",".join([b"{}"] * number) + b"]}]}]}"
    decode: Callable[[bytes], otlp.Decoded[object]] = otlp_json.spans_in  # type: ignore[assignment]
    if encoding == "protobuf":
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for _ in range(number):
            spans.add()
        body, decode = request.SerializeToString(), otlp.spans_in  # type: ignore[assignment]
    if more:
        with pytest.raises(BodyTooLarge, match="50,000"):
            decode(body)
    else:
        assert sum(decode(body).rejected.values()) == MAX_ITEMS


JSON_AMPLIFIED = {
    "objects": b'{"resourceSpans":[' + b"{}," * (MOST // 3),
    "arrays": b"[" + b"[]," * (MOST // 3),
    "numbers": b"[" + b"1," * (MOST // 2),
    "members": b'{"a":' + b'{"":1,' * (MOST // 6),
    "strings": b'["' + b'"",' * (MOST // 3),
}


@pytest.mark.parametrize("body", JSON_AMPLIFIED.values(), ids=JSON_AMPLIFIED)
def test_millions_of_json_values_are_refused_before_they_exist(body: bytes) -> None:
    begin = time.monotonic()
    with pytest.raises(BodyTooLarge, match="1,000,000 fields"):
        check_json(body)
    assert time.monotonic() - begin < 5


def test_a_text_without_an_end_is_looked_through_once() -> None:
    begin = time.monotonic()
    check_json(b'{,"' + b'\\"{,' * (MOST // 4))
    assert time.monotonic() - begin < 5


def test_commas_and_braces_in_prompts_are_not_fields() -> None:
    prompt = rb"{\"a\": [1, 2, {\"b\": \"\\\\\"}]}," * 200_000
    check_json(b'{"resourceSpans": [{"x": "' + prompt + b'"}]}')
