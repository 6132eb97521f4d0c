"""Who belongs to whom: owners, inherited ids and verdicts of the rows of a trace, from all that is known of it.

`settle` is a pure function of the *set* of spans seen so far: whatever the order, the split into batches or the number
of deliveries, the same rows come out. `Store.write` calls it inside its transaction with the rows that already stand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from .contents import Said, addressee, compose, recipients
from .counting import ROLLUP_CALL, Candidate, Verdict, is_derived, verdicts
from .lending import LENT, Loan, lenders
from .providers import UNKNOWN
from .records import ABANDONED, STARTED, Batch, Bridge, Content, Execution, LLMCall
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


class ExecutionNode(NamedTuple):
    """What settling needs of a standing row of ``execution_logs``: fields are column names."""

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: str
    error_type: str | None
    parent_id: str | None
    execution_id: str
    report_id: str | None
    completion_id: str | None
    session_id: str | None
    external_platform: str | None
    external_user_id: str | None
    inherited: str | None


class CallNode(NamedTuple):
    """What settling needs of a standing row of ``llm_call_logs``: fields are column names."""

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    status: str
    error_type: str | None
    execution_log_id: str | None
    execution_id: str
    report_id: str | None
    completion_id: str | None
    session_id: str | None
    external_platform: str | None
    external_user_id: str | None
    inherited: str | None
    call_type: str
    model_id: str
    response_model: str | None
    response_id: str | None
    start_time: datetime
    end_time: datetime | None
    input_tokens: int | None
    output_tokens: int | None
    counted: bool
    not_counted_reason: str | None
    scope: str | None
    service_name: str | None
    has_prompt: bool
    """``prompt IS NOT NULL``: not a column, so that settling never reads content."""
    has_response: bool
    """``response IS NOT NULL``."""


LINK_WINDOW: Final = timedelta(minutes=5)
"""How far apart in time two traces may be that show the same request."""


class Family(NamedTuple):
    """The rows that already stand and may matter: those of every trace the batch touches, and of linked traces.

    A trace is linked to one in the family, until no more is found, by two calls that may be the same request: both of
    the same *response_id* and within `LINK_WINDOW`; or of different scopes, one of them without a parent span, with
    equal token counts (or none on one side) and overlapping in time.
    """

    executions: Sequence[ExecutionNode] = ()
    llm_calls: Sequence[CallNode] = ()
    bridges: Sequence[Bridge] = ()
    contents: Sequence[Content] = ()


class Change(NamedTuple):
    """An update of a row that already stands."""

    table: str
    id: str
    values: Mapping[str, Any]


class Settlement(NamedTuple):
    """What to write: the batch with its derived columns filled in, updates of standing rows, and rows to take back.

    *retracted* are ids of ``llm_call_logs`` rows that stood in for calls which have now been seen themselves. *loans*
    come last: each copies one column between two rows that then stand.
    """

    batch: Batch
    changes: Sequence[Change]
    retracted: Sequence[str]
    loans: Sequence[Loan] = ()


def rank(status: str, error_type: str | None) -> int:
    """How far a row's state has moved: 0 started, 1 cancelled because abandoned, 2 ended. It never moves back."""
    if status == STARTED:
        return 0
    return 1 if error_type == ABANDONED else 2


def settle(batch: Batch, family: Family) -> Settlement:
    """*batch* with owners, inherited columns and verdicts filled in, and the changes these bring to standing rows."""
    executions = _latest(batch.executions, family.executions)
    calls = _latest(batch.llm_calls, family.llm_calls)
    tree = _Tree(executions, calls, (*family.bridges, *batch.bridges))
    said = _said(family.contents, batch.contents, calls)
    superseded = _superseded(tree, calls)
    verdict = _verdicts(tree, calls)
    borrowing = _Borrowing(calls, said, verdict)

    changes: list[Change] = []
    new_executions = []
    for execution in executions.values():
        derived = tree.inherited_by(execution) | {"parent_id": tree.owner(execution.id)}
        if isinstance(execution, Execution):
            new_executions.append(execution._replace(**derived))
        else:
            _note(changes, "execution_logs", execution, derived)
    new_calls = []
    for call in calls.values():
        if call.id in superseded:
            continue
        derived = _derived(tree, call, verdict.get(call.id))
        borrowing.fill(call, derived)
        if isinstance(call, LLMCall):
            new_calls.append(call._replace(**derived))
        else:
            _note(changes, "llm_call_logs", call, derived)
    retracted = sorted(superseded & {node.id for node in family.llm_calls})
    settled = batch._replace(executions=new_executions, llm_calls=new_calls)
    return Settlement(settled, changes, retracted, borrowing.loans)


class _Row(Protocol):
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


R = TypeVar("R", bound=_Row)
N = TypeVar("N", bound=_Row)


