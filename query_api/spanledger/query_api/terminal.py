"""Text that spans brought, or whoever sent them, as a terminal or a log may show it.

It cannot paint, clear or title a terminal, turn what is written after it around, or look like a line of its own.
"""

import json
from typing import Final

SPACES: Final = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"
"""Those that people write and `str.isprintable` does not count."""


def harmless(text: str) -> str:
    """*text* as one line in which everything that cannot be seen is written as its code."""
    return text if text.isprintable() else "".join(map(_seen, text))


def harmless_lines(text: str) -> str:
    """*text* with its lines, and nothing else that cannot be seen."""
    return "\n".join(map(harmless, text.split("\n")))


def harmless_json(document: str) -> str:
    """A JSON document that says the same, with everything that cannot be seen escaped."""
    return document if document.isprintable() else "".join(c if _is_seen(c) else json.dumps(c)[1:-1] for c in document)


def _seen(letter: str) -> str:
    return letter if _is_seen(letter) else ascii(letter)[1:-1]


def _is_seen(letter: str) -> bool:
    return letter.isprintable() or letter in SPACES
