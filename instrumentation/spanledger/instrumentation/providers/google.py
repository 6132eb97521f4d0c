"""Google's Gemini API."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..semconv import GENERATE_CONTENT
from .base import Clients, Message, Reply, Request, Usage, count, read_usage, sdk, split_system, total

if TYPE_CHECKING:
    import google.genai as genai

DEFAULT_ADDRESS: Final = "https://generativelanguage.googleapis.com"


class Google:
    """``generateContent`` over the official ``google-genai`` SDK (extra ``spanledger[google]``).

    Without arguments the SDK's own environment variables apply (``GOOGLE_API_KEY``, ``GOOGLE_GEMINI_BASE_URL``).
    Parameters are fields of ``GenerateContentConfig``; ``max_tokens`` is understood as ``max_output_tokens``.
    """

    name = "gcp.gemini"
    operation = GENERATE_CONTENT

    def __init__(
        self, *, api_key: str | None = None, base_url: str | None = None, client: "genai.Client | None" = None
    ) -> None:
        self.address = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL", DEFAULT_ADDRESS)

        def make() -> "genai.Client":
            options = {"base_url": base_url} if base_url else None
            return client or sdk("google.genai", "google").Client(api_key=api_key, http_options=options)

        self._clients = Clients(make, make)
        self.prepare = self._clients.prepare

    def complete(self, request: Request) -> Reply:
        return read(self._clients.for_threads().models.generate_content(**_arguments(request)))

    async def acomplete(self, request: Request) -> Reply:
        return read(await self._clients.for_this_loop().aio.models.generate_content(**_arguments(request)))

    def stream(self, request: Request) -> Iterator[Reply]:
        for chunk in self._clients.for_threads().models.generate_content_stream(**_arguments(request)):
            yield read(chunk)

    async def astream(self, request: Request) -> AsyncIterator[Reply]:
        client = self._clients.for_this_loop()
        async for chunk in await client.aio.models.generate_content_stream(**_arguments(request)):
            yield read(chunk)

    def close(self) -> None:
        if (client := self._clients.forget()) is not None:
            client.close()

    async def aclose(self) -> None:
        self.close()
        if (client := self._clients.forget_this_loop()) is not None:
            await client.aio.aclose()
            client.close()


def _arguments(request: Request) -> dict[str, Any]:
    system, messages = split_system(request.messages)
    config = dict(request.parameters)
    if "max_tokens" in config:
        config["max_output_tokens"] = config.pop("max_tokens")
    if system is not None:
        config.setdefault("system_instruction", system)
    return {"model": request.model, "contents": _contents(messages), "config": config or None}


def _contents(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        {
            "role": "model" if message.get("role") == "assistant" else "user",
            "parts": [{"text": content}] if isinstance(content := message["content"], str) else content,
        }
        for message in messages
    ]


def read(response: Any) -> Reply:
    """The `Reply` of a ``GenerateContentResponse``, or the piece of one: a chunk looks the same."""
    candidate = response.candidates[0] if response.candidates else None
    parts = (candidate.content.parts if candidate and candidate.content else None) or ()
    reason = candidate.finish_reason if candidate else None
    return Reply(
        text="".join(part.text for part in parts if part.text and not part.thought),
        response_id=response.response_id,
        model=response.model_version,
        finish_reason=None if reason is None else str(reason.value).lower(),
        usage=read_usage(usage, response.usage_metadata),
    )


def chunk_reader() -> Callable[[Any], Reply]:
    """What reads the chunks of one stream."""
    return read


def usage(raw: Mapping[str, Any]) -> Usage:
    """Gemini's prompt includes what the cache served, but not what its tools added; candidates exclude thoughts."""
    return Usage(
        input_tokens=total(count(raw, "promptTokenCount"), count(raw, "toolUsePromptTokenCount")),
        output_tokens=total(count(raw, "candidatesTokenCount"), count(raw, "thoughtsTokenCount")),
        cache_read_tokens=count(raw, "cachedContentTokenCount"),
        reasoning_tokens=count(raw, "thoughtsTokenCount"),
        audio_input_tokens=_audio(raw, "promptTokensDetails"),
        audio_output_tokens=_audio(raw, "candidatesTokensDetails"),
    )


def _audio(raw: Mapping[str, Any], name: str) -> int | None:
    details = raw.get(name) or ()
    return total(*(count(detail, "tokenCount") for detail in details if detail.get("modality") == "AUDIO"))
