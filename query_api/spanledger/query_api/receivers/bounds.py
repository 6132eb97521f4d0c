"""How much a body would become, told before it is decoded: two bytes of it can be an object of fifty.

What counts is what a decoder makes an object or an entry of. A body that is too short to hold more than is allowed,
which is nearly every one, costs one comparison.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor

from spanledger.exporter.errors import UndecodableSpans

from ..problems import BodyTooLarge

MAX_FIELDS: Final = 1_000_000
"""Fields of one body, nested ones included. An attribute is four."""
MAX_ITEMS: Final = 50_000
"""Spans or log records of one body."""

Shape = Mapping[int, "Shape"]
"""The message fields of a message type, by number, each with the shape of its own type."""

_VARINT: Final = 0
_LENGTH: Final = 2
_FIXED: Final[Mapping[int, int]] = {1: 8, 5: 4}
"""Protobuf's wire types: a varint, a length and so many bytes, and the bytes of those that need no length."""

_OPENING: Final = (b"{", b"[", b",")
_TEXT: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string of JSON, or one that never ends: looking for its end from each of its quotes would take for ever."""


def shape_of(message: Descriptor, known: dict[str, dict[int, Shape]] | None = None) -> Shape:
    """The `Shape` of a message type; of one that contains itself, too."""
    known = {} if known is None else known
    if message.full_name not in known:
        shape = known[message.full_name] = {}
        shape |= {field.number: shape_of(field.message_type, known) for field in message.fields if field.message_type}
    return known[message.full_name]


def check_items(counts: Iterable[int]) -> None:
    """Raise `BodyTooLarge` if a body whose parts hold so many spans or records holds too many of them."""
    if sum(counts) > MAX_ITEMS:
        raise BodyTooLarge(f"The body holds more than {MAX_ITEMS:,} spans or log records; send smaller batches.")


def check_protobuf(body: bytes, shape: Shape) -> None:
    """Raise `BodyTooLarge` if *body*, a message of *shape*, has too many fields, `UndecodableSpans` if it is cut."""
    if len(body) <= 2 * MAX_FIELDS:  # the shortest field has a byte that says which it is, and one of content
        return
    fields = 0
    rest = [(0, len(body), shape)]  # the message at hand and those it lies in, each from where it is yet to be read
    try:
        while rest:
            position, end, inner = rest.pop()
            while position < end:
                fields += 1
                if fields > MAX_FIELDS:
                    raise _too_many()
                tag = body[position]
                position += 1
                if tag & 0x80:
                    tag, position = _varint(body, position - 1)
                wire = tag & 7
                if wire == _LENGTH:
                    size = body[position]
                    position += 1
                    if size & 0x80:
                        size, position = _varint(body, position - 1)
                    nested = inner.get(tag >> 3)
                    if nested is None or not size:
                        position += size
                        continue
                    rest.append((position + size, end, inner))
                    end, inner = position + size, nested
                elif wire == _VARINT:
                    _, position = _varint(body, position)
                else:
                    position += _FIXED.get(wire, 0)
            if position > end:
                raise IndexError
    except IndexError:
        raise UndecodableSpans("The body is no protobuf message: it is cut off.") from None


def check_json(body: bytes) -> None:
    """Raise `BodyTooLarge` if *body* has too many fields, whether or not it is JSON at all."""
    if sum(map(body.count, _OPENING)) <= MAX_FIELDS:
        return
    # Prompts are full of commas: now count only those outside of strings.
    fields = position = 0
    for texts, text in enumerate(_TEXT.finditer(body)):
        fields += sum(body.count(opening, position, text.start()) for opening in _OPENING)
        if fields > MAX_FIELDS or texts > 2 * MAX_FIELDS:
            raise _too_many()
        position = text.end()
    if fields + sum(body.count(opening, position) for opening in _OPENING) > MAX_FIELDS:
        raise _too_many()


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := body[position]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if shift > 63:
            raise IndexError
    return value | byte << shift, position + 1


def _too_many() -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {MAX_FIELDS:,} fields; send smaller batches.")
