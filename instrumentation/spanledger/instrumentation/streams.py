"""Stream wrappers that finish exactly once and never hold a context across a ``yield``."""

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

T = TypeVar("T")
Items = TypeVar("Items")
W = TypeVar("W", bound="Watch[Any]")
T_contra = TypeVar("T_contra", contravariant=True)


class Watch(Protocol[T_contra]):
    """The started span a stream reports to. Nothing here raises; only the first end counts."""

    def in_pieces(self) -> AbstractContextManager[None]: ...
    def piece(self, item: T_contra, /) -> object: ...
    def end(self, *, error: BaseException | None = None) -> object: ...


class Result(Watch[T_contra], Protocol[T_contra]):
    """A `Watch` that also hears what a generator returned."""

    def result(self, value: Any, /) -> object: ...


Start = Callable[[tuple[Any, ...], dict[str, Any]], Result[Any]]


class Stream(Generic[T]):
    """An iterator over ``source(watch)`` that starts the *watch* with the first item and ends it exactly once.

    It ends as completed when the source is exhausted, as failed when the source raises (the same exception goes on),
    and as cancelled when the consumer stops early: by `close`, by leaving a ``with`` block, or by dropping it.
    A stream nobody reads asks nobody anything.
    """

    def __init__(self, source: Callable[[W], Iterator[T]], watch: Callable[[], W]) -> None:
        self._source: Callable[[Any], Iterator[T]] = source
        self._start = watch
        self._watched: _Watched[Iterator[T], T] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        watched = self._watched or self._open()
        try:
            with watched.inside:
                item = next(watched.items)
        except StopIteration:
            watched.end()
            raise
        except BaseException as error:
            watched.end(error)
            raise
        watched.watch.piece(item)
        return item

    def _open(self) -> "_Watched[Iterator[T], T]":
        self._watched = _Watched(self, self._start(), self._source)
        return self._watched

    def close(self) -> None:
        """Stop early: the connection is closed, and the span ends as cancelled unless it has ended already."""
        if self._watched is None:
            return
        self._watched.end(GeneratorExit())
        if (close := getattr(self._watched.items, "close", None)) is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class AsyncStream(Generic[T]):
    """The asynchronous twin of `Stream`; `aclose` and ``async with`` instead of `close` and ``with``."""

    def __init__(self, source: Callable[[W], AsyncIterator[T]], watch: Callable[[], W]) -> None:
        self._source: Callable[[Any], AsyncIterator[T]] = source
        self._start = watch
        self._watched: _Watched[AsyncIterator[T], T] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        watched = self._watched or self._open()
        try:
            with watched.inside:
                item = await anext(watched.items)
        except StopAsyncIteration:
            watched.end()
            raise
        except BaseException as error:
            watched.end(error)
            raise
        watched.watch.piece(item)
        return item

    def _open(self) -> "_Watched[AsyncIterator[T], T]":
        self._watched = _Watched(self, self._start(), self._source)
        return self._watched

    async def aclose(self) -> None:
        if self._watched is None:
            return
        self._watched.end(GeneratorExit())
        if (aclose := getattr(self._watched.items, "aclose", None)) is not None:
            await aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()


class _Watched(Generic[Items, T]):
    """An opened stream and its span, which also ends when *owner* is garbage, or when the interpreter exits."""

    def __init__(self, owner: object, watch: Watch[T], source: Callable[[Any], Items]) -> None:
        self.watch = watch
        self.inside = watch.in_pieces()
        self._abandoned = weakref.finalize(owner, _abandon, watch)
        try:
            with self.inside:
                self.items = source(watch)
        except BaseException as error:
            self.end(error)
            raise

    def end(self, error: BaseException | None = None) -> None:
        self._abandoned.detach()
        self.watch.end(error=error)


def _abandon(watch: Watch[Any]) -> None:
    watch.end(error=GeneratorExit())


def around_generator(function: Callable[..., Any], start: Start) -> Callable[..., Any]:
    """A generator function that behaves as *function* does, ``send``, ``throw`` and ``close`` included, in a span."""

    def generate(*args: Any, **kwargs: Any) -> Any:
        watch = start(args, kwargs)
        inside = watch.in_pieces()
        try:
            generator = function(*args, **kwargs)
            step, argument = generator.send, None
            while True:
                try:
                    with inside:
                        item = step(argument)
                except StopIteration as stop:
                    result = stop.value
                    break
                watch.piece(item)
                try:
                    step, argument = generator.send, (yield item)
                except GeneratorExit:
                    with inside:
                        generator.close()
                    raise
                except BaseException as error:
                    step, argument = generator.throw, error
        except BaseException as error:
            watch.end(error=error)
            raise
        watch.result(result)
        watch.end()
        return result

    return generate


def around_async_generator(function: Callable[..., Any], start: Start) -> Callable[..., Any]:
    """The asynchronous twin of `around_generator`: ``asend``, ``athrow`` and ``aclose`` included."""

    async def generate(*args: Any, **kwargs: Any) -> Any:
        watch = start(args, kwargs)
        inside = watch.in_pieces()
        try:
            generator = function(*args, **kwargs)
            step, argument = generator.asend, None
            while True:
                try:
                    with inside:
                        item = await step(argument)
                except StopAsyncIteration:
                    break
                watch.piece(item)
                try:
                    step, argument = generator.asend, (yield item)
                except GeneratorExit:
                    with inside:
                        await generator.aclose()
                    raise
                except BaseException as error:
                    step, argument = generator.athrow, error
        except BaseException as error:
            watch.end(error=error)
            raise
        watch.end()

    return generate
