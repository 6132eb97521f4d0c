"""``TraceService/Export`` and ``LogsService/Export``: OTLP over gRPC, on the event loop of the HTTP server.

OK means what 200 means over HTTP: committed. UNAVAILABLE comes with a time to come back; INVALID_ARGUMENT and
RESOURCE_EXHAUSTED are final. gRPC inflates and bounds messages itself, before and after decompression.
"""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote

import grpc
from anyio import to_thread
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # the package has no py.typed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

# The key has no public name; OTel's own instrumentations read it from here.
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from spanledger.exporter.errors import ConfigurationError, UndecodableSpans

from ..crowd import files
from ..listening import Certificate, is_loopback
from ..problems import RETRY_AFTER_SECONDS, BodyTooSlow, Problem, problem_of
from ..state import State
from .grpc_health import health
from .signals import LOGS, PROTOBUF, TRACES, Signal, accept
from .turns import Turns

logger: Final = logging.getLogger(__name__)

METHODS: Final[Mapping[str, Signal]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": TRACES,
    "opentelemetry.proto.collector.logs.v1.LogsService": LOGS,
}
EXPORT: Final = "Export"

READING: Final = 4
"""Messages that arrive at once: how large one is, and so what it takes of the budget, is known when it is there."""
SECONDS: Final = 10.0
"""Time a message may take to arrive once it is its turn; OTLP exporters give up after as long."""
PRESSED_SECONDS: Final = 1.0
"""The same while others wait for a turn."""
IDLE_SECONDS: Final = 60
"""How long a connection may stand without a call; clients make another when they have one."""
GRACE_SECONDS: Final = 5
"""How long calls under way may take to finish when the server stops."""

CODES: Final[Mapping[int, grpc.StatusCode]] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""What is not here is a bug of ours: INTERNAL."""

Context = grpc.aio.ServicerContext[Any, Any]


@asynccontextmanager
async def serving(state: State, host: str, port: int, certificate: Certificate | None = None) -> AsyncIterator[None]:
    """Take calls on *host* and *port* while the block runs, then let those under way finish."""
    options = (
        ("grpc.max_receive_message_length", state["settings"].max_body_bytes),
        ("grpc.http2.bdp_probe", 0),  # or a fast sender's window grows to megabytes, which it fills unread
        ("grpc.max_allowed_incoming_connections", files() // 4),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.so_reuseport", 0),  # two servers on one port would share the calls between them, silently
    )
    server = grpc.aio.server(options=options)
    reading = Turns(READING, SECONDS, PRESSED_SECONDS)
    for service, signal in METHODS.items():
        server.add_generic_rpc_handlers((_Export(service, signal, state, reading).handlers(),))
    server.add_generic_rpc_handlers((health(METHODS),))
    try:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if certificate is None:
            server.add_insecure_port(address)
        else:
            pair = (certificate.key.read_bytes(), certificate.chain.read_bytes())
            server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ConfigurationError(f"Cannot listen for gRPC on {host} port {port}: {error}.") from None
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE_SECONDS)


class _Export:
    """The one method of a service."""

    def __init__(self, service: str, signal: Signal, state: State, reading: Turns) -> None:
        self._service = service
        self._signal = signal
        self._state = state
        self._reading = reading

    def handlers(self) -> grpc.GenericRpcHandler:
        # On the wire a call with one message is a stream that ends after the first. Taken as a stream, its message is
        # read when we ask for it, and not whenever the sender likes: else a thousand calls are a thousand bodies.
        method: grpc.RpcMethodHandler[bytes, Message] = grpc.stream_unary_rpc_method_handler(self._answer, None, _wire)
        return grpc.method_handlers_generic_handler(self._service, {EXPORT: method})

    async def _answer(self, _: Any, context: Context) -> Message:
        started = time.perf_counter()
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))  # every call has a task, and so a context, of its own
        code = grpc.StatusCode.OK
        try:
            return await self._receive(context)
        except Exception as error:
            problem = problem_of(error)
            code = CODES.get(problem.status, grpc.StatusCode.INTERNAL)
            if code is grpc.StatusCode.INTERNAL:
                logger.exception("A call of %s failed.", self._service)
        finally:
            path = f"/{self._service}/{EXPORT}"
            self._state["metrics"].requests.labels("gRPC", path, code.name).inc()
            self._state["metrics"].seconds.labels("gRPC", path).observe(time.perf_counter() - started)
        return await context.abort(code, problem.detail, _details(code, problem))

    async def _admit(self, context: Context) -> None:
        doorkeeper = self._state["doorkeeper"]
        if not doorkeeper.is_up_to_date:
            await to_thread.run_sync(doorkeeper.look, limiter=self._state["writers"])
        metadata = context.invocation_metadata() or ()
        credentials = [str(value) for name, value in metadata if name == "authorization"]
        local = is_loopback(self._state["settings"].host)
        key = doorkeeper.admit(credentials, _address(context.peer()), "ingest", local=local)
        if key is not None and not doorkeeper.is_noted(key):
            await to_thread.run_sync(doorkeeper.note_use, key, limiter=self._state["writers"])

    async def _receive(self, context: Context) -> Message:
        await self._admit(context)
        # Whoever waits for a turn to be read counts, too: it holds a window of HTTP/2, 64 KiB.
        with self._state["budget"].request() as take:
            body = await self._read(context)
            take(len(body))
            arguments = (self._state, self._signal, PROTOBUF, body)
            return await to_thread.run_sync(accept, *arguments, limiter=self._state["writers"])

    async def _read(self, context: Context) -> bytes:
        try:
            async with self._reading.turn():
                body = await context.read()
        except TimeoutError:
            raise BodyTooSlow("The message did not arrive in time; send it again.") from None
        if not isinstance(body, bytes):
            raise UndecodableSpans("The call ended before its message arrived.")
        return body


def _address(peer: str) -> str:
    """The address in gRPC's name of a peer, ``ipv4:127.0.0.1:80`` or ``ipv6:%5B::1%5D:80``, as HTTP has it."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _wire(message: Message) -> bytes:
    return bytes(message.SerializeToString())


def _details(code: grpc.StatusCode, problem: Problem) -> tuple[tuple[str, bytes], ...]:
    """The ``google.rpc.Status`` that gRPC carries beside a status: for one that passes, when to come back."""
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ()
    again = Packed()
    again.Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_SECONDS)))
    status = Status(code=code.value[0], message=problem.detail, details=[again])
    return (("grpc-status-details-bin", status.SerializeToString()),)
