"""The command as people run it: a process of its own, with an environment of the test's."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

COMMAND = (sys.executable, "-m", "spanledger.query_api.cli")

Spanledger = Callable[..., "subprocess.CompletedProcess[str]"]


class Running(NamedTuple):
    url: str
    process: "subprocess.Popen[str]"


Serving = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """No telemetry settings, no keys of real providers, and a spool of the test's own."""
    unwanted = ("OTEL_", "SPANLEDGER_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    # One that may be installed and does not know the SQLAlchemy we use: a warning is right, and in the way here.
    kept["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "sqlalchemy"
    return {**kept, "SPANLEDGER_SPOOL_FOLDER": str(tmp_path / "spool")}


@pytest.fixture
def spanledger(clean_environment: dict[str, str], tmp_path: Path) -> Spanledger:
    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**clean_environment, **variables},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    return run


@pytest.fixture
def serving(clean_environment: dict[str, str], tmp_path: Path) -> Serving:
    """A server on a free port while the block runs; it must end by itself when it is asked to."""

    @contextmanager
    def serve(
        *arguments: str, command: str = "serve", until: str = "Look at it", **variables: str
    ) -> Iterator[Running]:
        process = subprocess.Popen(
            [*COMMAND, command, "--port", "0", *arguments],
            env={**clean_environment, "PYTHONUNBUFFERED": "1", **variables},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if until in line:
                    break
            address = re.search(r"https?://[\d.]+:\d+", said)
            assert address is not None, said
            yield Running(address[0], process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()

    return serve
