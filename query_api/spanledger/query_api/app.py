"""`create_app`: the service as a Starlette application."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine, QueuePool
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

WRITERS: Final = 2
"""Threads that record spans. SQLite has one writer anyway; on PostgreSQL two reach a third more than one."""


def create_app(ledger: Ledger, settings: Settings, *, grpc_port: int | None = None) -> Starlette:
    """The service over *ledger*. It does not close the ledger: whoever opened it does.

    With *grpc_port* it takes OTLP over gRPC as well, on ``settings.host``, while it lives.
    """
    metrics, openapi, pages = Metrics(), document(ROUTES), Pages()
    routes = as_starlette(ROUTES)
    paths = {route.endpoint: route.path for route in routes}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        # As many questions at once as there are connections for them: the others wait in line, and do not time out.
        to_thread.current_default_thread_limiter().total_tokens = max(1, _connections(ledger.store.engine) - WRITERS)
        state = State(
            ledger=ledger,
            settings=settings,
            metrics=metrics,
            openapi=openapi,
            pages=pages,
            writers=CapacityLimiter(WRITERS),
        )
        async with AsyncExitStack() as stack:
            if grpc_port is not None:
                from .receivers import grpc  # takes as long to import as all the rest, for an option few need

                await stack.enter_async_context(grpc.serving(state, settings.host, grpc_port))
            yield state

    return Starlette(
        routes=routes,
        middleware=[Middleware(Envelope, metrics=metrics, paths=paths)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


def _connections(engine: Engine) -> int:
    pool = engine.pool
    return pool.size() if isinstance(pool, QueuePool) else WRITERS + 1
