"""``/`` and ``/openapi.json``: what is here."""

from starlette.responses import Response

from ..answers import Answer
from ..parameters import Asked
from ..state import Asking


def openapi(request: Asking, asked: Asked) -> Response:
    return Answer(request.state["openapi"])


def start_page(request: Asking, asked: Asked) -> Response:
    return Response("soon", media_type="text/html")
