"""Which hosts a request may name and which pages it may come from.

A browser that can reach us runs the pages of others. One that makes its own name resolve to our address ("DNS
rebinding") is known by the Host it sends; one that sends us a form or a request is known by its Origin.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import Problem

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
OWN_PAGES: Final = frozenset(("same-origin", "none"))
"""Values of Sec-Fetch-Site: a page of ours, or a person's own doing."""
HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d*)?", re.ASCII)
LOOPBACK: Final = "localhost"


class Origins:
    """ASGI middleware: 421 for a host that is none of ours, 403 for a change that a page of others asks for.

    *hosts* are the names this service goes by, besides ``localhost`` and any IP address: an address cannot be rebound.
    *origins* are those whose pages may use the API as ours may (``https://app.example``).
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.app = app
        self.hosts = {LOOPBACK, *(host.lower() for host in hosts)}
        self.origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._problem(scope["method"], Headers(scope=scope))):
            await problem.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _problem(self, method: str, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return Problem(421, f"This is not {host[:100]!r}; name it in SPANLEDGER_ALLOWED_HOSTS if it is.")
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.lower() in self.origins:
            return None
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in OWN_PAGES:
            return Problem(403, "A page of another origin asks for this; name it in SPANLEDGER_CORS_ORIGINS if it may.")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: str) -> str:
    """*host* in small letters, without its port."""
    shape = HOST.fullmatch(host)
    return (shape[1] or shape[2]).lower() if shape else ""
