"""`Operation`: one span of ours, from its start to its one end, with its outcome told the same way everywhere."""

import os
import sys
import threading
import traceback
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import metadata
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from .capture import as_json, as_text
from .context import Interleaved, Scope, context_attributes, with_ids
from .guard import guard
from .semconv import (
    CONVERSATION_ID,
    ERROR_MESSAGE,
    ERROR_TYPE,
    EXCEPTION_EVENT,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    METADATA,
    SCHEMA_URL,
    SCOPE,
    SESSION_ID,
    STATUS,
)

Outcome = Literal["completed", "failed", "cancelled"]
AttributeValues = dict[str, str | bool | int | float | list[str]]

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OTel's own switch for prompts and results on spans. Unset, we keep them; ``false`` and ``NO_CONTENT`` forbid."""

_WITHOUT_CONTENT: Final = ("false", "0", "no_content", "event_only")
_MAX_NAME_BYTES: Final = 256
_MAX_MESSAGE_BYTES: Final = 16 * 1024
_MAX_STACKTRACE_BYTES: Final = 64 * 1024
_CANCELLATIONS: Final = {
    ("asyncio.exceptions", "CancelledError"),
    ("concurrent.futures._base", "CancelledError"),
    ("trio", "Cancelled"),
}
"""By name: none of these libraries is imported for the sake of a comparison."""


class Operation:
    """A started span. As a context manager it is current inside the block and ends with it; `end` ends it by hand.

    *id* is the key its row will have (UUID text); *metadata* may be set until it ends. ``await`` on it gives itself, so
    that one method serves code that awaits and code that does not. Nothing here raises into the app. Ending is safe
    from any thread or task, and only the first end counts.
    """

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        attributes: AttributeValues,
        ids: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        *,
        propagate: bool = True,
    ) -> None:
        self.span: Span = trace.INVALID_SPAN
        self.metadata: Mapping[str, Any] = {}
        self._context: Context = get_current()
        self._ended = threading.Lock()  # taken once, never released: the cheapest exactly-once
        with guard("start a span"):
            if metadata:
                self.metadata = dict(metadata)
                attributes = {**attributes, METADATA: as_json(metadata)}
            context = with_ids(ids, propagate=propagate)
            inherited = context_attributes(context)
            attributes = {**attributes, **inherited}
            if SESSION_ID in inherited:
                attributes[CONVERSATION_ID] = inherited[SESSION_ID]
            tracer = _tracer(trace.get_tracer_provider())
            self.span = tracer.start_span(as_text(name, _MAX_NAME_BYTES), context, kind, attributes)
            self._context = trace.set_span_in_context(self.span, context)
        self.id: str = row_id(self.span)
        self._scope = Scope(self._context)

    @property
    def ids(self) -> Mapping[str, str]:
        """The ``spanledger.*`` context attributes in force here."""
        return context_attributes(self._context)

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        return trace.format_span_id(self.span.get_span_context().span_id)

    @property
    def is_current(self) -> bool:
        """Whether this is what the running task or thread is in, most closely."""
        return self._scope.is_current

    def in_pieces(self) -> AbstractContextManager[None]:
        """For code that runs in pieces: this span is current in each ``with`` block on the result, and only there."""
        return Interleaved(self._context)

    def __enter__(self) -> Self:
        self._scope.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.end(error=error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.end(error=error)

    def __await__(self) -> Generator[None, None, Self]:
        return self
        yield

    def end(
        self,
        status: Outcome | None = None,
        *,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> Self:
        """End the span; without *status* as *error* tells (None: completed). Ending again changes nothing.

        In an ``except`` block, a *status* other than completed finds the exception by itself. *metadata* is added.
        """
        if not self._ended.acquire(blocking=False):
            return self
        self._scope.leave()
        if error is None and status in ("failed", "cancelled"):
            error = sys.exception()
        try:
            with guard("describe the end of a span"):
                if metadata:
                    self.metadata = {**self.metadata, **metadata}
                if self.span.is_recording():
                    self._describe(status or outcome(error), error, error_message)
        finally:
            with guard("end a span"):
                self.span.end()
        return self

    def _describe(self, status: Outcome, error: BaseException | None, message: str | None) -> None:
        if status not in get_args(Outcome):
            raise ValueError(f"status is {status!r}; use completed, failed or cancelled")
        attributes: AttributeValues = {STATUS: status, **self._closing_attributes()}
        if self.metadata:
            attributes[METADATA] = as_json(self.metadata)
        if error is not None and not isinstance(error, GeneratorExit):
            self.span.add_event(EXCEPTION_EVENT, exception_attributes(error))
            message = message or _message(error)
        if message:
            message = attributes[ERROR_MESSAGE] = as_text(message, _MAX_MESSAGE_BYTES)
        if status == "failed":
            attributes[ERROR_TYPE] = _class_name(error) if error is not None else "_OTHER"
            self.span.set_status(Status(StatusCode.ERROR, message))
        self.span.set_attributes(attributes)

    def _closing_attributes(self) -> AttributeValues:
        """What only the end knows; each subclass its own."""
        return {}


def outcome(error: BaseException | None) -> Outcome:
    """How something ended that raised *error*: whoever is told to stop has not failed."""
    if error is None:
        return "completed"
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "cancelled"
    if isinstance(error, SystemExit):
        return "cancelled" if error.code in (None, 0) else "failed"
    if any((kind.__module__, kind.__qualname__) in _CANCELLATIONS for kind in type(error).__mro__):
        return "cancelled"
    return "failed"


def exception_attributes(error: BaseException) -> dict[str, str]:
    """The attributes of OTel's ``exception`` event, bounded, and safe from a ``__str__`` that raises."""
    stack = "".join(traceback.format_exception(error))
    return {
        EXCEPTION_TYPE: _class_name(error),
        EXCEPTION_MESSAGE: as_text(_message(error), _MAX_MESSAGE_BYTES),
        EXCEPTION_STACKTRACE: as_text(stack, _MAX_STACKTRACE_BYTES),
    }


def content_allowed() -> bool:
    """Whether prompts, arguments and results may stand on spans."""
    return os.environ.get(CONTENT_VARIABLE, "").lower() not in _WITHOUT_CONTENT


def row_id(span: Span) -> str:
    """The primary key *span*'s row will have: low half of the trace id, then the span id, as a dashed UUID.

    A span that nobody records has a random one.
    """
    context = span.get_span_context()
    if not context.is_valid:
        return str(uuid4())
    digits = f"{context.trace_id & 0xFFFFFFFFFFFFFFFF:016x}{context.span_id:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(maxsize=8)
def _tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer(SCOPE, _version(), SCHEMA_URL)


@lru_cache(maxsize=1)
def _version() -> str | None:
    try:
        return metadata.version("spanledger")
    except metadata.PackageNotFoundError:
        return None


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unreadable:
        return f"[unreadable: {type(unreadable).__name__}]"
