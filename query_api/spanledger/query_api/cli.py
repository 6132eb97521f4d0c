"""`spanledger`: thin commands over the library. Errors are one sentence; only bugs show a traceback."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from spanledger.exporter.errors import BadParameter, ConfigurationError, SpanledgerError

from .commands import (
    archive,
    audit,
    demo,
    doctor,
    erase,
    explain,
    keys,
    migrate,
    purge,
    reprice,
    restore,
    run,
    serve,
    spool,
    summary,
)
from .commands.options import Command, add_command
from .terminal import harmless

COMMANDS: Final[Sequence[Command]] = (
    demo.COMMAND,
    serve.COMMAND,
    run.COMMAND,
    migrate.COMMAND,
    summary.COMMAND,
    explain.COMMAND,
    doctor.COMMAND,
    reprice.COMMAND,
    spool.COMMAND,
    purge.COMMAND,
    archive.COMMAND,
    restore.COMMAND,
    erase.COMMAND,
    keys.COMMAND,
    audit.COMMAND,
)

EPILOG: Final = """\
Start with:       spanledger demo
Then, for real:   spanledger serve
                  spanledger run python app.py

Every option is also a variable: --database-url is SPANLEDGER_DATABASE_URL. The option wins.
"""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="spanledger",
        description="What your AI agents did and what it cost, from OpenTelemetry spans, in a database you own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"spanledger {version('spanledger')}")
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        add_command(subparsers, command, os.environ)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: it could not be done now; 2: it was asked for wrongly; 130: interrupted."""
    try:
        arguments = parser().parse_args(argv)
        status: int = arguments.perform(arguments)
        sys.stdout.flush()
        return status
    except SpanledgerError as error:
        print(f"spanledger: {harmless(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError | BadParameter) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `spanledger summary | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
