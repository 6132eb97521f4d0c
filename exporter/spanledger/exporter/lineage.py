"""Who belongs to whom: owners, inherited ids and verdicts of the rows of a trace, from all that is known of it.

`settle` is a pure function of the *set* of spans seen so far: whatever the order, the split into batches or the number
of deliveries, the same rows come out. `Store.write` calls it inside its transaction with the rows that already stand.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from .borrowing import Borrowing
from .contents import Said, addressee, compose, recipients
from .counting import ROLLUP_CALL, Candidate, Verdict, is_derived, verdicts
from .nodes import CallNode, Change, ExecutionNode, Family, Settlement, rank
from .providers import UNKNOWN
from .records import Batch, Content, Execution, LLMCall, revised
from .spans import row_id_of
from .tree import Row, Tree, borrowed_names

__all__ = ["Family", "settle"]


def settle(batch: Batch, family: Family) -> Settlement:
    """*batch* with owners, inherited columns and verdicts filled in, and the changes these bring to standing rows."""
    executions = _latest(batch.executions, family.executions)
    calls = _latest(batch.llm_calls, family.llm_calls)
    tree = Tree(executions, calls, (*family.bridges, *batch.bridges))
    said = _said(family.contents, batch.contents, calls)
    superseded = _superseded(tree, calls)
    verdict = _verdicts(tree)
    borrowing = Borrowing(calls, said, verdict)

    changes: list[Change] = []
    new_executions = []
    for execution in executions.values():
        derived = tree.inherited_by(execution) | {"parent_id": tree.owner(execution.id)}
        if isinstance(execution, Execution):
            new_executions.append(revised(execution, derived))
        else:
            _note(changes, "execution_logs", execution, derived)
    new_calls = []
    for call in calls.values():
        if call.id in superseded:
            continue
        derived = _derived(tree, call, verdict.get(call.id))
        borrowing.fill(call, derived)
        if isinstance(call, LLMCall):
            new_calls.append(revised(call, derived))
        else:
            _note(changes, "llm_call_logs", call, derived)
    retracted = sorted(superseded & {node.id for node in family.llm_calls}) if superseded else ()
    settled = batch._replace(executions=new_executions, llm_calls=new_calls)
    return Settlement(settled, changes, retracted, borrowing.loans)


R = TypeVar("R", bound=Row)
N = TypeVar("N", bound=Row)


def _latest(rows: Sequence[R], nodes: Sequence[N]) -> dict[str, R | N]:
    """For every id the row that has moved furthest; a standing one wins a tie."""
    latest: dict[str, R | N] = {node.id: node for node in nodes}
    for row in rows:
        known = latest.get(row.id)
        if known is None or rank(row.status, row.error_type) > rank(known.status, known.error_type):
            latest[row.id] = row
    return latest


def _derived(tree: Tree, call: LLMCall | CallNode, verdict: Verdict | None) -> dict[str, Any]:
    """Every column of a call that depends on other spans than its own, content aside."""
    derived = tree.inherited_by(call)
    if call.execution_log_id is None or "execution_log_id" in borrowed_names(call):
        owner = call.id if call.call_type == ROLLUP_CALL else tree.owner_of_call(call.id)
        derived["execution_log_id"] = owner
        if owner is not None:
            inherited = derived["inherited"]
            derived["inherited"] = f"{inherited},execution_log_id" if inherited else "execution_log_id"
    if verdict is not None:
        derived["counted"], derived["not_counted_reason"] = verdict
    return derived


def _said(
    standing: Sequence[Content], new: Sequence[Content], calls: Mapping[str, LLMCall | CallNode]
) -> Mapping[str, Said]:
    """What log records say of calls that are new, or that the new records (or new calls beside them) concern."""
    if not standing and not new:
        return {}
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
    known = concerned & calls.keys()
    in_order = {id: sorted(records.get(id, {}).values(), key=lambda c: (c.time, c.id)) for id in known}
    return {id: compose(contents) for id, contents in in_order.items()}


def _superseded(tree: Tree, calls: Mapping[str, LLMCall | CallNode]) -> set[str]:
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


def _verdicts(tree: Tree) -> Mapping[str, Verdict]:
    """The verdict on every call; empty where no call can be another's duplicate and none was."""
    calls = tree.calls.values()
    enclosing = {call.id: outer for call in calls if (outer := tree.enclosing_call(call.id)) is not None}
    responses = [call.response_id for call in calls if call.response_id]
    if (
        not enclosing
        and len({call.scope for call in calls}) < 2
        and len(set(responses)) == len(responses)
        and not any(is_derived(call.not_counted_reason) for call in calls)
    ):
        return {}
    return verdicts(
        Candidate(
            id=call.id,
            parent=enclosing.get(call.id),
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
            service=call.service_name,
        )
        for call in calls
    )


_NOT_READ: Final = object()
"""What a node holds of a column it does not have: different from every value."""


def _note(changes: list[Change], table: str, node: ExecutionNode | CallNode, derived: Mapping[str, Any]) -> None:
    """Append the change *derived* brings to the standing row, if it brings one."""
    different = {name: value for name, value in derived.items() if getattr(node, name, _NOT_READ) != value}
    if different:
        changes.append(Change(table, node.id, different))
