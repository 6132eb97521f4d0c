"""Lists that a vocabulary spells out in attribute names: ``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content``, …"""

from functools import lru_cache
from typing import Any, Final

from ..spans import Attributes

MAX_DEPTH: Final = 16
"""Dots taken as levels: deeper than any vocabulary, and a bound for hostile names."""


def listed(attributes: Attributes, prefix: str) -> list[Any]:
    """The list spelled out by the attributes *prefix*``N.…``, in order of N; nested ``.N.`` are lists again.

    Gaps in the numbering close up, and a name that is both a value and a parent keeps what came first.
    """
    root: dict[str, Any] = {}
    start = len(prefix)
    for key, value in attributes.items():
        if key.startswith(prefix):
            *parents, last = _levels(key[start:])
            node = root
            for step in parents:
                node = node.setdefault(step, {})
                if not isinstance(node, dict):
                    break
            else:
                node.setdefault(last, value)
    nested = _nested(root)
    return nested if isinstance(nested, list) else []


@lru_cache(maxsize=4096)
def _levels(name: str) -> tuple[str, ...]:
    return tuple(name.split(".", MAX_DEPTH))


def _nested(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdecimal() for key in node):
        return [_nested(node[key]) for key in sorted(node, key=int)]
    return {key: _nested(item) for key, item in node.items()}
