"""The OpenAPI 3.1 document, made from the tables that serve: `ROUTES`, the parameters, and the columns."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from sqlalchemy import Boolean, Double, Integer, Table

from spanledger.exporter.erasure import Erased
from spanledger.exporter.schema import Identifier, Json, Timestamp, execution_logs, llm_call_logs

from .parameters import Parameter
from .problems import MEDIA_TYPE, STATUSES
from .queries.measures import COSTS, COVERAGE, PERCENTILES, TOKENS
from .queries.pages import BODIES
from .routes import Route

Schema = Mapping[str, Any]

DESCRIPTION: Final = (
    "What your AI agents did and what it cost. Times are ISO 8601 in UTC; money is US dollars, sums to 12 significant "
    "digits; durations are milliseconds. null means not known, never zero: every sum has its coverage beside it. "
    "Sums are over counted calls: each call to a model counts once, whoever reported it."
)
NUMBER: Final = {"type": ["number", "null"]}
COUNT: Final = {"type": "integer", "minimum": 0}
KNOWN: Final = {"type": ["integer", "null"]}
TEXT: Final = {"type": ["string", "null"]}
MOMENT: Final = {"type": "string", "format": "date-time"}
COUNTS: Final = {"type": "object", "additionalProperties": COUNT}
OTLP_TYPES: Final = ("application/x-protobuf", "application/json")


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of *routes*."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(template(route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "spanledger", "version": version("spanledger"), "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas(), "responses": {"Problem": _problem()}},
    }


def template(path: str) -> str:
    """A route's path as OpenAPI writes it: without Starlette's convertors."""
    return re.sub(r":\w+}", "}", path)


def _operation(route: Route) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    operation: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": route.summary,
        "parameters": in_path + [_parameter(parameter) for parameter in route.parameters],
        "responses": {"200": {"description": "OK", "content": _content(route.answers)}}
        | {str(status): _refusal(route) for status in _problems_of(route)},
    }
    if route.answers == "OTLP":
        body = {"type": "object", "description": "An OTLP export request."}
        operation["requestBody"] = {"content": {kind: {"schema": body} for kind in OTLP_TYPES}}
    return operation


def _refusal(route: Route) -> dict[str, Any]:
    """OTLP has errors of its own, in the encoding of the request; where that is none of OTLP's, it gets a problem."""
    if route.answers != "OTLP":
        return {"$ref": "#/components/responses/Problem"}
    return {"description": "A google.rpc.Status.", "content": _content("OTLP") | _problem()["content"]}


def _problems_of(route: Route) -> list[int]:
    statuses = {400, 401, 403, 429, 503} if route.scope else set()
    if "{" in route.path:
        statuses |= {404}
    if route.answers == "OTLP":
        statuses |= {status for status in STATUSES.values() if status != 404}
    return sorted(statuses)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = dict(parameter.kind.schema)
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.repeatable:
        schema = {"type": "array", "items": schema}
    described = parameter.help + (" Repeated: any of them." if parameter.repeatable else "")
    return {"name": parameter.name, "in": "query", "description": described, "schema": schema}


