"""What every database takes: text without NUL or lone surrogates, and of a bounded length.

A value that is too long keeps its head, its tail, its length and its SHA-256.
"""

import hashlib
from operator import attrgetter
from typing import Final, TypeVar

from .records import Execution, LLMCall, revised
from .values import is_clean, json_text, sanitize

Row = TypeVar("Row", Execution, LLMCall)

MAX_VALUE_BYTES: Final = 256 * 1024
TEXTS: Final = ("error_message", "error_stacktrace")
DOCUMENTS: Final = ("input_data", "output_data", "prompt", "response", "metadata", "usage_raw")
"""Columns that hold JSON, or may: cut, they become a JSON object that says so."""
NAMES_LIMIT: Final = 1024
"""Characters of a name (span, model, agent, id …)."""
_LONG: Final = {
    table: attrgetter(*(name for name in table._fields if name in DOCUMENTS + TEXTS)) for table in (Execution, LLMCall)
}


def storable(row: Row, limit: int) -> Row:
    """*row* with what no database takes replaced and no value longer than *limit* bytes, marked ``sanitized`` if so.

    One look at all of its text together lets nearly every row pass: where that is short, so is each value.
    """
    whole = "\n".join([value for value in row if type(value) is str])
    if is_clean(whole) and len(whole) * 4 <= limit and _names_are_short(row, len(whole)):
        return row
    changed = {
        name: taken
        for name, value in zip(row._fields, row, strict=True)
        if type(value) is str and (taken := _taken(name, value, limit)) is not value
    }
    return revised(row, {**changed, "sanitized": True}) if changed else row


def _names_are_short(row: Row, length: int) -> bool:
    """Whether no name in *row*, all of whose text is *length* characters long, can be longer than `NAMES_LIMIT`."""
    return length <= NAMES_LIMIT or length - sum(map(len, filter(None, _LONG[type(row)](row)))) <= NAMES_LIMIT


def _taken(name: str, value: str, limit: int) -> str:
    if not is_clean(value):
        value = sanitize(value)
    if name in DOCUMENTS:
        return _document(value, limit)
    return _text(value, limit if name in TEXTS else NAMES_LIMIT)


def _document(value: str, limit: int) -> str:
    if len(value) * 4 <= limit:
        return value
    data = value.encode()
    if len(data) <= limit:
        return value
    keep = limit // 3  # head and tail may grow when they are escaped as JSON text
    return json_text(
        {
            "truncated": True,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "head": data[:keep].decode(errors="ignore"),
            "tail": data[-keep:].decode(errors="ignore"),
        }
    )


def _text(value: str, limit: int) -> str:
    if len(value) <= limit:
        return value
    keep = (limit - 40) // 2
    return f"{value[:keep]} … {len(value) - 2 * keep} characters cut … {value[-keep:]}"
