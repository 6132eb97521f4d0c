"""What OTLP log records say a span's prompt and response were.

The event-based GenAI conventions put content on log records linked to the span by its ids: one record a message
(``gen_ai.user.message``, ``gen_ai.choice``; semantic conventions up to v1.36) or one for the whole call
(``gen_ai.client.inference.operation.details``, from v1.37). Claude Code has events of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import orjson

from .messages import Message, dump, messages_from, parse, system_message
from .records import Content
from .spans import LogEvent
from .values import text

DETAILS: Final = "gen_ai.client.inference.operation.details"
CHOICE: Final = "gen_ai.choice"
ROLES: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
EVENT_NAMES: Final = frozenset((DETAILS, CHOICE, *ROLES))
"""Names of the log records that carry content by OTel's conventions."""


CLAUDE_CODE: Final = "com.anthropic.claude_code.events"
CLAUDE_CODE_EVENTS: Final = frozenset(("api_request", "assistant_response"))
"""Events of Claude Code that say what its spans do not. They stand under the span around the request and name the
request in ``request_id``."""


AFTERWORD: Final = timedelta(milliseconds=5)
"""How long after its span a record of it may be written."""


class Said(NamedTuple):
    """What the columns of a call hold by its records' word, None where none said."""

    prompt: str | None
    response: str | None
    response_model: str | None = None


def is_content(event: LogEvent) -> bool:
    """Whether the log record says what a span's call said."""
    if bool(event.trace_id) != bool(event.span_id) or not (event.trace_id or event.scope):
        return False
    return event.name in EVENT_NAMES or (event.scope == CLAUDE_CODE and event.name in CLAUDE_CODE_EVENTS)


def addressee(content: Content) -> str | None:
    """The response id of the call a record speaks of, where it does not stand under that call's span."""
    if content.name not in CLAUDE_CODE_EVENTS:
        return None
    answer = orjson.loads(content.body)["attributes"].get("request_id")
    return answer if isinstance(answer, str) else ""


class _Call(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def scope(self) -> str | None: ...
    @property
    def service_name(self) -> str | None: ...
    @property
    def start_time(self) -> datetime: ...
    @property
    def end_time(self) -> datetime | None: ...


def recipients(content: Content, calls: Iterable[_Call]) -> list[str]:
    """The calls a record that names no span may be about: of its scope and service, and running when it was written.

    Only where there is one is it known whose content it is; two at a time leave it unsaid.
    """
    return [
        call.id
        for call in calls
        if call.scope == content.scope
        and call.service_name == content.service_name
        and call.start_time <= content.time
        and (call.end_time is None or content.time <= call.end_time + AFTERWORD)
    ]


def compose(contents: Sequence[Content]) -> Said:
    """The prompt and response of one span from all its records, given in order of time."""
    prompt: list[Message] = []
    response: list[Message] = []
    model = None
    for content in contents:
        record = orjson.loads(content.body)
        attributes = record["attributes"]
        if content.name == DETAILS:
            prompt += system_message(attributes.get("gen_ai.system_instructions"))
            prompt += messages_from(attributes.get("gen_ai.input.messages"))
            response += messages_from(attributes.get("gen_ai.output.messages"))
        elif content.name == CHOICE:
            response += messages_from(_message(record, "assistant"))
        elif content.name in ROLES:
            prompt += messages_from(_message(record, ROLES[content.name]))
        elif content.name in CLAUDE_CODE_EVENTS:
            response += messages_from(attributes.get("response"), "assistant")
            model = text(attributes.get("model")) or model
    return Said(dump(_telling(prompt)), dump(_telling(response)), model)


def _telling(messages: Iterable[Message]) -> list[Message]:
    """Those that say something: with content left out by policy only roles remain."""
    return [message for message in messages if message.keys() - {"role", "name", "finish_reason"}]


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
    """The message of a one-message record: in its body (also as JSON text), under ``message`` for a choice, or in its
    attributes."""
    said = parse(record["body"])
    body = said if isinstance(said, dict) else record["attributes"] | {"content": said}
    message = body.get("message", body)
    fields = message if isinstance(message, dict) else {"content": message}
    return {"role": role, "finish_reason": body.get("finish_reason"), **fields}
