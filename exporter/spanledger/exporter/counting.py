"""Which calls count: the innermost of nested ones, one of those two instrumentations saw, and why not the rest.

A request to a model is often traced twice: by a framework's instrumentation and by the SDK's, nested in one trace or
side by side in two. `verdicts` decides for all calls of the traces it is given; the answer depends on the set of calls
alone. Each rule is learnt from a public bug (see docs/cost.md).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

DUPLICATE_OF: Final = "duplicate_of:"
ROLLUP: Final = "rollup_of_children"

ROLLUP_CALL: Final = "rollup"
"""`call_type` of a row that stands in for calls nobody traced: an agent's own sum, while there is nothing better."""

SELF_INSTRUMENTED: Final = ("com.anthropic.sdk.python", "mistralai_sdk_tracer")
"""Scopes of provider SDKs that emit spans by themselves: any other instrumentation of them sees the same requests."""

FRAMEWORKS: Final = (
    "langchain",
    "llama_index",
    "llamaindex",
    "haystack",
    "crewai",
    "dspy",
    "litellm",
    "smolagents",
    "agno",
    "openai_agents",
)
"""Ends of the scopes of frameworks' instrumentations: the same request is seen by that of the SDK they call."""

SLACK: Final = timedelta(milliseconds=50)
"""How far two instrumentations of one request may disagree about when it began and ended."""
FAR_FUTURE: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Candidate(NamedTuple):
    """One call as counting sees it. *parent* is the call it is nested in with no execution between, *owned* whether an
    execution encloses it, *stated* a reason its own span gives for not counting."""

    id: str
    parent: str | None
    owned: bool
    call_type: str
    trace_id: str
    scope: str | None
    models: frozenset[str]
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    start: datetime
    end: datetime | None
    stated: str | None
    service: str | None = None

    @property
    def has_usage(self) -> bool:
        return bool(self.input_tokens or self.output_tokens)

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        return self.input_tokens, self.output_tokens


class Verdict(NamedTuple):
    """Whether sums include the call, and the reason when they do not."""

    counted: bool
    reason: str | None = None


COUNTED: Final = Verdict(True)


def is_derived(reason: str | None) -> bool:
    """Whether a stored reason was decided here (and may be decided anew) rather than stated by the span itself."""
    return reason is not None and (reason.startswith(DUPLICATE_OF) or reason == ROLLUP)


def verdicts(candidates: Iterable[Candidate]) -> Mapping[str, Verdict]:
    """The verdict for every candidate, by id."""
    calls = {c.id: c for c in sorted(candidates, key=lambda c: (c.start, c.id))}
    verdict: dict[str, Verdict] = {c.id: Verdict(False, c.stated) if c.stated else COUNTED for c in calls.values()}
    if len(calls) > 1:
        _settle_nested(calls, verdict)
        _settle_same_response(calls, verdict)
        _settle_twins(calls, verdict)
    return verdict


def _settle_nested(calls: Mapping[str, Candidate], verdict: dict[str, Verdict]) -> None:
    """A call in a call of the same type is the same request seen from further in: the innermost with usage counts."""
    children: dict[str, list[Candidate]] = defaultdict(list)
    for call in calls.values():
        parent = calls.get(call.parent) if call.parent else None
        if parent is not None and _sort(parent) == _sort(call):
            children[parent.id].append(call)
    if not children:
        return
    standing: dict[str, list[Candidate]] = {}  # the counted calls of the subtree under a call; none yet in a cycle
    for call in _innermost_first(calls.values(), children):
        inner = [c for child in children.get(call.id, ()) for c in standing.get(child.id, ())]
        if not verdict[call.id].counted:
            standing[call.id] = inner
        elif not inner:
            standing[call.id] = [call]
        elif _is_another_request(call, inner):
            standing[call.id] = [call, *inner]
        elif call.has_usage and not any(c.has_usage for c in inner):
            for c in inner:
                verdict[c.id] = Verdict(False, DUPLICATE_OF + call.id)
            standing[call.id] = [call]
        else:
            verdict[call.id] = Verdict(False, DUPLICATE_OF + inner[0].id if len(inner) == 1 else ROLLUP)
            standing[call.id] = inner


def _innermost_first(calls: Iterable[Candidate], children: Mapping[str, Sequence[Candidate]]) -> Iterable[Candidate]:
    """Post-order without recursion; a cycle of parents (hostile ids) is entered once."""
    seen: set[str] = set()
    for root in calls:
        stack = [(root, False)]
        while stack:
            call, ready = stack.pop()
            if ready:
                yield call
            elif call.id not in seen:
                seen.add(call.id)
                stack.append((call, True))
                stack.extend((c, False) for c in reversed(children.get(call.id, ())))


