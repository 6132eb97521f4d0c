"""`Delivery`: what a process has handed over, and every loss with its reason."""

from collections.abc import Mapping
from typing import NamedTuple


class Delivery(NamedTuple):
    """A snapshot; every number counts spans that ended."""

    kept: int
    """Taken over: stored already, or in the queue that brings them to the database."""
    lost: Mapping[str, int]
    """Gone for good: how many, by reason."""
