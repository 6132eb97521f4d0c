"""Rows to store, and ways to look at what is stored."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from spanledger.exporter.nodes import default_execution_id
from spanledger.exporter.records import Batch, Bridge, Content, Execution, LLMCall
from spanledger.exporter.schema import bridge_spans, content_events, execution_logs, llm_call_logs, tombstones
from spanledger.exporter.spans import row_id_of
from spanledger.exporter.store import Store

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TABLES = (execution_logs, llm_call_logs, bridge_spans, content_events)


class Rows:
    """Makes whole rows from what matters to a test. Spans and traces are numbers; span 1 of a trace is its root."""

    noon = NOON

    def id(self, trace: int, span: int) -> str:
        return row_id_of(f"{trace:032x}", f"{span:016x}")

    def execution(self, trace: int = 1, span: int = 1, parent: int | None = None, **columns: Any) -> Execution:
        own = {"agent_type": "planner", "execution_step": "plan"}
        return Execution(**self._row(Execution, trace, span, parent) | own | columns)

    def call(self, trace: int = 1, span: int = 2, parent: int | None = 1, **columns: Any) -> LLMCall:
        own = {
            "provider": "openai",
            "model_id": "gpt-4",
            "call_type": "inference",
            "counted": True,
            "is_streaming": False,
        }
        return LLMCall(**self._row(LLMCall, trace, span, parent) | own | columns)

    def bridge(self, trace: int = 1, span: int = 3, parent: int | None = 1) -> Bridge:
        return Bridge(**self._row(Bridge, trace, span, parent))

    def content(self, trace: int = 1, span: int = 2, number: int = 1, **columns: Any) -> Content:
        own = {
            "id": f"00000000-0000-0000-{span:04x}-{number:012x}",
            "name": "gen_ai.user.message",
            "time": NOON,
            "body": '{"attributes": {}, "body": {"content": "What is AI?"}}',
            "scope": None,
        }
        return Content(**self._row(Content, trace, span, None) | own | columns)

    def run(self, trace: int = 1, calls: int = 3) -> Batch:
        """An agent's execution with *calls* beneath it."""
        return Batch([self.execution(trace)], [self.call(trace, 2 + n, total_cost=0.25) for n in range(calls)])

    def _row(self, kind: Any, trace: int, span: int, parent: int | None) -> dict[str, Any]:
        trace_id = f"{trace:032x}"
        values = {
            "id": self.id(trace, span),
            "execution_id": default_execution_id(trace_id),
            "trace_id": trace_id,
            "span_id": f"{span:016x}",
            "parent_span_id": None if parent is None else f"{parent:016x}",
            "name": "a span",
            "status": "completed",
            "start_time": NOON + timedelta(seconds=span),
            "end_time": NOON + timedelta(seconds=span + 1),
            "duration_ms": 1000,
            "sanitized": False,
        }
        return {name: values.get(name) for name in kind._fields}


@pytest.fixture
def rows() -> Rows:
    return Rows()


Contents = dict[str, list[dict[str, Any]]]


@pytest.fixture
def dump() -> Callable[[Store], Contents]:
    """Every row of every table, but for when it was written."""

    def dump(store: Store) -> Contents:
        with store.reading() as connection:
            return {
                table.name: [
                    {name: value for name, value in row._mapping.items() if name not in ("created_at", "updated_at")}
                    for row in connection.execute(select(table).order_by(table.c.id))
                ]
                for table in TABLES
            }

    return dump


@pytest.fixture
def counts() -> Callable[[Store], dict[str, int]]:
    """How many rows each table has."""

    def counts(store: Store) -> dict[str, int]:
        with store.reading() as connection:
            return {
                table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                for table in (*TABLES, tombstones)
            }

    return counts
