"""What every request can reach: made once in `create_app`, handed over by Starlette's lifespan."""

from collections.abc import Mapping
from typing import Any, TypedDict

from starlette.requests import Request

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .metrics import Metrics


class State(TypedDict):
    """The ledger behind the service, its settings, its own counters, and its description of itself."""

    ledger: Ledger
    settings: Settings
    metrics: Metrics
    openapi: Mapping[str, Any]


Asking = Request[State]
