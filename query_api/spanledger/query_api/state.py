"""What every request can reach: made once in `create_app`, handed over by Starlette's lifespan."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from anyio import CapacityLimiter
from starlette.requests import Request

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .dashboard.pages import Pages
from .doorkeeper import Doorkeeper
from .metrics import Metrics

ANYONE: Final = "anyone"
"""The caller of a service that asks for no key."""


class State(TypedDict):
    """The ledger behind the service, its settings, its counters, its description of itself, its pages.

    *writers* are the threads that record spans, so that questions cannot take them all. *caller* is the id of the key
    that a request came with.
    """

    ledger: Ledger
    settings: Settings
    metrics: Metrics
    openapi: Mapping[str, Any]
    pages: Pages
    writers: CapacityLimiter
    doorkeeper: Doorkeeper
    caller: str


Asking = Request[State]
