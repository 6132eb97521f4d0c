"""``/healthz``, ``/readyz``, ``/metrics``: alive, able to answer, and what happened so far."""

from typing import Any

from starlette.responses import Response

from spanledger.exporter.spool import Spool

from ..answers import Answer
from ..metrics import CONTENT_TYPE
from ..parameters import Asked
from ..state import Asking
from ..waiting import waiting


async def healthz(request: Asking) -> Response:
    """Not in a thread: questions that keep every thread busy do not make the process look dead."""
    return Answer({"status": "ok"})


def readyz(request: Asking, asked: Asked) -> Response:
    """503 with what to do when the database is away or not migrated. *spool*: what waits on this host for it."""
    request.state["ledger"].store.check()
    return Answer({"status": "ready", "database": "reachable", "schema": "current", "spool": _spool(request)})


def metrics(request: Asking, asked: Asked) -> Response:
    found = request.state["metrics"]
    if spool := _spool(request):
        found.spool(spool)
    return Response(found.text(), media_type=CONTENT_TYPE)


def _spool(request: Asking) -> dict[str, Any] | None:
    """What waits in the spool of this host; None if this service does not drain one."""
    pipeline = request.state["pipeline"]
    return None if pipeline is None or not isinstance(pipeline.queue, Spool) else waiting(pipeline.queue)
