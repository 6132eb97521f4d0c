"""`instrument_agent(AgentClass)`: whole agents observed without touching their code; `Agent`: a loop to build on."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, Unpack, overload

from .context import Ids
from .execution import execution
from .llm import LLM
from .loggers import ExecutionLogger, LLMCallLogger

C = TypeVar("C", bound=type)

STEPS: Final = ("plan", "execute", "observe")
_ORIGINALS: Final = "__spanledger_originals__"
_LOG: Final = logging.getLogger(__name__)


@overload
def instrument_agent(agent_class: C, *, steps: Iterable[str] = STEPS, entry: str | None = "run") -> C: ...
@overload
def instrument_agent(*, steps: Iterable[str] = STEPS, entry: str | None = "run") -> Callable[[C], C]: ...
def instrument_agent(agent_class: Any = None, *, steps: Iterable[str] = STEPS, entry: str | None = "run") -> Any:
    """Make an execution of every call of the methods *steps* of *agent_class*, and of *entry*, which calls them::

        instrument_agent(MyAgent)

        @instrument_agent(steps=("think", "act"))
        class MyAgent: ...

    Works on plain and ``async`` methods, generators, class and static methods; a method the class lacks is left out.
    The agent type is the instance's ``agent_type`` if that is a text, else the class's name. Doing it again changes
    nothing; `uninstrument_agent` undoes it.
    """
    if agent_class is None:
        return functools.partial(instrument_agent, steps=steps, entry=entry)
    names = [name for name in dict.fromkeys((*steps, *([entry] if entry else ()))) if hasattr(agent_class, name)]
    if not names:
        _LOG.warning("%s has none of the methods %s: nothing to instrument.", agent_class.__name__, ", ".join(steps))
    originals = agent_class.__dict__.get(_ORIGINALS) or {}
    for name in names:
        if name not in originals:
            originals[name] = agent_class.__dict__.get(name)
            setattr(agent_class, name, _observed(inspect.getattr_static(agent_class, name), name))
    setattr(agent_class, _ORIGINALS, originals)
    return agent_class


def uninstrument_agent(agent_class: type) -> None:
    """Give *agent_class* its own methods back."""
    for name, original in agent_class.__dict__.get(_ORIGINALS, {}).items():
        if original is None:
            delattr(agent_class, name)  # it was inherited
        else:
            setattr(agent_class, name, original)
    if _ORIGINALS in agent_class.__dict__:
        delattr(agent_class, _ORIGINALS)


def _observed(member: Any, name: str) -> Any:
    """*member* of a class, observed, as the same sort of member."""
    if isinstance(member, (staticmethod, classmethod)):
        return type(member)(execution(execution_step=name)(member.__func__))
    return execution(execution_step=name)(member)


class Agent:
    """An agent that plans, executes and observes until it has nothing left to do, each step logged.

    Override `plan`, `execute` and `observe`, as plain or ``async`` methods; talk to the model through *llm*.
    *db* says which database to use (see `use_database`), *model* which model (see `LLM`); *ids* are carried by
    everything the agent does.
    """

    agent_type: str = ""
    max_turns: int = 8

    def __init__(self, db: Any = None, model: Any = None, *, llm: LLM | None = None, **ids: Unpack[Ids]) -> None:
        self.agent_type = self.agent_type or type(self).__name__
        self.execution_logger = ExecutionLogger(db)
        self.llm_call_logger = LLMCallLogger(db)
        self._llm = llm or (None if model is None else LLM(model, self.llm_call_logger))
        self._ids = ids

    @property
    def llm(self) -> LLM:
        """The model to talk to. Raises `ValueError` when the agent was given none."""
        if self._llm is None:
            raise ValueError(f"{type(self).__name__} has no model; pass model= or llm=.")
        return self._llm

    def plan(self, task: Any, observations: list[Any]) -> Any:
        """What to do next for *task*, knowing what was observed so far."""
        raise NotImplementedError

    def execute(self, plan: Any) -> Any:
        """Carry out *plan*; the last result is what `run` returns."""
        raise NotImplementedError

    def observe(self, task: Any, result: Any) -> Any:
        """What the next plan should know of *result*; None when the task is done."""
        raise NotImplementedError

    async def run(self, task: Any) -> Any:
        """Plan, execute and observe until `observe` returns None, at most `max_turns` times; the last result."""
        observations: list[Any] = []
        with self._logged("run", {"task": task}) as run:
            while len(observations) < self.max_turns:
                plan = await self._step(self.plan, task, list(observations))
                run.output_data = await self._step(self.execute, plan)
                observations.append(await self._step(self.observe, task, run.output_data))
                if observations[-1] is None:
                    break
            run.metadata = {"turns": len(observations), "finished": observations[-1:] == [None]}
        return run.output_data

    def run_sync(self, task: Any) -> Any:
        """`run` for code without an event loop."""
        import asyncio

        return asyncio.run(self.run(task))

    async def _step(self, method: Callable[..., Any], *arguments: Any) -> Any:
        names = inspect.signature(method).parameters
        with self._logged(method.__name__, dict(zip(names, arguments, strict=False))) as step:
            result = method(*arguments)
            step.output_data = await result if inspect.isawaitable(result) else result
            return step.output_data

    def _logged(self, step: str, input_data: Any) -> execution:
        return self.execution_logger.log_execution(self.agent_type, step, input_data=input_data, **self._ids)
