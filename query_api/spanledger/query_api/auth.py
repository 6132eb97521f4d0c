"""Authorisation of HTTP requests: deny by default, outside of the router, so that a route that forgets it is closed.

While a database holds no key, whoever reaches the service on loopback may do everything. From the first key on, for
ever, everything but ``/healthz`` takes a key with the scope that `ROUTES` says.
"""

from collections.abc import Sequence
from typing import Final

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from spanledger.exporter.errors import StoreError

from .doorkeeper import Doorkeeper, is_basic
from .keys import Key, Scope
from .listening import is_loopback
from .problems import Denied, problem_of
from .receivers.http import refusal

READING: Final = ("GET", "HEAD")
BROWSER_CHALLENGE: Final = 'Basic realm="spanledger: any name, and a key as the password", charset="UTF-8"'


class Auth:
    """ASGI middleware. *routes* are those of the application, each with the scope it takes; None: anyone may ask.

    What is no route takes a key, too: who has none cannot find out what is here.
    """

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, routes: Sequence[tuple[BaseRoute, Scope | None]]) -> None:
        self.app = app
        self.doorkeeper = doorkeeper
        self.routes = routes
        self._readers = CapacityLimiter(1)
        self._writers = CapacityLimiter(1)

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        if connection["type"] == "lifespan":
            await self.app(connection, receive, send)
            return
        public, scope = self._scope(connection)
        if public:
            await self.app(connection, receive, send)
            return
        try:
            key = await self._admit(connection, scope)
        except (Denied, StoreError) as error:
            await _refuse(connection, error)(connection, receive, send)
            return
        if key is not None:
            connection["state"]["caller"] = key.id
        await self.app(connection, receive, send)
        if key is not None and not self.doorkeeper.is_noted(key):
            await to_thread.run_sync(self.doorkeeper.note_use, key, limiter=self._writers)

    async def _admit(self, connection: Connection, scope: Scope | None) -> Key | None:
        if not self.doorkeeper.is_up_to_date:
            await to_thread.run_sync(self.doorkeeper.look, limiter=self._readers)
        credentials = Headers(scope=connection).getlist("authorization")
        if connection.get("method") not in READING:
            # Browsers send Basic by themselves, whoever wrote the page: it may look, and not change anything.
            credentials = [header for header in credentials if not is_basic(header)]
        server, client = connection.get("server"), connection.get("client")
        local = server is None or is_loopback(server[0])
        return self.doorkeeper.admit(credentials, client[0] if client else "", scope, local=local)

    def _scope(self, connection: Connection) -> tuple[bool, Scope | None]:
        """Whether anyone may ask this, and the scope it takes if not; None: any key will do."""
        if connection["type"] == "http":
            for route, scope in self.routes:
                if route.matches(connection)[0] is Match.FULL:
                    return scope is None, scope
        return False, None


def _refuse(connection: Connection, error: Exception) -> Response:
    problem = problem_of(error)
    headers = Headers(scope=connection)
    if problem.status == 401 and "text/html" in headers.get("accept", "") and connection["method"] in READING:
        problem = problem._replace(headers={"WWW-Authenticate": BROWSER_CHALLENGE})
    return refusal(problem, headers.get("content-type", "") if connection["path"].startswith("/v1/") else "")
