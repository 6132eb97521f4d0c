"""Calls by whatever name someone has at hand, and the names of rows they refer to."""

import re
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Select, or_, select

from spanledger.exporter.schema import llm_call_logs

from .rows import MAX_ROWS

NAMES: Final = "the id of a call (a UUID), of a span (16 hexadecimal digits) or of a trace (32)"


def called(name: str) -> Select[Any]:
    """The calls of that id, span id or trace id, oldest first. Raises `ValueError` if it cannot be any of them."""
    columns = llm_call_logs.c
    text = name.strip().lower()
    if re.fullmatch("[0-9a-f]{16}", text):
        wanted = columns.span_id == text
    else:
        wanted = columns.id == str(UUID(text))
        if re.fullmatch("[0-9a-f]{32}", text):
            wanted = or_(wanted, columns.trace_id == text)
    return select(llm_call_logs).where(wanted).order_by(columns.start_time, columns.id).limit(MAX_ROWS)


def names_of(ids: Collection[str]) -> Select[str, str]:
    """The ids of calls that are still there, with their names."""
    key: Column[str] = llm_call_logs.c.id
    return select(key, llm_call_logs.c.name).where(key.in_(ids))
