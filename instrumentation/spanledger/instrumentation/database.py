"""Which database the app's session or engine points to: learnt by looking, and told to the exporter."""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Final

from opentelemetry import trace

from .guard import guard

HOOKS: Final = "spanledger_database"
"""Entry-point group: each hook is called with the URL of the app's database, or None, and sets up the storing."""

_LOG: Final = logging.getLogger(__name__)


def use_database(database: Any = None) -> None:
    """Store in the database that *database* points to: a SQLAlchemy session, engine or connection, sync or async, a
    URL, or None for the default one. It is only asked for its URL: nothing is executed, flushed or committed.

    Does nothing once an OTel tracer provider is configured, as by `spanledger.exporter.configure`. Never raises.
    """
    with guard("find out which database to use"):
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            url = None if database is None else url_of(database)
            for hook in entry_points(group=HOOKS):
                configure: Callable[[str | None], object] = hook.load()
                configure(url)


def url_of(database: Any) -> str | None:
    """The URL *database* points to, password included and its driver left open; None when nobody else can open it."""
    if isinstance(database, str):
        return database
    bind = database.get_bind() if hasattr(database, "get_bind") else database
    url = getattr(bind, "engine", bind).url
    backend: str = url.get_backend_name()
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        _LOG.warning("The app's SQLite database lives in its memory, where no other connection finds it; using ours.")
        return None
    text: str = url.set(drivername=backend).render_as_string(hide_password=False)
    return text
