"""``POST /v1/traces`` and ``/v1/logs``: OTLP over HTTP, in protobuf and JSON.

Five steps, each returns or answers: encoding, body, decode, record, encode. A 200 means that everything in it that is
not counted as rejected is committed; 503 means that nothing of it is, and that the sender shall try again.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from anyio import to_thread
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import code_pb2  # type: ignore[import-untyped]  # the package has no py.typed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from starlette.responses import Response

from ..budget import Take
from ..problems import Problem, UnsupportedBody, problem_of
from ..state import Asking
from .body import decompressed, read
from .signals import JSON, LOGS, PROTOBUF, TRACES, Signal, accept

logger: Final = logging.getLogger(__name__)

CODES: Final[Mapping[int, int]] = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.UNIMPLEMENTED,
    429: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    503: code_pb2.UNAVAILABLE,
}


def _protobuf(message: Message) -> bytes:
    return bytes(message.SerializeToString())


def _json(message: Message) -> bytes:
    return orjson.dumps(MessageToDict(message))


ENCODE: Final[Mapping[str, Callable[[Message], bytes]]] = {PROTOBUF: _protobuf, JSON: _json}


async def receive_traces(request: Asking) -> Response:
    return await _receive(request, TRACES)


async def receive_logs(request: Asking) -> Response:
    return await _receive(request, LOGS)


async def _receive(request: Asking, signal: Signal) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        with request.state["budget"].request() as take:
            body = await read(request, request.state["settings"].max_body_bytes, take)
            arguments = (request, signal, media_type, body, take)
            return await to_thread.run_sync(_record, *arguments, limiter=request.state["writers"])
    except Exception as error:
        if media_type not in ENCODE:
            raise
        problem = problem_of(error)
        if problem.status == 500:
            logger.exception("A request to /v1/%s failed.", signal.name)
        return refusal(problem, media_type)


def _record(request: Asking, signal: Signal, media_type: str, body: bytes, take: Take) -> Response:
    """The rest of a request, in a thread: inflating, walking and committing must not hold up the event loop."""
    if media_type not in ENCODE:
        raise UnsupportedBody(f"Content-Type {media_type[:40]!r} is not OTLP; use {PROTOBUF} or {JSON}.")
    encoding = request.headers.get("content-encoding", "").strip().lower()
    data = decompressed(body, encoding, request.state["settings"].max_body_bytes)
    take(max(0, len(data) - len(body)))
    response = accept(request.state, signal, media_type, data)
    return Response(ENCODE[media_type](response), media_type=media_type)


def refusal(problem: Problem, media_type: str) -> Response:
    """A problem as OTLP wants it: a ``google.rpc.Status`` in the encoding of the request, if that is one of OTLP's."""
    if media_type not in ENCODE:
        return problem.response()
    status = Status(code=CODES[problem.status], message=problem.detail)
    return Response(ENCODE[media_type](status), problem.status, dict(problem.headers), media_type)
