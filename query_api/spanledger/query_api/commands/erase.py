"""`spanledger erase`: forget a user, a session or a run."""

import argparse
import sys
from contextlib import closing
from typing import Final

from spanledger.exporter.erasure import COLUMNS, KINDS, Erased, Subject
from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.store import Store

from ..answers import as_json
from .options import Command, Options, operator, settings_from, shown

EXAMPLES: Final = """\
  spanledger erase --user u-4711 --dry-run
  spanledger erase --user u-4711 --yes
  spanledger erase --session 0b6f2c8e
"""


def _add_options(options: Options) -> None:
    for kind, column in COLUMNS.items():
        options.value(f"--{kind}", f"forget the rows with this {column}", metavar="ID")
    options.switch("--dry-run", "only say how much would be deleted")
    options.switch("--yes", "do not ask")
    options.switch("--json", "print the numbers as JSON; asks nothing, so --yes or --dry-run is needed")


def _erase(arguments: argparse.Namespace) -> int:
    subjects = [Subject(kind, value) for kind in KINDS if (value := getattr(arguments, kind))]
    if len(subjects) != 1:
        raise ConfigurationError("Say whose rows: spanledger erase --user ID, --session ID or --execution ID.")
    (subject,) = subjects
    url = settings_from(arguments).database_url
    with closing(Store.open(url)) as store:
        doomed = store.count(subject)
        what = f"of {subject.kind} {subject.value!r} in {shown(url)}: {_counted(doomed)}"
        if arguments.dry_run:
            print(as_json({"would_delete": doomed._asdict()}) if arguments.json else f"Would delete {what}.")
            return 0
        if not arguments.yes and (arguments.json or not _confirmed(what)):
            raise ConfigurationError("Nothing was deleted. Give --yes to delete without being asked.")
        erased = store.erase(subject, actor=operator())
    print(as_json({"deleted": erased._asdict()}) if arguments.json else f"Deleted {_counted(erased)}.")
    return 0


def _counted(rows: Erased) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows._asdict().items())


def _confirmed(what: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Delete everything {what}? This cannot be undone. [y/N] ").strip().lower() in ("y", "yes")


COMMAND: Final = Command(
    name="erase",
    summary="forget a user, a session or a run, for good",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_erase,
)
