"""Spans made by hand, and processes that left them in a spool."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spanledger.exporter.frames import Kind, span_body
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.spool import Spool

from .world import World


class Producer:
    """A process's end of a spool, with spans in it; it can vanish as a killed process does."""

    def __init__(self, folder: Path, spans: Sequence[SpanData]) -> None:
        self.spool = Spool(folder)
        for span in spans:
            self.spool.append(Kind.START if span.end_time is None else Kind.END, span_body(span))

    def seal(self) -> None:
        self.spool.seal()

    def vanish(self) -> None:
        """All its files closed by the kernel, nothing sealed."""
        self.spool._restart()


class NewSpans:
    """Makes spans, each of a trace of its own unless told otherwise; any field can be given."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def call(self, **fields: Any) -> SpanData:
        number = next(self._numbers)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": number,
            "gen_ai.usage.output_tokens": 1,
        }
        return self._span(number, "chat gpt-4o", attributes | fields.pop("attributes", {}), fields)

    def execution(self, **fields: Any) -> SpanData:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
        return self._span(next(self._numbers), "invoke_agent planner", attributes, fields)

    def producer(self, world: World, spans: Sequence[SpanData]) -> Producer:
        return Producer(world.spool_folder, spans)

    def _span(self, number: int, name: str, attributes: dict[str, Any], fields: dict[str, Any]) -> SpanData:
        now = time.time_ns() - 10**9
        span = SpanData(
            trace_id=2**100 + number,
            span_id=number,
            parent_span_id=None,
            name=name,
            kind=3,
            start_time=now,
            end_time=now + 10**8,
            status_code=0,
            status_message=None,
            attributes=attributes,
            events=[],
            resource=Resource("shop", "test"),
            scope="faults",
            scope_version="1",
            dropped_attributes=0,
        )
        return span._replace(**fields)
