"""`spanledger restore`: put archived rows back."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import Final

from spanledger.exporter.restore import restore
from spanledger.exporter.store import Store

from ..answers import as_json
from ..progress import counting
from .options import Command, Options, operator, settings_from

EXAMPLES: Final = """\
  spanledger restore ./archive
  spanledger restore ./archive/*/20260822T* --json
  spanledger restore ./archive --database-url sqlite:///looking-back.db     # into another database
"""


def _add_options(options: Options) -> None:
    options.parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="files that archive wrote, or folders of them"
    )
    options.switch("--json", "print the numbers as JSON")


def _restore(arguments: argparse.Namespace) -> int:
    with closing(Store.open(settings_from(arguments).database_url)) as store, counting("Restoring") as progress:
        restored = restore(store, arguments.paths, actor=operator(), progress=progress)
    if arguments.json:
        print(as_json({"restored": restored._asdict()}))
        return 0
    print(f"Restored {restored.executions:,} executions and {restored.llm_calls:,} LLM calls.")
    if restored.standing:
        print(f"{restored.standing:,} were there already.")
    if restored.erased:
        print(f"{restored.erased:,} stay out: they were erased.")
    return 0


COMMAND: Final = Command(
    name="restore",
    summary="put archived executions and LLM calls back, into this database or another",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_restore,
)
