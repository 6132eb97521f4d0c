"""What every request can reach: made once in `create_app`, handed over by Starlette's lifespan."""

from collections.abc import Mapping
from typing import Any, TypedDict

from anyio import CapacityLimiter
from starlette.requests import Request

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .dashboard.pages import Pages
from .metrics import Metrics


class State(TypedDict):
    """The ledger behind the service, its settings, its counters, its description of itself, its pages.

    *writers* are the threads that record spans, so that questions cannot take them all.
    """

    ledger: Ledger
    settings: Settings
    metrics: Metrics
    openapi: Mapping[str, Any]
    pages: Pages
    writers: CapacityLimiter


Asking = Request[State]
