"""What can go wrong, and whether trying again can help.

::

    SpanledgerError
    ├── ConfigurationError      wrong settings: say so at start, in words
    ├── StoreError
    │   ├── StoreUnavailable    try again later (database down, locked, full, not migrated)
    │   └── StoreRejected       never try again (this data, this schema)
    ├── SpoolFull               the bounded queue on disk has no room
    ├── UndecodableSpans        a body that is not OTLP
    └── BadParameter            a question the API cannot parse

The docstring of a class is its default message.
"""

from typing import ClassVar


class SpanledgerError(Exception):
    """Something went wrong in spanledger."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class ConfigurationError(SpanledgerError):
    """The configuration cannot be used as it is."""


class StoreError(SpanledgerError):
    """The database could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or is busy; the same call may succeed later."""

    retryable = True


class StoreRejected(StoreError):
    """The database refused this data; the same call will never succeed."""


class SpoolFull(SpanledgerError):
    """The spool has reached its size limit; new spans are dropped and counted until the database catches up."""


class UndecodableSpans(SpanledgerError):
    """The body is not an OTLP export request."""


class BadParameter(SpanledgerError):
    """A request parameter cannot be understood."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter
