"""``/healthz``, ``/readyz``, ``/metrics``: alive, able to answer, and what happened so far."""

import math
from typing import Any

from starlette.responses import Response

from spanledger.exporter.errors import StoreError
from spanledger.exporter.spool import Spool

from ..answers import Answer
from ..metrics import CONTENT_TYPE
from ..parameters import Asked
from ..queries.costs import cost_of_last_day
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
    try:
        with request.state["ledger"].store.reading() as connection:
            found.cost.set(cost_of_last_day(connection))
    except StoreError:
        found.cost.set(math.nan)  # unknown; the counters are worth telling all the more
    if spool := _spool(request):
        found.spool(spool)
    if retention := request.state["retention"]:
        found.retention(retention.retained)
    return Response(found.text(), media_type=CONTENT_TYPE)


def _spool(request: Asking) -> dict[str, Any] | None:
    """What waits in the spool of this host; None if this service does not drain one."""
    pipeline = request.state["pipeline"]
    return None if pipeline is None or not isinstance(pipeline.queue, Spool) else waiting(pipeline.queue)
