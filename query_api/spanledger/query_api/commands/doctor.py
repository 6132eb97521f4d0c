"""`spanledger doctor`: what is wrong with what was recorded, and what to do about it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ..answers import as_json
from ..diagnosis import diagnose
from ..tables import number, titled
from ..terminal import harmless
from .options import Command, Options, open_ledger, settings_from, shown
from .purge import moment

EXAMPLES: Final = """\
  spanledger doctor
  spanledger doctor --since 7d --strict
  spanledger doctor --json
"""


def _add_options(options: Options) -> None:
    options.value("--since", "an age (90m, 12h, 30d, 8w) or a date (default: 30d)", type=moment, metavar="DATE")
    options.switch("--strict", "exit with 1 if anything was found")
    options.switch("--json", "print what GET /execution-logs/analytics/doctor answers")


def _doctor(arguments: argparse.Namespace) -> int:
    asked = {"start_date": arguments.since} if arguments.since else {}
    with closing(open_ledger(arguments)) as ledger, ledger.store.reading() as connection:
        diagnosis = diagnose(connection, ledger.prices, asked)
    if arguments.json:
        print(as_json(diagnosis))
    else:
        _show(Console(highlight=False, soft_wrap=True), diagnosis, shown(settings_from(arguments).database_url))
    return 1 if arguments.strict and diagnosis["findings"] else 0


def _show(console: Console, diagnosis: Mapping[str, Any], database: str) -> None:
    since = f"{diagnosis['date_range']['start_date']:%Y-%m-%d %H:%M} UTC"
    if diagnosis["scopes"]:
        console.print(f"Rows in {database} since {since}", style="dim", markup=False)
        _show_emitters(console, diagnosis["scopes"])
    else:
        console.print(
            f"No rows in {database} since {since}. That may be all right; docs/troubleshooting.md begins", markup=False
        )
        console.print("with what to look at if there should be some, and --since looks further back.")
    _show_findings(console, diagnosis["findings"])
    if diagnosis["prices_file"]:
        console.print("\n[bold]A prices file to fill in[/]")
        console.print(json.dumps(diagnosis["prices_file"], indent=2), markup=False)


def _show_emitters(console: Console, emitters: Sequence[Mapping[str, Any]]) -> None:
    table = titled("Instrumentations", "scope", executions="right", calls="right", counted="right")
    for emitter in emitters:
        reasons = [f"  not counted: {number(count)} {reason}" for reason, count in emitter["not_counted"].items()]
        counts = (number(emitter[name]) for name in ("executions", "calls", "counted"))
        table.add_row("\n".join(map(harmless, [_emitter(emitter), *reasons])), *counts)
    console.print(table)


def _show_findings(console: Console, findings: Sequence[Mapping[str, Any]]) -> None:
    console.print(f"[bold]Findings[/]: {len(findings) or 'none'}")
    for finding in findings:
        console.print(Text.assemble("\n", ("! ", "yellow"), harmless(finding["what"])))
        for text in (_emitter(finding), finding["remedy"], finding["example"] and f"e.g. {finding['example']}"):
            if text:
                console.print(Text(f"  {harmless(text)}"))


def _emitter(of: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (of["scope"], of["scope_version"]))) or "(no scope)"


COMMAND: Final = Command(
    name="doctor",
    summary="say what is wrong with what was recorded, and what to do about it",
    examples=EXAMPLES,
    settings=("database_url", "prices"),
    add_options=_add_options,
    perform=_doctor,
)
