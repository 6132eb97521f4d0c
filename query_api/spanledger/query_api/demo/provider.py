"""A local model provider that speaks the OpenAI wire format: no model, but honest usage, streams, tools and errors.

It exists so that real SDKs, instrumentors and agents can run without a key or a bill. What it answers depends on the
request alone, but for two things the real one also remembers: long prompts it has seen (cached tokens) and requests it
has turned away once. A message that contains ``(provider: fail 503)`` is answered with that status; with
``(provider: fail 429 once)`` only the first time, so that a client's retry succeeds.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

FAILURE: Final = re.compile(r"\(provider: fail (?P<status>[45]\d\d)(?P<once> once)?\)")
CHARACTERS_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
CACHE_FROM: Final = 1024
CACHE_STEP: Final = 128
"""OpenAI caches prompts from 1,024 tokens on, in steps of 128."""
REASONING_TOKENS: Final = 192
REASONING_MODELS: Final = ("o1", "o3", "o4", "gpt-5")


class Reply(NamedTuple):
    """What the model would say: text, or one tool call (name and arguments as JSON text)."""

    content: str | None
    tool: tuple[str, str] | None = None

    def pieces(self) -> list[str]:
        """The text as a stream delivers it: a word at a time."""
        text = self.tool[1] if self.tool else self.content or ""
        return re.findall(r"\s*\S+", text)


def create_provider(latency: float = 0.02) -> Starlette:
    """The provider as an ASGI app; *latency* is seconds to the first byte, and ten times the gap between chunks."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/{path:path}", _not_found, methods=["GET", "POST"]),
        ]
    )
    app.state.latency = latency
    app.state.seen = set()
    return app


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``, streamed or not."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        return _error(401, "You didn't provide an API key.", "invalid_api_key")
    try:
        body = orjson.loads(await request.body())
        messages, model = body["messages"], body["model"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _error(400, "A JSON object with 'model' and 'messages' is needed.", "invalid_request_error")
    await asyncio.sleep(request.app.state.latency)
    seen: set[str] = request.app.state.seen
    if (status := _failure(messages, seen)) is not None:
        return _error(status, "Rate limit reached." if status == 429 else "The provider failed, as asked.", "on_demand")
    reply = reply_to(messages, body.get("tools") or (), body.get("response_format") or {})
    usage = usage_of(model, messages, reply, seen)
    head = {"id": _completion_id(body), "created": int(time.time()), "model": model, "service_tier": "default"}
    if body.get("stream"):
        wants_usage = (body.get("stream_options") or {}).get("include_usage", False)
        chunks = _chunks(head, reply, usage if wants_usage else None)
        return StreamingResponse(_events(chunks, request.app.state.latency / 10), media_type="text/event-stream")
    return JSONResponse({**head, "object": "chat.completion", "choices": [_choice(reply)], "usage": usage})


def reply_to(messages: Sequence[Any], tools: Sequence[Any], response_format: Mapping[str, Any]) -> Reply:
    """A tool call if tools wait to be called, a document if a schema asks for one, else a sentence."""
    topic = _topic(messages)
    last = messages[-1] if messages else {}
    if tools and last.get("role") != "tool":
        function = tools[0]["function"]
        arguments = _example(function.get("parameters") or {}, topic)
        return Reply(None, (function["name"], orjson.dumps(arguments).decode()))
    if schema := (response_format.get("json_schema") or {}).get("schema"):
        return Reply(orjson.dumps(_example(schema, topic)).decode())
    if last.get("role") == "tool":
        return Reply(f"Done. The tool answered {_text(last)[:200]}, which settles: {topic}")
    return Reply(f"In short: {topic} The figures support it, and the trend of the last quarters points the same way.")


def usage_of(model: str, messages: Sequence[Any], reply: Reply, seen: set[str]) -> dict[str, Any]:
    """OpenAI's usage block: cached tokens are part of the prompt's, reasoning tokens part of the completion's.

    *seen* remembers the fingerprints of leading messages; a long one is cached from its second time on.
    """
    prompt = sum(TOKENS_PER_MESSAGE + _tokens(_text(message)) for message in messages)
    lead = _text(messages[0]) if messages else ""
    fingerprint = hashlib.sha256(f"{model}\n{lead}".encode()).hexdigest()
    cached = _tokens(lead) // CACHE_STEP * CACHE_STEP if _tokens(lead) >= CACHE_FROM and fingerprint in seen else 0
    seen.add(fingerprint)
    reasoning = REASONING_TOKENS if model.startswith(REASONING_MODELS) else 0
    completion = reasoning + sum(map(_tokens, reply.pieces()))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def _chunks(head: Mapping[str, Any], reply: Reply, usage: dict[str, Any] | None) -> list[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    opening: dict[str, Any] = {"role": "assistant", "content": None if reply.tool else ""}
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in reply.pieces()]
    if reply.tool:
        opening["tool_calls"] = [_tool_call(head["id"], reply.tool[0], "")]
        deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in reply.pieces()]
    chunks = [chunk(opening), *map(chunk, deltas), chunk({}, "tool_calls" if reply.tool else "stop")]
    if usage is not None:
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return chunks


async def _events(chunks: Sequence[dict[str, Any]], gap: float) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
        await asyncio.sleep(gap)
    yield b"data: [DONE]\n\n"


def _choice(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.tool:
        message["tool_calls"] = [_tool_call("call", *reply.tool)]
    return {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.tool else "stop", "logprobs": None}


def _tool_call(seed: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": 0, "id": f"call_{_digest(seed + name)}", "type": "function", "function": function}


def _failure(messages: Sequence[Any], seen: set[str]) -> int | None:
    """The status the last message asks to fail with, if it does and its one time is not over."""
    asked = FAILURE.search(_text(messages[-1])) if messages else None
    if asked is None:
        return None
    fingerprint = "failed " + _digest(_text(messages[-1]))
    if asked["once"] and fingerprint in seen:
        return None
    seen.add(fingerprint)
    return int(asked["status"])


def _error(status: int, message: str, code: str) -> Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return JSONResponse({"error": error}, status, {"Retry-After": "0"} if status == 429 else None)


async def _not_found(request: Request) -> Response:
    return _error(404, f"This provider only knows POST /v1/chat/completions, not {request.url.path}.", "not_found")


def _example(schema: Mapping[str, Any], topic: str) -> Any:
    """A value that a JSON schema accepts, about *topic*."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _example(part, topic) for name, part in schema.get("properties", {}).items()}
        case "array":
            # One item for each choice, so that a plan names every action it may take.
            choices = [c for part in schema["items"].get("properties", {}).values() for c in part.get("enum", ())]
            return [_with_choice(_example(schema["items"], topic), c, schema["items"]) for c in choices or [None]]
        case "integer" | "number":
            return len(topic)
        case "boolean":
            return True
    return topic


def _with_choice(item: Any, choice: str | None, schema: Mapping[str, Any]) -> Any:
    chosen = {name: choice for name, part in schema.get("properties", {}).items() if choice in part.get("enum", ())}
    return {**item, **chosen} if chosen else item


def _topic(messages: Sequence[Any]) -> str:
    """The first line of what the user asked last."""
    asked = [_text(message) for message in messages if message.get("role") == "user"]
    return asked[-1].strip().splitlines()[0][:300] if asked and asked[-1].strip() else "nothing was asked."


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _completion_id(body: Any) -> str:
    return f"chatcmpl-{_digest(orjson.dumps(body).decode() + str(time.time_ns()))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
