"""Readers of attribute values: each gives the value a column takes, or None for what cannot be one.

Instrumentations write numbers as text, NaN as tokens, tuples as ``repr``; a reader never raises on what it is given.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

MAX_INT: Final = 2**31 - 1
"""The largest value of an SQL INTEGER; more tokens or milliseconds than that are clamped."""
SURROGATES: Final = re.compile(f"[{chr(0xD800)}-{chr(0xDFFF)}]")
ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL as JSON text has it. Behind an odd backslash it is none: there JSON quotes text that quotes JSON."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
LATEST: Final = 2**63 - 1
"""Nanoseconds; spans that claim to start later (year 2262) are clamped."""


def text(value: Any) -> str | None:
    """Text as it is; any other value as JSON; nothing for the empty string."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    return json_text(value)


def first(value: Any) -> str | None:
    """The first of a list, or of a list written as JSON text; otherwise the text itself (finish reasons)."""
    if isinstance(value, str) and value[:1] == "[":
        value = decoded(value)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return text(value)


def tokens(value: Any) -> int | None:
    """A count of tokens: whole, not negative, not NaN; larger ones than a column holds are clamped."""
    if type(value) is int and 0 <= value <= MAX_INT:
        return value
    count = number(value)
    if count is None or count < 0 or count != int(count):
        return None
    return min(int(count), MAX_INT)


def number(value: Any) -> int | float | None:
    """A finite number, also where it is written as text."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def money(value: Any) -> float | None:
    """US dollars; a negative or impossible amount is none."""
    amount = number(value)
    return float(amount) if amount is not None and 0 <= amount < 1e9 else None


def flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return None


def milliseconds(value: Any) -> int | None:
    """Whole milliseconds of a number of milliseconds."""
    amount = number(value)
    return None if amount is None or amount < 0 else min(round(amount), MAX_INT)


def seconds(value: Any) -> int | None:
    """Whole milliseconds of a number of seconds."""
    amount = number(value)
    return None if amount is None else milliseconds(amount * 1000)


def decoded(value: Any) -> Any:
    """JSON text decoded; anything else, and text that is not JSON, as it is."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def mapping(value: Any) -> dict[str, Any]:
    """The object in *value*, also where it is JSON text; else the empty one."""
    value = decoded(value)
    return value if isinstance(value, dict) else {}


def json_text(value: Any) -> str:
    """*value* as JSON text that every database takes: non-finite numbers and huge integers as text."""
    try:
        return orjson.dumps(value, default=_unusual).decode()
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(plain(value)).decode()


def as_json(value: Any) -> str | None:
    """A JSON column from an attribute: JSON text is kept as it is, other text becomes a JSON string."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and value[:1] in '{["0123456789-tfn':
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            return json_text(value)
        return value
    return json_text(value)


def moment(nanoseconds: int) -> datetime:
    """The aware UTC datetime of nanoseconds since the epoch, to the microsecond."""
    if not 0 <= nanoseconds <= LATEST:
        nanoseconds = min(max(nanoseconds, 0), LATEST)
    return EPOCH + MICROSECOND * (nanoseconds // 1000)


def sanitize(value: str) -> str:
    """Text that every database takes: NUL as its picture, lone surrogates as the replacement character."""
    return SURROGATES.sub("\ufffd", ESCAPED_NUL.sub("\\1\u2400", value.replace("\x00", "\u2400")))


def is_clean(value: str) -> bool:
    if "\x00" in value:
        return False
    if "\\" in value and "\\u0000" in value and ESCAPED_NUL.search(value):  # a single byte is found at memory speed
        return False
    return value.isascii() or _encodes(value)


def plain(value: Any, depth: int = 32) -> Any:
    """*value* made of what JSON knows, to a bounded depth."""
    if depth == 0:
        return "…"
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else _printed(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {sanitize(_printed(k)): plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, depth - 1) for v in value]
    return sanitize(value.decode("utf-8", "replace") if isinstance(value, bytes) else _printed(value))


def _unusual(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple | list):
        return list(value)
    return str(value)


def _printed(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an integer of more digits than Python prints; an object that cannot be printed
        return hex(value) if isinstance(value, int) else f"<{type(value).__name__}>"


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
