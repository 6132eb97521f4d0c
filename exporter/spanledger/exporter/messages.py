"""Prompts and responses in one readable shape, whoever wrote them.

A message is ``{"role", "content", "tool_calls", "tool_call_id", "name", "reasoning", "finish_reason"}`` with the empty
ones left out; *content* is text, or a list of parts where it holds more than text; a tool call is ``{"id", "name",
"arguments"}``. Read are the shapes of OTel GenAI (``parts``), OpenAI (chat and responses), Anthropic, Gemini,
Bedrock Converse, Cohere, Ollama, LangChain and the Vercel AI SDK, alone or inside a whole request or response body,
because instrumentations pass the provider's own objects through. What is none of these is kept whole, as JSON text.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from .values import json_text

Message = dict[str, Any]

MAX_DEPTH: Final = 8
"""Levels of lists and bodies in each other that are taken apart: more than any provider nests, and a bound."""

SAYS: Final = ("choices", "candidates", "generations", "messages", "contents", "output", "message", "input", "prompt")
"""Where a request or response body keeps its messages, in the order to look."""
ANSWERS: Final = ("choices", "candidates", "generations")
"""Those of them that hold answers, whose messages may name no role."""
SYSTEM: Final = ("system", "instructions", "system_instruction", "systemInstruction")
"""Where a request body keeps its system instructions."""
ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "aimessagechunk": "assistant",
    "model": "assistant",  # Gemini
    "chatbot": "assistant",  # Cohere
    "tool-call": "assistant",  # smolagents
    "tool-response": "tool",
    "function": "tool",
}
"""Other words for a role."""
SPEAKERS: Final = frozenset(("human", "ai", "AIMessageChunk", "system", "tool"))
"""Types of LangChain's messages, which name no role."""
GENERATION: Final = "ChatGeneration"
"""How the type of LangChain's choices begins."""
MESSAGE_KEYS: Final = frozenset(
    ("content", "parts", "tool_calls", "name", "id", "type", "text", "finish_reason", "stop_reason", "index", "refusal")
)
"""Keys of a message that names no role: a mapping with any other key is some other thing."""

CALL_TYPES: Final = frozenset(
    ("tool_call", "tool_use", "function_call", "tool-call", "function", "server_tool_use", "custom_tool_call")
)
RESULT_TYPES: Final = frozenset(
    ("tool_call_response", "tool_result", "function_call_output", "tool-result", "custom_tool_call_output")
)
REASONING_TYPES: Final = frozenset(("reasoning", "thinking", "redacted_thinking"))
ITEM_TYPES: Final = CALL_TYPES | RESULT_TYPES | REASONING_TYPES
"""Types of a thing that stands beside messages in OpenAI's responses and is itself a part."""
TEXT_TYPES: Final = frozenset(("text", "input_text", "output_text", "summary_text", "refusal", None))
TEXT_KEYS: Final = ("text", "content", "input_text", "output_text", "refusal")
NESTED_CALLS: Final = ("functionCall", "function_call", "toolUse")
NESTED_RESULTS: Final = ("functionResponse", "function_response", "toolResult")
NESTED_REASONING: Final = ("reasoningContent", "reasoning_content")
REASONING_ONLY: Final = frozenset(("role", "reasoning"))
NESTED: Final = frozenset((*NESTED_CALLS, *NESTED_RESULTS, *NESTED_REASONING, "thought"))
"""Keys that say what a part is where it has no type (Gemini, Bedrock)."""


