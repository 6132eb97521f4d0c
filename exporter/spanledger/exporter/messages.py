"""Prompts and responses in one readable shape, whoever wrote them.

A message is ``{"role", "content", "tool_calls", "tool_call_id", "reasoning", "finish_reason"}`` with the empty ones
left out; *content* is text, or a list of parts where it holds more than text; a tool call is ``{"id", "name",
"arguments"}``. Read are the shapes of OTel GenAI (``parts``), OpenAI (chat and responses), Anthropic, Gemini,
Bedrock Converse and the Vercel AI SDK, because instrumentations pass the provider's own messages through.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

Message = dict[str, Any]

TEXT_KEYS: Final = ("text", "content", "input_text", "output_text", "refusal")
CALL_TYPES: Final = frozenset(
    ("tool_call", "tool_use", "function_call", "tool-call", "function", "server_tool_use", "custom_tool_call")
)
RESULT_TYPES: Final = frozenset(
    ("tool_call_response", "tool_result", "function_call_output", "tool-result", "custom_tool_call_output")
)
REASONING_TYPES: Final = frozenset(("reasoning", "thinking", "redacted_thinking"))
TEXT_TYPES: Final = frozenset(("text", "input_text", "output_text", "refusal", None))
NESTED_CALLS: Final = ("functionCall", "function_call", "toolUse")
NESTED_RESULTS: Final = ("functionResponse", "function_response", "toolResult")


def parse(value: Any) -> Any:
    """*value*, decoded if it is JSON text of an object or array; otherwise itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def messages_from(value: Any, role: str = "user") -> list[Message]:
    """The messages in *value*: JSON text or a value, a list of messages or one, or plain text said by *role*."""
    value = parse(value)
    if value is None or value == "" or value == []:
        return []
    if isinstance(value, Mapping):
        if isinstance(inner := value.get("messages"), list):
            return messages_from(inner, role)
        return [_message(value, role)]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if value and all(isinstance(v, Mapping) and _is_part(v) for v in value):
            return [_message({"content": value}, role)]
        return [_message(v, role) for v in value]
    return [{"role": role, "content": value if isinstance(value, str) else str(value)}]


def system_message(value: Any) -> list[Message]:
    """The system instructions as a message of their own, in front of the prompt."""
    return [{**message, "role": "system"} for message in messages_from(value, "system")]


def dump(messages: Sequence[Message]) -> str | None:
    """The messages as JSON text; None when there are none."""
    return orjson.dumps(messages, default=str).decode() if messages else None


def _is_part(value: Mapping[str, Any]) -> bool:
    return "role" not in value and ("type" in value or "text" in value or "content" in value)


def _message(value: Any, role: str) -> Message:
    value = parse(value)
    if not isinstance(value, Mapping):
        return {"role": role, "content": value if isinstance(value, str) else str(value)}
    if isinstance(inner := value.get("message"), Mapping):  # a choice
        value = {**inner, "finish_reason": value.get("finish_reason")}
    message: Message = {"role": value.get("role") or role}
    if value.get("type") in CALL_TYPES | RESULT_TYPES | REASONING_TYPES:  # OpenAI responses: items beside messages
        body: Any = [value]
    else:
        body = value.get("parts", value.get("content"))
    _read_content(parse(body) if isinstance(body, str) and body[:2] in ("[{", '{"') else body, message)
    for call in value.get("tool_calls") or ():
        message.setdefault("tool_calls", []).append(tool_call(call))
    if (identifier := value.get("tool_call_id") or value.get("id")) and message["role"] == "tool":
        message.setdefault("tool_call_id", identifier)
    if value.get("name"):
        message["name"] = value["name"]
    if value.get("finish_reason"):
        message["finish_reason"] = value["finish_reason"]
    return message


def _read_content(body: Any, message: Message) -> None:
    """Put what a message's body holds where it belongs in *message*."""
    if isinstance(body, Mapping):
        body = [body]
    if not isinstance(body, Sequence) or isinstance(body, str | bytes):
        if body is not None:
            message["content"] = body if isinstance(body, str) else str(body)
        return
    texts: list[str] = []
    others: list[Any] = []
    for part in body:
        if not isinstance(part, Mapping):
            texts.append(part if isinstance(part, str) else str(part))
            continue
        kind = part.get("type")
        if kind in CALL_TYPES or any(k in part for k in NESTED_CALLS):
            message.setdefault("tool_calls", []).append(tool_call(part))
        elif kind in RESULT_TYPES or any(k in part for k in NESTED_RESULTS):
            _read_result(part, message, texts)
        elif kind in REASONING_TYPES:
            if text := _text_of(part) or part.get("thinking") or part.get("summary"):
                message["reasoning"] = text if isinstance(text, str) else orjson.dumps(text, default=str).decode()
        elif kind in TEXT_TYPES and isinstance(text := _text_of(part), str):
            texts.append(text)
        else:
            others.append(dict(part))
    if others:
        message["content"] = [*({"type": "text", "text": t} for t in texts), *others]
    elif texts:
        message["content"] = "\n".join(texts)


def _read_result(part: Mapping[str, Any], message: Message, texts: list[str]) -> None:
    nested = next((part[k] for k in NESTED_RESULTS if isinstance(part.get(k), Mapping)), part)
    identifier = _first(nested, "id", "call_id", "tool_use_id", "toolCallId", "toolUseId", "tool_call_id")
    if identifier is not None:
        message["tool_call_id"] = identifier
    result = _first(nested, "response", "result", "output", "content")
    if result is not None:
        texts.append(result if isinstance(result, str) else orjson.dumps(result, default=str).decode())


def tool_call(value: Any) -> dict[str, Any]:
    """One tool call as ``{"id", "name", "arguments"}``; arguments decoded where they are JSON text."""
    if not isinstance(value, Mapping):
        return {"name": str(value)}
    nested = next((value[k] for k in ("function", *NESTED_CALLS) if isinstance(value.get(k), Mapping)), value)
    call = {
        "id": _first(value, "id", "call_id", "toolCallId") or _first(nested, "id", "toolUseId"),
        "name": _first(nested, "name", "toolName"),
        "arguments": parse(_first(nested, "arguments", "args", "input")),
    }
    return {key: item for key, item in call.items() if item is not None}


def _text_of(part: Mapping[str, Any]) -> Any:
    return _first(part, *TEXT_KEYS)


def _first(value: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        if (item := value.get(key)) is not None:
            return item
    return None
