"""OTLP bytes → SpanData: what real exporters sent decodes alike from protobuf and from JSON."""

import base64
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from spanledger.exporter.errors import UndecodableSpans
from spanledger.query_api.receivers import otlp, otlp_json

DATA = Path(__file__).parent / "data"
TRACES = sorted(path for path in DATA.glob("*.otlp.pb") if ".logs." not in path.name)
LOGS = sorted(DATA.glob("*.logs.otlp.pb"))


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_a_recorded_trace_decodes_alike_from_both_encodings(path: Path) -> None:
    from_protobuf = otlp.spans_in(path.read_bytes())
    assert from_protobuf.items
    assert not from_protobuf.rejected
    assert otlp_json.spans_in(path.with_name(path.name.replace(".otlp.pb", ".json")).read_bytes()) == from_protobuf


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_recorded_log_records_decode_alike_from_both_encodings(path: Path) -> None:
    from_protobuf = otlp.events_in(path.read_bytes())
    assert from_protobuf.items
    assert otlp_json.events_in(path.with_name(path.name.replace(".otlp.pb", ".json")).read_bytes()) == from_protobuf


def span(**fields: Any) -> ExportTraceServiceRequest:
    """A request with one span."""
    whole: dict[str, Any] = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8, "name": "chat"}
    return ExportTraceServiceRequest(
        resource_spans=[{"scope_spans": [{"scope": {"name": "s", "version": "1"}, "spans": [whole | fields]}]}]
    )


def decoded(**fields: Any) -> Any:
    (item,) = otlp.spans_in(span(**fields).SerializeToString()).items
    return item


def as_json(**fields: Any) -> bytes:
    """The same span as OTLP/JSON, with *fields* as they stand in JSON."""
    whole = {"traceId": "01" * 16, "spanId": "02" * 8, "name": "chat"}
    scope = {"scope": {"name": "s", "version": "1"}, "spans": [whole | fields]}
    return json.dumps({"resourceSpans": [{"scopeSpans": [scope]}]}).encode()


VALUES: list[tuple[AnyValue, dict[str, Any], Any]] = [
    (AnyValue(string_value="x"), {"stringValue": "x"}, "x"),
    (AnyValue(string_value=""), {"stringValue": ""}, ""),
    (AnyValue(bool_value=False), {"boolValue": False}, False),
    (AnyValue(int_value=-5), {"intValue": "-5"}, -5),
    (AnyValue(int_value=2**63 - 1), {"intValue": 2**63 - 1}, 2**63 - 1),
    (AnyValue(double_value=0.5), {"doubleValue": 0.5}, 0.5),
    (AnyValue(double_value=2.0), {"doubleValue": 2}, 2.0),
    (AnyValue(double_value=float("inf")), {"doubleValue": "Infinity"}, float("inf")),
    (AnyValue(bytes_value=b"\0\xff"), {"bytesValue": base64.b64encode(b"\0\xff").decode()}, b"\0\xff"),
    (AnyValue(), {}, None),
    (AnyValue(), {"somethingNew": 1}, None),
    (
        AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()])),
        {"arrayValue": {"values": [{"intValue": 1}, {}]}},
        [1, None],
    ),
    (
        AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(string_value="v"))])),
        {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}},
        {"k": "v"},
    ),
    (AnyValue(array_value=ArrayValue()), {"arrayValue": {}}, []),
]


@pytest.mark.parametrize(("message", "text", "expected"), VALUES)
def test_every_kind_of_value_is_the_same_python_value(message: AnyValue, text: dict[str, Any], expected: Any) -> None:
    (from_json,) = otlp_json.spans_in(as_json(attributes=[{"key": "a", "value": text}])).items
    from_protobuf = decoded(attributes=[KeyValue(key="a", value=message)])
    for item in (from_protobuf, from_json):
        assert item.attributes == {"a": expected}
        assert type(item.attributes["a"]) is type(expected)


@pytest.mark.parametrize("levels", [31, 33, 40])
def test_values_nested_too_deep_are_cut_there(levels: int) -> None:
    value, text = AnyValue(int_value=1), {"intValue": 1}
    for _ in range(levels):
        value = AnyValue(array_value=ArrayValue(values=[value]))
        text = {"arrayValue": {"values": [text]}}  # type: ignore[dict-item]
    (from_json,) = otlp_json.spans_in(as_json(attributes=[{"key": "a", "value": text}])).items
    item = decoded(attributes=[KeyValue(key="a", value=value)])
    assert item.attributes == from_json.attributes
    inner, depth = item.attributes["a"], 0
    while isinstance(inner, list):
        (inner,), depth = inner, depth + 1
    assert (inner, depth) == ((1, levels) if levels <= otlp.MAX_DEPTH else (otlp.TOO_DEEP, otlp.MAX_DEPTH))