def _latest(rows: Sequence[R], nodes: Sequence[N]) -> dict[str, R | N]:
    """For every id the row that has moved furthest; a standing one wins a tie."""
    latest: dict[str, R | N] = {node.id: node for node in nodes}
    for row in rows:
        known = latest.get(row.id)
        if known is None or rank(row.status, row.error_type) > rank(known.status, known.error_type):
            latest[row.id] = row
    return latest


class _Tree:
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
        self._given: dict[str, dict[str, Any]] = {}

    def above(self, row_id: str) -> Iterator[str]:
        """Ids of everything that encloses the row, nearest first, as far up as it is known. A cycle ends the walk."""
        seen = {row_id}
        parent = self._parents.get(row_id)
        while parent is not None and parent not in seen:
            yield parent
            seen.add(parent)
            parent = self._parents.get(parent)

    def owner(self, row_id: str) -> str | None:
        """The nearest enclosing execution."""
        return next((id for id in self.above(row_id) if id in self.executions), None)

    def owner_of_call(self, row_id: str) -> str | None:
        """The nearest enclosing execution, unless a call in between names another owner by itself."""
        for id in self.above(row_id):
            if id in self.executions:
                return id
            call = self.calls.get(id)
            if (
                call is not None
                and call.execution_log_id
                and "execution_log_id" not in (call.inherited or "").split(",")
            ):
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

    def inherited_by(self, row: _Row) -> dict[str, Any]:
        """The row's `INHERITED` columns and ``inherited``, the names of those that came from above."""
        own = _own(row)
        values = self._resolved(row.id) if row.id in self._parents else own
        names = [name for name in INHERITED if values[name] is not None and own[name] is None]
        columns = dict(values)
        if columns["execution_id"] is None:
            columns["execution_id"] = default_execution_id(row.trace_id)
        columns["inherited"] = ",".join(names) or None
        return columns

    def _resolved(self, row_id: str) -> dict[str, Any]:
        chain = []
        given: dict[str, Any] = dict.fromkeys(INHERITED)
        for id in (row_id, *self.above(row_id)):
            if id in self._given:
                given = self._given[id]
                break
            chain.append(id)
        for id in reversed(chain):
            row = self.executions.get(id) or self.calls.get(id)
            if row is not None:
                own = _own(row)
                given = {name: given[name] if own[name] is None else own[name] for name in INHERITED}
            self._given[id] = given
        return given


def default_execution_id(trace_id: str) -> str:
    """The run a row belongs to when no span above it names one: its trace."""
    return f"exec_{trace_id}"


def _own(row: _Row) -> dict[str, Any]:
    """The inheritable columns the row's own span stated; the others None."""
    borrowed = row.inherited.split(",") if row.inherited else ()
    own = {name: None if name in borrowed else getattr(row, name) for name in INHERITED}
    if own["execution_id"] == default_execution_id(row.trace_id):
        own["execution_id"] = None
    return own


def _derived(tree: _Tree, call: LLMCall | CallNode, verdict: Verdict | None) -> dict[str, Any]:
    """Every column of a call that depends on other spans than its own, content aside."""
    derived = tree.inherited_by(call)
    borrowed = call.inherited.split(",") if call.inherited else ()
    if call.execution_log_id is None or "execution_log_id" in borrowed:
        derived["execution_log_id"] = call.id if call.call_type == ROLLUP_CALL else tree.owner_of_call(call.id)
        if derived["execution_log_id"]:
            derived["inherited"] = ",".join(filter(None, (derived["inherited"], "execution_log_id")))
    if verdict is not None:
        derived |= {"counted": verdict.counted, "not_counted_reason": verdict.reason}
    return derived


