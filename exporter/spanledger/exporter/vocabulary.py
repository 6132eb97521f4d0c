"""The vocabulary of a span: which dialects it speaks, and how spans of its shape are read.

An instrumentation writes the same names on span after span. So which attribute fills which field is worked out once for
every set of names (a span's shape) and remembered; reading a span is then one walk over that plan.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from .dialects import DIALECTS
from .dialects.base import PLUMBING, USAGE_FIELDS, Dialect, Draft, Field, Operation, unchanged
from .spans import SpanData
from .values import text

SHAPES: Final = 1024
"""How many shapes are remembered; a span whose names count up (``prompt.17.content``) may be one of its own."""
NOTHING_SAID: Final = ("", None)


def vocabulary(span: SpanData) -> "Vocabulary":
    """The vocabulary of *span*."""
    return _of_shape(span.scope, tuple(span.attributes))


class Vocabulary(NamedTuple):
    """How spans of one shape are read."""

    dialects: tuple[Dialect, ...]
    fields: tuple[Field, ...]
    """Those whose attribute such a span has, strongest first."""
    usage: tuple[str, ...]
    """Attributes that go to ``usage_raw`` as they are."""
    unclaimed: tuple[str, ...]
    """Attributes that fill no field and that no dialect knows to say nothing new."""
    adjusts: tuple[Callable[[SpanData, Draft], None], ...]

    def operation(self, span: SpanData) -> Operation:
        """What the span does; a span none of its dialects knows is plumbing."""
        for dialect in self.dialects:
            if (operation := dialect.operation(span)) is not None:
                return operation
        return PLUMBING

    def read(self, span: SpanData) -> Draft:
        """What the span's attributes say. The strongest word on a field wins; what cannot be read is kept."""
        attributes = span.attributes
        draft: Draft = {}
        unread: list[str] = []
        for name, attribute, read in self.fields:
            if name not in draft:
                said = attributes[attribute]
                # Most of it is text to be taken as it is: not worth a call.
                value = said if read is text and type(said) is str and said else read(said)
                if value is not None:
                    draft[name] = value
                else:
                    unread.append(attribute)
        leftovers = {name: value for name in self.unclaimed if (value := attributes[name]) or value not in NOTHING_SAID}
        for name in unread:
            if not self._is_read(name, attributes[name]):
                leftovers[name] = attributes[name]
        draft["reported_usage"] = {name: attributes[name] for name in self.usage}
        draft["leftovers"] = leftovers
        for adjust in self.adjusts:
            adjust(span, draft)
        return draft

    def _is_read(self, attribute: str, value: Any) -> bool:
        """Whether a value that one field cannot take says something elsewhere, or nothing."""
        if value in NOTHING_SAID or attribute in self.usage:
            return True
        return any(field.read(value) is not None for field in self.fields if field.attribute == attribute)


ALL_MARKS: Final = frozenset(mark for dialect in DIALECTS for mark in dialect.marks)


@lru_cache(maxsize=SHAPES)
def _of_shape(scope: str, attributes: tuple[str, ...]) -> Vocabulary:
    dialects, by_attribute, claims = _spoken(scope, ALL_MARKS.intersection(attributes))
    entries = [entry for name in attributes for entry in by_attribute.get(name, ())]
    fields = tuple(field for _, field in sorted(entries, key=lambda entry: entry[0]))
    return Vocabulary(
        dialects,
        fields,
        tuple(dict.fromkeys(field.attribute for field in fields if field.name in USAGE_FIELDS)),
        tuple(name for name in attributes if name not in by_attribute and not name.startswith(claims)),
        tuple(dialect.adjust for dialect in dialects if dialect.adjust is not unchanged),
    )


class _Spoken(NamedTuple):
    dialects: tuple[Dialect, ...]
    by_attribute: dict[str, list[tuple[int, Field]]]
    claims: tuple[str, ...]


@lru_cache(maxsize=SHAPES)
def _spoken(scope: str, marks: frozenset[str]) -> _Spoken:
    """The dialects of a span from *scope* that carries *marks*. The last of all is always spoken."""
    spoken = tuple(
        dialect
        for dialect in DIALECTS
        if dialect.marks & marks or (dialect.scopes and scope.startswith(dialect.scopes)) or dialect is DIALECTS[-1]
    )
    by_attribute: dict[str, list[tuple[int, Field]]] = {}
    for order, field in enumerate(field for dialect in spoken for field in dialect.fields):
        by_attribute.setdefault(field.attribute, []).append((order, field))
    return _Spoken(spoken, by_attribute, tuple(claim for dialect in spoken for claim in dialect.claims))
