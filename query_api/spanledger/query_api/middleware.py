"""What surrounds every request: our own instrumentation switched off, security headers, and a count of the answer."""

import time
from collections.abc import Callable, Mapping
from http import HTTPMethod
from typing import Any, Final

# The key has no public name; OTel's own instrumentations read it from here.
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""On every answer that does not set them itself. Content of prompts is never to be cached, framed or sniffed."""

UNMATCHED: Final = "unmatched"
"""Path label of requests to no address of ours: theirs are not ours to remember."""
METHODS: Final = frozenset(HTTPMethod)
OTHER: Final = "other"
"""Method label of those that senders make up."""


class Envelope:
    """ASGI middleware. *paths* gives the path template of an endpoint, so that metrics have one series a route."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Mapping[Callable[..., Any], str]) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # A service that is itself instrumented must not write spans about its own writing of spans.
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            detach(token)
            path = self.paths.get(scope.get("endpoint", UNMATCHED), UNMATCHED)
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self.metrics.requests.labels(method, path, status).inc()
            self.metrics.seconds.labels(method, path).observe(time.perf_counter() - started)
