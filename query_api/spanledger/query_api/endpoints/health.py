"""``/healthz``, ``/readyz``, ``/metrics``: alive, able to answer, and what happened so far."""

from starlette.responses import Response

from ..answers import Answer
from ..metrics import CONTENT_TYPE
from ..parameters import Asked
from ..state import Asking


async def healthz(request: Asking) -> Response:
    """Not in a thread: questions that keep every thread busy do not make the process look dead."""
    return Answer({"status": "ok"})


def readyz(request: Asking, asked: Asked) -> Response:
    """503 with what to do when the database is away or not migrated."""
    request.state["ledger"].store.check()
    return Answer({"status": "ready", "database": "reachable", "schema": "current"})


async def metrics(request: Asking) -> Response:
    return Response(request.state["metrics"].text(), media_type=CONTENT_TYPE)
