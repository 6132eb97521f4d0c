"""`llm_call(...)`: one request to a model as a span, in OTel's words and ours."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, Unpack
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from .capture import as_json, as_text
from .context import MAX_ID_BYTES, MAX_PRICES_BYTES, Ids
from .guard import guard
from .operation import AttributeValues, Operation, Outcome, content_allowed
from .providers import Message, Reply, Usage, reply_of
from .semconv import (
    AUDIO_INPUT_TOKENS,
    AUDIO_OUTPUT_TOKENS,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    CALL_TYPE,
    CHAT,
    CHUNKS_COUNT,
    CUSTOM_INPUT_PRICE,
    CUSTOM_OUTPUT_PRICE,
    EXECUTION_LOG_ID,
    INPUT_MESSAGES,
    INPUT_TOKENS,
    KIND,
    KIND_LLM_CALL,
    OPERATION_NAME,
    OUTPUT_MESSAGES,
    OUTPUT_TOKENS,
    PROMPT,
    PROVIDER_NAME,
    REASONING_TOKENS,
    REQUEST_MODEL,
    REQUEST_PARAMETERS,
    REQUEST_STREAM,
    RESPONSE,
    RESPONSE_FINISH_REASONS,
    RESPONSE_ID,
    RESPONSE_MODEL,
    SERVER_ADDRESS,
    SERVER_PORT,
    SERVICE_TIER,
    TIME_TO_FIRST_CHUNK,
    USAGE_RAW,
)

Prices = Mapping[str, Mapping[str, float]]
"""US dollars per 1,000 tokens by exact model id: ``{"gpt-4": {"input": 0.03, "output": 0.06}}``."""

MAX_USAGE_BYTES: Final = 16 * 1024
INFERENCE: Final = "inference"
INFERENCE_STREAM: Final = "inference_stream"

_USAGE_ATTRIBUTES: Final = {
    "input_tokens": INPUT_TOKENS,
    "output_tokens": OUTPUT_TOKENS,
    "cache_read_tokens": CACHE_READ_TOKENS,
    "cache_write_tokens": CACHE_WRITE_TOKENS,
    "reasoning_tokens": REASONING_TOKENS,
    "audio_input_tokens": AUDIO_INPUT_TOKENS,
    "audio_output_tokens": AUDIO_OUTPUT_TOKENS,
}


class LLMCall(Operation):
    """One running request to a model: a row of ``llm_call_logs``. Tell it what came back with `record`."""

    def __init__(
        self,
        model_id: str,
        provider: str,
        *,
        prompt: Any = None,
        call_type: str = INFERENCE,
        streaming: bool = False,
        operation: str = CHAT,
        address: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        token_prices: Prices | None = None,
        execution_log_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        **ids: Unpack[Ids],
    ) -> None:
        self._model_id = model_id
        self._prices = token_prices
        self._reply = Reply()
        self._texts: list[str] = []
        self._chunks: int | None = 0 if streaming else None
        self._seconds_to_first_chunk: float | None = None
        attributes: AttributeValues = {}
        with guard("describe a model call"):
            attributes = {
                KIND: KIND_LLM_CALL,
                OPERATION_NAME: operation,
                PROVIDER_NAME: as_text(provider, MAX_ID_BYTES),
                REQUEST_MODEL: as_text(model_id, MAX_ID_BYTES),
                CALL_TYPE: as_text(call_type, MAX_ID_BYTES),
                **_server(address),
                **_parameters(parameters or {}),
                **_prompt(prompt),
            }
            if streaming:
                attributes[REQUEST_STREAM] = True
            if execution_log_id is not None:
                attributes[EXECUTION_LOG_ID] = as_text(
                    str(getattr(execution_log_id, "id", execution_log_id)), MAX_ID_BYTES
                )
        handed_on = {**ids, "token_prices": _prices_for(model_id, token_prices)}
        super().__init__(f"{operation} {model_id}", SpanKind.CLIENT, attributes, handed_on, metadata)
        self._started = time.perf_counter()

    def record(self, response: Any, read: Callable[[Any], Reply] = reply_of) -> None:
        """Take note of what came back: a `Reply` or a piece of one, an OpenAI, Anthropic or Google SDK object, or text.

        Texts are joined in the order of the calls; of ids, models, finish reasons and usage the last one known stays.
        *read* makes a `Reply` of an object of your own.
        """
        with guard("read a model's reply"):
            reply = read(response)
            self._reply = self._reply.updated(reply)
            if reply.text:
                self._texts.append(reply.text)

    def chunk(self) -> None:
        """A chunk of a stream has come for the consumer."""
        if not self._chunks:
            self._seconds_to_first_chunk = time.perf_counter() - self._started
        self._chunks = (self._chunks or 0) + 1

    def end(
        self,
        status: Outcome | None = None,
        *,
        chunks_count: int | None = None,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> Self:
        if chunks_count is not None:
            self._chunks = chunks_count
        if isinstance(error, GeneratorExit) and self._reply.finish_reason is not None:
            error = None  # the consumer left, but the model had said its last word
        return super().end(status, error_message=error_message, metadata=metadata, error=error)

    def _closing_attributes(self) -> AttributeValues:
        reply = self._reply
        attributes: AttributeValues = {**self._content(), **self._price(), **_usage(reply.usage)}
        for name, value in (
            (RESPONSE_ID, reply.response_id),
            (RESPONSE_MODEL, reply.model),
            (SERVICE_TIER, reply.service_tier),
        ):
            if value:
                attributes[name] = as_text(value, MAX_ID_BYTES)
        if reply.finish_reason:
            attributes[RESPONSE_FINISH_REASONS] = [as_text(reply.finish_reason, MAX_ID_BYTES)]
        if self._chunks is not None:
            attributes[CHUNKS_COUNT] = self._chunks
        if self._seconds_to_first_chunk is not None:
            attributes[TIME_TO_FIRST_CHUNK] = self._seconds_to_first_chunk
        return attributes

    def _content(self) -> AttributeValues:
        if not self._texts or not content_allowed():
            return {}
        text = "".join(self._texts)
        message = {"role": "assistant", "parts": [{"type": "text", "content": text}]}
        if self._reply.finish_reason:
            message["finish_reason"] = self._reply.finish_reason
        return {RESPONSE: as_text(text), OUTPUT_MESSAGES: as_json([message])}

    def _price(self) -> AttributeValues:
        """The user's own prices for the model that answered, else for the model that was asked."""
        for model in (self._reply.model, self._model_id):
            if self._prices and model and (price := self._prices.get(model)):
                names = {"input": CUSTOM_INPUT_PRICE, "output": CUSTOM_OUTPUT_PRICE}
                return {attribute: float(price[name]) for name, attribute in names.items() if name in price}
        return {}


