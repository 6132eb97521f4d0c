"""``/analytics/completeness``: what agents produced, what is stored of it, and every loss with its reason."""

from starlette.responses import Response

from ..answers import Answer
from ..parameters import Asked, window
from ..queries.completeness import delivered
from ..state import Asking
from .summary import date_range


def completeness(request: Asking, asked: Asked) -> Response:
    """Of spans that came by way of a spool. ``produced == stored + skipped + dropped``; /metrics counts OTLP's."""
    asked = window(asked)
    with request.state["ledger"].store.reading() as connection:
        return Answer({"date_range": date_range(asked), **delivered(connection, asked)})
