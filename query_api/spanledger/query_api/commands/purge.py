"""`spanledger purge`: delete what is older than you want to keep."""

import argparse
import re
import sys
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Table, func, select

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.records import CANCELLED, COMPLETED, FAILED, STARTED
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.store import Deleted, Store

from .options import Command, Options, operator, settings_from, shown

UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
EXAMPLES: Final = """\
  spanledger purge --older-than 30d --dry-run
  spanledger purge --older-than 12h --status completed --yes
  spanledger purge --older-than 2026-01-01 --yes
"""


def moment(text: str) -> datetime:
    """``30d`` ago (also m, h, w), or a date or date-time, UTC if it does not say."""
    if age := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return datetime.now(UTC) - timedelta(**{UNITS[age[2]]: int(age[1])})
    try:
        if len(text) <= len("2026-01-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        given = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age such as 30d or 12h nor a date") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _add_options(options: Options) -> None:
    options.value("--older-than", "an age (90m, 12h, 30d, 8w) or a date", type=moment, metavar="AGE")
    options.value(
        "--status", "only rows that are: started, completed, failed, cancelled (comma separated)", type=_statuses
    )
    options.switch("--dry-run", "only say how much would be deleted")
    options.switch("--yes", "do not ask")
    options.switch("--json", "print the numbers as JSON; asks nothing, so --yes or --dry-run is needed")


def _purge(arguments: argparse.Namespace) -> int:
    if arguments.older_than is None:
        raise ConfigurationError("Say what is old, for example: spanledger purge --older-than 30d")
    url = settings_from(arguments).database_url
    store = Store.open(url)
    try:
        return _purge_from(store, shown(url), arguments)
    finally:
        store.close()


def _purge_from(store: Store, database: str, arguments: argparse.Namespace) -> int:
    doomed = _count(store, arguments.older_than, arguments.status)
    what = f"{doomed.executions:,} executions and {doomed.llm_calls:,} LLM calls that started before "
    what += f"{arguments.older_than:%Y-%m-%d %H:%M} UTC in {database}"
    if arguments.dry_run:
        print(_json(doomed, deleted=False) if arguments.json else f"Would delete {what}.")
        return 0
    if not arguments.yes and (arguments.json or not _confirmed(what)):
        raise ConfigurationError("Nothing was deleted. Give --yes to delete without being asked.")
    deleted = _delete(store, sum(doomed), arguments.older_than, arguments.status)
    object = f"before {arguments.older_than:%Y-%m-%d %H:%M} UTC {' '.join(arguments.status or ())}".strip()
    store.note(operator(), "purge", object, sum(deleted))
    if arguments.json:
        print(_json(deleted, deleted=True))
    else:
        print(f"Deleted {deleted.executions:,} executions and {deleted.llm_calls:,} LLM calls.")
    return 0


def _count(store: Store, older_than: datetime, statuses: Collection[str] | None) -> Deleted:
    def rows(table: Table) -> int:
        old = select(func.count()).select_from(table).where(table.c.start_time < older_than)
        return connection.scalar(old if statuses is None else old.where(table.c.status.in_(statuses))) or 0

    with store.reading() as connection:
        return Deleted(rows(execution_logs), rows(llm_call_logs))


def _delete(store: Store, expected: int, older_than: datetime, statuses: Collection[str] | None) -> Deleted:
    columns = (TextColumn("Deleting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("rows", total=expected)
        return store.purge(older_than, statuses=statuses, progress=lambda gone: progress.update(task, completed=gone))


def _confirmed(what: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Delete {what}? This cannot be undone. [y/N] ").strip().lower() in ("y", "yes")


def _statuses(text: str) -> list[str]:
    wanted = [status.strip() for status in text.split(",")]
    if unknown := set(wanted) - {STARTED, COMPLETED, FAILED, CANCELLED}:
        raise argparse.ArgumentTypeError(f"there is no status {', '.join(sorted(unknown))}")
    return wanted


def _json(rows: Deleted, *, deleted: bool) -> str:
    return orjson.dumps({"deleted" if deleted else "would_delete": rows._asdict()}).decode()


COMMAND: Final = Command(
    name="purge",
    summary="delete executions and LLM calls that are older than you want to keep",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_purge,
)
