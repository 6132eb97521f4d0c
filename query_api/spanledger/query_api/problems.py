"""Exceptions → RFC 9457 problems: one mapping, by class. The only 5xx we answer on purpose is 503: try again later."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ExceptionHandler

from spanledger.exporter.errors import (
    BadParameter,
    ConfigurationError,
    SpanledgerError,
    StoreRejected,
    StoreUnavailable,
    UndecodableSpans,
)

from .budget import Overloaded
from .middleware import SECURITY_HEADERS

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
NO_HEADERS: Final[Mapping[str, str]] = {}


class NotFound(SpanledgerError):
    """There is nothing here."""


class BodyTooLarge(SpanledgerError):
    """The body is larger than this server accepts."""


class BodyTooSlow(SpanledgerError):
    """The body did not arrive in time; send it again."""


class UnsupportedBody(SpanledgerError):
    """The body's content type or encoding is not one this server reads."""


class Problem(NamedTuple):
    """What a client is told. *detail* is a sentence saying what to do."""

    status: int
    detail: str
    headers: Mapping[str, str] = NO_HEADERS
    more: Mapping[str, Any] = NO_HEADERS

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def document(self) -> dict[str, Any]:
        """The members of RFC 9457; ``about:blank`` says that the status is all there is to know of the type."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail, **self.more}

    def response(self) -> Response:
        return Response(orjson.dumps(self.document()), self.status, dict(self.headers), MEDIA_TYPE)


class Denied(SpanledgerError):
    """A request that is answered without being heard."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.problem = Problem(status, detail, {name.replace("_", "-"): value for name, value in headers.items()})


STATUSES: Final[Mapping[type[Exception], int]] = {
    BadParameter: 400,
    UndecodableSpans: 400,
    ClientDisconnect: 400,
    NotFound: 404,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    UnsupportedBody: 415,
    StoreRejected: 400,
    StoreUnavailable: 503,
    Overloaded: 503,
    ConfigurationError: 503,
}

LEFT_UNREAD: Final = frozenset((408, 413))
"""Answered before the body was read: the connection ends with them, or the server would read on to find its end."""


def problem_of(error: Exception) -> Problem:
    """The problem an exception is. What we did not foresee is a 500 that says nothing of our insides."""
    if isinstance(error, Denied):
        return error.problem
    for known in type(error).__mro__:
        if (status := STATUSES.get(known)) is not None:
            break
    else:
        return Problem(500, "Something went wrong on our side; the server's log has the details.")
    if isinstance(error, BadParameter):
        return Problem(status, str(error), more={"parameter": error.parameter})
    if isinstance(error, Overloaded):  # its body was not read: the connection ends with the answer
        return Problem(status, str(error), {"Retry-After": str(RETRY_AFTER_SECONDS), "Connection": "close"})
    if status == 503:
        return Problem(status, str(error), {"Retry-After": str(RETRY_AFTER_SECONDS)})
    if status in LEFT_UNREAD:
        return Problem(status, str(error), {"Connection": "close"})
    return Problem(status, str(error) or HTTPStatus(status).description)


async def answer(request: Request, error: Exception) -> Response:
    return problem_of(error).response()


async def answer_bug(request: Request, error: Exception) -> Response:
    """Starlette calls this outside of all middleware; then the server logs the exception and ends the connection."""
    return problem_of(error)._replace(headers={**SECURITY_HEADERS, "Connection": "close"}).response()


async def answer_http(request: Request, error: Exception) -> Response:
    """What the router raises: an unknown path or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return Problem(404, "There is nothing at this address; /openapi.json lists what is here.").response()
    if error.status_code == 405:
        allowed = sorted(
            method
            for route in request.app.routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods
        )
        detail = f"{request.method} does not work here; use {', '.join(allowed)}."
        return Problem(405, detail, {"Allow": ", ".join(allowed)}).response()
    return Problem(error.status_code, error.detail).response()


EXCEPTION_HANDLERS: Final[Mapping[Any, ExceptionHandler]] = {
    **dict.fromkeys(STATUSES, answer),
    HTTPException: answer_http,
    Exception: answer_bug,
}