def parse(value: Any) -> Any:
    """*value*, decoded if it is JSON text of an object or array; otherwise itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def messages_from(value: Any, role: str = "user", depth: int = MAX_DEPTH) -> list[Message]:
    """The messages in *value*: JSON text or a value, a list of messages or one, a body, or plain text by *role*.

    What is nested deeper than *depth* is kept as JSON text.
    """
    value = parse(value)
    if value is None or value == "" or value == []:
        return []
    if depth == 0:
        return [{"role": role, "content": _plain(value)}]
    if isinstance(value, dict):
        return _from_mapping(value, role, depth)
    if isinstance(value, list | tuple):
        if all(map(_is_part, value)):
            return [_message({"content": value}, role)]
        messages: list[Message] = []
        for item in value:
            if isinstance(item, dict) and "role" in item:
                messages.append(_spoken(item, role) or _message(item, role))
            else:
                messages += _from_item(item, role, depth)
        return _with_reasons(messages) if len(messages) > 1 else messages
    return [{"role": role, "content": _plain(value)}]


def _with_reasons(messages: list[Message]) -> list[Message]:
    """*messages*, each that is reasoning and nothing else joined to the one it led to (OpenAI's responses)."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else {}
        if last.keys() == REASONING_ONLY and last["role"] == message["role"] and "reasoning" not in message:
            joined[-1] = {**message, "reasoning": last["reasoning"]}
        else:
            joined.append(message)
    return joined


def system_message(value: Any) -> list[Message]:
    """The system instructions as a message of their own, in front of the prompt."""
    return [{**message, "role": "system"} for message in messages_from(value, "system")] if value else []


def dump(messages: Sequence[Message]) -> str | None:
    """The messages as JSON text, without those that say nothing; None when there are none."""
    said = [message for message in messages if len(message) > 1]
    return json_text(said) if said else None


def _from_item(item: Any, role: str, depth: int) -> list[Message]:
    """The messages of one item of a list: a message, or a list of them (LangChain batches, Vercel steps)."""
    item = parse(item) if isinstance(item, str) and item[:2] == '{"' else item
    return messages_from(item, role, depth - 1) if isinstance(item, dict | list | tuple) else [_message(item, role)]


def _from_mapping(value: dict[str, Any], role: str, depth: int) -> list[Message]:
    if _is_message(value):
        return [_message(value, role)]
    for key in SAYS:
        inner = value.get(key)
        if isinstance(inner, dict | list | tuple) or (inner and key == "input"):
            system = next((value[name] for name in SYSTEM if value.get(name)), None)
            if system is None and isinstance(config := value.get("config"), dict):
                system = next((config[name] for name in SYSTEM if config.get(name)), None)
            finish = value.get("finish_reason") or value.get("stopReason") or value.get("done_reason")
            said = messages_from(inner, "assistant" if key in ANSWERS else role, depth - 1)
            if finish and said:
                said[-1].setdefault("finish_reason", finish)
            return [*system_message(system), *said]
    return [{"role": role, "content": json_text(value)}]


def _is_message(value: dict[str, Any]) -> bool:
    if "role" in value or value.get("lc") == 1 or _kind(value) in ITEM_TYPES:
        return True
    if isinstance(value.get("message"), dict) and ("index" in value or str(value.get("type")).startswith(GENERATION)):
        return True  # a choice
    if isinstance(value.get("data"), dict) and _kind(value) in SPEAKERS:
        return True  # LangChain's stored messages
    if "content" in value and ("additional_kwargs" in value or "finish_reason" in value or "finishReason" in value):
        return True  # LangChain's plain messages, Gemini's candidates
    return value.keys() <= MESSAGE_KEYS


def _is_part(value: Any) -> bool:
    if (
        not isinstance(value, dict)
        or "role" in value
        or "lc" in value
        or "additional_kwargs" in value
        or isinstance(value.get("data"), dict)
    ):
        return False
    if value.get("type") == "message" or isinstance(value.get("content", value.get("message")), dict):
        return False
    return "type" in value or "text" in value or "content" in value or not NESTED.isdisjoint(value)


def _spoken(item: dict[str, Any], role: str) -> Message | None:
    """What `_message` makes of an item that has a role, one text and nothing else but a reason: nearly every one."""
    said, finish = item.get("content"), item.get("finish_reason")
    if (parts := item.get("parts")) is not None:
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(part := parts[0], dict):
            return None
        said = part.get("content") if len(part) == 2 and part.get("type") == "text" else None
    elif isinstance(said, str) and said[:1] in ("[", "{"):
        return None
    if not said or not isinstance(said, str) or len(item) != 2 + ("finish_reason" in item):
        return None
    message = {"role": _role(item["role"], role), "content": said}
    if finish:
        message["finish_reason"] = finish
    return message


def _message(value: Any, role: str) -> Message:
    if not isinstance(value, dict):
        return {"role": role, "content": _plain(value)}
    value = _unwrapped(value)
    get = value.get
    kind = _kind(value)
    is_item = kind in ITEM_TYPES and "role" not in value
    if is_item and kind not in RESULT_TYPES:
        role = "assistant"
    message: Message = {"role": _role(get("role") or (kind if kind in SPEAKERS else None), role)}
    body = [value] if is_item else _body(value)
    _read_content(body, message)
    if isinstance(reasoning := get("reasoning_content") or get("thinking"), str):
        message.setdefault("reasoning", reasoning)
    calls = get("tool_calls")
    if not calls and isinstance(extra := get("additional_kwargs"), dict):
        calls = extra.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        _add_call(tool_call(call), message)
    if identifier := get("tool_call_id") or (get("id") if message["role"] == "tool" else None):
        message.setdefault("tool_call_id", identifier)
    if (name := get("name")) and kind not in ITEM_TYPES:
        message["name"] = name
    if finish := get("finish_reason") or get("stop_reason") or get("finishReason"):
        message["finish_reason"] = finish
    return message


def _unwrapped(value: dict[str, Any], depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The message in a choice, a candidate, or one of LangChain's envelopes."""
    if "role" in value or depth == 0:
        return value
    finish = value.get("finish_reason") or value.get("finishReason")
    if isinstance(inner := value.get("message"), dict):  # a choice, a generation
        if finish is None and isinstance(info := value.get("generation_info"), dict):
            finish = info.get("finish_reason")
        message = _unwrapped(inner, depth - 1)
        return {"finish_reason": finish, **message} if finish else message
    if isinstance(inner := value.get("content"), dict) and "parts" in inner:  # Gemini
        return {"finish_reason": finish, **inner}
    if value.get("lc") == 1 and isinstance(inner := value.get("kwargs"), dict):
        identity = value.get("id")
        name = str(identity[-1]) if isinstance(identity, list) and identity else ""
        return {"role": name.removesuffix("Chunk").removesuffix("Message").lower(), **inner}
    if isinstance(inner := value.get("data"), dict) and "type" in value:
        return {"role": value["type"], **inner}
    return value


def _role(said: Any, default: str) -> str:
    if not isinstance(said, str) or not said:
        return default
    word = said.lower()
    return ROLES.get(word, word)


def _body(value: dict[str, Any]) -> Any:
    body = value.get("parts", value.get("content"))
    if body is None:
        body = value.get("text", value.get("refusal"))
    return parse(body) if isinstance(body, str) and body[:2] in ("[{", '{"') and _holds_parts(body) else body


def _holds_parts(text: str) -> bool:
    """Whether JSON text in the place of content is a list of parts rather than what somebody said."""
    parts = parse(text)
    for part in parts if isinstance(parts, list) else [parts]:
        if not isinstance(part, dict):
            return False
        if not (isinstance(part.get("type"), str) or part.keys() == {"text"} or not NESTED.isdisjoint(part)):
            return False
    return True


def _read_content(body: Any, message: Message) -> None:
    """Put what a message's body holds where it belongs in *message*."""
    if isinstance(body, str):
        if body:
            message["content"] = body
        return
    if isinstance(body, dict):
        body = [body]
    if not isinstance(body, list | tuple):
        if body is not None:
            message["content"] = _plain(body)
        return
    texts: list[str] = []
    others: list[Any] = []
    for part in body:
        if not isinstance(part, dict):
            texts.append(_plain(part))
        elif not _read_special(part, message, texts):
            text = _first(part, *TEXT_KEYS)
            if isinstance(text, str) and _kind(part) in TEXT_TYPES:
                texts.append(text)
            else:
                others.append(part)
    if others:
        message["content"] = [*({"type": "text", "text": t} for t in texts), *others]
    elif any(texts):
        message["content"] = "\n".join(texts)


def _read_special(part: dict[str, Any], message: Message, texts: list[str]) -> bool:
    """Read *part* if it is a tool call, a tool's result or reasoning; False if it is none of them."""
    kind = _kind(part)
    if kind == "text" or (kind is None and NESTED.isdisjoint(part)):
        return False
    if (kind in CALL_TYPES and not _is_definition(part)) or _nested(part, NESTED_CALLS):
        _add_call(tool_call(part), message)
    elif kind in RESULT_TYPES or _nested(part, NESTED_RESULTS):
        _read_result(part, message, texts)
    elif kind in REASONING_TYPES or part.get("thought") is True or _nested(part, NESTED_REASONING):
        if reasoning := _reasoning(part):
            message["reasoning"] = "\n".join(filter(None, (message.get("reasoning"), reasoning)))
    else:
        return False
    return True


def _nested(value: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any] | None:
    """The mapping under the first of *keys* that has one."""
    for key in keys:
        if isinstance(inner := value.get(key), dict):
            return inner
    return None


def _is_definition(part: dict[str, Any]) -> bool:
    """Whether a part of type ``function`` describes a tool rather than calls it."""
    function = part.get("function", part)
    return isinstance(function, dict) and "parameters" in function and "arguments" not in function


def _reasoning(part: dict[str, Any], depth: int = MAX_DEPTH) -> str | None:
    """The readable text of a reasoning part; encrypted reasoning has none."""
    for key in ("thinking", "summary", *TEXT_KEYS, *NESTED_REASONING, "reasoningText"):
        value = part.get(key)
        if isinstance(value, str) and value:
            return value
        if depth and isinstance(value, dict) and (text := _reasoning(value, depth - 1)):
            return text
        if depth and isinstance(value, list):
            texts = [_reasoning(v, depth - 1) or "" for v in value if isinstance(v, dict)]
            if any(texts):
                return "\n".join(texts)
    return None


def _read_result(part: dict[str, Any], message: Message, texts: list[str]) -> None:
    nested = _nested(part, NESTED_RESULTS) or part
    identifier = _first(nested, "call_id", "tool_use_id", "toolCallId", "toolUseId", "tool_call_id", "id")
    if identifier is not None:
        message["tool_call_id"] = identifier
    if message["role"] in ("user", "assistant"):
        message["role"] = "tool"  # Anthropic, Bedrock and Gemini let the user say what a tool answered
    result = _first(nested, "response", "result", "output", "content")
    if result is not None:
        texts.append(_result_text(result))


def _result_text(result: Any) -> str:
    """The text of a tool's result; parts of text are joined, anything else is JSON."""
    if isinstance(result, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in result):
        return "\n".join(p["text"] for p in result)
    return _plain(result)


def _add_call(call: dict[str, Any], message: Message) -> None:
    """Add a tool call, unless the message has said it already (LangChain keeps Anthropic's calls in two places)."""
    calls = message.setdefault("tool_calls", [])
    if call.get("id") is None or all(known.get("id") != call["id"] for known in calls):
        calls.append(call)


def tool_call(value: Any) -> dict[str, Any]:
    """One tool call as ``{"id", "name", "arguments"}``; arguments decoded where they are JSON text."""
    if not isinstance(value, dict):
        return {"name": _plain(value)}
    nested = _nested(value, ("function", *NESTED_CALLS)) or value
    call = {
        "id": _first(value, "call_id", "toolCallId", "id") or _first(nested, "id", "toolUseId"),
        "name": _first(nested, "name", "toolName"),
        "arguments": parse(_first(nested, "arguments", "args", "input")),
    }
    return {key: item for key, item in call.items() if item is not None}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _kind(value: dict[str, Any]) -> str | None:
    kind = value.get("type")
    return kind if isinstance(kind, str) else None


def _first(value: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if (item := value.get(key)) is not None:
            return item
    return None
