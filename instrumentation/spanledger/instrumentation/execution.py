"""`execution(...)`: one agent step as a span; context manager and decorator, sync, async and generators."""

import functools
import inspect
import secrets
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, Unpack, cast

from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind

from .capture import as_json, as_text
from .context import MAX_ID_BYTES, Ids, context_attributes, live
from .guard import guard
from .operation import AttributeValues, Operation, Outcome, content_allowed
from .semconv import (
    ACTION_TYPE,
    AGENT_NAME,
    AGENT_TYPE,
    CREATE_AGENT,
    EXECUTE_TOOL,
    EXECUTION_ID,
    EXECUTION_STEP,
    INPUT_DATA,
    INVOKE_AGENT,
    INVOKE_WORKFLOW,
    KIND,
    KIND_EXECUTION,
    OPERATION_NAME,
    OUTPUT_DATA,
    PLAN,
    RETRIEVAL,
    TOOL_NAME,
)
from .streams import around_async_generator, around_generator

P = ParamSpec("P")
R = TypeVar("R")

_OPERATIONS: Final = (PLAN, CREATE_AGENT, EXECUTE_TOOL, INVOKE_WORKFLOW, RETRIEVAL)
"""Steps OTel's convention has an operation for; every other step is ``invoke_agent``."""
MAX_ITEMS: Final = 1_000


