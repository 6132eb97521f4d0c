"""Frames read back what was written, whole or not at all, whatever happened to the bytes."""

import math
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.exporter.frames import HEADER_SIZE, Kind, encode, parse, span_body, span_of
from spanledger.exporter.spans import SpanData, SpanEvent

MakeSpan = Callable[..., SpanData]


def test_a_span_reads_back_as_it_was(new_span: MakeSpan) -> None:
    span = new_span(
        trace_id=2**128 - 1,
        span_id=2**64 - 1,
        parent_span_id=3,
        attributes={"text": "ü\n", "list": ["a", 1, 2.5, None], "flag": True, "nested": {"k": [1]}},
        events=[SpanEvent("exception", 5, {"exception.type": "ValueError"})],
        status_code=2,
        status_message="no",
    )
    assert span_of(span_body(span)) == span
    assert span_of(span_body(span._replace(end_time=None))).end_time is None


def test_values_no_database_takes_are_made_safe_and_the_span_is_kept(new_span: MakeSpan) -> None:
    hostile = {"surrogate": "a\ud83e", "huge": 2**80, "bytes": b"\xff", "tuple": (1, 2), "nan": math.nan}
    span = span_of(span_body(new_span(name="\ud800", attributes=hostile)))
    assert span.name == "\ufffd"
    assert span.attributes["huge"] == str(2**80)
    assert span.attributes["surrogate"] == "a\ufffd"
    assert span.attributes["tuple"] == [1, 2]


@given(st.lists(st.binary(max_size=300), max_size=20), st.binary(max_size=40))
def test_frames_before_a_torn_tail_are_all_read(bodies: list[bytes], tail: bytes) -> None:
    data = b"".join(encode(Kind.END, body) for body in bodies)
    parsed = parse(data + encode(Kind.END, b"torn")[:-1])
    assert [frame.body for frame in parsed.frames] == bodies
    assert parsed.torn == HEADER_SIZE + 3
    assert [f.body for f in parse(data + tail).frames][: len(bodies)] == bodies


@settings(max_examples=300, deadline=None)
@given(st.integers(), st.integers(1, 8))
def test_flipped_bits_cost_only_the_frames_they_hit(seed: int, flips: int) -> None:
    chance = random.Random(seed)
    bodies = [chance.randbytes(chance.randrange(200)) for _ in range(30)]
    data = bytearray(b"".join(encode(Kind.END, body) for body in bodies))
    hit = set()
    for _ in range(flips):
        position = chance.randrange(len(data))
        data[position] ^= 1 << chance.randrange(8)
        hit.add(_frame_at(bodies, position))
    kept = [frame.body for frame in parse(bytes(data)).frames]
    intact = [body for number, body in enumerate(bodies) if number not in hit]
    assert _contains(kept, intact)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_a_foreign_file_is_read_to_its_end(data: bytes) -> None:
    parsed = parse(data)
    consumed = sum(HEADER_SIZE + len(frame.body) for frame in parsed.frames)
    assert consumed + parsed.damaged + parsed.torn == len(data)


def _frame_at(bodies: list[bytes], position: int) -> int:
    end = 0
    for number, body in enumerate(bodies):
        end += HEADER_SIZE + len(body)
        if position < end:
            return number
    raise AssertionError(position)


def _contains(kept: list[Any], intact: list[Any]) -> bool:
    remaining = iter(kept)
    return all(any(body == other for other in remaining) for body in intact)
