"""What a server writes to its log: requests write no lines of their own in it, and leave no secrets."""

import logging
from typing import Final

from spanledger.exporter.secret_patterns import mask_secrets

from .terminal import harmless

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LONGEST: Final = 2_000
"""Characters of a line; what is longer was sent by somebody."""


class Lines(logging.Formatter):
    """Every entry begins a line; its further lines, of a traceback or of whatever it quotes, are indented."""

    def format(self, record: logging.LogRecord) -> str:
        lines = mask_secrets(super().format(record)).split("\n")
        return "\n    ".join(harmless(line[:LONGEST]) for line in lines)


def to_stderr() -> None:
    """Write warnings and worse of this process to stderr, unless it has a log already."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
