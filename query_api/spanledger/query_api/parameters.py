"""What may be asked: the parameters of every endpoint, as tables that parsing, OpenAPI and the docs all read.

A new filter is one row of `FILTERS`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import Table
from starlette.datastructures import QueryParams
from starlette.requests import Request

from spanledger.exporter.errors import BadParameter
from spanledger.exporter.identifiers import as_uuid
from spanledger.exporter.records import CANCELLED, COMPLETED, FAILED, STARTED
from spanledger.exporter.schema import execution_logs, llm_call_logs

from .queries.conditions import Condition, any_of, containing, costing, lasting, since, until
from .queries.metrics import GROUPS, INTERVALS, METRICS

Asked = Mapping[str, Any]
"""A parsed question: the value of every parameter that was given or has a default. Repeatable ones hold tuples."""

MAX_TEXT: Final = 1_000
MAX_VALUES: Final = 100
MAX_LIMIT: Final = 500
MAX_INTEGER: Final = 2**31 - 1
DEFAULT_WINDOW: Final = timedelta(days=30)

# `+` in a query string means a space: 12:00:00+02:00 arrives as "12:00:00 02:00" unless the client escaped it.
_LOST_PLUS: Final = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")


class Kind(NamedTuple):
    """How a parameter's text is read. *allowed* completes the sentence "it must be …"."""

    read: Callable[[str], Any]
    allowed: str
    schema: Mapping[str, Any]


def _text(text: str) -> str:
    if not text or len(text) > MAX_TEXT or "\x00" in text:
        raise ValueError
    return text


def _trace_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise ValueError
    return text.lower()


