"""MLflow and Phoenix from PyPI: each in a virtual environment of its own, as a server on loopback that takes our spans.

They are installed once, into ``~/.cache/spanledger-peers`` or where ``SPANLEDGER_PEERS`` says, and never beside the
project. Both run as their own command line starts them, on SQLite, with a temporary database.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import urlopen

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

STARTS_WITHIN: Final = 180.0
"""Seconds. MLflow's first start makes its tables."""
ENDS_WITHIN: Final = 20.0
OPENINFERENCE: Final = {
    "gen_ai.operation.name": "openinference.span.kind",
    "gen_ai.agent.name": "agent.name",
    "gen_ai.provider.name": "llm.provider",
    "gen_ai.response.model": "llm.model_name",
    "gen_ai.usage.input_tokens": "llm.token_count.prompt",
    "gen_ai.usage.output_tokens": "llm.token_count.completion",
    "gen_ai.usage.cache_read.input_tokens": "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.reasoning.output_tokens": "llm.token_count.completion_details.reasoning",
    "gen_ai.conversation.id": "session.id",
    "gen_ai.input.messages": "input.value",
    "gen_ai.output.messages": "output.value",
}
KINDS: Final = {"chat": "LLM", "invoke_agent": "AGENT"}


class CannotRun(Exception):
    """A peer cannot be installed or started here; the text says why."""


def as_it_is(body: bytes) -> bytes:
    return body


def as_openinference(body: bytes) -> bytes:
    """The same content under the names Phoenix computes tokens and costs from."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                for attribute in span.attributes:
                    if attribute.key == "gen_ai.operation.name":
                        attribute.value.string_value = KINDS[attribute.value.string_value]
                    attribute.key = OPENINFERENCE.get(attribute.key, attribute.key)
    return request.SerializeToString()


class Peer(NamedTuple):
    """How a peer is installed, started and asked what it has stored."""

    name: str
    package: str
    command: str
    environment: Mapping[str, str]
    health: str
    """A path that answers as soon as the server takes spans."""
    spans: int
    """How many it gets a round: enough for a stable figure, few enough that it comes to an end."""
    headers: Mapping[str, str] = {}
    told: Callable[[bytes], bytes] = as_it_is
    """A request of ours as the peer wants it."""


PEERS: Final = (
    Peer(
        "MLflow",
        "mlflow",
        "mlflow server --host 127.0.0.1 --port {port} --backend-store-uri sqlite:///{folder}/peer.db",
        {"MLFLOW_DISABLE_TELEMETRY": "true"},
        "/health",
        10_000,
        {"x-mlflow-experiment-id": "0"},
    ),
    Peer(
        "Phoenix",
        "arize-phoenix",
        "phoenix serve",
        {
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": "{port}",
            "PHOENIX_GRPC_PORT": "{second_port}",
            "PHOENIX_WORKING_DIR": "{folder}",
            "PHOENIX_SQL_DATABASE_URL": "sqlite:///{folder}/peer.db",
            "PHOENIX_TELEMETRY_ENABLED": "false",
        },
        "/healthz",
        2_000,
        told=as_openinference,
    ),
)


def installed(peer: Peer) -> Path:
    """The folder of the peer's programs, in an environment that is made if there is none. Raises `CannotRun`."""
    home = Path(os.environ.get("SPANLEDGER_PEERS") or Path.home() / ".cache" / "spanledger-peers") / peer.package
    programs, done = home / "bin", home / "installed"
    if not done.exists():
        print(f"Installing {peer.package} into {home}, once.", file=sys.stderr)
        make: list[str | Path] = [sys.executable, "-m", "venv", "--clear", home]
        fill: list[str | Path] = [programs / "python", "-m", "pip", "install", "-q", peer.package]
        for command in (make, fill):
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                raise CannotRun(f"{peer.name} cannot be installed here: {_last_line(ran.stderr)}")
        done.touch()
    return programs


def version(peer: Peer, programs: Path) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version({peer.package!r}))"
    return subprocess.run([programs / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def serving(peer: Peer, programs: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """The address and the pid of the peer's server on a fresh database, until the block ends. Raises `CannotRun`."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, second_port = one.getsockname()[1], two.getsockname()[1]
    words = {"port": port, "second_port": second_port, "folder": folder}
    program, *options = [word.format(**words) for word in peer.command.split()]
    environment = {name: value.format(**words) for name, value in peer.environment.items()}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / program, *options],
            cwd=folder,
            env={**os.environ, **environment, "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url + peer.health, process, peer, folder / "log")
        yield url, process.pid
    finally:
        _end(process)


def count(folder: Path) -> int:
    """How many spans the peer's database in *folder* holds."""
    with closing(sqlite3.connect(f"file:{folder}/peer.db?mode=ro", uri=True, timeout=60)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM spans").fetchone()
        return int(number)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", peer: Peer, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise CannotRun(f"{peer.name} does not start here: {_last_line(log.read_text(errors='replace'))}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1][-300:]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server with the workers it started: its own process group, and nothing else."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return
