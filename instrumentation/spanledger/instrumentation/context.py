"""The ids an execution hands to everything beneath it: in the OTel context and, across processes, in baggage."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypedDict, TypeVar, Unpack, cast
from uuid import UUID

from opentelemetry import baggage
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value

from .capture import as_text
from .semconv import (
    COMPLETION_ID,
    CONTEXT_ATTRIBUTES,
    EXECUTION_ID,
    EXTERNAL_PLATFORM,
    EXTERNAL_USER_ID,
    REPORT_ID,
    SESSION_ID,
    STEP_ID,
    TOKEN_PRICES,
    WIDGET_ID,
)

P = ParamSpec("P")
R = TypeVar("R")

Id = str | UUID | int | None


class Ids(TypedDict, total=False):
    """The ids a call may be given by name; what is not given, or None, is inherited."""

    execution_id: Id
    report_id: Id
    completion_id: Id
    widget_id: Id
    step_id: Id
    session_id: Id
    external_platform: Id
    external_user_id: Id


ATTRIBUTE_OF: Final[Mapping[str, str]] = {
    "execution_id": EXECUTION_ID,
    "report_id": REPORT_ID,
    "completion_id": COMPLETION_ID,
    "widget_id": WIDGET_ID,
    "step_id": STEP_ID,
    "session_id": SESSION_ID,
    "external_platform": EXTERNAL_PLATFORM,
    "external_user_id": EXTERNAL_USER_ID,
    "token_prices": TOKEN_PRICES,  # not an id, but handed on like one
}

IN_BAGGAGE: Final = (EXECUTION_ID, REPORT_ID, COMPLETION_ID, WIDGET_ID, STEP_ID)
"""What leaves the process. Baggage goes to every host the app calls, so people and sessions stay at home."""

_SAFE_IN_A_HEADER: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
MAX_PRICES_BYTES: Final = 8 * 1024
MAX_ID_BYTES: Final = 512
"""Longest identifier kept whole."""

_IDS: Final = create_key("spanledger.ids")
_SCOPE: Final = create_key("spanledger.scope")
_NO_IDS: Final[Mapping[str, str]] = {}


def context_attributes(context: Context | None = None) -> Mapping[str, str]:
    """The ``spanledger.*`` attributes that every span started in *context* (None: the current one) carries.

    They are those of the enclosing execution or `using`, else those another process sent in baggage. Read only.
    """
    ids = get_value(_IDS, context)
    return cast(Mapping[str, str], ids) if ids is not None else _from_baggage(context)


def _from_baggage(context: Context | None) -> Mapping[str, str]:
    sent = baggage.get_all(context)
    if not sent:
        return _NO_IDS
    return {name: as_text(sent[name], MAX_ID_BYTES) for name in CONTEXT_ATTRIBUTES if name in sent}


def with_ids(ids: Mapping[str, Any], context: Context | None = None, *, propagate: bool = True) -> Context:
    """*context* with *ids* (the names of `Ids`) on top of those it has; with *propagate* also in its baggage."""
    context = live(get_current() if context is None else context)
    inherited = context_attributes(context)
    given = {
        ATTRIBUTE_OF[name]: as_text(str(value), _longest(name)) for name, value in ids.items() if value is not None
    }
    context = set_value(_IDS, {**inherited, **given}, context)
    if propagate:
        for name in IN_BAGGAGE:
            if (value := given.get(name)) is not None and _SAFE_IN_A_HEADER.fullmatch(value):
                context = baggage.set_baggage(name, value, context)
    return context


def _longest(name: str) -> int:
    return MAX_PRICES_BYTES if name == "token_prices" else MAX_ID_BYTES


def live(context: Context) -> Context:
    """*context* without the scopes of ours that were left while it was current somewhere else."""
    while isinstance(scope := get_value(_SCOPE, context), Scope) and scope.left:
        context = scope.outer
    return context


@contextmanager
def using(*, propagate: bool = True, **ids: Unpack[Ids]) -> Iterator[None]:
    """Everything started in this ``with`` block carries *ids*; with *propagate* other processes called do, too."""
    scope = Scope(with_ids(ids, propagate=propagate))
    scope.enter()
    try:
        yield
    finally:
        scope.leave()


def bind_context(function: Callable[P, R]) -> Callable[P, R]:
    """*function*, to be run elsewhere (a thread pool, another loop) within the execution that is current now.

    ``executor.submit(bind_context(work), item)``. (`asyncio.to_thread` and tasks need no help.)
    """
    context = get_current()

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with Interleaved(context):
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
        with Interleaved(context):
            return await cast(Any, function(*args, **kwargs))

    return cast(Callable[P, R], run_async) if inspect.iscoroutinefunction(function) else run


class Scope:
    """A stretch of code that runs with *context* current.

    Leaving attaches the outer context again instead of resetting a token: a token is refused in another task or thread,
    which is just where an abandoned generator is closed. There, leaving changes nothing.
    """

    __slots__ = ("context", "left", "outer")

    def __init__(self, context: Context) -> None:
        self.context = set_value(_SCOPE, self, context)
        self.outer = context
        self.left = False

    def enter(self) -> None:
        self.outer = get_current()
        attach(self.context)

    @property
    def is_current(self) -> bool:
        """Whether this is the innermost scope of the running task or thread."""
        return get_value(_SCOPE) is self

    def leave(self) -> None:
        self.left = True
        if self.is_current:
            attach(live(self.outer))


class Interleaved:
    """The context of code that runs in pieces, like a generator: current in each ``with`` block, and only there."""

    __slots__ = ("_inside", "_outside")

    def __init__(self, context: Context) -> None:
        self._inside = self._outside = context

    def __enter__(self) -> None:
        self._outside = get_current()
        attach(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = get_current()  # what the code left open, it finds open
        attach(self._outside)
