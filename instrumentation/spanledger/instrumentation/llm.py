"""`LLM`: inference and streams over the SDKs of real providers, every request observed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .calls import INFERENCE, INFERENCE_STREAM, LLMCall
from .context import Id
from .providers import Message, Provider, Reply, Request, connect
from .streams import AsyncStream, Stream

if TYPE_CHECKING:
    from .loggers import LLMCallLogger

Prompt = str | Sequence[Message]


class LLM:
    """A model to talk to. Every request, streamed or not, is one span and one call of the provider, never two.

    *model* is an id (``"gpt-4o-mini"``, ``"anthropic/claude-sonnet-5"``) or an object with ``model_id``, ``provider``
    and ``credentials`` (see `providers.connect`); *llm_call_logger* brings its ``token_prices``; *provider* is a name
    or your own `Provider`; *parameters* go with every request. The provider's exceptions reach you unchanged.

    Where an OTel instrumentor of the same SDK is on, its span stands within ours and the request counts once.
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
            prompt,
            parameters,
            execution_log_id=execution_log_id,
            metadata=metadata,
            report_id=report_id,
            completion_id=completion_id,
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
            prompt,
            parameters,
            asynchronous=True,
            execution_log_id=execution_log_id,
            metadata=metadata,
            report_id=report_id,
            completion_id=completion_id,
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
            prompt,
            parameters,
            streaming=True,
            asynchronous=True,
            execution_log_id=execution_log_id,
            metadata=metadata,
            report_id=report_id,
            completion_id=completion_id,
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
            prompt,
            parameters,
            streaming=True,
            execution_log_id=execution_log_id,
            metadata=metadata,
            report_id=report_id,
            completion_id=completion_id,
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
        *,
        streaming: bool = False,
        asynchronous: bool = False,
        **links: Any,
    ) -> tuple[Callable[[], LLMCall], Request]:
        """What starts the call's span, and the request to make in it."""
        parameters = {**self._parameters, **parameters}
        system = parameters.pop("system", None)
        messages: list[Message] = [{"role": "system", "content": system}] if system is not None else []
        messages += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt

        def start() -> LLMCall:
            if (prepare := getattr(self._provider, "prepare", None)) is not None:
                prepare(asynchronous)  # importing an SDK takes longer than many a call
            return LLMCall(
                self.model_id,
                self._provider.name,
                prompt=prompt if system is None else messages,
                call_type=INFERENCE_STREAM if streaming else INFERENCE,
                streaming=streaming,
                operation=self._provider.operation,
                address=self._provider.address,
                parameters=parameters,
                token_prices=self.llm_call_logger.token_prices if self.llm_call_logger is not None else None,
                **links,
            )

        return start, Request(self.model_id, messages, parameters)


def _text(call: LLMCall, piece: Reply) -> str | None:
    call.record(piece)
    if not piece.text:
        return None
    call.chunk()
    return piece.text
