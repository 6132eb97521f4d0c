"""`create_app`: the service as a Starlette application."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Engine, QueuePool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from spanledger.exporter.group import GroupCommit
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.retention import Retention
from spanledger.exporter.settings import Settings

from .auth import Auth
from .budget import Budget
from .dashboard.pages import Pages
from .doorkeeper import Doorkeeper
from .keys import Keys
from .listening import Certificate
from .metrics import Metrics
from .middleware import Envelope
from .openapi import document
from .origins import Origins
from .problems import EXCEPTION_HANDLERS
from .routes import ROUTES, as_starlette
from .state import ANYONE, State

WRITERS: Final = 2
"""Transactions that record spans at once. SQLite has one writer anyway; on PostgreSQL two do a third more than one."""
RECEIVERS: Final = 16
"""Threads that decode bodies, or wait until what they decoded is committed together with what the others did."""


def create_app(
    ledger: Ledger,
    settings: Settings,
    *,
    grpc_port: int | None = None,
    certificate: Certificate | None = None,
    insecure: bool = False,
    pipeline: Pipeline | None = None,
    retention: Retention | None = None,
) -> Starlette:
    """The service over *ledger*. It does not close the ledger: whoever opened it does.

    With *grpc_port* it takes OTLP over gRPC as well, on ``settings.host``, while it lives; with *certificate* over TLS.
    *insecure*: while there are no API keys, it does what anyone asks, not only who is on this machine. *pipeline*,
    also the caller's, is the one that drains this host's spool; *retention*, too, what removes old rows.
    """
    metrics, openapi, pages = Metrics(), document(ROUTES), Pages()
    commits, budget = GroupCommit(ledger, WRITERS), Budget()
    routes = as_starlette(ROUTES)
    doorkeeper = Doorkeeper(Keys(ledger.store), insecure=insecure)
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
            writers=CapacityLimiter(RECEIVERS),
            commits=commits,
            budget=budget,
            pipeline=pipeline,
            retention=retention,
            doorkeeper=doorkeeper,
            caller=ANYONE,
        )
        async with AsyncExitStack() as stack:
            if grpc_port is not None:
                from .receivers import grpc  # takes as long to import as all the rest, for an option few need

                await stack.enter_async_context(grpc.serving(state, settings.host, grpc_port, certificate))
            yield state

    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Envelope, metrics=metrics, paths=paths),
            Middleware(Origins, hosts=[settings.host, *settings.hosts], origins=settings.origins),
            *_cross_origin(settings),
            Middleware(
                Auth,
                doorkeeper=doorkeeper,
                routes=[(route, entry.scope) for route, entry in zip(routes, ROUTES, strict=True)],
            ),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


def _cross_origin(settings: Settings) -> list[Middleware]:
    """Outside of authorisation: browsers ask whether they may ask without showing a key."""
    if not settings.origins:
        return []
    methods, headers = ("GET", "POST", "DELETE"), ("Authorization", "Content-Type", "Content-Encoding")
    return [Middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=methods, allow_headers=headers)]


def _connections(engine: Engine) -> int:
    pool = engine.pool
    return pool.size() if isinstance(pool, QueuePool) else WRITERS + 1
