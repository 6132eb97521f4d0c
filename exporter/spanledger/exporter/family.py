"""Reads a family: the rows that already stand and may matter to how others are settled.

`lineage.Family` says which traces belong to it. Every trace is locked before it is read, so that no other writer
settles the same rows from another view of them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, select

from .backends import Backend
from .counting import SLACK
from .lineage import LINK_WINDOW, CallNode, ExecutionNode, Family
from .records import Bridge, Content, LLMCall
from .schema import bridge_spans, content_events, execution_logs, llm_call_logs

MOST_ROUNDS: Final = 4
"""How many links away a trace may be. A server that gives every response the same id would link all of them."""

Node = TypeVar("Node", ExecutionNode, CallNode, Bridge, Content)


class Sighting(NamedTuple):
    """What of a call tells whether it may show the same request as a call of another trace."""

    trace_id: str
    parent_span_id: str | None
    scope: str | None
    response_id: str | None
    start_time: datetime
    end_time: datetime | None
    input_tokens: int | None
    output_tokens: int | None

    @property
    def tokens(self) -> tuple[int | None, int | None] | None:
        return (self.input_tokens, self.output_tokens) if self.input_tokens or self.output_tokens else None

    @property
    def latest(self) -> datetime:
        """When it ended, as far as links reach: a call that runs, or ran very long, is linked to those of its start."""
        reach = self.start_time + LINK_WINDOW
        return reach if self.end_time is None else min(self.end_time, reach)


def read_family(connection: Connection, backend: Backend, traces: Iterable[str], calls: Iterable[LLMCall]) -> Family:
    """The family of *traces*, to which new *calls* come. Inside a write transaction, until whose end its locks hold."""
    new = set(traces)
    sightings = [_sighting(call) for call in calls]
    # A call without a parent may have its twin in any trace, also in one that another writer has not committed yet.
    roots = any(sighting.parent_span_id is None for sighting in sightings)
    backend.lock(connection, {*new, *(s.response_id for s in sightings if s.response_id)}, alone=roots)
    family, known = Family(), set[str]()
    for _ in range(MOST_ROUNDS):
        known |= new
        found = _standing(connection, backend, new)
        family = Family(
            [*family.executions, *found.executions],
            [*family.llm_calls, *found.llm_calls],
            [*family.bridges, *found.bridges],
            [*family.contents, *found.contents],
        )
        sightings += [_sighting(call) for call in found.llm_calls]
        new = _linked(connection, backend, sightings) - known
        if not new:
            break
        backend.lock(connection, new)
        sightings = []
    return family


def _standing(connection: Connection, backend: Backend, traces: Collection[str]) -> Family:
    def read(table: Table, kind: type[Node]) -> list[Node]:
        columns = [_column(table, name) for name in kind._fields]
        rows = connection.execute(select(*columns).where(backend.among(table.c.trace_id, traces)))
        return [kind(*row) for row in rows]

    return Family(
        read(execution_logs, ExecutionNode),
        read(llm_call_logs, CallNode),
        read(bridge_spans, Bridge),
        read(content_events, Content),
    )


def _column(table: Table, name: str) -> ColumnElement[Any]:
    if name.startswith("has_"):
        return table.c[name.removeprefix("has_")].is_not(None).label(name)
    return table.c[name]


def _sighting(call: Any) -> Sighting:
    return Sighting(*(getattr(call, name) for name in Sighting._fields))


def _linked(connection: Connection, backend: Backend, calls: Sequence[Sighting]) -> set[str]:
    """The traces with a call that may show the same request as one of *calls*."""
    return _same_response(connection, backend, calls) | _twins(connection, calls)


def _same_response(connection: Connection, backend: Backend, calls: Sequence[Sighting]) -> set[str]:
    by_response: dict[str, list[Sighting]] = defaultdict(list)
    for call in calls:
        if call.response_id:
            by_response[call.response_id].append(call)
    if not by_response:
        return set()
    candidates = _sightings(connection, backend.among(llm_call_logs.c.response_id, by_response))
    return {c.trace_id for c in candidates if any(_overlap(c, call) for call in by_response[c.response_id or ""])}


def _twins(connection: Connection, calls: Sequence[Sighting]) -> set[str]:
    """Traces in which another instrumentation may have seen one of *calls*: one of the two has no parent span."""
    traces: set[str] = set()
    column = llm_call_logs.c
    roots = [call for call in calls if call.parent_span_id is None]
    inner = [call for call in calls if call.parent_span_id is not None]
    for ours, theirs in ((roots, ()), (inner, (column.parent_span_id.is_(None),))):
        scopes = {call.scope for call in ours}
        other = (column.scope.is_distinct_from(scopes.pop()),) if len(scopes) == 1 else ()
        by_tokens: dict[Any, list[Sighting]] = defaultdict(list)
        for call in ours:
            by_tokens[call.tokens].append(call)
        for start, end in _windows(ours):
            for c in _sightings(connection, column.start_time.between(start, end), *other, *theirs):
                alike = (*by_tokens[c.tokens], *by_tokens[None]) if c.tokens else ours
                if any(call.scope != c.scope and _overlap(c, call) for call in alike):
                    traces.add(c.trace_id)
    return traces


def _sightings(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[Sighting]:
    columns = [llm_call_logs.c[name] for name in Sighting._fields]
    return (Sighting(*row) for row in connection.execute(select(*columns).where(and_(*conditions))))


def _overlap(a: Sighting, b: Sighting) -> bool:
    return a.start_time <= b.latest + SLACK and b.start_time <= a.latest + SLACK


def _windows(calls: Iterable[Sighting]) -> Iterator[tuple[datetime, datetime]]:
    """The times at which calls that overlap *calls* may have started: few and disjoint."""
    first: datetime | None = None
    last: datetime | None = None
    for call in sorted(calls, key=lambda call: call.start_time):
        start, end = call.start_time - LINK_WINDOW - SLACK, call.latest + SLACK
        if first is None or last is None:
            first, last = start, end
        elif start <= last:
            last = max(last, end)
        else:
            yield first, last
            first, last = start, end
    if first is not None and last is not None:
        yield first, last
