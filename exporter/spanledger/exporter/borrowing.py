"""`Borrowing`: what a call's row says that its own span does not, from log records or from a duplicate's row."""

from collections.abc import Mapping
from typing import Any

from .contents import Said
from .counting import Verdict
from .lending import LENT, Loan, lenders
from .nodes import CallNode
from .records import LLMCall

Call = LLMCall | CallNode


class Borrowing:
    """What calls say that their own spans do not: from log records, else from a duplicate's row.

    ``inherited`` names such a column, and after ``=`` the row it is lent from.
    """

    def __init__(self, calls: Mapping[str, Call], said: Mapping[str, Said], verdict: Mapping[str, Verdict]) -> None:
        self.loans: list[Loan] = []
        self._calls = calls
        self._said = said
        self._lenders = lenders((call for id, call in calls.items() if id in verdict), verdict, self._owns)

    def fill(self, call: Call, derived: dict[str, Any]) -> None:
        """Put into *derived* what *call* is told or lent, and into its ``inherited`` where that came from."""
        borrowed = _borrowed(call)
        said = self._said.get(call.id)
        if said is None and not borrowed and call.id not in self._lenders:
            return
        names = [derived["inherited"]] if derived["inherited"] else []
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


def _borrowed(call: Call) -> dict[str, str]:
    """The content columns a standing row does not say itself, with the row that lends each ("" for log records)."""
    names = (name.partition("=") for name in call.inherited.split(",")) if call.inherited else ()
    return {column: lender for column, _, lender in names if column in Said._fields}


def _has(call: Call, column: str) -> bool:
    if isinstance(call, CallNode) and column in LENT:
        return call.has_prompt if column == "prompt" else call.has_response
    return getattr(call, column) is not None
