"""`spanledger serve`: the API, the start page and the OTLP receiver."""

import argparse
from contextlib import ExitStack, closing
from typing import Final

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.ledger import Ledger

from .. import listening
from ..app import create_app
from .options import Command, Options, settings_from, shown

EXAMPLES: Final = """\
  spanledger serve
  spanledger serve --database-url postgresql://ledger@127.0.0.1/ledger --port 8080
  spanledger serve --otlp-port 4318 --grpc-port 4317     # where OTLP exporters send to by default
"""


def _add_options(options: Options) -> None:
    options.value("--otlp-port", "listen here, too; 4318 is where OTLP/HTTP exporters send to by default", type=int)
    options.value("--grpc-port", "take OTLP over gRPC here; 4317 is where exporters send it to by default", type=int)
    options.switch(
        "--insecure-no-auth", "allow an address that other machines can reach, although nobody has to log in"
    )


def _serve(arguments: argparse.Namespace) -> int:
    settings = settings_from(arguments)
    if not listening.is_loopback(settings.host) and not arguments.insecure_no_auth:
        raise ConfigurationError(
            f"Anybody who can reach {settings.host} could read and delete everything: this version has no API "
            "keys yet. Listen on 127.0.0.1 behind a proxy that asks who is there, or give --insecure-no-auth."
        )
    ports = [settings.port] + ([arguments.otlp_port] if arguments.otlp_port is not None else [])
    with listening.until_stopped(), ExitStack() as stack:
        sockets = [stack.enter_context(listening.bind(settings.host, port)) for port in ports]
        grpc_port = None
        if arguments.grpc_port is not None:
            grpc_port = listening.free_port(settings.host, arguments.grpc_port)
        ledger = stack.enter_context(closing(Ledger.open(settings)))
        api, otlp = listening.address(sockets[0]), listening.address(sockets[-1])
        listening.serve(
            create_app(ledger, settings, grpc_port=grpc_port),
            sockets,
            lambda: _introduce(api, otlp, grpc_port, shown(settings.database_url)),
        )
    return 0


def _introduce(api: str, otlp: str, grpc_port: int | None, database: str) -> None:
    print(f"spanledger listens on {api} and writes to {database}. Ctrl-C stops it.\n")
    print("Record a program:  spanledger run python app.py")
    print(f"Any other OTLP:    OTEL_EXPORTER_OTLP_ENDPOINT={otlp} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    if grpc_port is not None:
        print(f"OTLP over gRPC:    port {grpc_port}")
    print(f"Look at it:        {api}/  or  curl {api}/execution-logs/analytics/summary", flush=True)


COMMAND: Final = Command(
    name="serve",
    summary="receive OTLP spans and answer questions about them over HTTP",
    examples=EXAMPLES,
    settings=(
        "database_url",
        "host",
        "port",
        "content",
        "redact",
        "prices",
        "jaeger_url",
        "max_body_bytes",
        "max_value_bytes",
    ),
    add_options=_add_options,
    perform=_serve,
)
