"""`llm_call(...)`: one model call as a span, and `LLM`: inference and streams over real provider SDKs, so observed."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, Unpack
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from .capture import as_json, as_text
from .context import MAX_ID_BYTES, Id, Ids
from .guard import guard
from .operation import AttributeValues, Operation, Outcome, content_allowed
from .providers import Message, Provider, Reply, Request, Usage, connect, reply_of
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
from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from .loggers import LLMCallLogger

Prompt = str | Sequence[Message]
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
        super().__init__(f"{operation} {model_id}", SpanKind.CLIENT, attributes, ids, metadata)
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


class LLM:
    """A model to talk to. Every request, streamed or not, is one span and one call of the provider, never two.

    *model* is an id (``"gpt-4o-mini"``, ``"anthropic/claude-sonnet-5"``) or an object with ``model_id``, ``provider``
    and ``credentials`` (see `providers.connect`); *llm_call_logger* brings its ``token_prices``; *provider* is a name
    or your own `Provider`; *parameters* go with every request. The provider's exceptions reach you unchanged.
    """

    def __init__(
        self,
        model: Any,
        llm_call_logger: "LLMCallLogger | None" = None,
        *,
        provider: Provider | str | None = None,
        **parameters: Any,
    ) -> None:
        self.model = model
        self.llm_call_logger = llm_call_logger
        self._provider, self.model_id = connect(model, provider)
        self._parameters = parameters

    def inference(
        self,
        prompt: Prompt,
        *,
        execution_log_id: Any = None,
        report_id: Id = None,
        completion_id: Id = None,
        metadata: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> str:
        """The model's answer to *prompt*, a text or a list of messages. Blocks; `ainference` does not.

        *execution_log_id* (an id, or what `start_execution` gave) links the call to an execution; without it, it
        belongs to the one it runs in. *parameters* go to the provider's SDK (``temperature``, …); ``system`` is
        a text set before the prompt.
        """
        start, request = self._prepared(
            prompt, parameters, execution_log_id, metadata, report_id=report_id, completion_id=completion_id
        )
        with start() as call:
            reply = self._provider.complete(request)
            call.record(reply)
            return reply.text

    async def ainference(
        self,
        prompt: Prompt,
        *,
        execution_log_id: Any = None,
        report_id: Id = None,
        completion_id: Id = None,
        metadata: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> str:
        """The asynchronous twin of `inference`."""
        start, request = self._prepared(
            prompt, parameters, execution_log_id, metadata, report_id=report_id, completion_id=completion_id
        )
        with start() as call:
            reply = await self._provider.acomplete(request)
            call.record(reply)
            return reply.text

    def inference_stream(
        self,
        prompt: Prompt,
        *,
        execution_log_id: Any = None,
        report_id: Id = None,
        completion_id: Id = None,
        metadata: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> AsyncStream[str]:
        """The answer in pieces: ``async for chunk in llm.inference_stream(prompt)``. Arguments as in `inference`.

        The request is made when the first piece is asked for. Stop early as you like: ``break`` is enough.
        """
        start, request = self._prepared(
            prompt, parameters, execution_log_id, metadata, True, report_id=report_id, completion_id=completion_id
        )
        return AsyncStream(partial(self._provider.astream, request), start, _text)

    def inference_stream_sync(
        self,
        prompt: Prompt,
        *,
        execution_log_id: Any = None,
        report_id: Id = None,
        completion_id: Id = None,
        metadata: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Stream[str]:
        """The synchronous twin of `inference_stream`: ``for chunk in llm.inference_stream_sync(prompt)``."""
        start, request = self._prepared(
            prompt, parameters, execution_log_id, metadata, True, report_id=report_id, completion_id=completion_id
        )
        return Stream(partial(self._provider.stream, request), start, _text)

    def close(self) -> None:
        """Close the provider's connections. The next request opens new ones."""
        if (close := getattr(self._provider, "close", None)) is not None:
            close()

    async def aclose(self) -> None:
        """The asynchronous twin of `close`: closes the connections of the running event loop, too."""
        if (aclose := getattr(self._provider, "aclose", None)) is not None:
            await aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _prepared(
        self,
        prompt: Prompt,
        parameters: Mapping[str, Any],
        execution_log_id: Any,
        metadata: Mapping[str, Any] | None,
        streaming: bool = False,
        **ids: Unpack[Ids],
    ) -> tuple[Callable[[], LLMCall], Request]:
        """What starts the call's span, and the request to make in it."""
        parameters = {**self._parameters, **parameters}
        system = parameters.pop("system", None)
        messages: list[Message] = [{"role": "system", "content": system}] if system is not None else []
        messages += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        start = partial(
            LLMCall,
            self.model_id,
            self._provider.name,
            prompt=prompt if system is None else messages,
            call_type=INFERENCE_STREAM if streaming else INFERENCE,
            streaming=streaming,
            operation=self._provider.operation,
            address=self._provider.address,
            parameters=parameters,
            token_prices=self.llm_call_logger.token_prices if self.llm_call_logger is not None else None,
            execution_log_id=execution_log_id,
            metadata=metadata,
            **ids,
        )
        return start, Request(self.model_id, messages, parameters)


def _text(call: LLMCall, piece: Reply) -> str | None:
    call.record(piece)
    if not piece.text:
        return None
    call.chunk()
    return piece.text


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
