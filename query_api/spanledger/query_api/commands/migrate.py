"""`spanledger migrate`: create or update the tables."""

import argparse
from typing import Final

from spanledger.exporter.store import Store

from .options import Command, Options, settings_from, shown

EXAMPLES: Final = """\
  spanledger migrate --database-url postgresql://ledger@db.example/ledger
"""


def _add_options(options: Options) -> None:
    """None of its own."""


def _migrate(arguments: argparse.Namespace) -> int:
    url = settings_from(arguments).database_url
    Store.open(url, migrate=True).close()
    print(f"The tables in {shown(url)} are up to date.")
    return 0


COMMAND: Final = Command(
    name="migrate",
    summary="create the tables, or bring them up to date (SQLite does it by itself)",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_migrate,
)
