"""`Tree`: the spans of some traces and what encloses each: owners, and ids that are handed down."""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, Protocol

from .counting import ROLLUP_CALL
from .nodes import CallNode, ExecutionNode, default_execution_id
from .records import Bridge, Execution, LLMCall
from .spans import row_id_of

INHERITED: Final = (
    "execution_id",
    "report_id",
    "completion_id",
    "session_id",
    "external_platform",
    "external_user_id",
)
"""Columns a row takes from its nearest enclosing row that has them, when its own span does not say."""

Values = tuple[Any, ...]
"""The `INHERITED` columns of a row, in that order; None where nobody says."""
_NOTHING: Final[Values] = (None,) * len(INHERITED)
_values: Final = attrgetter(*INHERITED)
_RUN: Final = INHERITED.index("execution_id")


class Row(Protocol):
    """What executions, calls and their nodes have in common."""

    @property
    def id(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def parent_span_id(self) -> str | None: ...
    @property
    def status(self) -> str: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def execution_id(self) -> str: ...
    @property
    def inherited(self) -> str | None: ...


class Tree:
    """The spans of the traces at hand, by row id: whose child each is, and what hangs above it."""

    def __init__(
        self,
        executions: Mapping[str, Execution | ExecutionNode],
        calls: Mapping[str, LLMCall | CallNode],
        bridges: Iterable[Bridge],
    ) -> None:
        self.executions = executions
        self.calls = {id: call for id, call in calls.items() if call.call_type != ROLLUP_CALL}
        self._parents: dict[str, str | None] = {}
        for row in (*bridges, *self.calls.values(), *executions.values()):
            self._parents[row.id] = row_id_of(row.trace_id, row.parent_span_id) if row.parent_span_id else None
        self._given: dict[str, Values] = {}

    def above(self, row_id: str) -> Iterator[str]:
        """Ids of everything that encloses the row, nearest first, as far up as it is known. A cycle ends the walk."""
        parent = self._parents.get(row_id)
        if parent is None:
            return
        seen = {row_id}
        while parent is not None and parent not in seen:
            yield parent
            seen.add(parent)
            parent = self._parents.get(parent)

    def owner(self, row_id: str) -> str | None:
        """The nearest enclosing execution."""
        parent = self._parents.get(row_id)
        if parent is None or parent in self.executions:  # nearly always
            return parent if parent != row_id else None
        return next((id for id in self.above(row_id) if id in self.executions), None)

    def owner_of_call(self, row_id: str) -> str | None:
        """The nearest enclosing execution, unless a call in between names another owner by itself."""
        for id in self.above(row_id):
            if id in self.executions:
                return id
            call = self.calls.get(id)
            if call is not None and call.execution_log_id and "execution_log_id" not in borrowed_names(call):
                return call.execution_log_id
        return None

    def enclosing_call(self, row_id: str) -> str | None:
        """The nearest enclosing call with no execution between."""
        for id in self.above(row_id):
            if id in self.executions:
                return None
            if id in self.calls:
                return id
        return None

    def inherited_by(self, row: Row) -> dict[str, Any]:
        """The row's `INHERITED` columns and ``inherited``, the names of those that came from above."""
        own = _own(row)
        values = self._resolved(row.id) if row.id in self._parents else own
        columns: dict[str, Any] = dict(zip(INHERITED, values, strict=True))
        if columns["execution_id"] is None:
            columns["execution_id"] = default_execution_id(row.trace_id)
        names = None
        if values != own:
            taken = zip(INHERITED, own, values, strict=True)
            names = ",".join(name for name, mine, value in taken if mine is None and value is not None)
        columns["inherited"] = names
        return columns

    def _resolved(self, row_id: str) -> Values:
        known = self._given.get(row_id)
        if known is not None:
            return known
        chain = [row_id]
        given = _NOTHING
        for id in self.above(row_id):
            if id in self._given:
                given = self._given[id]
                break
            chain.append(id)
        for id in reversed(chain):
            row = self.executions.get(id) or self.calls.get(id)
            if row is not None:
                own = _own(row)
                if given is _NOTHING or given == _NOTHING:
                    given = own
                elif own != given:
                    given = tuple(theirs if mine is None else mine for mine, theirs in zip(own, given, strict=True))
            self._given[id] = given
        return given


def borrowed_names(row: Row) -> tuple[str, ...] | list[str]:
    """The names in a row's ``inherited``."""
    return row.inherited.split(",") if row.inherited else ()


def _own(row: Row) -> Values:
    """The inheritable columns the row's own span stated."""
    own: Values = _values(row)
    if row.inherited:
        names = borrowed_names(row)
        own = tuple(None if name in names else value for name, value in zip(INHERITED, own, strict=True))
    if own[_RUN] is not None and own[_RUN] == default_execution_id(row.trace_id):
        own = (*own[:_RUN], None, *own[_RUN + 1 :])
    return own
