"""``/executions``: the list, one run, and its deletion."""

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response

from spanledger.exporter.erasure import Subject
from spanledger.exporter.schema import execution_logs, llm_call_logs

from ..answers import Answer, as_objects
from ..parameters import TEXT, Asked, path_value
from ..problems import NotFound
from ..queries import rows
from ..queries.analytics import groups
from ..queries.measures import CALL_MEASURES, coverage, folded, usage
from ..queries.rows import MAX_ROWS
from ..state import Asking
from .pages import fetch, read

Item = dict[str, Any]


def list_executions(request: Asking, asked: Asked) -> Response:
    jaeger_url, content = request.state["settings"].jaeger_url, asked["include_content"]
    with request.state["ledger"].store.reading() as connection:
        page = fetch(connection, execution_logs, asked)
        executions = as_objects(page.rows, jaeger_url)
        if not asked["include_llm_calls"]:
            return Answer({"executions": executions, **page.numbers})
        theirs = rows.calls_of([item["id"] for item in executions], content=content)
        calls, truncated = read(connection, theirs, MAX_ROWS)
    attach(executions, as_objects(calls, jaeger_url))
    return Answer({"executions": executions, **page.numbers, "truncated": truncated})


def one_run(request: Asking, asked: Asked) -> Response:
    execution_id = path_value(request, "execution_id", TEXT)
    jaeger_url, content, with_calls = (
        request.state["settings"].jaeger_url,
        asked["include_content"],
        asked["include_llm_calls"],
    )
    with request.state["ledger"].store.reading() as connection:
        spans = [
            connection.execute(rows.extent(table, execution_id)).one() for table in (execution_logs, llm_call_logs)
        ]
        if not any(span.rows for span in spans):
            raise _nothing(execution_id)
        usages = connection.execute(groups(llm_call_logs, ("status",), {"execution_id": (execution_id,)})).all()
        found, truncated = read(connection, rows.of_run(execution_logs, execution_id, content=content), MAX_ROWS)
        calls, more_calls = (
            read(connection, rows.of_run(llm_call_logs, execution_id, content=content), MAX_ROWS)
            if with_calls
            else ([], False)
        )
    executions = nested(as_objects(found, jaeger_url))
    answer: Item = {"execution_id": execution_id, "executions": executions, "total_count": spans[0].rows}
    if with_calls:
        answer["llm_calls"] = attach(executions, as_objects(calls, jaeger_url))
    measured = folded(CALL_MEASURES, usages)
    answer["totals"] = {
        "executions": spans[0].rows,
        "llm_calls": measured["rows"],
        **_extent(spans),
        **usage(measured),
        "coverage": coverage(measured),
    }
    answer["truncated"] = truncated or more_calls
    return Answer(answer)


def delete_run(request: Asking, asked: Asked) -> Response:
    execution_id = path_value(request, "execution_id", TEXT)
    store = request.state["ledger"].store
    if asked["dry_run"]:
        doomed = store.count(Subject("execution", execution_id))
        return Answer({"would_delete": {"executions": doomed.executions, "llm_calls": doomed.llm_calls}})
    deleted = store.delete_execution(execution_id, actor=request.state["caller"])
    if not any(deleted):
        raise _nothing(execution_id)
    return Answer({"deleted": deleted._asdict()})


def nested(executions: Sequence[Item]) -> list[Item]:
    """Parents before what they did, each with its ``depth``, siblings in the order given.

    An execution whose parent is not among them, or that is its own ancestor, stands at the top.
    """
    children: dict[str | None, list[Item]] = {}
    known = {item["id"] for item in executions}
    for item in executions:
        children.setdefault(item["parent_id"] if item["parent_id"] in known else None, []).append(item)
    ordered: dict[str, Item] = {}

    def place(tops: Iterable[Item]) -> None:
        waiting = [(item, 0) for item in reversed(list(tops))]
        while waiting:
            item, depth = waiting.pop()
            if item["id"] in ordered:
                continue
            ordered[item["id"]] = {**item, "depth": depth}
            waiting.extend((child, depth + 1) for child in reversed(children.get(item["id"], ())))

    place(children.get(None, ()))
    for item in executions:  # what is left are cycles of parents
        place([item])
    return list(ordered.values())


def attach(executions: Iterable[Item], calls: Iterable[Item]) -> list[Item]:
    """Give every execution its ``llm_calls``; return the calls that belong to none of them."""
    owners: dict[str, list[Item]] = {item["id"]: item.setdefault("llm_calls", []) for item in executions}
    unowned: list[Item] = []
    for call in calls:
        owners.get(call["execution_log_id"], unowned).append(call)
    return unowned


def _extent(spans: Sequence[Any]) -> Item:
    """From the first start to the last end of a run's rows."""
    start = min(span.start_time for span in spans if span.start_time is not None)
    end = max((span.end_time for span in spans if span.end_time is not None), default=None)
    duration = None if end is None else round((end - start).total_seconds() * 1000)
    return {"start_time": start, "end_time": end, "duration_ms": duration}


def _nothing(execution_id: str) -> NotFound:
    return NotFound(f"There is no run {execution_id[:100]!r}; GET /execution-logs/executions lists the runs there are.")