def _content(answers: str) -> dict[str, Any]:
    if answers == "OTLP":
        return {kind: {"schema": {"type": "object"}} for kind in OTLP_TYPES}
    if "/" in answers:
        return {answers: {"schema": {"type": "object" if answers.endswith("json") else "string"}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{answers}"}}}


def _problem() -> dict[str, Any]:
    members = {"type": {"type": "string"}, "title": {"type": "string"}, "status": COUNT, "detail": {"type": "string"}}
    schema = _object(members) | {"description": "RFC 9457. *detail* says what to do."}
    return {"description": "What is wrong, and what to do about it.", "content": {MEDIA_TYPE: {"schema": schema}}}


def schemas() -> dict[str, Schema]:
    """The schemas of all answers."""
    calls = _list_of("LLMCallRow")
    page = {"total_count": COUNT, "limit": COUNT, "offset": COUNT, "next_cursor": TEXT}
    return {
        "ExecutionRow": _row(execution_logs, {"llm_calls": calls, "depth": COUNT}),
        "LLMCallRow": _row(llm_call_logs, {}),
        "ExecutionList": _object({"executions": _list_of("ExecutionRow"), **page}),
        "LLMCallList": _object({"llm_calls": calls, **page}),
        "LLMCall": _row(llm_call_logs, {"cost_explanation": {"type": "object"}}),
        "Run": _object(
            {"execution_id": {"type": "string"}, "executions": _list_of("ExecutionRow"), "total_count": COUNT}
            | {"totals": {"type": "object"}, "truncated": {"type": "boolean"}}
        ),
        "Deleted": _deletion("executions", "llm_calls"),
        "Erased": _deletion(*Erased._fields),
        "Summary": _summary(),
        "Breakdown": _object({"date_range": _date_range(), "total_count": COUNT}) | {"additionalProperties": _rows()},
        "Timeseries": _timeseries(),
        "Completeness": _completeness(),
        "Diagnosis": _diagnosis(),
        "Health": _object({"status": {"type": "string"}}),
    }


def _deletion(*tables: str) -> Schema:
    """What was deleted; or, after a dry run, would be."""
    rows = _object(dict.fromkeys(tables, COUNT))
    return {"oneOf": [_object({"deleted": rows}), _object({"would_delete": rows})]}


def _row(table: Table, more: Schema) -> Schema:
    """A row of *table*; bodies are absent unless they were asked for."""
    columns: dict[str, Any] = {column.name: _column(column.type, nullable=bool(column.nullable)) for column in table.c}
    required = [name for name in columns if name not in BODIES]
    return {"type": "object", "properties": {**columns, "trace_url": {"type": "string"}, **more}, "required": required}


def _column(kind: Any, *, nullable: bool) -> Schema:
    if isinstance(kind, Json):
        return {"description": "Any JSON value."}
    formats = {Timestamp: {"format": "date-time"}, Identifier: {"format": "uuid"}}.get(type(kind), {})
    names = {Integer: "integer", Double: "number", Boolean: "boolean"}
    name = names.get(type(kind), "string")
    return {"type": [name, "null"] if nullable else name, **formats}


def _summary() -> Schema:
    tokens = {f"total_{name}": KNOWN for name in ("input_tokens", "output_tokens")} | {"total_tokens": KNOWN}
    rate = {"success_rate": NUMBER}
    executions = {"total_executions": COUNT, "total_runs": COUNT, **rate, "status_counts": COUNTS}
    calls = {"total_calls": COUNT, **rate, "provider_counts": COUNTS, "model_counts": COUNTS, "status_counts": COUNTS}
    durations = _object(_durations())
    return _object(
        {
            "date_range": _date_range(),
            "execution_analytics": _object({**executions, "agent_type_counts": COUNTS, "duration_stats": durations}),
            "llm_call_analytics": _object(
                {
                    **calls,
                    "token_stats": _object({**tokens, **_usage(TOKENS[3:])}),
                    "by_model": {"type": "array", "items": _object({"calls": COUNT, **_usage(TOKENS)})},
                    "duration_stats": durations,
                    "coverage": _coverage(),
                }
            ),
        }
    )


def _timeseries() -> Schema:
    points = {"type": "array", "items": _object({"time": MOMENT, "value": NUMBER})}
    lines = {"type": "array", "items": _object({"group": TEXT, "points": points})}
    named = {"metric": {"type": "string"}, "interval": {"type": "string"}, "group_by": TEXT}
    return _object({**named, "date_range": _date_range(), "series": lines})


def _diagnosis() -> Schema:
    emitter = {"scope": TEXT, "scope_version": TEXT}
    counts = dict.fromkeys(("executions", "calls", "counted"), COUNT)
    scope = _object({**emitter, **counts, "not_counted": COUNTS, **dict.fromkeys(COVERAGE, COUNT), "last_seen": MOMENT})
    words = {"symptom": {"type": "string"}, "what": {"type": "string"}, "remedy": {"type": "string"}}
    finding = _object({**emitter, **words, "rows": COUNT, "tokens": KNOWN, "example": TEXT})
    return _object(
        {
            "date_range": _object({"start_date": MOMENT, "end_date": {"type": ["string", "null"]}}),
            "scopes": {"type": "array", "items": scope},
            "findings": {"type": "array", "items": finding},
            "prices_file": {"type": ["object", "null"]},
        }
    )


def _completeness() -> Schema:
    counts = {**dict.fromkeys(("produced", "stored", "skipped"), COUNT), "dropped": COUNTS}
    process = _object({"producer": {"type": "string"}, **counts, "last_seen": {**MOMENT, "type": ["string", "null"]}})
    loss = _object({"time": MOMENT, "producer": {"type": "string"}, "dropped": COUNTS})
    lists = {"producers": {"type": "array", "items": process}, "total_producers": COUNT}
    return _object({"date_range": _date_range(), **counts, **lists, "losses": {"type": "array", "items": loss}})


def _rows() -> Schema:
    row = {"calls": COUNT, "success_rate": NUMBER, **_durations(), **_usage(TOKENS), "coverage": _coverage()}
    return {"type": "array", "items": _object(row)}


def _date_range() -> Schema:
    return _object({"start_date": MOMENT, "end_date": MOMENT})


def _durations() -> Schema:
    return dict.fromkeys(("avg_duration_ms", "min_duration_ms", "max_duration_ms", *PERCENTILES), NUMBER)


def _usage(tokens: Iterable[str]) -> Schema:
    return {**dict.fromkeys(tokens, KNOWN), **dict.fromkeys(COSTS, NUMBER)}


def _coverage() -> Schema:
    return _object(dict.fromkeys(COVERAGE, COUNT))


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _object(properties: Schema) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}
