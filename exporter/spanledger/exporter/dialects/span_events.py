"""What was said to and by a span's operation, where its events say it.

Before prompts and responses became attributes they were events: one for each message (``gen_ai.user.message``,
``gen_ai.choice``; semantic conventions v1.28 to v1.36), one for all (``….operation.details``, from v1.37), or one each
for prompt and completion (v1.26). Most emit them as log records (see `contents`); some as events of the span.
"""

from collections.abc import Mapping
from typing import Any, Final

from ..contents import CHOICE, DETAILS, ROLES
from ..messages import Message, messages_from, parse, system_message
from ..spans import SpanData

WHOLE: Final = {
    "gen_ai.content.prompt": ("gen_ai.prompt", "user"),
    "gen_ai.content.completion": ("gen_ai.completion", "assistant"),
}


def said_in_events(span: SpanData) -> tuple[list[Message], list[Message]]:
    """The messages of the prompt and of the response; empty where no event says."""
    prompt: list[Message] = []
    response: list[Message] = []
    for event in span.events:
        get = event.attributes.get
        if event.name in ROLES:
            prompt += _message(event.attributes, ROLES[event.name])
        elif event.name == CHOICE:
            response += _message(event.attributes, "assistant")
        elif event.name == DETAILS:
            prompt += system_message(get("gen_ai.system_instructions"))
            prompt += messages_from(get("gen_ai.input.messages"))
            response += messages_from(get("gen_ai.output.messages"), "assistant")
        elif event.name in WHOLE:
            attribute, role = WHOLE[event.name]
            (prompt if role == "user" else response).extend(messages_from(get(attribute), role))
    return prompt, response


def _message(attributes: Mapping[str, Any], role: str) -> list[Message]:
    """One message: as JSON in ``gen_ai.event.content``, or its fields as attributes of the event."""
    whole = parse(attributes.get("gen_ai.event.content"))
    said: Mapping[str, Any] = whole if isinstance(whole, Mapping) else attributes
    message = said.get("message")
    fields = message if isinstance(message, Mapping) else {**said, "content": said.get("content", message)}
    known = {key: value for key, value in fields.items() if "." not in key and key != "message"}
    return messages_from({"role": role, "finish_reason": said.get("finish_reason"), **known})
