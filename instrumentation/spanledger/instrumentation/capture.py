"""Safe, bounded serialisation of anything a user passes in: JSON text of a known size, and never an exception.

What JSON cannot say is said in words: NaN as ``"NaN"``, a NUL character as ``␀``, half a surrogate pair as U+FFFD, an
integer beyond 64 bits as its decimal digits, a cycle or an unreadable object as a short note in square brackets.
"""

import base64
import codecs
import dataclasses
import json
import math
import re
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from json.encoder import encode_basestring as quote
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

MAX_BYTES: Final = 256 * 1024
"""Largest value kept whole, in bytes of UTF-8; of a longer one the head and the tail are kept."""
MAX_DEPTH: Final = 32
MAX_NODES: Final = 10_000
MIN_BYTES: Final = 256
"""Smallest limit of `as_json`: room for the notes that say what was left out."""

_INT64: Final = range(-(2**63), 2**63)
_LONGEST_KEY_BYTES: Final = 1024
_NOTE_BYTES: Final = 96
"""More than any note takes, with its quotes, its comma and the bracket that closes its container."""
_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")


def as_json(value: object, limit: int = MAX_BYTES) -> str:
    """*value* as JSON text of at most *limit* (at least `MIN_BYTES`) bytes of UTF-8.

    Never raises, consumes no iterator, follows no cycle. When the whole does not fit, long strings keep their head and
    tail and say how much was cut, so that what stands behind them still finds room.
    """
    limit = max(limit, MIN_BYTES)
    try:
        try:
            return _Writer(limit, thrifty=False).text_of(value)
        except _TooBig:
            return _Writer(limit, thrifty=True).text_of(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the stack may be exhausted before we begin
        return f'"[unreadable: {type(error).__name__:.40}]"'


def as_text(value: object, limit: int = MAX_BYTES) -> str:
    """*value* as plain text of at most *limit* bytes of UTF-8: a string as it is, anything else as JSON."""
    if not isinstance(value, str):
        return as_json(value, limit)
    text = str.__str__(value)  # a subclass may have ideas of its own
    if len(text) <= limit and _size(clean := _clean(text)) <= limit:
        return clean
    return _cut(text, limit, str)


class _TooBig(Exception):
    """The value does not fit as a whole."""


class _Writer:
    """Writes one value into at most *limit* bytes.

    Thrifty, it never overdraws: a container pays for its brackets and its note in advance, and a string takes at most
    half of the room that is left. Not thrifty, it gives up with `_TooBig`.
    """

    def __init__(self, limit: int, *, thrifty: bool) -> None:
        self._room = limit
        self._thrifty = thrifty
        self._nodes = MAX_NODES
        self._pieces: list[str] = []
        self._path: list[int] = []

    def text_of(self, value: object) -> str:
        self._value(value)
        return "".join(self._pieces)

    def _value(self, value: object) -> None:
        pieces, room, depth = len(self._pieces), self._room, len(self._path)
        try:
            self._write(value)
        except (_TooBig, KeyboardInterrupt):
            raise
        except BaseException as error:  # hostile code of any kind, even SystemExit in a __repr__
            del self._pieces[pieces:]
            del self._path[depth:]
            self._room = room
            self._note(f"unreadable: {type(error).__name__:.40}")

    def _write(self, value: Any) -> None:
        self._nodes -= 1
        kind = type(value)
        if kind is str:
            self._string(value)
        elif value is None:
            self._put("null")
        elif kind is bool:
            self._put("true" if value else "false")
        elif kind is int:
            self._put(str(value)) if value in _INT64 else self._string(_digits(value))
        elif kind is float:
            self._put(repr(value)) if math.isfinite(value) else self._string(_UNREAL.get(value, "NaN"))
        else:
            self._object(value, kind)

    def _object(self, value: Any, kind: type) -> None:
        if kind is not dict and kind is not list:
            for types, plain in _PLAIN:
                if issubclass(kind, types):
                    return self._write(plain(value))
            if hasattr(kind, "tolist") and hasattr(kind, "shape") and value.size <= MAX_NODES:  # what NumPy makes
                return self._write(value.tolist())
        names = None if kind is dict or kind is list else _field_names(kind)
        is_mapping = names is not None or issubclass(kind, Mapping)
        if not is_mapping and not issubclass(kind, _COLLECTIONS):
            return self._string(_ADDRESS.sub("", repr(value)))
        if id(value) in self._path:
            return self._note("cycle")
        if len(self._path) >= MAX_DEPTH:
            return self._note(f"deeper than {MAX_DEPTH} levels")
        self._path.append(id(value))
        if is_mapping:
            pairs = value.items() if names is None else ((name, getattr(value, name, None)) for name in names)
            self._members("{", pairs, self._pair, ':""}')
        else:
            self._members("[", value, self._value, "]")
        self._path.pop()
        return None

    def _members(self, opening: str, members: Iterable[Any], write: Callable[[Any], None], cut: str) -> None:
        self._pay(_NOTE_BYTES)
        self._pieces.append(opening)
        if isinstance(members, _CHANGEABLE):  # another thread may be changing it
            members = list(islice(members, self._nodes + 1))
        for count, member in enumerate(members):
            if count:
                self._put(",")
            if self._nodes <= 0 or self._is_narrow():
                self._pieces.append(f'"[cut after {count} members]"{cut}')
                return
            write(member)
        self._pieces.append(cut[-1])

    def _pair(self, pair: tuple[object, object]) -> None:
        key, value = pair
        pieces, room = len(self._pieces), self._room
        self._string(key if type(key) is str else _key(key))
        if self._is_narrow():  # the key took the room of its value
            del self._pieces[pieces:]
            self._room = room
            self._note("long key")
        self._put(":")
        self._value(value)

    def _string(self, text: str) -> None:
        allowed = max(self._room // 2, _NOTE_BYTES) if self._thrifty else self._room
        if len(text) <= allowed and (size := _size(quoted := quote(_clean(text)))) <= allowed:
            self._room -= size
            self._pieces.append(quoted)
        elif self._thrifty:
            quoted = _cut(text, allowed, quote)
            self._room -= _size(quoted)
            self._pieces.append(quoted)
        else:
            raise _TooBig

    def _note(self, ascii_text: str) -> None:
        self._put(f'"[{ascii_text}]"')

    def _put(self, ascii_text: str) -> None:
        self._pay(len(ascii_text))
        self._pieces.append(ascii_text)

    def _pay(self, size: int) -> None:
        self._room -= size
        if self._room < 0 and not self._thrifty:
            raise _TooBig

    def _is_narrow(self) -> bool:
        return self._thrifty and self._room < 2 * _NOTE_BYTES


def _clean(text: str) -> str:
    """*text* without what databases refuse: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "␀")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # two halves that belong together become their character
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _cut(text: str, limit: int, render: Callable[[str], str]) -> str:
    """As much of the head and tail of *text* as *render* fits into *limit* bytes, and how much was cut."""
    keep = limit
    while True:
        note = f"…[{len(text) - keep} characters cut]…"
        rendered = render(_clean(text[: keep - keep // 2] + note + text[len(text) - keep // 2 :]))
        size = _size(rendered)
        if size <= limit or keep <= 0:
            return rendered
        keep = max(0, min(keep * limit // size, keep - 1, len(text)))


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to print more than 4,300 digits in decimal
        return hex(value)


def _bytes(value: bytes | bytearray | memoryview) -> str:
    whole = memoryview(value).cast("B")
    head = bytes(whole[:MAX_BYTES])
    rest = f"…[{len(whole) - len(head)} bytes cut]" if len(head) < len(whole) else ""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=not rest) + rest
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(head).decode() + rest


def _exception(value: BaseException) -> str:
    return f"{type(value).__qualname__}: {value}"


def _class(value: type) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _key(key: object) -> str:
    text = as_json(key, _LONGEST_KEY_BYTES)
    return json.loads(text) if text.startswith('"') else text


def _field_names(kind: Any) -> Iterable[str] | None:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, tuple):
        return getattr(kind, "_fields", None)
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return [attribute.name for attribute in attributes]
    return getattr(kind, "__pydantic_fields__", None) or getattr(kind, "__struct_fields__", None)


_COLLECTIONS: Final = (list, tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView)
_CHANGEABLE: Final[tuple[type, ...]] = (list, set, deque, type({}.items()))
_UNREAL: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}

_PLAIN: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...]] = (
    (Enum, lambda value: value.value),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), _bytes),
    ((date, time), lambda value: value.isoformat()),
    ((Decimal, Fraction, UUID, PurePath, timedelta, complex), str),
    (BaseException, _exception),
    (type, _class),
)
"""Types that become a string or a number, most special first, and how."""
