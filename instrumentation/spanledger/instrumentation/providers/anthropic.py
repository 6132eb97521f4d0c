"""Anthropic's Messages API."""

import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..semconv import CHAT
from .base import Clients, Reply, Request, Usage, count, read_usage, sdk, split_system, total, wire_form

if TYPE_CHECKING:
    import anthropic

DEFAULT_ADDRESS: Final = "https://api.anthropic.com"
DEFAULT_MAX_TOKENS: Final = 4096
"""Sent when the caller names no ``max_tokens``, which this API demands."""


class Anthropic:
    """Messages over the official ``anthropic`` SDK (extra ``spanledger[anthropic]``).

    Without arguments the SDK's own environment variables apply (``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``).
    The SDK's own span is off in clients made here, as ours tells the same call; a *client* of yours is left alone.
    """

    name = "anthropic"
    operation = CHAT

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: "anthropic.Anthropic | None" = None,
        async_client: "anthropic.AsyncAnthropic | None" = None,
    ) -> None:
        given = client or async_client
        self.address = (
            str(given.base_url) if given else base_url or os.environ.get("ANTHROPIC_BASE_URL", DEFAULT_ADDRESS)
        )

        def make() -> "anthropic.Anthropic":
            new = sdk("anthropic", "anthropic").Anthropic
            return client or new(api_key=api_key, base_url=base_url, **_without_own_span(new))

        def make_async() -> "anthropic.AsyncAnthropic":
            new = sdk("anthropic", "anthropic").AsyncAnthropic
            return async_client or new(api_key=api_key, base_url=base_url, **_without_own_span(new))

        self._clients = Clients(make, make_async)
        self.prepare = self._clients.prepare

    def complete(self, request: Request) -> Reply:
        return read(self._clients.for_threads().messages.create(**_arguments(request)))

    async def acomplete(self, request: Request) -> Reply:
        return read(await self._clients.for_this_loop().messages.create(**_arguments(request)))

    def stream(self, request: Request) -> Iterator[Reply]:
        read_event = chunk_reader()
        with self._clients.for_threads().messages.create(stream=True, **_arguments(request)) as events:
            for event in events:
                yield read_event(event)

    async def astream(self, request: Request) -> AsyncIterator[Reply]:
        read_event = chunk_reader()
        async with await self._clients.for_this_loop().messages.create(stream=True, **_arguments(request)) as events:
            async for event in events:
                yield read_event(event)

    def close(self) -> None:
        if (client := self._clients.forget()) is not None:
            client.close()

    async def aclose(self) -> None:
        self.close()
        if (client := self._clients.forget_this_loop()) is not None:
            await client.close()


def _without_own_span(client: Any) -> dict[str, Any]:
    return {"open_telemetry": False} if "open_telemetry" in inspect.signature(client).parameters else {}


def _arguments(request: Request) -> dict[str, Any]:
    system, messages = split_system(request.messages)
    arguments = {"model": request.model, "messages": messages, "max_tokens": DEFAULT_MAX_TOKENS, **request.parameters}
    if system is not None:
        arguments.setdefault("system", system)
    return arguments


def read(message: Any) -> Reply:
    """The `Reply` of a ``Message``."""
    return Reply(
        text="".join(block.text for block in message.content if block.type == "text"),
        response_id=message.id,
        model=message.model,
        finish_reason=message.stop_reason,
        service_tier=getattr(message.usage, "service_tier", None),
        usage=read_usage(usage, message.usage),
    )


def chunk_reader() -> Callable[[Any], Reply]:
    """What reads the events of one stream. It remembers the usage, which is told in parts: most of it in the first
    event, the rest, cumulative, in the last.
    """
    block: dict[str, Any] = {}

    def told(part: Any) -> Usage | None:
        block.update({name: value for name, value in (wire_form(part) or {}).items() if value is not None})
        return read_usage(usage, block)

    def read_event(event: Any) -> Reply:
        if event.type == "message_start":
            start = read(event.message)
            if (seen := told(event.message.usage)) is not None:  # its output tokens are those of the first word
                seen = seen._replace(output_tokens=None, reasoning_tokens=None, raw=dict(block))
            return start._replace(usage=seen)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            return Reply(text=event.delta.text)
        if event.type == "message_delta":
            return Reply(finish_reason=event.delta.stop_reason, usage=told(event.usage))
        return Reply()

    return read_event


def usage(raw: Mapping[str, Any]) -> Usage:
    """Anthropic's input excludes what the cache served or took; its output includes thinking."""
    read, write = count(raw, "cache_read_input_tokens"), count(raw, "cache_creation_input_tokens")
    fresh = count(raw, "input_tokens")
    return Usage(
        input_tokens=None if fresh is None else total(fresh, read, write),
        output_tokens=count(raw, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=count(raw, "output_tokens_details", "thinking_tokens"),
    )
