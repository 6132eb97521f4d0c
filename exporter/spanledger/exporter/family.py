"""Reads a family: the rows that already stand and may matter to how others are settled.

`lineage.Family` says which traces belong to it. Every trace is locked before it is read, so that no other writer
settles the same rows from another view of them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Executable, Select, Table, Text, and_, bindparam, func, or_, select

from .backends import Backend
from .backends.base import listed
from .contents import AFTERWORD
from .counting import SLACK
from .nodes import LINK_WINDOW, CallNode, ExecutionNode, Family
from .records import Bridge, Content, LLMCall
from .schema import bridge_spans, content_events, execution_logs, llm_call_logs

MOST_ROUNDS: Final = 4
"""How many links away a trace may be. A server that gives every response the same id would link all of them."""

MOST_SHARERS: Final = 20
"""Calls that may share a response id within minutes. If more do, it identifies nothing: a server makes it up."""

CALLS: Final = llm_call_logs.c
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
    def end(self) -> datetime:
        """When it ended, as far as links reach: a call that runs on, or runs for hours, is linked by its beginning."""
        reach = self.start_time + LINK_WINDOW
        return reach if self.end_time is None else min(self.end_time, reach)


def _reading(table: Table, fields: Iterable[str]) -> Select[Any]:
    return select(
        *(
            table.c[name.removeprefix("has_")].is_not(None).label(name) if name.startswith("has_") else table.c[name]
            for name in fields
        )
    )


# Made once: putting a statement of many columns together takes ten times as long as running it.
EXECUTIONS: Final = _reading(execution_logs, ExecutionNode._fields)
LLM_CALLS: Final = _reading(llm_call_logs, CallNode._fields)
BRIDGES: Final = _reading(bridge_spans, Bridge._fields)
CONTENTS: Final = _reading(content_events, Content._fields)
AROUND: Final = and_(
    CALLS.start_time.between(bindparam("earliest"), bindparam("latest")),
    or_(CALLS.end_time.is_(None), CALLS.end_time >= bindparam("running")),
)
"""What meets anything that overlaps a `_windows` in time."""
SIGHTINGS: Final = _reading(llm_call_logs, Sighting._fields).where(AROUND)
PARENTLESS: Final = SIGHTINGS.where(CALLS.parent_span_id.is_(None))
OF_SCOPE: Final = SIGHTINGS.where(CALLS.scope == bindparam("scope"))
WITHOUT_SCOPE: Final = SIGHTINGS.where(CALLS.scope.is_(None))
UNNAMED: Final = CONTENTS.where(
    content_events.c.trace_id == "", content_events.c.time.between(bindparam("first"), bindparam("last"))
)

_seen: Final = attrgetter(*Sighting._fields)


class _Statements(NamedTuple):
    """Statements that ask about many keys, as one kind of database is asked."""

    executions: Select[Any]
    llm_calls: Select[Any]
    bridges: Select[Any]
    contents: Select[Any]
    sharers: Executable
    """How many calls have each of some response ids."""
    sharing: Select[Any]
    """The calls that have one of them."""


@cache
def _statements(backend: type[Backend]) -> _Statements:
    traces, ids = bindparam("traces", type_=Text), bindparam("ids", type_=Text)
    share = backend.among(CALLS.response_id, ids)
    return _Statements(
        EXECUTIONS.where(backend.among(execution_logs.c.trace_id, traces)),
        LLM_CALLS.where(backend.among(CALLS.trace_id, traces)),
        BRIDGES.where(backend.among(bridge_spans.c.trace_id, traces)),
        CONTENTS.where(backend.among(content_events.c.trace_id, traces)),
        select(CALLS.response_id, func.count()).where(share, AROUND).group_by(CALLS.response_id),
        SIGHTINGS.where(share),
    )


def read_family(
    connection: Connection,
    backend: Backend,
    traces: Iterable[str],
    calls: Iterable[LLMCall],
    contents: Iterable[Content] = (),
) -> Family:
    """The family of *traces*, to which new *calls* and *contents* come.

    Inside a write transaction, until whose end its locks hold.
    """
    new = set(traces) - {""}
    sightings = _sightings(calls)
    unnamed = [content for content in contents if not content.trace_id]
    # A call without a parent may have its twin in any trace, also in one that another writer has not committed yet;
    # and a record that names no span may be about any call.
    anywhere = bool(unnamed) or any(sighting.parent_span_id is None for sighting in sightings)
    backend.lock(connection, {*new, *(s.response_id for s in sightings if s.response_id)}, alone=anywhere)
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
        sightings += _sightings(found.llm_calls)
        beside = _unnamed(connection, sightings)
        family = family._replace(contents=[*family.contents, *beside])
        new = (_linked(connection, backend, sightings) | _written_in(connection, [*unnamed, *beside])) - known
        if not new:
            break
        backend.lock(connection, new)
        sightings, unnamed = [], []
    return family


def _standing(connection: Connection, backend: Backend, traces: Collection[str]) -> Family:
    statements, given = _statements(type(backend)), {"traces": listed(traces)}

    def read(statement: Select[Any], kind: type[Node]) -> list[Node]:
        return [kind(*row) for row in connection.execute(statement, given)]

    return Family(
        read(statements.executions, ExecutionNode),
        read(statements.llm_calls, CallNode),
        read(statements.bridges, Bridge),
        read(statements.contents, Content),
    )


def _linked(connection: Connection, backend: Backend, calls: Sequence[Sighting]) -> set[str]:
    """The traces with a call that may show the same request as one of *calls*."""
    return _same_response(connection, backend, calls) | _twins(connection, calls)


def _same_response(connection: Connection, backend: Backend, calls: Sequence[Sighting]) -> set[str]:
    by_response: dict[str, list[Sighting]] = defaultdict(list)
    for call in calls:
        if call.response_id:
            by_response[call.response_id].append(call)
    ids = [response_id for response_id, sharers in by_response.items() if len(sharers) <= MOST_SHARERS]
    statements = _statements(type(backend))
    traces: set[str] = set()
    for window in _windows(call for response_id in ids for call in by_response[response_id]):
        sharers = connection.execute(statements.sharers, {"ids": listed(ids), **window})
        few = [id for id, count in sharers if count <= MOST_SHARERS]  # nearly always none
        for c in _find(connection, statements.sharing, {"ids": listed(few), **window}) if few else ():
            if any(_overlap(c, call) for call in by_response[c.response_id or ""]):
                traces.add(c.trace_id)
    return traces


def _twins(connection: Connection, calls: Sequence[Sighting]) -> set[str]:
    """Traces in which another instrumentation may have seen one of *calls*: one of the two has no parent span."""
    inner = [call for call in calls if call.parent_span_id is not None]
    roots = [call for call in calls if call.parent_span_id is None]
    candidates = [c for window in _windows(inner) for c in _find(connection, PARENTLESS, window)]
    for scope in _scopes(connection, {call.scope for call in roots}) if roots else ():
        for window in _windows(roots):
            if scope is None:
                candidates += _find(connection, WITHOUT_SCOPE, window)
            else:
                candidates += _find(connection, OF_SCOPE, {"scope": scope, **window})
    if not candidates:
        return set()
    by_tokens: dict[Any, list[Sighting]] = defaultdict(list)
    for call in calls:
        by_tokens[call.tokens].append(call)
    traces: set[str] = set()
    for c in candidates:
        alike = (*by_tokens[c.tokens], *by_tokens[None]) if c.tokens else calls
        if any(call.scope != c.scope and _overlap(c, call) for call in alike):
            traces.add(c.trace_id)
    return traces


def _unnamed(connection: Connection, calls: Sequence[Sighting]) -> list[Content]:
    """Records that name no span and were written by the scope of one of *calls* while it ran."""
    if not calls:
        return []
    first, last = min(call.start_time for call in calls), max(call.end for call in calls)
    rows = connection.execute(UNNAMED, {"first": first, "last": last + AFTERWORD})
    scopes = {call.scope for call in calls}
    return [content for row in rows if (content := Content(*row)).scope in scopes]


def _written_in(connection: Connection, contents: Sequence[Content]) -> set[str]:
    """The traces of the calls in which *contents*, which name no span, may have been written."""
    traces: set[str] = set()
    for content in contents:
        running = and_(
            CALLS.scope == content.scope,
            CALLS.start_time.between(content.time - LINK_WINDOW, content.time),
            or_(CALLS.end_time.is_(None), CALLS.end_time >= content.time - AFTERWORD),
        )
        traces.update(connection.scalars(select(CALLS.trace_id).where(running)))
    return traces


def _scopes(connection: Connection, own: Collection[str | None]) -> list[str | None]:
    """The scopes that calls have, without *own* if that is only one. Hops from each to the next through their index."""
    first = select(func.min(CALLS.scope).label("scope")).cte("scopes", recursive=True)
    following = select(func.min(CALLS.scope)).where(CALLS.scope > first.c.scope).scalar_subquery()
    scopes = first.union_all(select(following).where(first.c.scope.is_not(None)))
    found = connection.scalars(select(scopes.c.scope))  # ends with the NULL that also stands for calls without scope
    return [scope for scope in found if len(own) > 1 or scope not in own]


def _find(connection: Connection, statement: Select[Any], given: Mapping[str, Any]) -> list[Sighting]:
    return [Sighting(*row) for row in connection.execute(statement, given)]


def _sightings(calls: Iterable[LLMCall | CallNode]) -> list[Sighting]:
    return [Sighting(*_seen(call)) for call in calls]


def _overlap(a: Sighting, b: Sighting) -> bool:
    return a.start_time <= b.end + SLACK and b.start_time <= a.end + SLACK


def _windows(calls: Iterable[Sighting]) -> Iterator[Mapping[str, datetime]]:
    """What `AROUND` asks of that which overlaps one of *calls* in time: one for calls that are near each other."""
    starts = sorted(call.start_time for call in calls)
    first = 0
    for i in range(1, len(starts) + 1):
        if i == len(starts) or starts[i] - starts[i - 1] > 2 * LINK_WINDOW + SLACK:
            yield {
                "earliest": starts[first] - LINK_WINDOW - SLACK,
                "latest": starts[i - 1] + LINK_WINDOW + SLACK,
                "running": starts[first] - SLACK,
            }
            first = i
