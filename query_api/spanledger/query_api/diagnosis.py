"""What is wrong with what was recorded, and what to do about it: a table of checks, and the findings they make."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table

from spanledger.exporter.counting import ROLLUP_CALL
from spanledger.exporter.pricing import PriceBook
from spanledger.exporter.providers import UNKNOWN
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.usage import NO_OUTPUT

from .endpoints.llm_calls import explained
from .parameters import DEFAULT_WINDOW, Asked
from .queries import symptoms
from .queries.measures import folded
from .queries.rows import some

Group = Mapping[str, Any]
BOTH: Final = (execution_logs, llm_call_logs)
CALLS: Final = (llm_call_logs,)
NOUNS: Final = {execution_logs.name: "execution", llm_call_logs.name: "LLM call"}
PLACEHOLDER: Final = "US dollars"
"""Stands in the prices file until someone writes the price: reading it as it is fails, and nothing becomes free."""


class Finding(NamedTuple):
    """Something that is wrong with *rows* rows (or spans) of one emitter, and what to do about it, each a sentence.

    *example* is the id of one of the rows; *tokens* are those of the calls. Both None where there is no such thing.
    """

    symptom: str
    scope: str | None
    scope_version: str | None
    rows: int
    tokens: int | None
    example: str | None
    what: str
    remedy: str


class Check(NamedTuple):
    """A symptom, where to look for it, and its words: *what* follows the number of rows, *remedy* says what to do."""

    name: str
    symptom: symptoms.Symptom
    tables: tuple[Table, ...]
    what: Callable[[Group], str]
    remedy: Callable[[Group], str]
    keys: tuple[str, ...] = ()


def diagnose(connection: Connection, prices: PriceBook, asked: Asked) -> dict[str, Any]:
    """The emitters of what *asked* narrows, the findings, and a prices file for models without a price (or None).

    Looks at the last 30 days if it does not say, and into the future, where no row should be.
    """
    now = datetime.now(UTC)
    asked = {"start_date": now - DEFAULT_WINDOW, **asked}
    groups = connection.execute(symptoms.affected(llm_call_logs, symptoms.without_price, UNPRICED, asked, now))
    unpriced = [group._asdict() for group in groups]
    reasons = _reasons(connection, prices, unpriced)
    findings = [
        *_undelivered(connection, asked["start_date"]),
        *(_without_price(group, reasons[group["example"]]) for group in unpriced),
        *(finding for check in CHECKS for finding in _found(connection, check, asked, now)),
    ]
    return {
        "date_range": {"start_date": asked["start_date"], "end_date": asked.get("end_date")},
        "scopes": _emitters(connection, asked),
        "findings": [finding._asdict() for finding in findings],
        "prices_file": _prices_file(group for group in unpriced if _is_for_prices(reasons[group["example"]])),
    }


def _emitters(connection: Connection, asked: Asked) -> list[dict[str, Any]]:
    """One object per scope and version: how many rows, which calls count and why the others do not, what is unknown."""
    executions = {group[:2]: group for group in connection.execute(symptoms.executions_by_emitter(asked)).all()}
    calls: dict[tuple[Any, ...], list[Any]] = {}
    for group in connection.execute(symptoms.calls_by_emitter(asked)):
        calls.setdefault(group[:2], []).append(group)
    emitters = []
    for key in sorted(executions.keys() | calls.keys(), key=lambda key: tuple(map(str, key))):
        own, of_calls = executions.get(key), calls.get(key, [])
        counted = [group for group in of_calls if group.counted]
        reasons: Counter[str] = Counter()
        for group in of_calls:
            if not group.counted:
                reasons[group.reason] += group.rows
        emitters.append(
            {
                **dict(zip(symptoms.EMITTER, key, strict=True)),
                "executions": own.rows if own else 0,
                "calls": sum(group.rows for group in of_calls),
                "counted": sum(group.rows for group in counted),
                "not_counted": dict(reasons),
                **folded(symptoms.COVERED, counted),
                "last_seen": max(group.last_seen for group in (*([own] if own else []), *of_calls)),
            }
        )
    return emitters


def _found(connection: Connection, check: Check, asked: Asked, now: datetime) -> Iterator[Finding]:
    for table in check.tables:
        query = symptoms.affected(table, check.symptom, check.keys, asked, now)
        for row in connection.execute(query):
            group = row._asdict()
            what = f"{_some(group['rows'], NOUNS[table.name])} {check.what(group)}"
            yield _finding(check.name, group, what, check.remedy(group))


def _finding(name: str, group: Group, what: str, remedy: str) -> Finding:
    scope, version = (group[key] for key in symptoms.EMITTER)
    return Finding(name, scope, version, group["rows"], group.get("tokens"), group["example"], what, remedy)


def _undelivered(connection: Connection, since: datetime) -> Iterator[Finding]:
    """Spans that became no rows; which instrumentation made them is not kept."""
    lost: Counter[str] = Counter()
    for (dropped,) in connection.execute(symptoms.lossy_deliveries(since)):
        lost.update(dropped)
    for reason, count in lost.items():
        remedy = "They are gone. Give the spool more room on disk, and look why the database was away for so long."
        yield Finding("lost", None, None, count, None, None, f"{_some(count, 'span')} lost: {reason}.", remedy)
    for reason, count in connection.execute(symptoms.refused(since)):
        what = f"{_some(count, 'span')} refused by the database for good: {reason}"
        remedy = "They are kept whole in the table dead_letters. Please open an issue with the reason."
        yield Finding("refused", None, None, count, None, None, what, remedy)


UNPRICED: Final = ("provider", "model_id", "response_model", "service_tier", "call_type")
"""What decides a price, and whether there is output to pay for."""
NO_MODEL: Final = "no model"


def _reasons(connection: Connection, prices: PriceBook, groups: Sequence[Group]) -> dict[str, str | None]:
    """Why the example of each group has no price; None if by now it has one."""
    rows = connection.execute(some(llm_call_logs, [group["example"] for group in groups])).all()
    reasons = {call.call_id: call.reason for call in explained(connection, prices, rows)}
    return reasons | {group["example"]: NO_MODEL for group in groups if _model(group) == UNKNOWN}


def _model(group: Group) -> str:
    model: str = group["response_model"] or group["model_id"]
    return model


def _without_price(group: Group, reason: str | None) -> Finding:
    what = f"{_some(group['rows'], 'LLM call')} with {_some(group['tokens'], 'token')}, of {group['provider']} "
    what += f"{_model(group)}, without a price: {reason or 'recorded before it had one'}."
    return _finding("without_price", group, what, _price_remedy(reason))


def _price_remedy(reason: str | None) -> str:
    if reason is None:
        return "`spanledger reprice` charges them now."
    if _is_for_prices(reason):
        return (
            "Write what it costs into a prices file (SPANLEDGER_PRICES; a draft is below), then `spanledger reprice`."
        )
    if reason == NO_MODEL:
        return "The spans name no model: update the instrumentation, or instrument the provider's SDK as well."
    return "`spanledger explain` shows what was reported. If the provider said more, update the instrumentation."


def _is_for_prices(reason: str | None) -> bool:
    """Whether a price of the user's own would help."""
    return reason is not None and reason.startswith(("no price known", "no single rate", "the request names"))


