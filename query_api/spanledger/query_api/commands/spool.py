"""`spanledger spool`: what waits on this host for the database, bring it there, and what the database refused."""

import argparse
from contextlib import closing
from typing import Final

from rich.console import Console

from spanledger.exporter.custody import Custody
from spanledger.exporter.delivery import retry
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pipeline import drain, open_spool
from spanledger.exporter.settings import Settings
from spanledger.exporter.store import Store

from ..answers import as_json
from ..tables import number, titled
from ..waiting import waiting
from .options import Command, Options, settings_from

EXAMPLES: Final = """\
  spanledger spool status
  spanledger spool drain                   # what a killed agent left behind
  spanledger spool dead-letters --json
  spanledger spool dead-letters --retry    # after an upgrade that can read them
"""


def _add_options(options: Options) -> None:
    options.parser.add_argument("deed", metavar="DEED", choices=DEEDS, help="status, drain or dead-letters")
    options.switch("--retry", "try to store the dead letters again; those that succeed are removed from the list")
    options.switch("--json", "print JSON")


def _perform(arguments: argparse.Namespace) -> int:
    return DEEDS[arguments.deed](arguments, settings_from(arguments))


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    found = waiting(open_spool(settings))
    if arguments.json:
        print(as_json(found))
        return 0
    waits = (
        f"{found['segments']:,} segments ({found['bytes']:,} bytes), the oldest {found['oldest_seconds']:,.0f} s old"
    )
    print(f"In {found['folder']} wait {waits}." if found["segments"] else f"Nothing waits in {found['folder']}.")
    if found["corrupt_files"]:
        print(f"{found['corrupt_files']} files in it could not be read at all and are kept aside (*.corrupt).")
    for reason, count in found["lost"].items():
        print(f"Lost by processes that still run or have just ended: {count:,} spans ({reason}).")
    return 0


def _drain(arguments: argparse.Namespace, settings: Settings) -> int:
    delivered = 0

    def count(total: int) -> None:
        nonlocal delivered
        delivered = total

    ours = drain(settings, count)
    if arguments.json:
        print(as_json({"delivered": delivered, "left_to_another_process": not ours}))
    elif ours:
        print(f"Delivered {delivered:,} spans.")
    else:
        print("Another process on this host is draining the spool right now; nothing is left to do here.")
    return 0


def _dead_letters(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.retry:
        with closing(Ledger.open(settings)) as ledger:
            delivered, left = retry(ledger)
        print(
            as_json({"delivered": delivered, "left": left})
            if arguments.json
            else f"{delivered:,} could be stored now, {left:,} still cannot."
        )
        return 0
    with closing(Store.open(settings.database_url)) as store:
        letters = Custody(store).dead_letters()
    if arguments.json:
        print(as_json([letter._asdict() for letter in letters]))
        return 0
    table = titled("Spans the database refused", "trace", "span", "reason", bytes="right")
    for letter in letters:
        table.add_row(letter.trace_id, letter.span_id, letter.reason, number(len(letter.body)))
    Console(highlight=False, soft_wrap=True).print(table if letters else "No span was refused.")
    return 0


DEEDS: Final = {"status": _status, "drain": _drain, "dead-letters": _dead_letters}

COMMAND: Final = Command(
    name="spool",
    summary="show and drain what waits on this host for the database",
    examples=EXAMPLES,
    settings=("database_url", "spool_folder", "content", "redact", "prices", "max_value_bytes"),
    add_options=_add_options,
    perform=_perform,
)
