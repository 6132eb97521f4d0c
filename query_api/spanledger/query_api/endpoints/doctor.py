"""``/analytics/doctor``: what is wrong with what was recorded, and what to do about it."""

from starlette.responses import Response

from ..answers import Answer
from ..diagnosis import diagnose
from ..parameters import Asked
from ..state import Asking


def doctor(request: Asking, asked: Asked) -> Response:
    ledger = request.state["ledger"]
    with ledger.store.reading() as connection:
        return Answer(diagnose(connection, ledger.prices, asked))
