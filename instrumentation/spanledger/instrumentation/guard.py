"""The one guard at our boundary: a bug of ours becomes one log line in production and a failure in tests."""

import logging
import os
import time
from types import TracebackType
from typing import Final

RAISE_VARIABLE: Final = "SPANLEDGER_RAISE"
"""``true``: internal errors are raised; ``false``: they are logged. Unset: raised under pytest only."""

_SECONDS_BETWEEN_REPEATS: Final = 60.0


class guard:
    """``with guard("start a span"):`` around code of ours that runs in the app's way.

    An `Exception` inside becomes one warning a minute that names what could not be done. Under pytest it is raised, so
    that tests never hide a bug; ``SPANLEDGER_RAISE`` decides otherwise.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, Exception) or _raises():
            return False
        _LOG.warning("Could not %s. Your code runs on, with less in the ledger.", self._doing, exc_info=error)
        return True


def _raises() -> bool:
    if choice := os.environ.get(RAISE_VARIABLE):
        return choice.lower() in ("1", "true", "yes", "on")
    return "PYTEST_CURRENT_TEST" in os.environ


class _OncePerMinute(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._quiet_until: dict[str, float] = {}  # bounded: the messages are the few fixed sentences of this package

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = record.getMessage(), time.monotonic()
        if now < self._quiet_until.get(message, 0.0):
            return False
        self._quiet_until[message] = now + _SECONDS_BETWEEN_REPEATS
        return True


_LOG: Final = logging.getLogger(__name__)
_LOG.addFilter(_OncePerMinute())
