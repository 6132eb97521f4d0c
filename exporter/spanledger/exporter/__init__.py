"""Turns spans into rows and keeps them safe.

>>> from spanledger.exporter import configure
>>> handle = configure()  # every span of this process, in the database SPANLEDGER_DATABASE_URL names
"""

from .configure import Configured, configure, use_database
from .errors import ConfigurationError, SpanledgerError, StoreUnavailable
from .exporter import LedgerSpanExporter
from .processor import ContextSpanProcessor, LedgerSpanProcessor

__all__ = [
    "ConfigurationError",
    "Configured",
    "ContextSpanProcessor",
    "LedgerSpanExporter",
    "LedgerSpanProcessor",
    "SpanledgerError",
    "StoreUnavailable",
    "configure",
    "use_database",
]
