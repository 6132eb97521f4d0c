"""Bounds on what one row may hold: a value that is too long keeps its head, its tail, its length and its SHA-256."""

import hashlib
from typing import Final, TypeVar

from .records import Execution, LLMCall
from .values import json_text

Row = TypeVar("Row", Execution, LLMCall)

DOCUMENTS: Final = ("input_data", "output_data", "prompt", "response", "metadata", "usage_raw")
"""Columns that hold JSON, or may: cut, they become a JSON object that says so."""
TEXTS: Final = ("error_message", "error_stacktrace")
NAMES_LIMIT: Final = 1024
"""Characters of a name (span, model, agent, id …)."""


def bounded(row: Row, limit: int) -> Row:
    """*row* with no value longer than *limit* bytes, marked ``sanitized`` if one was. Most rows are returned as is."""
    if all(len(value) <= NAMES_LIMIT for value in row if type(value) is str):
        return row
    cut = {
        name: shorter
        for name, value in zip(row._fields, row, strict=True)
        if type(value) is str and (shorter := _shortened(name, value, limit)) is not value
    }
    return row._replace(**cut, sanitized=True) if cut else row  # type: ignore[arg-type]


def _shortened(name: str, value: str, limit: int) -> str:
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
