"""``/users/{external_user_id}`` and ``/sessions/{session_id}``: everything of a person or a conversation, forgotten."""

from starlette.responses import Response

from spanledger.exporter.erasure import Kind, Subject
from spanledger.exporter.errors import BadParameter

from ..answers import Answer
from ..parameters import TEXT, Asked, path_value
from ..state import Asking


def erase_user(request: Asking, asked: Asked) -> Response:
    return _erase(request, asked, "user", "external_user_id")


def erase_session(request: Asking, asked: Asked) -> Response:
    return _erase(request, asked, "session", "session_id")


def _erase(request: Asking, asked: Asked, kind: Kind, name: str) -> Response:
    """Once more is no error: nothing is deleted then."""
    subject = Subject(kind, path_value(request, name, TEXT))
    store = request.state["ledger"].store
    if asked["dry_run"]:
        return Answer({"would_delete": store.count(subject)._asdict()})
    if not asked["confirm"]:
        raise BadParameter(
            "confirm", "This cannot be undone: ask with dry_run=true what would go, then again with confirm=true."
        )
    return Answer({"deleted": store.erase(subject, actor=request.state["caller"])._asdict()})