def test_a_span_keeps_its_times_status_events_resource_and_scope() -> None:
    request = span(
        parent_span_id=b"\3" * 8,
        kind=3,
        start_time_unix_nano=2**64 - 1,
        status={"code": 2, "message": "no"},
        dropped_attributes_count=7,
        events=[
            {"name": "exception", "time_unix_nano": 5, "attributes": [{"key": "k", "value": {"bool_value": True}}]}
        ],
    )
    attributes = request.resource_spans[0].resource.attributes
    attributes.add(key="service.name", value=AnyValue(string_value="shop"))
    attributes.add(key="deployment.environment.name", value=AnyValue(string_value="prod"))
    (item,) = otlp.spans_in(request.SerializeToString()).items
    assert (item.trace_id, item.span_id, item.parent_span_id) == (
        int("01" * 16, 16),
        int("02" * 8, 16),
        int("03" * 8, 16),
    )
    assert (item.start_time, item.end_time, item.kind) == (2**64 - 1, None, 3)
    assert (item.status_code, item.status_message, item.dropped_attributes) == (2, "no", 7)
    assert [tuple(event) for event in item.events] == [("exception", 5, {"k": True})]
    assert tuple(item.resource) == ("shop", "prod")
    assert (item.scope, item.scope_version) == ("s", "1")


BAD_IDS = [
    ({"trace_id": b""}, {"traceId": ""}, otlp.BAD_TRACE_ID),
    ({"trace_id": b"\1" * 15}, {"traceId": "01" * 15}, otlp.BAD_TRACE_ID),
    ({"trace_id": b"\1" * 17}, {"traceId": "01" * 17}, otlp.BAD_TRACE_ID),
    ({"trace_id": b"\0" * 16}, {"traceId": "00" * 16}, otlp.BAD_TRACE_ID),
    ({"span_id": b""}, {"spanId": None}, otlp.BAD_SPAN_ID),
    ({"span_id": b"\0" * 8}, {"spanId": "not hex"}, otlp.BAD_SPAN_ID),
    ({"parent_span_id": b"\1" * 7}, {"parentSpanId": "abc"}, otlp.BAD_PARENT_ID),
]


@pytest.mark.parametrize(("fields", "text", "reason"), BAD_IDS)
def test_a_span_with_a_bad_id_is_rejected_alone(fields: dict[str, Any], text: dict[str, Any], reason: str) -> None:
    request = span(**fields)
    request.MergeFrom(span())
    from_protobuf = otlp.spans_in(request.SerializeToString())
    assert (len(from_protobuf.items), from_protobuf.rejected) == (1, {reason: 1})
    document = json.loads(as_json(**text))
    document["resourceSpans"] += json.loads(as_json())["resourceSpans"]
    from_json = otlp_json.spans_in(json.dumps(document).encode())
    assert (len(from_json.items), from_json.rejected) == (1, {reason: 1})


def test_a_parent_of_zeros_is_no_parent() -> None:
    assert decoded(parent_span_id=b"\0" * 8).parent_span_id is None
    (item,) = otlp_json.spans_in(as_json(parentSpanId="0" * 16)).items
    assert item.parent_span_id is None


def test_log_records_outside_of_spans_are_skipped_and_bad_ids_rejected() -> None:
    records = [
        {},
        {"trace_id": b"\0" * 16, "span_id": b"\0" * 8},
        {"trace_id": b"\1" * 16},
        {"trace_id": b"\1" * 16, "span_id": b"\2" * 8, "event_name": "gen_ai.choice", "observed_time_unix_nano": 9},
    ]
    request = ExportLogsServiceRequest(resource_logs=[{"scope_logs": [{"log_records": records}]}])
    answer = otlp.events_in(request.SerializeToString())
    assert (answer.skipped, answer.rejected) == (2, {otlp.BAD_SPAN_ID: 1})
    assert [(item.name, item.time) for item in answer.items] == [("gen_ai.choice", 9)]


