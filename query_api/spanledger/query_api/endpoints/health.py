"""``/healthz``, ``/readyz``, ``/metrics``: alive, able to answer, and what happened so far."""

from starlette.responses import Response

from ..answers import Answer
from ..metrics import CONTENT_TYPE
from ..parameters import Asked
from ..state import Asking


def healthz(request: Asking, asked: Asked) -> Response:
    return Answer({"status": "ok"})


def readyz(request: Asking, asked: Asked) -> Response:
    """503 with what to do when the database is away or not migrated."""
    request.state["ledger"].store.check()
    return Answer({"status": "ready", "database": "reachable", "schema": "current"})


def metrics(request: Asking, asked: Asked) -> Response:
    return Response(request.state["metrics"].text(), media_type=CONTENT_TYPE)
