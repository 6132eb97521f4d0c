"""`spanledger audit`: who did what to the books, and whether that account of it has been tampered with."""

import argparse
import sys
from contextlib import closing
from typing import Final

from rich.console import Console

from spanledger.exporter.audit import Entry, entries, first_broken
from spanledger.exporter.store import Store

from ..answers import as_json
from ..tables import titled
from .options import Command, Options, settings_from

SHOWN: Final = 50
EXAMPLES: Final = """\
  spanledger audit                       # exits with 1 if an entry was changed, removed or slipped in
  spanledger audit --expect 5f2a9c…      # also if the entry of this digest, noted earlier, is gone
  spanledger audit --json
"""


def _add_options(options: Options) -> None:
    options.value("--expect", "a digest noted earlier, which must still be there", metavar="DIGEST")
    options.switch("--json", "print every entry as JSON")


def _audit(arguments: argparse.Namespace) -> int:
    with closing(Store.open(settings_from(arguments).database_url)) as store, store.reading() as connection:
        chain = entries(connection)
    broken = first_broken(chain)
    cut = arguments.expect is not None and all(entry.digest != arguments.expect for entry in chain)
    newest = chain[-1].digest if chain else None
    if arguments.json:
        verdict = {"intact": broken is None and not cut, "first_broken": broken, "newest_digest": newest}
        print(as_json({**verdict, "entries": [entry._asdict() for entry in chain]}))
    else:
        _show(chain[-SHOWN:])
        print(f"{len(chain)} entries. Newest digest: {newest}" if chain else "Nothing was done yet.")
    if broken is not None:
        print(f"spanledger: entry {broken} is not what was written: the log was tampered with.", file=sys.stderr)
    if cut:
        print("spanledger: the entry of that digest is gone: the log was cut off or rewritten.", file=sys.stderr)
    return 1 if broken is not None or cut else 0


def _show(chain: list[Entry]) -> None:
    table = titled("Audit log", "who", "what", "of", rows="right", time="left")
    for entry in chain:
        count = "" if entry.row_count is None else f"{entry.row_count:,}"
        table.add_row(entry.actor, entry.action, entry.object, count, f"{entry.time:%Y-%m-%d %H:%M:%S}")
    if chain:
        Console(highlight=False).print(table)


COMMAND: Final = Command(
    name="audit",
    summary="list who made keys, deleted or exported what, and verify that list",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_audit,
)
