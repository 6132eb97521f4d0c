"""Content that a counted call lacks, lent by those of its duplicates that have it.

Two instrumentations of one request often share the work: a provider's SDK knows what it cost, the one around it what
was said. The call that counts then borrows what it does not say itself, so that one row tells the whole request.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from .counting import DUPLICATE_OF, Verdict

LENT: Final = ("prompt", "response")
"""The columns that are lent."""


class Loan(NamedTuple):
    """A column of the row *borrower* that is to hold what the row *lender*, which already stands, has there."""

    borrower: str
    column: str
    lender: str


class _Call(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def start_time(self) -> datetime: ...


def lenders(
    calls: Iterable[_Call], verdicts: Mapping[str, Verdict], owns: Callable[[str, str], bool]
) -> Mapping[str, Mapping[str, str]]:
    """For every call that may borrow, by column, the id of the row that lends. *owns* says who has a column itself.

    Of several lenders it is the first in time, so that the order in which they arrive does not matter.
    """
    found: dict[str, dict[str, str]] = {}
    for call in sorted(calls, key=lambda c: (c.start_time, c.id)):
        borrower = _counted_one(call.id, verdicts)
        if borrower is None:
            continue
        for column in LENT:
            if not owns(borrower, column) and owns(call.id, column):
                found.setdefault(borrower, {}).setdefault(column, call.id)
    return found


def _counted_one(call_id: str, verdicts: Mapping[str, Verdict]) -> str | None:
    """The call that counts in place of *call_id*; None if it counts itself or is no duplicate."""
    seen = {call_id}
    current = call_id
    while (verdict := verdicts.get(current)) is not None and not verdict.counted:
        reason = verdict.reason or ""
        if not reason.startswith(DUPLICATE_OF) or (current := reason.removeprefix(DUPLICATE_OF)) in seen:
            return None
        seen.add(current)
    return current if current != call_id and verdict is not None else None
