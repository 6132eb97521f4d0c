"""`WireProvider`: OpenAI's chat completions over the standard library, for a machine without the ``openai`` package."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

from spanledger.instrumentation import Reply, Request
from spanledger.instrumentation.providers.openai import usage

TIMEOUT_SECONDS: Final = 60


class WireProvider:
    """A custom `Provider` that knows what the demo needs, and tries once again when told to slow down."""

    name = "openai"
    operation = "chat"

    def __init__(self, base_url: str, api_key: str) -> None:
        self.address: str | None = base_url
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def complete(self, request: Request) -> Reply:
        with self._open(request) as answer:
            body = json.loads(answer.read())
        choice = body["choices"][0]
        return _reply(body, choice["message"].get("content") or "", choice["finish_reason"])

    async def acomplete(self, request: Request) -> Reply:
        return await asyncio.to_thread(self.complete, request)

    def stream(self, request: Request) -> Iterator[Reply]:
        with self._open(request, stream=True, stream_options={"include_usage": True}) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    chunk = json.loads(line.removeprefix(b"data: "))
                    choice = chunk["choices"][0] if chunk["choices"] else {"delta": {}, "finish_reason": None}
                    yield _reply(chunk, choice["delta"].get("content") or "", choice["finish_reason"])

    async def astream(self, request: Request) -> AsyncIterator[Reply]:
        pieces = self.stream(request)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    def _open(self, request: Request, **more: Any) -> Any:
        body = {"model": request.model, "messages": list(request.messages), **request.parameters, **more}
        post = HttpRequest(self._url, json.dumps(body).encode(), self._headers)
        try:
            return urlopen(post, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            if error.code != HTTPStatus.TOO_MANY_REQUESTS:
                raise
            error.close()
            return urlopen(post, timeout=TIMEOUT_SECONDS)


def _reply(body: dict[str, Any], text: str, finish_reason: str | None) -> Reply:
    block = body.get("usage")
    return Reply(
        text=text,
        response_id=body["id"],
        model=body["model"],
        finish_reason=finish_reason,
        service_tier=body.get("service_tier"),
        usage=usage(block)._replace(raw=block) if block else None,
    )