def _is_another_request(outer: Candidate, inner: Sequence[Candidate]) -> bool:
    """Whether *outer* answered with a response of its own: other id, and tokens the inner calls do not explain."""
    ids = {c.response_id for c in inner}
    if not outer.response_id or None in ids or outer.response_id in ids or not outer.has_usage:
        return False
    total = (_sum(c.input_tokens for c in inner), _sum(c.output_tokens for c in inner))
    explained = {total, *(c.tokens for c in inner)}
    return all(c.has_usage for c in inner) and outer.tokens not in explained


def _settle_same_response(calls: Mapping[str, Candidate], verdict: dict[str, Verdict]) -> None:
    """The same response id at the same time is the same request, also in another trace."""
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for call in calls.values():
        if call.response_id and verdict[call.id].counted:
            groups[_sort(call), call.response_id].append(call)
    for group in groups.values():
        group.sort(key=_preference)
        kept: list[Candidate] = []
        for call in group:
            twin = next((k for k in kept if _overlap(k, call) and _is_same_answer(k, call)), None)
            if twin is None:
                kept.append(call)  # a server that reuses ids: another moment or other tokens is another request
            else:
                verdict[call.id] = Verdict(False, DUPLICATE_OF + twin.id)


def _settle_twins(calls: Mapping[str, Candidate], verdict: dict[str, Verdict]) -> None:
    """Without a shared id: two *scopes* of one service, one within the other in time, the same model and tokens.

    Matched one to one, so that equal calls made at once still count each. Where one has lost its usage, only a
    provider SDK's own span is taken for its twin, or a framework's for that of the SDK beneath it.
    """
    counted = [c for c in calls.values() if verdict[c.id].counted]
    if len({c.scope for c in counted}) < 2:
        return
    matched: set[str] = set()
    for i, call in enumerate(counted):
        if call.id in matched:
            continue
        for other in counted[i + 1 :]:
            if other.start > (call.end or FAR_FUTURE) + SLACK:
                break
            if other.id not in matched and _is_twin(call, other):
                keep, drop = sorted((call, other), key=_preference)
                verdict[drop.id] = Verdict(False, DUPLICATE_OF + keep.id)
                matched |= {keep.id, drop.id}
                break


def _is_twin(a: Candidate, b: Candidate) -> bool:
    if a.scope == b.scope or a.service != b.service or _sort(a) != _sort(b) or not _contained(a, b):
        return False
    if a.models and b.models and not a.models & b.models:
        return False
    if a.response_id and b.response_id and a.response_id != b.response_id:
        return False
    if a.has_usage and b.has_usage:
        return a.tokens == b.tokens
    if a.scope in SELF_INSTRUMENTED or b.scope in SELF_INSTRUMENTED:
        return True
    return bool(a.models & b.models) and _is_framework(a.scope) != _is_framework(b.scope)


def _is_framework(scope: str | None) -> bool:
    return scope is not None and scope.endswith(FRAMEWORKS)


def _sort(call: Candidate) -> str:
    """What two views of one request agree on: embedding, rerank, or anything that generates."""
    return call.call_type if call.call_type in ("embedding", "rerank") else "generation"


def _preference(call: Candidate) -> tuple[bool, bool, bool, bool, datetime, str]:
    """The better witness of a request sorts first: it has usage, an owner, an id, the provider's own word."""
    hearsay = call.scope not in SELF_INSTRUMENTED
    return (not call.has_usage, not call.owned, not call.response_id, hearsay, call.start, call.id)


def _overlap(a: Candidate, b: Candidate) -> bool:
    return a.start <= (b.end or FAR_FUTURE) + SLACK and b.start <= (a.end or FAR_FUTURE) + SLACK


def _contained(a: Candidate, b: Candidate) -> bool:
    a_end, b_end = a.end or FAR_FUTURE, b.end or FAR_FUTURE
    return (a.start <= b.start + SLACK and b_end <= a_end + SLACK) or (
        b.start <= a.start + SLACK and a_end <= b_end + SLACK
    )


def _is_same_answer(a: Candidate, b: Candidate) -> bool:
    """Whether two calls with one response id are one request: equal tokens, or one seen from two sides.

    Two instrumentations may count differently (one adds Anthropic's first estimate to the final count).
    """
    if a.tokens == b.tokens or not (a.has_usage and b.has_usage):
        return True
    return a.scope != b.scope and _contained(a, b)


def _sum(values: Iterable[int | None]) -> int:
    return sum(v or 0 for v in values)