def _prices_file(groups: Iterator[Group]) -> dict[str, Any] | None:
    """A draft of a prices file for these models, each once."""
    entries = {}
    for group in groups:
        tier = {"service_tier": group["service_tier"]} if group["service_tier"] else {}
        output = {} if group["call_type"] in NO_OUTPUT else {"output": PLACEHOLDER}
        entry = {"model": _model(group), "provider": group["provider"], **tier, "input": PLACEHOLDER, **output}
        entries[_model(group), group["provider"], group["service_tier"]] = entry
    return {"unit": "per_million", "prices": list(entries.values())} if entries else None


def _without_usage(group: Group) -> str:
    what = "streamed, and " if group["is_streaming"] else ""
    return f"of {group['provider']} completed {what}without token counts: their cost is unknown."


def _usage_remedy(group: Group) -> str:
    if group["call_type"] == ROLLUP_CALL:
        return "Only the agent was traced: instrument the provider's SDK as well, and its calls take this row's place."
    if group["call_type"] in NO_OUTPUT:
        return "This version of the instrumentation records no usage of such calls: look for a newer one."
    if group["provider"] in ASKED_FOR_USAGE:
        return (
            'A stream ends with usage only when the request has stream_options={"include_usage": true} '
            "(LangChain: stream_usage=True), and when it is read to its end."
        )
    return "Read streams to their end; if they are, look for a newer version of the instrumentation."


