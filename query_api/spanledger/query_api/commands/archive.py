"""`spanledger archive`: move what is older than you want to keep into Parquet files."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from spanledger.exporter.archive import Archived, archive
from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.limits import cut_offs
from spanledger.exporter.store import Deleted, Store

from ..answers import as_json
from ..progress import counting
from .options import Command, Options, operator, settings_from
from .purge import add_limits, limits_from

EXAMPLES: Final = """\
  spanledger archive ./archive --older-than 90d
  spanledger archive ./archive --older-than 90d --status completed,failed --json
  spanledger archive ./archive --max-size 20GB          # the oldest, as many as it takes
  spanledger archive ./copy --older-than 0d --keep      # a copy of everything
  duckdb -c "SELECT model_id, sum(total_cost) FROM 'archive/llm_call_logs/*.parquet' GROUP BY 1"
"""


def _add_options(options: Options) -> None:
    options.parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the files go; made if need be")
    add_limits(options)
    options.switch("--keep", "copy only: delete nothing from the database")
    options.switch("--json", "print the numbers as JSON")


def _archive(arguments: argparse.Namespace) -> int:
    limits = limits_from(arguments)
    if not (limits.older_than or limits.max_bytes):
        raise ConfigurationError("Say what is old, for example: spanledger archive ./archive --older-than 90d")
    if limits.max_bytes and arguments.keep:
        raise ConfigurationError("Nothing gets smaller where --keep keeps the rows: leave out --max-size or --keep.")
    with closing(Store.open(settings_from(arguments).database_url)) as store:
        with counting("Archiving") as progress:
            archived = [
                archive(
                    store,
                    arguments.folder,
                    older_than,
                    statuses=limits.statuses,
                    keep=arguments.keep,
                    actor=operator(),
                    progress=progress,
                )
                for older_than in cut_offs(store, limits)
            ]
        store.backend.reclaim()
    _show(archived, arguments)
    return 0


def _show(archived: Sequence[Archived], arguments: argparse.Namespace) -> None:
    moved = Deleted(sum(each.executions for each in archived), sum(each.llm_calls for each in archived))
    files = [str(file) for each in archived for file in each.files]
    if arguments.json:
        print(as_json({"archived": moved._asdict(), "files": files}))
        return
    done = "Copied" if arguments.keep else "Moved"
    print(f"{done} {moved.executions:,} executions and {moved.llm_calls:,} LLM calls to {arguments.folder}.")


COMMAND: Final = Command(
    name="archive",
    summary="move executions and LLM calls that are older than you want to keep into Parquet files",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_archive,
)
