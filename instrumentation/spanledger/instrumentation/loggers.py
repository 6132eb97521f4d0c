"""`ExecutionLogger` and `LLMCallLogger`: the classic surface over `execution`, `llm_call` and streams.

Every method that starts or ends something can be awaited or not, as the code around it likes.
"""

from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, Unpack, overload

from .calls import INFERENCE, INFERENCE_STREAM, LLMCall, Prices
from .context import Ids
from .database import use_database
from .execution import Execution, execution
from .operation import Outcome
from .providers import ChunkReader, Reply, Usage
from .streams import AsyncStream, Stream

T = TypeVar("T")


class ExecutionLogger:
    """Logs what agents do. *db_session* says which database to use (see `use_database`), and is left alone."""

    def __init__(self, db_session: Any = None) -> None:
        use_database(db_session)

    def log_execution(
        self,
        agent_type: str,
        execution_step: str,
        *,
        action_type: str | None = None,
        input_data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        **ids: Unpack[Ids],
    ) -> execution:
        """A step as a block: ``async with logger.log_execution(...) as context:``, or plain ``with``, or a decorator.

        Set ``context.output_data`` and ``context.metadata`` inside. See `execution` for how it ends.
        """
        return execution(
            agent_type, execution_step, action_type=action_type, input_data=input_data, metadata=metadata, **ids
        )

    def start_execution(
        self,
        agent_type: str,
        execution_step: str,
        *,
        action_type: str | None = None,
        input_data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        **ids: Unpack[Ids],
    ) -> Execution:
        """Start a step by hand. Until `end_execution`, what this task starts belongs to it."""
        return Execution(
            agent_type, execution_step, action_type=action_type, input_data=input_data, metadata=metadata, **ids
        ).__enter__()

    def end_execution(
        self,
        execution_log: Execution,
        status: Outcome = "completed",
        *,
        output_data: Any = None,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Execution:
        """End it. In an ``except`` block the exception's class and stack trace are recorded, too."""
        return execution_log.end(status, output_data=output_data, error_message=error_message, metadata=metadata)


class LLMCallLogger:
    """Logs calls of models made by hand; `LLM` takes one for its prices. *db_session* as in `ExecutionLogger`.

    *token_prices* are yours, in US dollars per 1,000 tokens by exact model id: ``{"gpt-4": {"input": 0.03, "output":
    0.06}}``. They win over the built-in price book, and may be changed at any time.
    """

    def __init__(self, db_session: Any = None, token_prices: Prices | None = None) -> None:
        self.token_prices: dict[str, Mapping[str, float]] = dict(token_prices or {})
        use_database(db_session)

    def start_llm_call(
        self,
        provider: str,
        model_id: str,
        prompt: Any = None,
        *,
        call_type: str = INFERENCE,
        is_streaming: bool = False,
        execution_log_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        **ids: Unpack[Ids],
    ) -> LLMCall:
        """Start a call by hand. It is also a context manager: ``with logger.start_llm_call(...) as call:``."""
        return LLMCall(
            model_id,
            provider,
            prompt=prompt,
            call_type=call_type,
            streaming=is_streaming,
            token_prices=self.token_prices,
            execution_log_id=execution_log_id,
            metadata=metadata,
            **ids,
        )

    def end_llm_call(
        self,
        llm_call_log: LLMCall,
        status: Outcome = "completed",
        *,
        response: Any = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        chunks_count: int | None = None,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> LLMCall:
        """End it. *response* is a text, or an SDK's response object, which brings its own token counts.

        *input_tokens* include cached ones, *output_tokens* include reasoning; None is unknown.
        """
        if response is not None:
            llm_call_log.record(response)
        if input_tokens is not None or output_tokens is not None:
            llm_call_log.record(Reply(usage=Usage(input_tokens, output_tokens)))
        return llm_call_log.end(status, chunks_count=chunks_count, error_message=error_message, metadata=metadata)

    @overload
    def log_streaming(
        self, chunks: Iterable[T], provider: str, model_id: str, prompt: Any = None, **options: Any
    ) -> Stream[T]: ...
    @overload
    def log_streaming(
        self, chunks: AsyncIterable[T], provider: str, model_id: str, prompt: Any = None, **options: Any
    ) -> AsyncStream[T]: ...
    def log_streaming(
        self, chunks: Any, provider: str, model_id: str, prompt: Any = None, **options: Any
    ) -> Stream[Any] | AsyncStream[Any]:
        """*chunks*, a stream of yours, as a stream that logs itself: texts, or chunks of an SDK, which pass unchanged.

        ``for chunk in logger.log_streaming(client.chat.completions.create(..., stream=True), "openai", "gpt-4o")``.
        *options* are those of `start_llm_call`.
        """
        options = {"call_type": INFERENCE_STREAM, "is_streaming": True, **options}

        start = partial(self.start_llm_call, provider, model_id, prompt, **options)
        read = ChunkReader()

        def take(call: LLMCall, chunk: T) -> T:
            call.record(chunk, read)
            call.chunk()
            return chunk

        if isinstance(chunks, AsyncIterable):
            return AsyncStream(chunks.__aiter__, start, take)
        return Stream(chunks.__iter__, start, take)
