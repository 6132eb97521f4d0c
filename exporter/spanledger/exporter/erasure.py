"""`Subject`: whose rows are to be forgotten: a run's, a user's or a session's; and which rows those are.

What a run did for nobody in particular belongs to the user (or session) the run was for: an agent's root span often
carries the prompt without saying whose it is. Where a run served several, that goes with the first who is forgotten.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson
from sqlalchemy import ColumnElement, CompoundSelect, Table, or_, select, true, union

from .schema import dead_letters, execution_logs, llm_call_logs

Kind = Literal["execution", "user", "session"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
EXECUTION: Final = "execution"
COLUMNS: Final[Mapping[Kind, str]] = {EXECUTION: "execution_id", "user": "external_user_id", "session": "session_id"}


class Erased(NamedTuple):
    """How many rows are gone, or would be: log records with content and refused spans kept for later are rows, too."""

    executions: int = 0
    llm_calls: int = 0
    contents: int = 0
    dead_letters: int = 0

    def plus(self, other: "Erased") -> "Erased":
        return Erased(*map(sum, zip(self, other, strict=True)))


class Subject(NamedTuple):
    """*value* is what the rows hold in the column of *kind*."""

    kind: Kind
    value: str

    @property
    def buried_as(self) -> str:
        """What its tombstone says. Users and sessions are known there by a hash, or they would not be forgotten."""
        return self.value if self.kind == EXECUTION else hidden(self.kind, self.value)

    def runs(self) -> CompoundSelect[Any]:
        """The runs with rows that name it."""
        name = COLUMNS[self.kind]
        return union(
            *(
                select(table.c.execution_id).where(table.c[name] == self.value)
                for table in (execution_logs, llm_call_logs)
            )
        )

    def owns(self, table: Table) -> ColumnElement[bool]:
        """Whether a row of one of its `runs` belongs to it."""
        column = table.c[COLUMNS[self.kind]]
        return true() if self.kind == EXECUTION else or_(column == self.value, column.is_(None))

    def may_be_in_a_letter(self) -> ColumnElement[bool]:
        """Whether a dead letter holds its text at all; `is_in` says whether as a whole value."""
        return dead_letters.c.body.contains(orjson.dumps(self.value).decode()[1:-1], autoescape=True)

    def is_in(self, letter: str) -> bool:
        """Whether a value in the body of a dead letter is this. One that cannot be read is taken to hold it."""
        try:
            return self.value in _texts(orjson.loads(letter))
        except orjson.JSONDecodeError:
            return True


def hidden(kind: str, value: str) -> str:
    """A hash that tells two values apart, and says neither."""
    return hashlib.sha256(f"spanledger {kind}: {value}".encode()).hexdigest()


def _texts(value: Any) -> Collection[str]:
    """Every value in a JSON document, as text."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        else:
            found.add(str(value))
    return found
