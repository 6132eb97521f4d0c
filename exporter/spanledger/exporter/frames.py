"""Frames: what stands in a spool segment. Each is whole or is not there.

::

    magic (4) | kind (1) | length (4) | crc32 of kind, length and body (4) | body

A process that dies while writing leaves at most one torn frame at the end of its own file; a bad disk leaves frames
whose checksum fails. Reading skips both and goes on with the next magic, so that neither costs its neighbours.
"""

import struct
import zlib
from enum import IntEnum
from typing import Any, Final, NamedTuple

import orjson

from .spans import Resource, SpanData, SpanEvent
from .values import plain

MAGIC: Final = b"\xf5SL1"  # 0xf5 never stands in UTF-8, so never in a body
_HEADER: Final = struct.Struct("<4sBII")
HEADER_SIZE: Final = _HEADER.size
MAX_BODY: Final = 64 * 1024 * 1024
"""A longer frame is taken for a damaged length."""
MAX_SPAN: Final = 8 * 1024 * 1024
"""Bytes of one span; attributes that no longer fit are left out, and count as dropped."""
MAX_TEXT: Final = 1024 * 1024
"""Characters of one attribute; a longer one keeps head and tail: no value shall stall the thread that ends a span."""


class Kind(IntEnum):
    """What a frame says."""

    START = 1
    """A span has begun: its `SpanData` without an end."""
    END = 2
    """A span has ended."""


class Frame(NamedTuple):
    kind: int
    body: bytes


class Parsed(NamedTuple):
    """The whole frames of a segment, and how many bytes between and after them were none."""

    frames: list[Frame]
    damaged: int
    torn: int


def encode(kind: Kind, body: bytes) -> bytes:
    """One frame, to be written by one call."""
    length = len(body)
    return b"".join((_HEADER.pack(MAGIC, kind, length, _checksum(kind, length, body)), body))


def parse(data: bytes) -> Parsed:
    """All frames of *data*. Never raises and always ends: damage is skipped to the next magic."""
    frames: list[Frame] = []
    damaged = offset = 0
    end = len(data)
    while offset + HEADER_SIZE <= end:
        magic, kind, length, checksum = _HEADER.unpack_from(data, offset)
        start = offset + HEADER_SIZE
        if magic == MAGIC and length <= MAX_BODY and start + length <= end:
            body = data[start : start + length]
            if _checksum(kind, length, body) == checksum:
                frames.append(Frame(kind, body))
                offset = start + length
                continue
        found = data.find(MAGIC, offset + 1)
        if found < 0:
            return Parsed(frames, damaged, end - offset)
        damaged += found - offset
        offset = found
    return Parsed(frames, damaged, end - offset)


def span_body(span: SpanData) -> bytes:
    """A span as a frame's body: JSON, made safe only when it has to be (surrogates, huge integers), and bounded."""
    for value in span.attributes.values():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            span = span._replace(attributes={name: _shortened(value) for name, value in span.attributes.items()})
            break
    body = _dumps(_document(span))
    return body if len(body) <= MAX_SPAN else _dumps(_document(_reduced(span)))


def span_of(body: bytes) -> SpanData:
    """The span of a frame's body."""
    trace_id, span_id, parent, *rest = orjson.loads(body)
    rest[7] = [SpanEvent(*event) for event in rest[7]]
    rest[8] = Resource(*rest[8])
    return SpanData(int(trace_id, 16), int(span_id, 16), int(parent, 16) if parent else None, *rest)


def ids_in(body: bytes) -> bytes:
    """The part of a frame's body that names its span: the same when it begins and when it ends, without decoding."""
    return body[: body.find(b",", body.find(b",") + 1)]


def _document(span: SpanData) -> list[Any]:
    return [
        f"{span.trace_id:x}",
        f"{span.span_id:x}",
        f"{span.parent_span_id:x}" if span.parent_span_id else None,
        *span[3:10],
        [tuple(event) for event in span.events],
        tuple(span.resource),  # orjson takes tuples, not NamedTuples
        *span[12:],
    ]


def _dumps(document: Any) -> bytes:
    try:
        return orjson.dumps(document, default=_attribute, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(plain(document))


def _shortened(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= MAX_TEXT:
        return value
    keep = MAX_TEXT // 4
    return f"{value[:keep]} … {len(value) - 2 * keep} characters cut … {value[-keep:]}"


def _reduced(span: SpanData) -> SpanData:
    """*span* with as many of its attributes, in their order, as fit, and without its events."""
    kept, room = {}, MAX_SPAN
    for name, value in span.attributes.items():
        if (size := len(_dumps(value))) <= room:
            kept[name] = value
            room -= size
    return span._replace(
        name=_shortened(span.name),
        status_message=_shortened(span.status_message),
        attributes=kept,
        events=[],
        dropped_attributes=span.dropped_attributes + len(span.attributes) - len(kept),
    )


def _checksum(kind: int, length: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<BI", kind, length)))


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple | list):
        return list(value)
    return dict(value)  # BoundedAttributes and other mappings; what is none raises and takes the careful way
