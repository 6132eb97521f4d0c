"""`spanledger serve`: the API, the start page and the OTLP receiver."""

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.retention import Retention
from spanledger.exporter.settings import Settings

from .. import listening
from ..app import create_app
from ..keys import Keys
from .options import Command, Options, settings_from, shown

EXAMPLES: Final = """\
  spanledger serve
  spanledger serve --database-url postgresql://ledger@127.0.0.1/ledger --port 8080
  spanledger serve --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem     # once there is an API key
  spanledger serve --otlp-port 4318 --grpc-port 4317     # where OTLP exporters send to by default
  spanledger serve --retention 90d --archive ./archive
"""


def _add_options(options: Options) -> None:
    options.value("--otlp-port", "listen here, too; 4318 is where OTLP/HTTP exporters send to by default", type=int)
    options.value("--grpc-port", "take OTLP over gRPC here; 4317 is where exporters send it to by default", type=int)
    options.switch("--insecure-no-auth", "allow an address that other machines can reach, although there are no keys")
    options.value("--tls-cert", "serve HTTPS with the certificate chain in this PEM file", type=Path, metavar="FILE")
    options.value("--tls-key", "the key of that certificate, as PEM without a password", type=Path, metavar="FILE")


def _serve(arguments: argparse.Namespace) -> int:
    settings = settings_from(arguments)
    certificate = _certificate(arguments)
    ports = [settings.port] + ([arguments.otlp_port] if arguments.otlp_port is not None else [])
    with listening.until_stopped(), ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger.open(settings)))
        _refuse_strangers(settings.host, ledger, insecure=arguments.insecure_no_auth)
        pipeline = stack.enter_context(closing(Pipeline(settings, ledger=ledger)))
        sockets = [stack.enter_context(listening.bind(settings.host, port)) for port in ports]
        grpc_port = None
        if arguments.grpc_port is not None:
            grpc_port = listening.free_port(settings.host, arguments.grpc_port)
        pipeline.start()  # what agents of this host left behind, and what they have yet to say
        retention = _retain(settings, ledger, stack)
        scheme = "https" if certificate else "http"
        api, otlp = listening.address(sockets[0], scheme), listening.address(sockets[-1], scheme)
        listening.serve(
            create_app(
                ledger,
                settings,
                grpc_port=grpc_port,
                certificate=certificate,
                insecure=arguments.insecure_no_auth,
                pipeline=pipeline,
                retention=retention,
            ),
            sockets,
            lambda: _introduce(api, otlp, grpc_port, shown(settings.database_url)),
            certificate,
        )
    return 0


def _retain(settings: Settings, ledger: Ledger, stack: ExitStack) -> Retention | None:
    """Begin to remove old rows, if settings say which."""
    retention = Retention.of(settings, ledger.store)
    if retention is not None:
        stack.enter_context(closing(retention)).start()
    return retention


def _certificate(arguments: argparse.Namespace) -> listening.Certificate | None:
    if not (arguments.tls_cert or arguments.tls_key):
        return None
    if not (arguments.tls_cert and arguments.tls_key):
        raise ConfigurationError("TLS needs both: give --tls-cert and --tls-key.")
    certificate = listening.Certificate(arguments.tls_cert, arguments.tls_key)
    certificate.check()
    return certificate


def _refuse_strangers(host: str, ledger: Ledger, *, insecure: bool) -> None:
    """Where there is a key, nobody gets in without one; where there is none, only this machine may reach us."""
    if not (insecure or listening.is_loopback(host) or Keys(ledger.store).all()):
        raise ConfigurationError(
            f"Anybody who can reach {host} could read and delete everything, because there is no API key yet. "
            "Make one with `spanledger keys create --name me --scope admin`, or listen on 127.0.0.1. "
            "(--insecure-no-auth does without.)"
        )


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
        "spool_folder",
        "allowed_hosts",
        "cors_origins",
        "retention",
        "retention_max_size",
        "archive",
    ),
    add_options=_add_options,
    perform=_serve,
)
