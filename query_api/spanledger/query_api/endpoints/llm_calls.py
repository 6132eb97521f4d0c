"""``/llm-calls``: the list, and one call with how its cost was computed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row
from starlette.responses import Response

from spanledger.exporter.explain import CostExplanation, duplicate_id, explain_call
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.schema import llm_call_logs

from ..answers import Answer, as_objects
from ..parameters import IDENTIFIER, Asked, path_value
from ..problems import NotFound
from ..queries.calls import names_of
from ..queries.rows import one
from ..state import Asking
from .pages import fetch


def list_llm_calls(request: Asking, asked: Asked) -> Response:
    with request.state["ledger"].store.reading() as connection:
        page = fetch(connection, llm_call_logs, asked)
    return Answer({"llm_calls": as_objects(page.rows, request.state["settings"].jaeger_url), **page.numbers})


def one_llm_call(request: Asking, asked: Asked) -> Response:
    call_id = path_value(request, "id", IDENTIFIER)
    ledger = request.state["ledger"]
    with ledger.store.reading() as connection:
        row = connection.execute(one(llm_call_logs, call_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no call {call_id}; GET /execution-logs/llm-calls lists the calls there are.")
        (explanation,) = explained(connection, ledger.prices, [row])
    (call,) = as_objects([row], request.state["settings"].jaeger_url)
    return Answer({**call, "cost_explanation": explanation.as_dict()})


def explained(connection: Connection, prices: PriceBook, rows: Sequence[Row[Any]]) -> list[CostExplanation]:
    """How the cost of each of these rows of ``llm_call_logs`` came about."""
    calls: Sequence[Any] = rows
    originals = {original for row in calls if (original := duplicate_id(row))}
    names = {row.id: row.name for row in connection.execute(names_of(originals))} if originals else {}
    return [explain_call(prices, row, names) for row in calls]
