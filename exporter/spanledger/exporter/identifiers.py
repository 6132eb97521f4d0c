"""Identifiers that people choose themselves, as the UUIDs the tables hold."""

import uuid
from functools import lru_cache
from typing import Final

NAMESPACE: Final = uuid.UUID("6d0f6f1c-3f0b-5c60-9d5a-0c1b7c1d5e1a")
"""The fixed namespace of the UUIDv5s. Changing it would orphan every stored identifier."""


@lru_cache(maxsize=4096)
def as_uuid(text: str) -> str:
    """The dashed UUID of *text*: itself if it is one, else a UUIDv5 of it.

    The API applies the same rule to its filters: ``report_id=report_456`` finds what ``report_id="report_456"`` wrote.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, text.encode("utf-8", "replace").decode()))
