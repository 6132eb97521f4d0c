"""``/`` and ``/openapi.json``: what is here."""

from typing import Any, Final

from starlette.responses import Response

from spanledger.exporter.schema import execution_logs

from ..answers import Answer
from ..parameters import EXECUTION_LIST, Asked, defaults, window
from ..queries.pages import page
from ..state import Asking
from .summary import summarise

MOST: Final = 10
"""Rows of each table on the page."""


def openapi(request: Asking, asked: Asked) -> Response:
    return Answer(request.state["openapi"])


def start_page(request: Asking, asked: Asked) -> Response:
    with request.state["ledger"].store.reading() as connection:
        summary = summarise(connection, window({}))
        latest = connection.execute(page(execution_logs, defaults(EXECUTION_LIST) | {"limit": MOST})).all()
    address = str(request.base_url).rstrip("/")
    values: dict[str, Any] = {"summary": summary, "latest": latest[:MOST], "most": MOST}
    return request.state["pages"].render(
        "start.html", **values, address=address, paths=request.state["openapi"]["paths"]
    )
