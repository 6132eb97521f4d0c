"""Golden traces: what real instrumentations emitted, and the rows that must come of it.

``golden/<producer>/<scenario>.otlp.pb`` (and ``.logs.otlp.pb`` where it emitted log records) are recordings, found by
themselves. ``.rows.json`` beside them holds the rows; whoever adds a recording writes it with

    pytest tests/dialects/test_golden.py --write-golden

and reads it line by line against what the provider really did.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from spanledger.exporter.lineage import Family, settle
from spanledger.exporter.mapping import map_events, map_spans
from spanledger.exporter.records import Batch, Execution, LLMCall
from spanledger.exporter.spans import NO_ATTRIBUTES, Attributes, Resource, SpanData, SpanEvent
from spanledger.query_api.receivers.otlp import events_in, spans_in

JSON_COLUMNS: Final = frozenset(("input_data", "output_data", "metadata", "usage_raw", "prompt", "response"))
LEFT_OUT: Final = frozenset(
    ("id", "trace_id", "span_id", "parent_span_id", "start_time", "end_time", "execution_id", "error_stacktrace")
)
"""Columns that say when and under which id, or are too long to read."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the rows of golden traces instead of comparing")


def settled(spans: list[SpanData]) -> Batch:
    """The rows of *spans* as they would stand in an empty database."""
    return settle(map_spans(spans).batch, Family()).batch


def readable_rows(recording: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows a recorded trace becomes, in order of time, links as names of rows, empty columns left out."""
    batch = map_spans(spans_in(recording.read_bytes()).items).batch
    logs = recording.with_name(recording.name.replace(".otlp.pb", ".logs.otlp.pb"))
    if logs.exists():
        batch = batch._replace(contents=map_events(events_in(logs.read_bytes()).items))
    rows = settle(batch, Family()).batch
    all_rows: list[Execution | LLMCall] = [*rows.executions, *rows.llm_calls]
    names = {row.id: row.name for row in all_rows}
    return {
        "executions": [_readable(row, names) for row in _in_order(rows.executions)],
        "llm_calls": [_readable(row, names) for row in _in_order(rows.llm_calls)],
    }


def _in_order(rows: Any) -> list[Execution | LLMCall]:
    return sorted(rows, key=lambda row: (row.start_time, row.span_id))


def _readable(row: Execution | LLMCall, names: Mapping[str, str]) -> dict[str, Any]:
    columns = {name: value for name, value in row._asdict().items() if name not in LEFT_OUT and value is not None}
    for name in JSON_COLUMNS & columns.keys():
        columns[name] = _decoded(columns[name])
    for name in ("parent_id", "execution_log_id"):
        if name in columns:
            columns[name] = names.get(columns[name], columns[name])
    if (reason := columns.get("not_counted_reason", "")).startswith("duplicate_of:"):
        columns["not_counted_reason"] = f"duplicate_of:{names[reason.removeprefix('duplicate_of:')]}"
    return columns


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.fixture
def golden_rows() -> Callable[[Path], dict[str, list[dict[str, Any]]]]:
    return readable_rows


@pytest.fixture
def a_span() -> Callable[..., SpanData]:
    """Makes a finished span of given attributes; ids count up, so that several make a trace."""
    made = 0

    def make(
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        name: str = "span",
        scope: str = "",
        parent: SpanData | None = None,
        events: tuple[SpanEvent, ...] = (),
        status_code: int = 0,
        duration_ms: int = 1_000,
    ) -> SpanData:
        nonlocal made
        made += 1
        start = 1_800_000_000_000_000_000 + made * 1_000_000
        return SpanData(
            trace_id=7,
            span_id=made,
            parent_span_id=None if parent is None else parent.span_id,
            name=name,
            kind=1,
            start_time=start,
            end_time=start + duration_ms * 1_000_000,
            status_code=status_code,
            status_message=None,
            attributes=attributes,
            events=events,
            resource=Resource(),
            scope=scope,
            scope_version="",
            dropped_attributes=0,
        )

    return make


@pytest.fixture
def call_of() -> Callable[..., LLMCall]:
    """The only counted call that spans become."""

    def only(*spans: SpanData) -> LLMCall:
        [call] = [call for call in settled(list(spans)).llm_calls if call.counted]
        return call

    return only


@pytest.fixture
def executions_of() -> Callable[..., list[Execution]]:
    def executions(*spans: SpanData) -> list[Execution]:
        return list(settled(list(spans)).executions)

    return executions
