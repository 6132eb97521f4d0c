"""`spanledger run`: a Python program, recorded without changing it."""

import argparse
import os
import shutil
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.instrumentors import GROUP

from .options import Command, Options, settings_from

EXAMPLES: Final = """\
  spanledger run python app.py
  spanledger run --database-url sqlite:///runs.db --service-name shop -- uvicorn shop:app --port 8000
"""


def _add_options(options: Options) -> None:
    options.value("--service-name", "name of the program in the rows; OTEL_SERVICE_NAME does the same")
    options.parser.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="what to run")


def _run(arguments: argparse.Namespace) -> int:
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        raise ConfigurationError("There is nothing to run; for example: spanledger run python app.py")
    if (executable := shutil.which(program[0])) is None:
        hint = f"; try: spanledger run python {program[0]}" if program[0].endswith(".py") else "."
        raise ConfigurationError(f"There is no command {program[0]!r}{hint}")
    if not entry_points(group=GROUP):
        print(
            "spanledger: no OpenTelemetry instrumentor is installed, so only spans the program makes itself are "
            "recorded. For the openai package: pip install opentelemetry-instrumentation-genai-openai",
            file=sys.stderr,
        )
    settings = settings_from(arguments)
    os.environ["SPANLEDGER_DATABASE_URL"] = settings.database_url
    os.environ["SPANLEDGER_CONTENT"] = settings.content
    if arguments.service_name:
        os.environ["OTEL_SERVICE_NAME"] = arguments.service_name
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_start_hook(), os.environ.get("PYTHONPATH"))))
    sys.stdout.flush()
    os.execv(executable, program)


def _start_hook() -> str:
    """The folder whose ``sitecustomize`` every Python process imports before the program."""
    spec = find_spec("spanledger.exporter.auto")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent)


COMMAND: Final = Command(
    name="run",
    summary="run a Python program and record its model calls, without changing its code",
    examples=EXAMPLES,
    settings=("database_url", "content"),
    add_options=_add_options,
    perform=_run,
)
