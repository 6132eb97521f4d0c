"""OpenAI, and every server that speaks its chat-completions wire format."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..semconv import CHAT
from .base import Clients, Reply, Request, Usage, count, read_usage, sdk

if TYPE_CHECKING:
    import openai

DEFAULT_ADDRESS: Final = "https://api.openai.com/v1"


class OpenAI:
    """Chat completions over the official ``openai`` SDK (extra ``spanledger[openai]``).

    Without arguments the SDK's own environment variables apply (``OPENAI_API_KEY``, ``OPENAI_BASE_URL``).
    *stream_usage* asks streams for their usage; turn it off for a server that refuses ``stream_options``.
    """

    name = "openai"
    operation = CHAT

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: "openai.OpenAI | None" = None,
        async_client: "openai.AsyncOpenAI | None" = None,
        stream_usage: bool = True,
    ) -> None:
        given = client or async_client
        self.address = str(given.base_url) if given else base_url or os.environ.get("OPENAI_BASE_URL", DEFAULT_ADDRESS)
        self._stream_usage = stream_usage

        def make() -> "openai.OpenAI":
            return client or sdk("openai", "openai").OpenAI(api_key=api_key, base_url=base_url)

        def make_async() -> "openai.AsyncOpenAI":
            return async_client or sdk("openai", "openai").AsyncOpenAI(api_key=api_key, base_url=base_url)

        self._clients = Clients(make, make_async)
        self.prepare = self._clients.prepare

    def complete(self, request: Request) -> Reply:
        return read(self._clients.for_threads().chat.completions.create(**self._arguments(request)))

    async def acomplete(self, request: Request) -> Reply:
        return read(await self._clients.for_this_loop().chat.completions.create(**self._arguments(request)))

    def stream(self, request: Request) -> Iterator[Reply]:
        arguments = self._arguments(request, stream=True)
        with self._clients.for_threads().chat.completions.create(**arguments) as chunks:
            for chunk in chunks:
                yield _read_chunk(chunk)

    async def astream(self, request: Request) -> AsyncIterator[Reply]:
        arguments = self._arguments(request, stream=True)
        async with await self._clients.for_this_loop().chat.completions.create(**arguments) as chunks:
            async for chunk in chunks:
                yield _read_chunk(chunk)

    def close(self) -> None:
        if (client := self._clients.forget()) is not None:
            client.close()

    async def aclose(self) -> None:
        self.close()
        if (client := self._clients.forget_this_loop()) is not None:
            await client.close()

    def _arguments(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        arguments = {"model": request.model, "messages": list(request.messages), **request.parameters}
        if stream:
            arguments["stream"] = True
            if self._stream_usage:  # otherwise a stream never says what it cost
                arguments.setdefault("stream_options", {"include_usage": True})
        return arguments


def read(completion: Any) -> Reply:
    """The `Reply` of a ``ChatCompletion``."""
    choice = completion.choices[0] if completion.choices else None
    return Reply(
        text=(choice.message.content or "") if choice else "",
        response_id=completion.id,
        model=completion.model,
        finish_reason=choice.finish_reason if choice else None,
        service_tier=getattr(completion, "service_tier", None),
        usage=read_usage(usage, completion.usage),
    )


def chunk_reader() -> Callable[[Any], Reply]:
    """What reads the chunks of one stream."""
    return _read_chunk


def _read_chunk(chunk: Any) -> Reply:
    """The piece of a `Reply` in a ``ChatCompletionChunk``; the usage comes in a last one without choices."""
    choice = chunk.choices[0] if chunk.choices else None
    return Reply(
        text=(choice.delta.content or "") if choice and choice.delta else "",
        response_id=chunk.id,
        model=chunk.model,
        finish_reason=choice.finish_reason if choice else None,
        service_tier=getattr(chunk, "service_tier", None),
        usage=read_usage(usage, getattr(chunk, "usage", None)),
    )


def usage(raw: Mapping[str, Any]) -> Usage:
    """OpenAI's counts mean what OTel's do: prompt includes cached tokens, completion includes reasoning."""
    return Usage(
        input_tokens=count(raw, "prompt_tokens"),
        output_tokens=count(raw, "completion_tokens"),
        cache_read_tokens=count(raw, "prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=count(raw, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count(raw, "completion_tokens_details", "reasoning_tokens"),
        audio_input_tokens=count(raw, "prompt_tokens_details", "audio_tokens"),
        audio_output_tokens=count(raw, "completion_tokens_details", "audio_tokens"),
    )
