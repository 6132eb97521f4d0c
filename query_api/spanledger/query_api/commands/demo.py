"""`spanledger demo`: real agents and real recorded traces become rows, and a summary you can check by hand."""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from starlette.datastructures import QueryParams

from spanledger.exporter.errors import ConfigurationError, SpanledgerError
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings

from .. import listening
from ..app import create_app
from ..demo.provider import create_provider
from ..demo.replay import recordings, send, shift
from ..parameters import FILTERS, parse, window
from ..terminal import harmless, harmless_lines
from .options import Command, Options, settings_from, shown
from .summary import show_summary

EXAMPLES: Final = """\
  spanledger demo
  spanledger demo --once
  spanledger demo --database-url postgresql://ledger@127.0.0.1/ledger
"""
AGENT_SECONDS: Final = 300
"""More than the agents' SDK would ever wait for a provider that does not answer."""


NANOSECONDS_A_MINUTE: Final = 60 * 10**9


def _add_options(options: Options) -> None:
    options.switch("--once", "end after the summary instead of serving on")
    options.switch("--local", "use the local provider even if OPENAI_API_KEY is set")


def _demo(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    settings = _settings(arguments)
    with (
        _listener(settings, console) as listener,
        closing(Ledger.open(settings)) as ledger,
        listening.serving(create_app(ledger, settings), listener) as server,
    ):
        console.print(f"Database  {shown(settings.database_url)}")
        console.print(f"Server    {server}\n")
        problems = [*_run_agents(console, settings, _provider(arguments)), *_replay(console, server)]
        console.print()
        show_summary(console, ledger.store, window(parse(FILTERS, QueryParams())))
        for problem in problems:
            console.print("[red]Failed:[/]", escape(harmless_lines(problem)))
        if arguments.once:
            _say_where_to_go(console, settings)
        else:
            _say_where_to_look(console, settings, server)
            with listening.until_stopped():
                threading.Event().wait()
    return 1 if problems else 0


def _settings(arguments: argparse.Namespace) -> Settings:
    """The settings; without a database of the user's choice, a new SQLite file, which stays when the demo ends."""
    settings = settings_from(arguments)
    if not listening.is_loopback(settings.host):
        raise ConfigurationError("The demo serves on this machine only: leave --host at 127.0.0.1.")
    if arguments.database_url is None and "SPANLEDGER_DATABASE_URL" not in os.environ:
        file = Path(tempfile.mkdtemp(prefix="spanledger-demo-")) / "ledger.db"
        arguments.database_url = f"sqlite:///{file}"
        settings = settings_from(arguments)
    return settings


def _listener(settings: Settings, console: Console) -> socket.socket:
    try:
        return listening.bind(settings.host, settings.port)
    except ConfigurationError:
        console.print(f"Port {settings.port} is taken; the demo takes a free one.")
        return listening.bind(settings.host, 0)


def _provider(arguments: argparse.Namespace) -> str | None:
    """The address of the real provider, if the environment has a key for one; None: the local one."""
    if arguments.local or not os.environ.get("OPENAI_API_KEY") or not find_spec("openai"):
        return None
    return os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"


def _run_agents(console: Console, settings: Settings, real_provider: str | None) -> Iterator[str]:
    """Run the agents in a process of their own, like any application; yields what went wrong."""
    if real_provider:
        host = urlsplit(real_provider).hostname
        console.print(f"Agents    call gpt-4o-mini at {host}, as OPENAI_API_KEY is set (about ten small calls).")
    else:
        client = (
            "the openai SDK" if find_spec("openai") else "a built-in client; pip install 'spanledger[demo]' for more"
        )
        console.print(f"Agents    call a local provider that speaks the OpenAI wire format, over {escape(client)}.")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["SPANLEDGER_DATABASE_URL"] = settings.database_url
    command = [sys.executable, "-m", "spanledger.query_api.demo.agents"]
    with _local_provider(real_provider) as local:
        if local:
            command.append("--local")
            environment |= {"OPENAI_BASE_URL": f"{local}/v1", "OPENAI_API_KEY": "local"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        stopper = threading.Timer(AGENT_SECONDS, process.kill)
        stopper.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                _tell(console, json.loads(line))
            _, errors = process.communicate()
        finally:
            stopper.cancel()
            process.kill()
            process.wait()
    if process.returncode:
        yield f"the agents' process ended with status {process.returncode}. {errors.strip()[-2000:]}"


@contextmanager
def _local_provider(real_provider: str | None) -> Iterator[str | None]:
    if real_provider:
        yield None
    else:
        with listening.serving(create_provider(), listening.bind("127.0.0.1", 0)) as address:
            yield address


def _tell(console: Console, event: Mapping[str, Any]) -> None:
    """One line of the agents' process: the outcome of a task, or, at the end, what was stored."""
    if "stored" in event:
        instrumentors = ", ".join(event["instrumented"]) or "none is installed"
        console.print(f"          {event['stored']} spans stored; OTel instrumentors: {instrumentors}\n")
        return
    mark = "[green]✓[/]" if event["expected"] else "[red]✗[/]"
    outcome = (
        "failed, as asked" if event["error"] and event["expected"] else event["error"] or "planned, executed, observed"
    )
    console.print(f"  {mark} {event['task'].partition(' (')[0]} [dim]{escape(harmless(outcome))}[/]")


def _replay(console: Console, server: str) -> Iterator[str]:
    """Send the recorded traces to the receiver of *server*; yields what went wrong."""
    console.print("Replay    traces recorded from other instrumentations, their times moved to the last minutes.")
    for minutes_ago, recording in enumerate(recordings(), start=1):
        shift(recording, time.time_ns() - minutes_ago * NANOSECONDS_A_MINUTE)
        try:
            send(recording, server)
            mark = "[green]✓[/]"
        except SpanledgerError as error:
            yield str(error)
            mark = "[red]✗[/]"
        console.print(f"  {mark} {recording.producer} [dim]{recording.scenario}, {len(recording.spans)} spans[/]")


def _say_where_to_look(console: Console, settings: Settings, server: str) -> None:
    console.print("\n[bold]Where to look[/]")
    for what, where in (
        ("start page", f"{server}/"),
        ("summary", f"curl {server}/execution-logs/analytics/summary"),
        ("failures", f"curl '{server}/execution-logs/executions?status=failed'"),
        ("calls", f"curl '{server}/execution-logs/llm-calls?limit=5&include_content=true'"),
        ("by hand", _by_hand(settings)),
        ("your own app", f"SPANLEDGER_DATABASE_URL={shown(settings.database_url)} spanledger run python app.py"),
    ):
        console.print(f"  {what:13}{where}", markup=False)
    console.print("\nServing until Ctrl-C.")


def _say_where_to_go(console: Console, settings: Settings) -> None:
    database = shown(settings.database_url)
    console.print("\n[bold]Where to go from here[/]")
    for what, where in (
        ("by hand", _by_hand(settings)),
        ("again", f"spanledger summary --database-url {database}"),
        ("over HTTP", f"spanledger serve --database-url {database}"),
        ("your own app", f"SPANLEDGER_DATABASE_URL={database} spanledger run python app.py"),
    ):
        console.print(f"  {what:13}{where}", markup=False)


def _by_hand(settings: Settings) -> str:
    """The shell command that adds up what the summary says."""
    query = "SELECT model_id, count(*), sum(input_tokens), sum(total_cost) FROM llm_call_logs WHERE counted GROUP BY 1"
    if settings.database_url.startswith("sqlite:///"):
        return f'sqlite3 {settings.database_url.removeprefix("sqlite:///")} "{query}"'
    return f'psql {shown(settings.database_url)} -c "{query}"'


COMMAND: Final = Command(
    name="demo",
    summary="run example agents, replay recorded traces, and show what they did and cost",
    examples=EXAMPLES,
    settings=("database_url", "host", "port"),
    add_options=_add_options,
    perform=_demo,
)