NOT_OTLP = [
    b"\xef\xbb\xbf{}",
    '{"resourceSpans": []}'.encode("utf-16"),
    b'{"resourceSpans": [\xff]}',
    b"[]",
    b"null",
    b'"text"',
    b"{",
    b'{"resourceSpans": {}}',
    b'{"resourceSpans": [1]}',
    b'{"resourceSpans": [{"scopeSpans": "x"}]}',
    b'{"resourceSpans": [{"resource": []}]}',
    as_json(name=5),
    as_json(traceId=5),
    as_json(kind="SPAN_KIND_CLIENT"),
    as_json(kind=True),
    as_json(kind=-1),
    as_json(startTimeUnixNano="soon"),
    as_json(startTimeUnixNano=-1),
    as_json(startTimeUnixNano=2**64),
    as_json(startTimeUnixNano=1.5),
    as_json(status={"code": "STATUS_CODE_OK"}),
    as_json(attributes={"a": 1}),
    as_json(attributes=[{"key": 1}]),
    as_json(attributes=[{"key": "a", "value": 5}]),
    as_json(attributes=[{"key": "a", "value": {"intValue": "12abc"}}]),
    as_json(attributes=[{"key": "a", "value": {"intValue": 2**63}}]),
    as_json(attributes=[{"key": "a", "value": {"intValue": "1_000"}}]),
    as_json(attributes=[{"key": "a", "value": {"intValue": " 12"}}]),
    as_json(attributes=[{"key": "a", "value": {"intValue": "\N{ARABIC-INDIC DIGIT ONE}"}}]),
    as_json(startTimeUnixNano="\N{ARABIC-INDIC DIGIT ONE}"),
    as_json(attributes=[{"key": "a", "value": {"intValue": 1.5}}]),
    as_json(attributes=[{"key": "a", "value": {"boolValue": "true"}}]),
    as_json(attributes=[{"key": "a", "value": {"bytesValue": "%"}}]),
    as_json(attributes=[{"key": "a", "value": {"doubleValue": "1.5"}}]),
    as_json(attributes=[{"key": "a", "value": {"arrayValue": [1]}}]),
    as_json(attributes=[{"key": "a", "value": {"kvlistValue": 1}}]),
    b'{"resourceSpans": ' + b"[" * 100_000,
    *(b'{"resourceSpans": ' + b"[" * depth + b"]" * depth + b"}" for depth in range(980, 1025)),
    as_json(name="deep").replace(b'"deep"', b'{"a":' * 1000 + b"1" + b"}" * 1000),
    b'{"a": ' + b"9" * 1_000_000 + b"x}",
    b'{"a": NaN}',
]


@pytest.mark.parametrize("body", NOT_OTLP, ids=range(len(NOT_OTLP)))
def test_json_that_is_not_otlp_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(UndecodableSpans) as refusal:
        otlp_json.spans_in(body)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("body", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"not protobuf", b"\x08\x01\x0a"])
def test_bytes_that_are_not_protobuf_are_refused(body: bytes) -> None:
    for decode in (otlp.spans_in, otlp.events_in):
        with pytest.raises(UndecodableSpans):
            decode(body)


def test_json_ignores_what_it_does_not_know_and_takes_the_last_of_two() -> None:
    body = as_json(newField={"deep": [1]}, attributes=[{"key": "a", "value": {"intValue": 1}}] * 2)
    (item,) = otlp_json.spans_in(body.replace(b'"name": "chat"', b'"name": "first", "name": "chat"')).items
    assert (item.name, item.attributes) == ("chat", {"a": 1})


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\ude00 begun", "\ufffd begun"),
        (rb"\uD83D\uD83D\uDE00", "\ufffd\N{GRINNING FACE}"),
        (rb"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (rb"\u0041\ud83d\n", "A\ufffd\n"),
    ],
)
def test_half_an_emoji_that_javascript_left_costs_no_more_than_itself(escaped: bytes, text: str) -> None:
    (item,) = otlp_json.spans_in(as_json(name="X").replace(b'"X"', b'"' + escaped + b'"')).items
    assert item.name == text


def test_twenty_megabytes_of_halves_are_looked_through_once() -> None:
    begin = time.monotonic()
    with pytest.raises(UndecodableSpans):
        otlp_json.spans_in(b'{"a": "' + rb"\ud83d\\" * 2_500_000)
    assert time.monotonic() - begin < 10


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(otlp_json._READ)) | st.sampled_from(["key", "value", "values"]), inner)
    ),
    max_leaves=8,
)
FIELDS = ("traceId", "spanId", "name", "kind", "startTimeUnixNano", "status", "attributes", "events", "parentSpanId")


@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES), attribute=JSON_VALUES)
def test_any_json_is_decoded_or_refused_in_words(fields: dict[str, Any], attribute: Any) -> None:
    for body in (
        as_json(**fields),
        as_json(attributes=[{"key": "a", "value": attribute}]),
        json.dumps(attribute).encode(),
    ):
        with suppress(UndecodableSpans):
            assert len(otlp_json.spans_in(body).items) <= 1


@given(at=st.integers(0, 10_000), put=st.binary(max_size=8), cut=st.integers(0, 8))
def test_any_damage_to_protobuf_is_decoded_or_refused_in_words(at: int, put: bytes, cut: int) -> None:
    whole = TRACES[0].read_bytes()
    at %= len(whole)
    damaged = whole[:at] + put + whole[at + cut :]
    for decode in (otlp.spans_in, otlp.events_in):
        with suppress(UndecodableSpans):
            decode(damaged)
