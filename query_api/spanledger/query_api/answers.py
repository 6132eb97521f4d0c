"""Rows and results as JSON bodies: orjson, UTC times with Z, field names are column names."""

from collections.abc import Iterable
from typing import Any, Final

import orjson
from sqlalchemy import Row
from starlette.responses import Response

from .terminal import harmless_json

SIGNIFICANT_DIGITS: Final = 12
"""Sums of money are given to 12 significant digits: adding binary floats leaves noise in the 16th."""

_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS


class Answer(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=_OPTIONS)


def as_json(content: Any) -> str:
    """What an `Answer` of that content says, for a terminal."""
    return harmless_json(orjson.dumps(content, option=_OPTIONS).decode())


def as_objects(rows: Iterable[Row[Any]], jaeger_url: str | None) -> list[dict[str, Any]]:
    """Rows as JSON objects, with ``trace_url`` where it is known where traces can be seen."""
    objects = [dict(row._mapping) for row in rows]
    if jaeger_url:
        base = jaeger_url.rstrip("/")
        for item in objects:
            item["trace_url"] = f"{base}/trace/{item['trace_id']}"
    return objects


def dollars(amount: float | None) -> float | None:
    """*amount* to 12 significant digits."""
    return None if amount is None else float(f"{amount:.{SIGNIFICANT_DIGITS}g}")
