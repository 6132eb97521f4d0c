"""What every request can reach: made once in `create_app`, handed over by Starlette's lifespan."""

from collections.abc import Mapping
from typing import Any, TypedDict

from starlette.requests import Request

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .dashboard.pages import Pages
from .metrics import Metrics


class State(TypedDict):
    """The ledger behind the service, its settings, its counters, its description of itself, its pages."""

    ledger: Ledger
    settings: Settings
    metrics: Metrics
    openapi: Mapping[str, Any]
    pages: Pages


Asking = Request[State]
