"""An ASGI app on sockets bound beforehand: in the foreground until a signal, or in a thread while a block runs."""

import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from spanledger.exporter.errors import ConfigurationError, SpanledgerError

GRACE_SECONDS: Final = 5
"""How long requests under way may take to finish when the server stops."""
START_SECONDS: Final = 30


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `ConfigurationError` saying why it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({error}). Is another server running? Choose another with --port."
        ) from None


def address(listener: socket.socket) -> str:
    """``http://host:port`` of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*. A name other than localhost is not trusted to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way and return."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again when it is done
    try:
        _server(app).run(sockets=list(sockets))
    except KeyboardInterrupt:
        pass


@contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[str]:
    """Serve from another thread while the block runs; yields the address."""
    url = address(listener)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name=f"server {url}")
    thread.start()
    try:
        _wait_until_it_answers(listener)
        yield url
    finally:
        server.should_exit = True
        thread.join(GRACE_SECONDS + 1)


def _server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    )


def _wait_until_it_answers(listener: socket.socket) -> None:
    # The socket listens already: a connection waits in its backlog until the server takes it, so nothing is polled.
    host, port = listener.getsockname()[:2]
    try:
        with socket.create_connection((host, port), timeout=START_SECONDS) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            connection.recv(1)
    except OSError as error:
        raise SpanledgerError(f"The server on port {port} did not start: {error}.") from None
