"""An ASGI app on sockets bound beforehand: in the foreground until a signal, or in a thread while a block runs."""

import asyncio
import ipaddress
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, cast

import uvicorn
from starlette.types import ASGIApp

from spanledger.exporter.errors import ConfigurationError, SpanledgerError

from . import logs
from .crowd import MOST, Connection, Crowd, files

GRACE_SECONDS: Final = 5
"""How long requests under way may take to finish when the server stops."""
START_SECONDS: Final = 30


class Certificate(NamedTuple):
    """The files of a server's certificate chain and of its key, as PEM."""

    chain: Path
    key: Path

    def check(self) -> None:
        """Raises `ConfigurationError` if a server could not use them."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self.key, lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"The certificate {self.chain} and the key {self.key} cannot be used: {error}."
            ) from None


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `ConfigurationError` saying why it cannot be had."""
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"Cannot listen on port {port}: ports go from 0 (a free one) to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({error}). Is another server running? Choose another with --port."
        ) from None


def free_port(host: str, port: int) -> int:
    """A port that was free a moment ago, for a server that binds by itself. Raises `ConfigurationError` as `bind`."""
    with bind(host, port) as listener:
        free: int = listener.getsockname()[1]
        return free


def address(listener: socket.socket, scheme: str = "http") -> str:
    """``http://host:port`` of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*. A name other than localhost is not trusted to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def until_stopped() -> Iterator[None]:
    """SIGINT and SIGTERM end the block, quietly, after its clean-up. For the main thread."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def serve(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    announce: Callable[[], None],
    certificate: Certificate | None = None,
) -> None:
    """Serve until a signal, finish the requests under way, and raise `KeyboardInterrupt` (see `until_stopped`).

    *announce* is called once the server is there.
    """
    logs.to_stderr()
    _Server(app, announce, certificate).run(sockets=list(sockets))


@contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[str]:
    """Serve from another thread while the block runs; yields the address."""
    url = address(listener)
    started = threading.Event()
    server = _Server(app, started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name=f"server {url}")
    thread.start()
    try:
        if not started.wait(START_SECONDS):
            raise SpanledgerError(f"The server at {url} did not start within {START_SECONDS} s.")
        yield url
    finally:
        server.should_exit = True
        thread.join(GRACE_SECONDS + 1)


class _Server(uvicorn.Server):
    def __init__(self, app: ASGIApp, announce: Callable[[], None], certificate: Certificate | None = None) -> None:
        chain, key = certificate or (None, None)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], partial(Connection, crowd=Crowd(min(MOST, files() // 2)))),
                log_config=None,
                log_level="error",  # a stranger's broken request is not worth a line
                access_log=False,
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                ssl_certfile=chain,
                ssl_keyfile=key,
            )
        )
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()
