"""`create_app`: the service as a Starlette application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .dashboard.pages import Pages
from .metrics import Metrics
from .middleware import Envelope
from .openapi import document
from .problems import EXCEPTION_HANDLERS
from .routes import ROUTES, as_starlette
from .state import State


def create_app(ledger: Ledger, settings: Settings) -> Starlette:
    """The service over *ledger*. It does not close the ledger: whoever opened it does."""
    state = State(ledger=ledger, settings=settings, metrics=Metrics(), openapi=document(ROUTES), pages=Pages())
    routes = as_starlette(ROUTES)
    paths = {route.endpoint: route.path for route in routes}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        yield state

    return Starlette(
        routes=routes,
        middleware=[Middleware(Envelope, metrics=state["metrics"], paths=paths)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