def _start(text: str) -> datetime:
    moment = datetime.fromisoformat(_LOST_PLUS.sub("+", text) if ":" in text[:-5] else text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _end(text: str) -> datetime:
    moment = _start(text)
    if not re.search("[T :]", text):
        return moment + timedelta(days=1, microseconds=-1)
    return moment


def _boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def _dollars(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def whole(least: int, most: int) -> Kind:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return Kind(read, f"a whole number from {least} to {most}", {"type": "integer", "minimum": least, "maximum": most})


def one_of(*choices: str) -> Kind:
    return Kind(
        lambda text: {choice: choice for choice in choices}[text],
        f"one of {', '.join(choices)}",
        {"type": "string", "enum": list(choices)},
    )


_TEXT_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
TEXT: Final = Kind(_text, f"text of 1 to {MAX_TEXT} characters without NUL", _TEXT_SCHEMA)
IDENTIFIER: Final = Kind(
    lambda text: as_uuid(_text(text)), f"a UUID or your own identifier of 1 to {MAX_TEXT} characters", _TEXT_SCHEMA
)
TRACE_ID: Final = Kind(_trace_id, "32 hexadecimal digits", {"type": "string", "pattern": "^[0-9a-fA-F]{32}$"})
BOOLEAN: Final = Kind(_boolean, "true or false", {"type": "boolean"})
DOLLARS: Final = Kind(_dollars, "a number of US dollars, 0 or more", {"type": "number", "minimum": 0})
_MOMENT: Final = "a date such as 2026-01-31 or a date-time such as 2026-01-31T12:00:00Z"
_MOMENT_SCHEMA: Final = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
START: Final = Kind(_start, _MOMENT, _MOMENT_SCHEMA)
END: Final = Kind(_end, _MOMENT, _MOMENT_SCHEMA)
STATUS: Final = one_of(STARTED, COMPLETED, FAILED, CANCELLED)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter. A *repeatable* one means "any of" when it is given more than once."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    repeatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Parameter):
    """A parameter that narrows the rows of *tables*."""

    condition: Condition
    tables: tuple[Table, ...] = (execution_logs, llm_call_logs)


def _column(name: str, kind: Kind, help: str) -> Filter:
    """The filter on the column of the same name, for the tables that have it."""
    tables = tuple(table for table in (execution_logs, llm_call_logs) if name in table.c)
    return Filter(name, kind, help, repeatable=True, condition=any_of(name), tables=tables)


FILTERS: Final = (
    _column("report_id", IDENTIFIER, "Report the row belongs to."),
    _column("agent_type", TEXT, "Agent type: planner, designer, answer, …"),
    _column("execution_step", TEXT, "Step: plan, execute, observe, …, or invoke_agent, execute_tool, …"),
    _column("action_type", TEXT, "Action, or the tool's name."),
    _column("provider", TEXT, "Model provider: openai, anthropic, google, …"),
    _column("model_id", TEXT, "Requested model."),
    _column("call_type", TEXT, "Kind of call: inference, inference_stream, embedding, …"),
    _column("execution_log_id", IDENTIFIER, "Execution (its `id`) the call was made by."),
    _column("status", STATUS, "State of the row."),
    _column("external_platform", TEXT, "Platform the user came from."),
    _column("external_user_id", TEXT, "The user, as that platform knows them."),
    _column("execution_id", TEXT, "Run the row belongs to."),
    _column("session_id", TEXT, "Conversation or session."),
    _column("service_name", TEXT, "Service that emitted the span."),
    _column("trace_id", TRACE_ID, "Trace, as 32 hexadecimal digits."),
    Filter("start_date", START, "Only what started then or later. UTC unless it says otherwise.", condition=since),
    Filter("end_date", END, "Only what started then or earlier; a date includes that day.", condition=until),
    Filter(
        "q", TEXT, "Text in names, errors and content; case does not matter.", repeatable=True, condition=containing
    ),
    Filter("min_duration_ms", whole(0, MAX_INTEGER), "Only what took at least this long.", condition=lasting),
    Filter(
        "min_cost",
        DOLLARS,
        "Only what cost at least this many US dollars, nested executions included.",
        condition=costing,
    ),
)
EXECUTION_FILTERS: Final = tuple(f for f in FILTERS if execution_logs in f.tables)
LLM_CALL_FILTERS: Final = tuple(f for f in FILTERS if llm_call_logs in f.tables)

NEWEST_FIRST: Final = "-start_time"
_SORT_HELP: Final = "Column to order by, with - for the largest first. Rows without the value count as smallest."
EXECUTION_SORTS: Final = (NEWEST_FIRST, "start_time", "-duration_ms", "duration_ms")
LLM_CALL_SORTS: Final = (*EXECUTION_SORTS, "-total_cost", "total_cost", "-total_tokens", "total_tokens")

PAGE: Final = (
    Parameter(
        "limit", whole(1, MAX_LIMIT), "Rows in the answer; fewer, and a `next_cursor`, where their text is long.", 50
    ),
    Parameter(
        "offset", whole(0, MAX_INTEGER), "Rows to skip. For deep pages use cursor: it is as fast at any depth.", 0
    ),
    Parameter("cursor", TEXT, "`next_cursor` of the page before: continues after it, also while new rows arrive."),
)
CONTENT: Final = Parameter("include_content", BOOLEAN, "Include prompt, response, input_data and output_data.", False)
EXECUTION_LIST: Final = (
    *EXECUTION_FILTERS,
    *PAGE,
    Parameter("sort", one_of(*EXECUTION_SORTS), _SORT_HELP, NEWEST_FIRST),
    Parameter("include_llm_calls", BOOLEAN, "Include the model calls each execution made.", False),
    CONTENT,
)
LLM_CALL_LIST: Final = (
    *LLM_CALL_FILTERS,
    *PAGE,
    Parameter("sort", one_of(*LLM_CALL_SORTS), _SORT_HELP, NEWEST_FIRST),
    CONTENT,
)
DRY_RUN: Final = Parameter("dry_run", BOOLEAN, "Only count what would be deleted.", False)
DELETION: Final = (DRY_RUN,)
ERASURE: Final = (DRY_RUN, Parameter("confirm", BOOLEAN, "Do it; without, nothing is deleted.", False))
RUN: Final = (
    Parameter("include_llm_calls", BOOLEAN, "Include the model calls each execution made.", True),
    Parameter("include_content", BOOLEAN, "Include prompt, response, input_data and output_data.", True),
)

BREAKDOWN: Final = (*FILTERS, Parameter("limit", whole(1, MAX_LIMIT), "Rows in the answer, the costliest first.", 50))
WINDOW: Final = tuple(each for each in FILTERS if each.name in ("start_date", "end_date"))
TIMESERIES: Final = (
    *FILTERS,
    Parameter(
        "metric", one_of(*METRICS), "What to show; costs, tokens and durations are those of model calls.", "calls"
    ),
    Parameter("interval", one_of(*INTERVALS), "Width of a point, in UTC; weeks begin on Monday.", "day"),
    Parameter("group_by", one_of(*GROUPS), "One line for each value of this column."),
)


def parse(parameters: Sequence[Parameter], query: QueryParams) -> Asked:
    """The values of *query*, with defaults.

    Raises `BadParameter` naming the first parameter that is unknown, given twice though it is single, or unreadable.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in query:
        if name not in known:
            raise BadParameter(name[:MAX_TEXT], f"There is no parameter {_shown(name)} here. {_allowed(known)}")
    asked = defaults(parameters)
    for name in query:
        asked[name] = _read(known[name], query.getlist(name))
    _in_order(asked)
    return MappingProxyType(asked)


def defaults(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """What is asked when nothing is said."""
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not None}


def path_value(request: Request[Any], name: str, kind: Kind) -> Any:
    """The part of the path called *name*; raises `BadParameter` like a query parameter."""
    return _read_one(Parameter(name, kind, ""), request.path_params[name])


def window(asked: Asked) -> Asked:
    """*asked* with a window: until now, and the 30 days before its end, where it does not say otherwise."""
    end = asked.get("end_date") or datetime.now(UTC)
    start = asked.get("start_date") or max(end, datetime.min.replace(tzinfo=UTC) + DEFAULT_WINDOW) - DEFAULT_WINDOW
    windowed = {**asked, "start_date": start, "end_date": end}
    _in_order(windowed)
    return MappingProxyType(windowed)


def _read(parameter: Parameter, texts: Sequence[str]) -> Any:
    if not parameter.repeatable and len(texts) > 1:
        raise BadParameter(parameter.name, f"{parameter.name} is given {len(texts)} times; give it once.")
    if len(texts) > MAX_VALUES:
        raise BadParameter(parameter.name, f"{parameter.name} is given {len(texts)} times; at most {MAX_VALUES} work.")
    values = tuple(_read_one(parameter, text) for text in texts)
    return values if parameter.repeatable else values[0]


def _read_one(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.kind.read(text)
    except (ValueError, KeyError, OverflowError):
        raise BadParameter(
            parameter.name, f"{parameter.name} is {_shown(text)}; it must be {parameter.kind.allowed}."
        ) from None


def _in_order(asked: Asked) -> None:
    start, end = asked.get("start_date"), asked.get("end_date")
    if start and end and start > end:
        raise BadParameter(
            "start_date", f"start_date ({start:%Y-%m-%d}) lies after end_date ({end:%Y-%m-%d}); swap them."
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _allowed(known: Mapping[str, Parameter]) -> str:
    return f"Allowed: {', '.join(sorted(known))}." if known else "This address takes none."
