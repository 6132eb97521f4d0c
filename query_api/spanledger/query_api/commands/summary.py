"""`spanledger summary`: the analytics summary, in the terminal or as the API's JSON."""

import argparse
from typing import Final

import orjson
from rich.console import Console
from starlette.datastructures import QueryParams

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.store import Store

from ..answers import Answer, as_json
from ..endpoints.breakdowns import AGENTS, broken_down
from ..endpoints.summary import costliest_first, summarise
from ..parameters import FILTERS, Asked, parse, window
from ..tables import print_summary
from ..waiting import remark
from .options import Command, Options, settings_from

EXAMPLES: Final = """\
  spanledger summary
  spanledger summary --start-date 2026-01-01 --end-date 2026-01-31
  spanledger summary --filter agent_type=planner --filter status=failed --json
"""
AGENT_ROWS: Final = 20


def _add_options(options: Options) -> None:
    options.value("--start-date", "a date or date-time, UTC if it does not say (default: 30 days before the end)")
    options.value("--end-date", "a date (that day included) or a date-time (default: now)")
    options.value(
        "--filter",
        "narrow it by a parameter of the API; may be repeated, and the same name twice means either",
        metavar="NAME=VALUE",
        repeatable=True,
    )
    options.switch("--json", "print what GET /execution-logs/analytics/summary answers")


def _summary(arguments: argparse.Namespace) -> int:
    asked = window(parse(FILTERS, QueryParams(_pairs(arguments))))
    settings = settings_from(arguments)
    store = Store.open(settings.database_url)
    try:
        if arguments.json:
            with store.reading() as connection:
                print(as_json(summarise(connection, asked)))
        else:
            show_summary(Console(highlight=False, soft_wrap=True), store, asked)
            if waits := remark(settings):
                print(waits)
    finally:
        store.close()
    return 0


def show_summary(console: Console, store: Store, asked: Asked) -> None:
    """Print the summary of what *asked*, which must have a window, narrows."""
    with store.reading() as connection:
        summary = orjson.loads(Answer(summarise(connection, asked)).body)
        agents = sorted(broken_down(connection, AGENTS, asked), key=costliest_first)
    print_summary(console, summary, agents[:AGENT_ROWS])


def _pairs(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    pairs = [("start_date", arguments.start_date), ("end_date", arguments.end_date)]
    for text in arguments.filter or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--filter {text}: write NAME=VALUE, for example --filter status=failed")
        pairs.append((name, value))
    return [(name, value) for name, value in pairs if value]


COMMAND: Final = Command(
    name="summary",
    summary="show calls, tokens, costs and success rates",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_summary,
)