def llm_call(model_id: str, provider: str, **options: Any) -> LLMCall:
    """A call you make yourself, as a span; *options* are those of `LLMCall`::

    with llm_call("gpt-4o-mini", "openai", prompt=messages) as call:    # or: async with
        call.record(client.chat.completions.create(model="gpt-4o-mini", messages=messages))
    """
    return LLMCall(model_id, provider, **options)


def _prices_for(model_id: str, prices: Prices | None) -> str | None:
    """*prices* as JSON text for the spans inside; of a long list only the entry of the model that is asked."""
    if not prices:
        return None
    text = as_json(prices)
    if len(text) <= MAX_PRICES_BYTES:
        return text
    return as_json({model_id: prices[model_id]}) if model_id in prices else None


def _usage(usage: Usage | None) -> AttributeValues:
    if usage is None:
        return {}
    attributes: AttributeValues = {
        attribute: value for name, attribute in _USAGE_ATTRIBUTES.items() if (value := getattr(usage, name)) is not None
    }
    if usage.raw is not None:
        attributes[USAGE_RAW] = as_json(usage.raw, MAX_USAGE_BYTES)
    return attributes


def _server(address: str | None) -> AttributeValues:
    parts = urlsplit(address or "")
    attributes: AttributeValues = {SERVER_ADDRESS: parts.hostname} if parts.hostname else {}
    if parts.port:
        attributes[SERVER_PORT] = parts.port
    return attributes


def _parameters(parameters: Mapping[str, Any]) -> AttributeValues:
    return {
        REQUEST_PARAMETERS[name]: value
        for name, value in parameters.items()
        if name in REQUEST_PARAMETERS and isinstance(value, (int, float)) and math.isfinite(value)
    }


def _prompt(prompt: Any) -> AttributeValues:
    """The prompt in OTel's form, and also as the plain text it was."""
    if prompt is None or not content_allowed():
        return {}
    if isinstance(prompt, str):
        return {PROMPT: as_text(prompt), INPUT_MESSAGES: as_json([_message({"role": "user", "content": prompt})])}
    if isinstance(prompt, Sequence) and all(isinstance(message, Mapping) for message in prompt):
        return {INPUT_MESSAGES: as_json([_message(message) for message in prompt])}
    return {PROMPT: as_json(prompt)}


def _message(message: Message) -> dict[str, Any]:
    """A chat message of a provider's SDK in OTel's form: a role and typed parts; what it has no word for, as it is."""
    rest = {name: value for name, value in message.items() if name != "content"}
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "content": content}]
    return {**rest, "parts": content if isinstance(content, (list, tuple)) else [] if content is None else [content]}
