"""What OTLP log records say a span's prompt and response were.

The event-based GenAI conventions put content on log records linked to the span by its ids: one record a message
(``gen_ai.user.message``, ``gen_ai.choice``; semantic conventions up to v1.36) or one for the whole call
(``gen_ai.client.inference.operation.details``, from v1.37).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from .messages import Message, dump, messages_from, system_message
from .records import Content

DETAILS: Final = "gen_ai.client.inference.operation.details"
CHOICE: Final = "gen_ai.choice"
ROLES: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
EVENT_NAMES: Final = frozenset((DETAILS, CHOICE, *ROLES))
"""Names of the log records that carry content; every other record is not ours."""


class Said(NamedTuple):
    """Prompt and response as the columns hold them, None where no record said."""

    prompt: str | None
    response: str | None


def compose(contents: Sequence[Content]) -> Said:
    """The prompt and response of one span from all its records, given in order of time."""
    prompt: list[Message] = []
    response: list[Message] = []
    for content in contents:
        record = orjson.loads(content.body)
        if content.name == DETAILS:
            attributes = record["attributes"]
            prompt += system_message(attributes.get("gen_ai.system_instructions"))
            prompt += messages_from(attributes.get("gen_ai.input.messages"))
            response += messages_from(attributes.get("gen_ai.output.messages"))
        elif content.name == CHOICE:
            response += messages_from(_message(record, "assistant"))
        elif content.name in ROLES:
            prompt += messages_from(_message(record, ROLES[content.name]))
    return Said(dump(prompt), dump(response))


def messages_of_events(events: Any) -> tuple[list[Any], list[Any]]:
    """Prompt and response messages of *events*, one record a message as JSON, each naming itself in ``event.name``."""
    prompt: list[Any] = []
    response: list[Any] = []
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict):
            continue
        name = event.get("event.name")
        if name == CHOICE:
            response.append({"role": "assistant", **_body(event), "finish_reason": event.get("finish_reason")})
        elif name in ROLES:
            prompt.append({"role": ROLES[name], **_body(event)})
    return prompt, response


def _body(event: Mapping[str, Any]) -> dict[str, Any]:
    message = event.get("message", event)
    return {k: v for k, v in message.items() if "." not in k} if isinstance(message, dict) else {"content": message}


def _message(record: dict[str, Any], role: str) -> dict[str, Any]:
    """The message of a one-message record: in its body, under ``message`` for a choice, or in its attributes."""
    body = record["body"] if isinstance(record["body"], dict) else record["attributes"] | {"content": record["body"]}
    message = body.get("message", body)
    return {"role": role, **message} if isinstance(message, dict) else {"role": role, "content": message}
