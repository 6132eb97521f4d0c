"""The databases rows can live in. What is peculiar to one is said in its module here and nowhere else.

To add one, write a module with a `Backend` and name it in `BACKENDS`; the conformance suite finds it there.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from ..errors import ConfigurationError
from .base import Backend
from .expressions import percentile
from .postgresql import PostgreSQL
from .sqlite import SQLite

__all__ = ["BACKENDS", "Backend", "backend_of", "percentile"]

BACKENDS: Final[Mapping[str, type[Backend]]] = {backend.name: backend for backend in (SQLite, PostgreSQL)}
ALIASES: Final = {"postgres": "postgresql"}
"""Schemes that hosting services hand out and SQLAlchemy does not know."""


def backend_of(database: str | Engine) -> Backend:
    """The backend for a URL, or for the database an application's engine is connected to.

    Of an engine only its URL is used: its connections, pool and transactions stay the application's own. Does not
    connect. Raises `ConfigurationError`.
    """
    url = database.url if isinstance(database, Engine) else _parsed(database)
    name = url.get_backend_name()
    backend = BACKENDS.get(ALIASES.get(name, name))
    if backend is None:
        raise ConfigurationError(
            f"spanledger cannot store in {name!r}: use sqlite:///file.db or postgresql://user@host/database."
        )
    return backend(url)


def _parsed(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # without the text itself, which may hold a password
        raise ConfigurationError(
            "The database URL cannot be read: use sqlite:///file.db or postgresql://user@host/database, "
            "with special characters of a password percent-encoded."
        ) from None