ASKED_FOR_USAGE: Final = frozenset(
    ("openai", "azure", "deepseek", "fireworks", "groq", "moonshot", "nvidia", "openrouter", "together", "xai")
)
"""Providers that speak OpenAI's protocol, in which usage of a stream has to be asked for."""

CHECKS: Final = (
    Check(
        "without_usage",
        symptoms.without_usage,
        CALLS,
        _without_usage,
        _usage_remedy,
        ("provider", "is_streaming", "call_type"),
    ),
    Check(
        "cache_left_out",
        symptoms.cache_left_out,
        CALLS,
        lambda group: f"of {group['provider']}, whose input leaves cached tokens out, without a word about them.",
        lambda group: (
            "With a cache in use the tokens are too low, so there is no cost. Look for a newer version of the "
            "instrumentation."
        ),
        ("provider",),
    ),
    Check(
        "cache_never_said",
        symptoms.cache_never_said,
        CALLS,
        lambda group: (
            f"of {group['provider']} with {symptoms.CACHEABLE:,} input tokens or more, and none says whether any were "
            "cached."
        ),
        lambda group: "If they were, the cost is too high. Look for a newer version of the instrumentation.",
        ("provider",),
    ),
    Check(
        "without_parent",
        symptoms.without_parent,
        BOTH,
        lambda group: "in a span that never came.",
        lambda group: (
            "A parent that still runs comes when it ends. Otherwise it is sampled away, filtered, or exported "
            "elsewhere: send all spans of a trace here."
        ),
    ),
    Check(
        "without_execution",
        symptoms.without_execution,
        CALLS,
        lambda group: "made by no execution: their cost belongs to no agent.",
        lambda group: "Trace the agent around them; in threads, hand the context over (see docs/agents.md).",
    ),
    Check(
        "ended_before_start",
        symptoms.ended_before_start,
        BOTH,
        lambda group: "ended before it began, by the sender's clock; the duration is given as 0.",
        lambda group: "The clock was set back while it ran: let it be slewed (chrony, ntpd), not stepped.",
    ),
    Check(
        "before_parent",
        symptoms.before_parent,
        BOTH,
        lambda group: "began more than a second before what encloses it.",
        lambda group: "The clocks of two machines disagree: synchronise them.",
    ),
    Check(
        "in_the_future",
        symptoms.in_the_future,
        BOTH,
        lambda group: "begin in the future.",
        lambda group: "The sender's clock is ahead: synchronise it. Windows that end now leave these rows out.",
    ),
    Check(
        "lost_attributes",
        symptoms.with_lost_attributes,
        BOTH,
        lambda group: f"arrived without {_some(group['dropped'], 'attribute')}: the sender's limit.",
        lambda group: "Raise OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT (128 unless set) where the spans are made.",
    ),
    Check(
        "still_running",
        symptoms.still_running,
        BOTH,
        lambda group: "started over an hour ago and not ended.",
        lambda group: (
            "If nothing runs any more, the process died where no other of its host could see it; "
            "`spanledger purge --status started` removes them."
        ),
    ),
)
"""Findings come in this order."""


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
