"""Writes docs/reference.md from the code: settings, commands, endpoints, columns and vocabularies.

python docs/generate_reference.py           writes it
python docs/generate_reference.py --check   ends with an error if it is not what the code says
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from spanledger.exporter import dialects
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.settings import PREFIX, Settings
from spanledger.query_api.cli import COMMANDS
from spanledger.query_api.commands.options import add_command
from spanledger.query_api.openapi import template
from spanledger.query_api.parameters import FILTERS
from spanledger.query_api.routes import BASE, ROUTES, Route

PAGE = Path(__file__).with_name("reference.md")
HEAD = """\
# Reference

Made from the code by `docs/generate_reference.py`; a test keeps it so.

[Settings](#settings) · [Commands](#commands) · [HTTP API](#http-api) · [Tables](#tables) ·
[Vocabularies](#vocabularies)
"""


def reference() -> str:
    return "\n".join([HEAD, *settings(), *commands(), *endpoints(), *tables(), *vocabularies()])


def settings() -> Iterator[str]:
    yield "## Settings\n"
    yield "Every setting is a variable; where a command has the option of the same name, the option wins.\n"
    yield from table(
        ("variable", "default", "meaning"),
        ((f"`{PREFIX}{f.name.upper()}`", shown(f.default), f.metadata["help"]) for f in fields(Settings)),
    )


def commands() -> Iterator[str]:
    yield "## Commands\n"
    for command in COMMANDS:
        # In an empty environment: a variable set where this runs is no default.
        subparsers = argparse.ArgumentParser().add_subparsers()
        add_command(subparsers, command, {})
        parser = subparsers.choices[command.name]
        yield f"### spanledger {command.name}\n"
        yield f"{parser.description}\n"
        # argparse has no public way to list what was added.
        yield from table(("option", "meaning"), (option(action) for action in parser._actions if action.dest != "help"))
        yield f"```\n{trimmed(command.examples)}\n```\n"


def option(action: argparse.Action) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    choices = f" One of {', '.join(map(str, action.choices))}." if action.choices else ""
    return names, f"{(action.help or '').replace('%%', '%')}{choices}"


def endpoints() -> Iterator[str]:
    yield "## HTTP API\n"
    yield "The same as an OpenAPI document: `/openapi.json` of a running server. Errors are `application/problem+json`,"
    yield "with a sentence that says what to do; an unknown or malformed parameter answers 400 and names it.\n"
    yield from table(
        ("", "path", "answers"), ((route.method, f"`{template(route.path)}`", route.summary) for route in ROUTES)
    )
    yield "### Parameters\n"
    yield from table(("parameter", "values", "default", "meaning", "of"), parameters())


def parameters() -> Iterator[tuple[str, ...]]:
    """Each parameter once, with the paths that take it. Equal names may be different parameters."""
    distinct = {id(parameter): parameter for route in ROUTES for parameter in route.parameters}
    for parameter in distinct.values():
        takers = [path(route) for route in ROUTES if any(parameter is taken for taken in route.parameters)]
        if set(ANALYTICS) <= set(takers):
            takers = [*(taker for taker in takers if taker not in ANALYTICS), "analytics/…"]
        several = " Repeated: any of them." if parameter.repeatable else ""
        of = ", ".join(f"`{taker}`" for taker in takers)
        yield f"`{parameter.name}`", parameter.kind.allowed, shown(parameter.default), parameter.help + several, of


def path(route: Route) -> str:
    return template(route.path).removeprefix(BASE + "/")


ANALYTICS = [path(r) for r in ROUTES if path(r).startswith("analytics/") and FILTERS[0] in r.parameters]


def shown(default: Any) -> str:
    if default is None:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def tables() -> Iterator[str]:
    yield "## Tables\n"
    yield "Types are PostgreSQL's; in SQLite, UUIDs and JSON are text and times are ISO 8601 text in UTC.\n"
    for one in (execution_logs, llm_call_logs):
        yield f"### {one.name}\n"
        yield from table(("column", "type", ""), columns(one))


def columns(of: Table) -> Iterator[tuple[str, str, str]]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for column in of.columns:
        note = "primary key" if column.primary_key else "" if column.nullable else "not null"
        yield f"`{column.name}`", column.type.compile(dialect=dialect), note


def vocabularies() -> Iterator[str]:
    yield "## Vocabularies\n"
    yield "Whose spans become rows. A span that speaks several is read by all of them; the first here wins, field by"
    yield "field.\n"
    modules = [import_module(f"{dialects.__name__}.{found.name}") for found in iter_modules(dialects.__path__)]
    yield from table(
        ("name", "spans"),
        (
            (f"`{dialect.name}`", " ".join((module.__doc__ or "").partition("\n\n")[0].split()))
            for dialect in dialects.DIALECTS
            for module in modules
            if any(dialect is value for value in vars(module).values())
        ),
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def trimmed(examples: str) -> str:
    return "\n".join(line.strip() for line in examples.strip().splitlines())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="write nothing")
    text = reference()
    if not options.parse_args().check:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print(f"{PAGE.name} is not what the code says: run python docs/generate_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
