"""``/llm-calls``: the list, and one call with how its cost was computed."""

from typing import Any

from starlette.responses import Response

from spanledger.exporter.explain import explain_call
from spanledger.exporter.schema import llm_call_logs

from ..answers import Answer, as_objects
from ..parameters import IDENTIFIER, Asked, path_value
from ..problems import NotFound
from ..queries.rows import one
from ..state import Asking
from .pages import fetch


def list_llm_calls(request: Asking, asked: Asked) -> Response:
    with request.state["ledger"].store.reading() as connection:
        page = fetch(connection, llm_call_logs, asked)
    return Answer({"llm_calls": as_objects(page.rows, request.state["settings"].jaeger_url), **page.numbers})


def one_llm_call(request: Asking, asked: Asked) -> Response:
    call_id = path_value(request, "id", IDENTIFIER)
    with request.state["ledger"].store.reading() as connection:
        row: Any = connection.execute(one(llm_call_logs, call_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no call {call_id}; GET /execution-logs/llm-calls lists the calls there are.")
    (call,) = as_objects([row], request.state["settings"].jaeger_url)
    call["cost_explanation"] = explain_call(request.state["ledger"].prices, row).as_dict()
    return Answer(call)
