"""What every request can reach: made once in `create_app`, handed over by Starlette's lifespan."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from anyio import CapacityLimiter
from starlette.requests import Request

from spanledger.exporter.group import GroupCommit
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.retention import Retention
from spanledger.exporter.settings import Settings

from .budget import Budget
from .dashboard.pages import Pages
from .doorkeeper import Doorkeeper
from .metrics import Metrics

ANYONE: Final = "anyone"
"""The caller of a service that asks for no key."""


class State(TypedDict):
    """The ledger behind the service, its settings, its counters, its description of itself, its pages.

    *writers* are the threads that record spans, so that questions cannot take them all; *commits* brings what they
    bring at the same time into one transaction, and *budget* bounds what they all hold. *caller* is the id of the key
    that a request came with. *pipeline* drains this host's spool, and *retention* removes old rows, where this service
    does so.
    """

    ledger: Ledger
    settings: Settings
    metrics: Metrics
    openapi: Mapping[str, Any]
    pages: Pages
    writers: CapacityLimiter
    commits: GroupCommit
    budget: Budget
    pipeline: Pipeline | None
    retention: Retention | None
    doorkeeper: Doorkeeper
    caller: str


Asking = Request[State]
