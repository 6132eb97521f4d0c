"""A request's body, bounded: in bytes before and after decompression, and in the time it may take to arrive."""

import asyncio
import zlib
from typing import Any, Final

from starlette.requests import Request

from spanledger.exporter.errors import UndecodableSpans

from ..budget import Take, unbounded
from ..problems import BodyTooLarge, BodyTooSlow, UnsupportedBody

SECONDS: Final = 30.0
"""Time a body may take to arrive: a client that drips bytes does not hold a connection for ever."""

PATIENCE: Final = 4
"""Limits' worth of bytes that are heard out."""

_GZIP: Final = 31
"""zlib's *wbits* for a gzip header and trailer, checksum included."""


async def read(request: Request[Any], limit: int, take: Take = unbounded, seconds: float = SECONDS) -> bytes:
    """The raw body, its bytes taken from a budget. Raises `Overloaded` when that has no room, `BodyTooLarge` when the
    body exceeds *limit* bytes, `BodyTooSlow` after *seconds*.

    A body that is only somewhat too large is read to its end, unkept: a client that is cut off while it talks does not
    hear why, and tries again.
    """
    if int(request.headers.get("content-length", 0)) > PATIENCE * limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > PATIENCE * limit:
                    raise _too_large(limit)
                if size <= limit:
                    take(len(chunk))
                    chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {seconds:g} seconds; send it again.") from None
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as its sender wrote it. Inflates no further than *limit* bytes (OTLP: the limit counts after inflating).

    Raises `UnsupportedBody`, `BodyTooLarge`, or `UndecodableSpans` for gzip that is cut off, damaged or has a tail.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise UnsupportedBody(f"Content-Encoding {encoding[:40]!r} is not supported; use gzip or identity.")
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise UndecodableSpans(f"The body is not valid gzip ({error}); send it again uncompressed.") from None
    if len(data) > limit:
        raise _too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise UndecodableSpans("The gzip body is cut off, or something follows its end; send it again.")
    return data


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body exceeds {limit:,} bytes, which is this server's limit before and after decompression; "
        "send smaller batches or raise SPANLEDGER_MAX_BODY_BYTES."
    )