class Execution(Operation):
    """One running step of an agent: a row of ``execution_logs``.

    Set *output_data* and *metadata* at any time before it ends. *execution_id* groups all rows of the run.
    """

    def __init__(
        self,
        agent_type: str,
        execution_step: str,
        *,
        action_type: str | None = None,
        input_data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        propagate: bool = True,
        captures_results: bool = True,
        **ids: Unpack[Ids],
    ) -> None:
        self.output_data: Any = None
        self._captures_results = captures_results
        self._items: list[Any] = []
        if ids.get("execution_id") is None and EXECUTION_ID not in context_attributes(live(get_current())):
            ids["execution_id"] = new_execution_id()
        attributes: AttributeValues = {}
        with guard("describe an execution"):
            attributes = _attributes(agent_type, execution_step, action_type)
            if input_data is not None and content_allowed():
                attributes[INPUT_DATA] = as_json(input_data)
        name = f"{execution_step} {agent_type}"
        super().__init__(name, SpanKind.INTERNAL, attributes, ids, metadata, propagate=propagate)

    @property
    def execution_id(self) -> str:
        return self.ids.get(EXECUTION_ID, "")

    def end(
        self,
        status: Outcome | None = None,
        *,
        output_data: Any = None,
        error_message: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> Self:
        if output_data is not None:
            self.output_data = output_data
        return super().end(status, error_message=error_message, metadata=metadata, error=error)

    def result(self, value: Any) -> None:
        """What the decorated function returned; *output_data* set by hand wins."""
        if self._captures_results and self.output_data is None:
            self.output_data = value

    def piece(self, item: Any) -> None:
        """What the decorated generator yielded: the first `MAX_ITEMS` are kept, unless it returns a value."""
        if self._captures_results and len(self._items) < MAX_ITEMS:
            self._items.append(item)

    def _closing_attributes(self) -> AttributeValues:
        output_data = self._items or None if self.output_data is None else self.output_data
        return {OUTPUT_DATA: as_json(output_data)} if output_data is not None and content_allowed() else {}


class execution:
    """A step of an agent, as a block or as a function::

        with execution("planner", "plan", input_data={"goal": goal}) as run:    # or: async with
            run.output_data = make_plan(goal)

        @execution("planner", "plan")       # sync and async functions, generators and async generators
        def make_plan(goal): ...

    Executions inside the block or function, also in tasks it starts, are its children and inherit its ids. What leaves
    the block as an exception is recorded and raised on unchanged; `asyncio.CancelledError`, `KeyboardInterrupt` and an
    abandoned generator count as cancelled.

    As a decorator it captures the arguments and the result (unless ``capture=False``); agent type and step default to
    the function's class and name. *propagate* sends the ids of the run to other processes in OTel baggage.
    """

    def __init__(
        self,
        agent_type: str | None = None,
        execution_step: str | None = None,
        *,
        action_type: str | None = None,
        input_data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        capture: bool = True,
        propagate: bool = True,
        **ids: Unpack[Ids],
    ) -> None:
        self._agent_type = agent_type
        self._step = execution_step
        self._input_data = input_data
        self._capture = capture
        self._start = functools.partial(
            Execution, action_type=action_type, metadata=metadata, propagate=propagate, **ids
        )
        self._running: list[Execution] = []

    def __enter__(self) -> Execution:
        run = self._start(self._agent_type or "agent", self._step or "execute", input_data=self._input_data)
        self._running.append(run)
        return run.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        # One object may be entered by many tasks at a time: the block that ends is the one this task is in.
        run = next((run for run in self._running if run.is_current), self._running[-1])
        self._running.remove(run)
        run.__exit__(kind, error, stack)

    async def __aenter__(self) -> Execution:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, stack)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isasyncgenfunction(function):
            wrapper = around_async_generator(function, self._starter(function))
        elif inspect.isgeneratorfunction(function):
            wrapper = around_generator(function, self._starter(function))
        elif inspect.iscoroutinefunction(function):
            wrapper = self._around_coroutine(function)
        else:
            wrapper = self._around_function(function)
        return cast(Callable[P, R], functools.wraps(function)(wrapper))

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        start = self._starter(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            with start(args, kwargs) as run:
                result = function(*args, **kwargs)
                run.result(result)
                return result

        return call

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        start = self._starter(function)

        async def call(*args: Any, **kwargs: Any) -> Any:
            with start(args, kwargs) as run:
                result = await function(*args, **kwargs)
                run.result(result)
                return result

        return call

    def _starter(self, function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Execution]:
        """What starts an execution for one call of *function* with given arguments."""
        signature = inspect.signature(function)
        is_method = next(iter(signature.parameters), None) in ("self", "cls")
        step = self._step or function.__name__

        def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution:
            input_data = self._input_data
            if input_data is None and self._capture:
                input_data = captured_arguments(signature, args, kwargs)
            agent_type = self._agent_type or agent_type_of(args[0] if is_method and args else None, function)
            return self._start(agent_type, step, input_data=input_data, captures_results=self._capture)

        return start


def agent_type_of(owner: Any, function: Callable[..., Any]) -> str:
    """Whose *function* it is: *owner*'s ``agent_type`` if that is a text, else its class, else what the name says."""
    with guard("find the type of an agent"):
        if isinstance(named := getattr(owner, "agent_type", None), str) and named:
            return named
        if owner is not None:
            return owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return function.__qualname__.split("<locals>.")[-1].split(".")[0]


def captured_arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, without ``self`` and ``cls``."""
    try:
        arguments = dict(signature.bind_partial(*args, **kwargs).arguments)
    except TypeError:  # the call itself is about to say so
        return {"args": args, "kwargs": kwargs}
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls"):
        arguments.pop(first, None)
    return arguments


def new_execution_id() -> str:
    """A fresh id of a run: ``exec_<16 hex digits>_<unix seconds>``."""
    return f"exec_{secrets.token_hex(8)}_{int(time.time())}"


def _attributes(agent_type: str, step: str, action_type: str | None) -> AttributeValues:
    """What stands on an execution's span from its start."""
    operation = step if step in _OPERATIONS else INVOKE_AGENT
    attributes: AttributeValues = {
        KIND: KIND_EXECUTION,
        OPERATION_NAME: operation,
        AGENT_NAME: as_text(agent_type, MAX_ID_BYTES),
        AGENT_TYPE: as_text(agent_type, MAX_ID_BYTES),
        EXECUTION_STEP: as_text(step, MAX_ID_BYTES),
    }
    if action_type is not None:
        attributes[ACTION_TYPE] = as_text(action_type, MAX_ID_BYTES)
        if operation == EXECUTE_TOOL:
            attributes[TOOL_NAME] = attributes[ACTION_TYPE]
    return attributes
