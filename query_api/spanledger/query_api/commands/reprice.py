"""`spanledger reprice`: what calls would cost by today's prices, and, when asked, charging them that."""

import argparse
import sys
from contextlib import closing
from decimal import Decimal
from typing import Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.reprice import Difference, Repriced, reprice

from ..answers import as_json
from ..tables import UNKNOWN, money, number, titled
from .options import Command, Options, open_ledger
from .purge import moment

EXAMPLES: Final = """\
  spanledger reprice --since 2026-01-01 --dry-run
  spanledger reprice --since 7d --prices prices.json
  spanledger reprice --since 2026-01-01 --until 2026-02-01 --yes --json
"""


def _add_options(options: Options) -> None:
    options.value("--since", "an age (90m, 12h, 30d, 8w) or a date: only later calls", type=moment, metavar="DATE")
    options.value("--until", "an age or a date: only earlier calls (default: all)", type=moment, metavar="DATE")
    options.switch("--dry-run", "only show what would change")
    options.switch("--yes", "write without asking")
    options.switch("--json", "print the differences as JSON; asks nothing, so --yes or --dry-run is needed")


def _reprice(arguments: argparse.Namespace) -> int:
    if arguments.since is None:
        raise ConfigurationError("Say from when on, for example: spanledger reprice --since 30d --dry-run")
    if arguments.until is not None and arguments.until <= arguments.since:
        raise ConfigurationError("--until must be later than --since.")
    if arguments.json and not (arguments.yes or arguments.dry_run):
        raise ConfigurationError("Nothing was changed. With --json give --dry-run to look, or --yes to write.")
    with closing(open_ledger(arguments)) as ledger:
        write = arguments.yes and not arguments.dry_run
        repriced = _charged_again(ledger, arguments, write=write)
        _show(repriced, arguments, written=write)
        if write or arguments.dry_run or not repriced.changed:
            return 0
        if not _confirmed(repriced.changed):
            raise ConfigurationError("Nothing was changed. Give --yes to write without being asked.")
        print(f"Repriced {number(_charged_again(ledger, arguments, write=True).changed)} calls.")
    return 0


def _charged_again(ledger: Ledger, arguments: argparse.Namespace, *, write: bool) -> Repriced:
    columns = (TextColumn("Repricing" if write else "Comparing"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("calls", total=None)
        return reprice(
            ledger.store,
            ledger.prices,
            arguments.since,
            until=arguments.until,
            write=write,
            progress=lambda examined: bar.update(task, completed=examined),
        )


def _show(repriced: Repriced, arguments: argparse.Namespace, *, written: bool) -> None:
    if arguments.json:
        differences = [{**d._asdict(), "before": str(d.before), "after": str(d.after)} for d in repriced.differences]
        print(as_json({**repriced._asdict(), "differences": differences, "written": written}))
        return
    console = Console(highlight=False, soft_wrap=True)
    if repriced.differences:
        columns = dict.fromkeys(("calls", "before", "after", "difference"), "right")
        rows = titled("Calls that count and whose cost changes", "day", "model", **columns)
        for difference in repriced.differences:
            rows.add_row(f"{difference.day}", f"{difference.provider} {difference.model}", *_numbers(difference))
        console.print(rows)
        newly, no_longer = (sum(counts) for counts in zip(*(d[-2:] for d in repriced.differences), strict=True))
        if newly or no_longer:
            console.print(f"{number(newly)} had no price and get one; {number(no_longer)} lose theirs.")
    state = "changed" if written else "would change"
    console.print(f"{number(repriced.changed)} of {number(repriced.examined)} calls {state}.")


def _numbers(difference: Difference) -> tuple[str, ...]:
    before = None if difference.newly_priced == difference.calls else difference.before
    after = None if difference.no_longer_priced == difference.calls else difference.after
    change = None if before is None or after is None else after - before
    sign = "+" if change and change > 0 else ""
    return number(difference.calls), _dollars(before), _dollars(after), sign + _dollars(change)


def _dollars(amount: Decimal | None) -> str:
    return UNKNOWN if amount is None else money(float(amount)).replace("$-", "-$")


def _confirmed(changed: int) -> bool:
    if not sys.stdin.isatty():
        return False
    question = f"Write this to {number(changed)} calls? What they were charged before is kept. [y/N] "
    return input(question).strip().lower() in ("y", "yes")


COMMAND: Final = Command(
    name="reprice",
    summary="charge calls again after prices have changed; shows the difference and writes when told to",
    examples=EXAMPLES,
    settings=("database_url", "prices"),
    add_options=_add_options,
    perform=_reprice,
)
