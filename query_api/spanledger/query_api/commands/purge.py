"""`spanledger purge`: delete what is older than you want to keep, or more."""

import argparse
import sys
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import islice
from typing import Final

from sqlalchemy import func, select

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.limits import Limits, age, cut_offs, size
from spanledger.exporter.outdated import outdated
from spanledger.exporter.records import CANCELLED, COMPLETED, FAILED, STARTED
from spanledger.exporter.store import Deleted, Store

from ..answers import as_json
from ..progress import counting
from .options import Command, Options, operator, settings_from, shown

EXAMPLES: Final = """\
  spanledger purge --older-than 30d --dry-run
  spanledger purge --older-than 12h --status completed --yes
  spanledger purge --older-than 2026-01-01 --yes
  spanledger purge --max-size 20GB --yes     # the oldest, as many as it takes
  spanledger purge --vacuum                  # nothing; but what was deleted earlier takes room no more
"""


def moment(text: str) -> datetime:
    """``30d`` ago (also m, h, w), or a date or date-time, UTC if it does not say."""
    if (ago := age(text)) is not None:
        return datetime.now(UTC) - ago
    try:
        if len(text) <= len("2026-01-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        given = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age such as 30d or 12h nor a date") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def add_limits(options: Options) -> None:
    """Which rows: for `purge` and `archive`."""
    options.value("--older-than", "an age (90m, 12h, 30d, 8w) or a date", type=moment, metavar="AGE")
    options.value(
        "--max-size",
        "the oldest rows as well, until the database takes no more than this: 500MB, 20GB. Measured are, with SQLite, "
        "the pages in use of the whole file; with PostgreSQL pg_total_relation_size of our tables, less the room in "
        "them that deleted rows have left",
        type=size,
        metavar="SIZE",
    )
    options.value(
        "--status", "only rows that are: started, completed, failed, cancelled (comma separated)", type=_statuses
    )


def limits_from(arguments: argparse.Namespace) -> Limits:
    return Limits(arguments.older_than, arguments.max_size, arguments.status)


def _add_options(options: Options) -> None:
    add_limits(options)
    options.switch("--dry-run", "only say how much would be deleted")
    options.switch("--yes", "do not ask")
    options.switch(
        "--vacuum",
        "afterwards give back all room, also where it does not happen by itself: in an SQLite file made by an early "
        "version, which is written anew while writers wait, and at once in PostgreSQL",
    )
    options.switch("--json", "print the numbers as JSON; asks nothing, so --yes or --dry-run is needed")


def _purge(arguments: argparse.Namespace) -> int:
    limits = limits_from(arguments)
    if not (limits.older_than or limits.max_bytes or arguments.vacuum):
        raise ConfigurationError("Say what is old, for example: spanledger purge --older-than 30d")
    url = settings_from(arguments).database_url
    with closing(Store.open(url)) as store:
        if limits.older_than or limits.max_bytes:
            _purge_from(store, shown(url), limits, arguments)
        if arguments.vacuum and not arguments.dry_run:
            store.backend.reclaim(thoroughly=True)
            if not arguments.json:
                print("What was deleted takes no room any more.")
    return 0


def _purge_from(store: Store, database: str, limits: Limits, arguments: argparse.Namespace) -> None:
    first = next(cut_offs(store, limits), None)
    doomed = Deleted(0, 0) if first is None else count(store, first, limits.statuses)
    what = _described(doomed, first, limits, database)
    if arguments.dry_run:
        print(as_json({"would_delete": doomed._asdict()}) if arguments.json else f"Would delete {what}.")
        return
    if not arguments.yes and (arguments.json or not _confirmed(what)):
        raise ConfigurationError("Nothing was deleted. Give --yes to delete without being asked.")
    deleted = _delete(store, sum(doomed), limits)
    store.backend.reclaim()
    if arguments.json:
        print(as_json({"deleted": deleted._asdict()}))
    else:
        print(f"Deleted {deleted.executions:,} executions and {deleted.llm_calls:,} LLM calls.")


def _described(doomed: Deleted, before: datetime | None, limits: Limits, database: str) -> str:
    what = f"{doomed.executions:,} executions and {doomed.llm_calls:,} LLM calls"
    if before is not None:
        what += f" that started before {before:%Y-%m-%d %H:%M} UTC"
    what += f" in {database}"
    if limits.max_bytes is not None:
        what += f", and then more of the oldest while it takes more than {limits.max_bytes:,} bytes"
    return what


def count(store: Store, older_than: datetime, statuses: Collection[str] | None) -> Deleted:
    """How many executions and calls would go."""
    rows = islice(outdated(older_than, statuses), 2)  # what only those need comes after them
    with store.reading() as connection:
        counts = (
            connection.scalar(select(func.count()).select_from(part.table).where(part.reach, part.doomed)) or 0
            for part in rows
        )
        return Deleted(*counts)


def _delete(store: Store, expected: int, limits: Limits) -> Deleted:
    deleted = Deleted(0, 0)
    with counting("Deleting", expected) as progress:
        for older_than in cut_offs(store, limits):
            gone = store.purge(older_than, statuses=limits.statuses, progress=progress)
            object = f"before {older_than:%Y-%m-%d %H:%M} UTC {' '.join(limits.statuses or ())}".strip()
            store.note(operator(), "purge", object, sum(gone))
            deleted = Deleted(*map(sum, zip(deleted, gone, strict=True)))
    return deleted


def _confirmed(what: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Delete {what}? This cannot be undone. [y/N] ").strip().lower() in ("y", "yes")


def _statuses(text: str) -> list[str]:
    wanted = [status.strip() for status in text.split(",")]
    if unknown := set(wanted) - {STARTED, COMPLETED, FAILED, CANCELLED}:
        raise argparse.ArgumentTypeError(f"there is no status {', '.join(sorted(unknown))}")
    return wanted


COMMAND: Final = Command(
    name="purge",
    summary="delete executions and LLM calls that are older than you want to keep, or more than there is room for",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_purge,
)
