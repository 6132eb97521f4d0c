"""What every provider of `LLM` speaks: a request, a reply or pieces of one, and usage in OTel's meaning."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

from ..guard import guard

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant", "content": text or the provider's own parts}``."""


class Usage(NamedTuple):
    """Token counts as OTel means them: input includes what was read from and written to a cache, output includes
    reasoning. None is unknown, which is not 0. *raw* is the provider's own block, as it was on the wire.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    raw: Any = None


class Reply(NamedTuple):
    """A model's reply, or one piece of a streamed one: joined texts, and of all else the last known."""

    text: str = ""
    response_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    usage: Usage | None = None

    def updated(self, piece: "Reply") -> "Reply":
        """This with all that *piece* knows, its text apart."""
        return self._replace(**{name: value for name, value in piece._asdict().items() if name != "text" and value})


class Request(NamedTuple):
    """One request to a model. *parameters* are the provider's own, by the names of its SDK."""

    model: str
    messages: Sequence[Message]
    parameters: Mapping[str, Any]


class Provider(Protocol):
    """What `LLM` needs of a provider. Each method makes exactly one call; its errors reach the caller unchanged.

    A provider that cannot stream, or not asynchronously, raises `NotImplementedError` there. It may also have
    ``close()``, ``aclose()``, and ``prepare(asynchronous)`` for what the first request should not be blamed for.
    """

    name: str
    """Value of ``gen_ai.provider.name``."""
    operation: str
    """Value of ``gen_ai.operation.name``."""
    address: str | None
    """URL the requests go to, as far as it is known beforehand."""

    def complete(self, request: Request) -> Reply: ...
    async def acomplete(self, request: Request) -> Reply: ...
    def stream(self, request: Request) -> Iterator[Reply]: ...
    def astream(self, request: Request) -> AsyncIterator[Reply]: ...


C = TypeVar("C")
A = TypeVar("A")


class Clients(Generic[C, A]):
    """The SDK clients of one provider, made when first needed: one for all threads, one per event loop.

    (A connection pool belongs to the loop it was opened in; a script may call `asyncio.run` twice.)
    """

    def __init__(self, make: Callable[[], C], make_async: Callable[[], A]) -> None:
        self._make = make
        self._make_async = make_async
        self._lock = threading.Lock()
        self._client: C | None = None
        self._by_loop: WeakKeyDictionary[AbstractEventLoop, A] = WeakKeyDictionary()

    def for_threads(self) -> C:
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def for_this_loop(self) -> A:
        loop = _running_loop()
        with self._lock:
            if (client := self._by_loop.get(loop)) is None:
                client = self._by_loop[loop] = self._make_async()
            return client

    def prepare(self, asynchronous: bool) -> None:
        if asynchronous:
            self.for_this_loop()
        else:
            self.for_threads()

    def forget(self) -> C | None:
        """The client for threads, which is no longer ours: the caller closes it."""
        with self._lock:
            client, self._client = self._client, None
            return client

    def forget_this_loop(self) -> A | None:
        """The client of the running loop, which is no longer ours: the caller closes it."""
        with self._lock:
            return self._by_loop.pop(_running_loop(), None)


def _running_loop() -> "AbstractEventLoop":
    from asyncio import get_running_loop  # whoever is in a loop has imported it; others need not pay for it

    return get_running_loop()


def sdk(module: str, extra: str) -> Any:
    """The SDK *module*. Raises `ModuleNotFoundError` that says which *extra* brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        message = f"{module} is not installed: pip install 'spanledger[{extra}]'"
        raise ModuleNotFoundError(message, name=missing.name) from missing


def wire_form(block: Any) -> Any:
    """An SDK object as the JSON-able value it was on the wire; anything else as it is."""
    if block is None or not hasattr(block, "model_dump"):
        return block
    return block.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)


def read_usage(reader: Callable[[Mapping[str, Any]], Usage], block: Any) -> Usage | None:
    """What *reader* makes of a usage block. Never raises: by now the call is paid for, and its reply must arrive."""
    with guard("read a usage block"):
        raw = wire_form(block)
        return reader(raw)._replace(raw=raw) if isinstance(raw, Mapping) else None
    return None


def count(block: Any, *path: str) -> int | None:
    """The non-negative whole number at *path* in nested mappings; None for anything else."""
    for name in path:
        block = block.get(name) if isinstance(block, Mapping) else None
    return block if type(block) is int and block >= 0 else None


def total(*counts: int | None) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


def split_system(messages: Sequence[Message]) -> tuple[str | None, list[Message]]:
    """The system messages as one text, and the others: for providers that take them apart."""
    system = [str(message["content"]) for message in messages if message.get("role") == "system"]
    return "\n\n".join(system) or None, [message for message in messages if message.get("role") != "system"]
