"""The table of contents: every path this service answers, who may ask, and what may be asked.

Authorisation, OpenAPI, the docs and the fuzz tests read `ROUTES`; a new endpoint is one line here.
"""

from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, Final, NamedTuple, cast

from starlette import routing
from starlette.requests import Request
from starlette.responses import Response

from .endpoints import (
    breakdowns,
    completeness,
    doctor,
    erasure,
    executions,
    health,
    llm_calls,
    start,
    summary,
    timeseries,
)
from .keys import Scope
from .parameters import (
    BREAKDOWN,
    DELETION,
    ERASURE,
    EXECUTION_LIST,
    FILTERS,
    LLM_CALL_LIST,
    RUN,
    TIMESERIES,
    WINDOW,
    Asked,
    Parameter,
    parse,
)
from .receivers.http import receive_logs, receive_traces
from .state import Asking

Endpoint = Callable[[Asking, Asked], Response]
AsyncEndpoint = Callable[[Asking], Awaitable[Response]]

BASE: Final = "/execution-logs"


class Route(NamedTuple):
    """One method on one path. *scope* is what a caller's key must allow; None: anyone may ask.

    *parameters* are all the query parameters there are; an `AsyncEndpoint`, which asks no database, ignores its query.
    *answers* names a schema of `openapi.schemas`, or is a media type.
    """

    method: str
    path: str
    endpoint: Endpoint | AsyncEndpoint
    scope: Scope | None
    summary: str
    answers: str
    parameters: tuple[Parameter, ...] = ()


_JSON_ROUTES: Final = (
    Route(
        "GET",
        "/executions",
        executions.list_executions,
        "read",
        "Executions, newest first.",
        "ExecutionList",
        EXECUTION_LIST,
    ),
    Route("GET", "/executions/{execution_id:path}", executions.one_run, "read", "All rows of one run.", "Run", RUN),
    Route(
        "DELETE",
        "/executions/{execution_id:path}",
        executions.delete_run,
        "delete",
        "Delete a run for good.",
        "Deleted",
        DELETION,
    ),
    Route(
        "DELETE",
        "/users/{external_user_id:path}",
        erasure.erase_user,
        "delete",
        "Forget a user: every row of theirs, for good.",
        "Erased",
        ERASURE,
    ),
    Route(
        "DELETE",
        "/sessions/{session_id:path}",
        erasure.erase_session,
        "delete",
        "Forget a session: every row of it, for good.",
        "Erased",
        ERASURE,
    ),
    Route(
        "GET",
        "/llm-calls",
        llm_calls.list_llm_calls,
        "read",
        "Model calls, newest first.",
        "LLMCallList",
        LLM_CALL_LIST,
    ),
    Route(
        "GET", "/llm-calls/{id}", llm_calls.one_llm_call, "read", "One call, and how its cost was computed.", "LLMCall"
    ),
    Route("GET", "/analytics/summary", summary.summary, "read", "What ran, what it used and cost.", "Summary", FILTERS),
    Route(
        "GET", "/analytics/timeseries", timeseries.timeseries, "read", "A metric over time.", "Timeseries", TIMESERIES
    ),
    Route("GET", "/analytics/agents", breakdowns.agents, "read", "One row per agent type.", "Breakdown", BREAKDOWN),
    Route(
        "GET", "/analytics/models", breakdowns.models, "read", "One row per provider and model.", "Breakdown", BREAKDOWN
    ),
    Route("GET", "/analytics/users", breakdowns.users, "read", "One row per user.", "Breakdown", BREAKDOWN),
    Route("GET", "/analytics/errors", breakdowns.errors, "read", "One row per class of error.", "Breakdown", BREAKDOWN),
    Route(
        "GET",
        "/analytics/completeness",
        completeness.completeness,
        "read",
        "What processes produced, what is stored of it, and every loss with its reason.",
        "Completeness",
        WINDOW,
    ),
    Route("GET", "/analytics/doctor", doctor.doctor, "read", "What is wrong with the rows.", "Diagnosis", FILTERS),
)
ROUTES: Final = (
    *(route._replace(path=BASE + route.path) for route in _JSON_ROUTES),
    Route("POST", "/v1/traces", receive_traces, "ingest", "OTLP/HTTP: spans. Answers after commit.", "OTLP"),
    Route("POST", "/v1/logs", receive_logs, "ingest", "OTLP/HTTP: log records that carry content of spans.", "OTLP"),
    Route("GET", "/healthz", health.healthz, None, "Whether the process is alive.", "Health"),
    Route("GET", "/readyz", health.readyz, "read", "Whether the database is reachable and migrated.", "Health"),
    Route("GET", "/metrics", health.metrics, "read", "Counters of this process, as Prometheus text.", "text/plain"),
    Route("GET", "/openapi.json", start.openapi, "read", "This API as an OpenAPI 3.1 document.", "application/json"),
    Route("GET", "/", start.start_page, "read", "The start page.", "text/html"),
)


def as_starlette(routes: Iterable[Route]) -> list[routing.Route]:
    """The table as Starlette routes. Every one has an endpoint of its own, which identifies it."""
    return [routing.Route(route.path, _endpoint(route), methods=[route.method]) for route in routes]


def _endpoint(route: Route) -> Callable[[Request[Any]], Any]:
    if iscoroutinefunction(route.endpoint):
        return cast(AsyncEndpoint, route.endpoint)
    answer = cast(Endpoint, route.endpoint)

    def endpoint(request: Asking) -> Response:
        return answer(request, parse(route.parameters, request.query_params))

    return endpoint