class _Borrowing:
    """What calls say that their own spans do not: from log records, else from a duplicate's row.

    ``inherited`` names such a column, and after ``=`` the row it is lent from.
    """

    def __init__(
        self,
        calls: Mapping[str, LLMCall | CallNode],
        said: Mapping[str, Said],
        verdict: Mapping[str, Verdict],
    ) -> None:
        self.loans: list[Loan] = []
        self._calls = calls
        self._said = said
        self._lenders = lenders((call for id, call in calls.items() if id in verdict), verdict, self._owns)

    def fill(self, call: LLMCall | CallNode, derived: dict[str, Any]) -> None:
        """Put into *derived* what *call* is told or lent, and into its ``inherited`` where that came from."""
        names = [derived["inherited"]] if derived["inherited"] else []
        borrowed = _borrowed(call)
        said = self._said.get(call.id)
        for column in Said._fields:
            told = getattr(said, column) if said is not None else None
            lender = self._lenders.get(call.id, {}).get(column)
            if told is not None and (column in borrowed or not _has(call, column)):
                derived[column] = told
                names.append(column)
            elif borrowed.get(column) == "" and said is None:
                names.append(column)
            elif lender is not None:
                names.append(f"{column}={lender}")
                if borrowed.get(column) != lender or self._has_news(lender, column):
                    self._lend(call.id, column, lender, derived)
            elif column in borrowed:
                derived[column] = None  # its lender is no duplicate of it any more
        derived["inherited"] = ",".join(names) or None

    def _lend(self, borrower: str, column: str, lender: str, derived: dict[str, Any]) -> None:
        told = getattr(self._said[lender], column) if lender in self._said else None
        text = told if told is not None else getattr(self._calls[lender], column, None)
        if text is not None:
            derived[column] = text
        else:
            self.loans.append(Loan(borrower, column, lender))

    def _has_news(self, id: str, column: str) -> bool:
        return id in self._said and getattr(self._said[id], column) is not None

    def _owns(self, id: str, column: str) -> bool:
        """Whether the call says it by its own span or by log records."""
        if self._has_news(id, column):
            return True
        call = self._calls.get(id)
        return call is not None and _has(call, column) and not _borrowed(call).get(column)


def _borrowed(call: LLMCall | CallNode) -> dict[str, str]:
    """The content columns a standing row does not say itself, with the row that lends each ("" for log records)."""
    names = (name.partition("=") for name in call.inherited.split(",")) if call.inherited else ()
    return {column: lender for column, _, lender in names if column in Said._fields}


def _has(call: LLMCall | CallNode, column: str) -> bool:
    if isinstance(call, CallNode) and column in LENT:
        return call.has_prompt if column == "prompt" else call.has_response
    return getattr(call, column) is not None


def _said(
    standing: Sequence[Content], new: Sequence[Content], calls: Mapping[str, LLMCall | CallNode]
) -> dict[str, Said]:
    """What log records say of calls that are new, or that the new records (or new calls beside them) concern."""
    by_response = {(call.trace_id, call.response_id): call.id for call in calls.values() if call.response_id}
    records: dict[str, dict[str, Content]] = {}
    concerned = {id for id, call in calls.items() if isinstance(call, LLMCall)}
    fresh = {content.id for content in new}
    for content in (*standing, *new):
        if content.trace_id:
            answer = addressee(content)
            id = by_response.get((content.trace_id, answer)) if answer else row_id_of(content.trace_id, content.span_id)
            ids = [id] if id is not None else []
        else:
            ids = recipients(content, calls.values())
        if content.id in fresh or not content.trace_id:
            concerned.update(ids)
        if len(ids) == 1:
            records.setdefault(ids[0], {})[content.id] = content
    in_order = {
        id: sorted(records.get(id, {}).values(), key=lambda c: (c.time, c.id)) for id in concerned & calls.keys()
    }
    return {id: compose(contents) for id, contents in in_order.items()}


def _superseded(tree: _Tree, calls: Mapping[str, LLMCall | CallNode]) -> set[str]:
    """Ids of stand-in rows (an agent's own sum) beneath which something better was seen.

    That is a call with usage, or a nearer stand-in with it; and for a stand-in that knows no usage, any call.
    """
    stand_ins = {id: call for id, call in calls.items() if call.call_type == ROLLUP_CALL}
    if not stand_ins:
        return set()
    superseded: set[str] = set()
    for call in calls.values():
        knows = _has_usage(call)
        superseded.update(
            id for id in tree.above(call.id) if id in stand_ins and (knows or not _has_usage(stand_ins[id]))
        )
    return superseded


def _has_usage(call: LLMCall | CallNode) -> bool:
    return bool(call.input_tokens or call.output_tokens)


def _verdicts(tree: _Tree, calls: Mapping[str, LLMCall | CallNode]) -> Mapping[str, Verdict]:
    return verdicts(
        Candidate(
            id=call.id,
            parent=tree.enclosing_call(call.id),
            owned=tree.owner(call.id) is not None,
            call_type=call.call_type,
            trace_id=call.trace_id,
            scope=call.scope,
            models=frozenset(m for m in (call.model_id, call.response_model) if m and m != UNKNOWN),
            response_id=call.response_id,
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            start=call.start_time,
            end=call.end_time,
            stated=None if is_derived(call.not_counted_reason) else call.not_counted_reason,
        )
        for call in tree.calls.values()
    )


_NOT_READ: Final = object()
"""What a node holds of a column it does not have: different from every value."""


def _note(changes: list[Change], table: str, node: ExecutionNode | CallNode, derived: Mapping[str, Any]) -> None:
    """Append the change *derived* brings to the standing row, if it brings one."""
    different = {name: value for name, value in derived.items() if getattr(node, name, _NOT_READ) != value}
    if different:
        changes.append(Change(table, node.id, different))
