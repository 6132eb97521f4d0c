"""Stream wrappers that finish exactly once and never hold a context across a ``yield``."""

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

T = TypeVar("T")
Pieces = TypeVar("Pieces")
W = TypeVar("W", bound="Watch")


class Watch(Protocol):
    """The started span a stream reports to. Nothing here raises; only the first end counts."""

    def in_pieces(self) -> AbstractContextManager[None]: ...
    def end(self, *, error: BaseException | None = None) -> object: ...


class GeneratorWatch(Watch, Protocol):
    """A `Watch` that hears what a generator yields and returns."""

    def piece(self, item: Any, /) -> object: ...
    def result(self, value: Any, /) -> object: ...


Start = Callable[[tuple[Any, ...], dict[str, Any]], GeneratorWatch]


class Stream(Generic[T]):
    """An iterator over what *take* shows of the pieces of ``source()``; None it keeps to itself.

    The *watch* starts with the first piece asked for and ends exactly once: as completed when the source is exhausted,
    as failed when the source raises (the same exception goes on), and as cancelled when the consumer stops early, by
    `close`, by leaving a ``with`` block, or by dropping the stream. A stream nobody reads asks nobody anything.
    """

    def __init__(
        self, source: Callable[[], Iterator[Any]], watch: Callable[[], W], take: Callable[[W, Any], T | None]
    ) -> None:
        self._open: Callable[[object], _Opened[Iterator[Any], T]] = partial(_Opened, source, watch, take)
        self._opened: _Opened[Iterator[Any], T] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        opened = self._opened = self._opened or self._open(self)
        while True:
            try:
                with opened.inside:
                    piece = next(opened.pieces)
            except StopIteration:
                opened.end()
                raise
            except BaseException as error:
                opened.end(error)
                raise
            if (shown := opened.take(piece)) is not None:
                return shown

    def close(self) -> None:
        """Stop early: the connection is closed, and the span ends as cancelled unless it has ended already."""
        if self._opened is None:
            return
        self._opened.end(GeneratorExit())
        if (close := getattr(self._opened.pieces, "close", None)) is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class AsyncStream(Generic[T]):
    """The asynchronous twin of `Stream`; `aclose` and ``async with`` instead of `close` and ``with``."""

    def __init__(
        self, source: Callable[[], AsyncIterator[Any]], watch: Callable[[], W], take: Callable[[W, Any], T | None]
    ) -> None:
        self._open: Callable[[object], _Opened[AsyncIterator[Any], T]] = partial(_Opened, source, watch, take)
        self._opened: _Opened[AsyncIterator[Any], T] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        opened = self._opened = self._opened or self._open(self)
        while True:
            try:
                with opened.inside:
                    piece = await anext(opened.pieces)
            except StopAsyncIteration:
                opened.end()
                raise
            except BaseException as error:
                opened.end(error)
                raise
            if (shown := opened.take(piece)) is not None:
                return shown

    async def aclose(self) -> None:
        """Stop early: the connection is closed, and the span ends as cancelled unless it has ended already."""
        if self._opened is None:
            return
        self._opened.end(GeneratorExit())
        if (aclose := getattr(self._opened.pieces, "aclose", None)) is not None:
            await aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()


class _Opened(Generic[Pieces, T]):
    """An opened stream and its span, which also ends when *owner* is garbage, or when the interpreter exits."""

    def __init__(
        self, source: Callable[[], Pieces], watch: Callable[[], W], take: Callable[[W, Any], T | None], owner: object
    ) -> None:
        started = watch()
        self.take: Callable[[Any], T | None] = partial(take, started)
        self.inside = started.in_pieces()
        self._watch: Watch = started
        self._abandoned = weakref.finalize(owner, _abandon, started)
        try:
            with self.inside:
                self.pieces = source()
        except BaseException as error:
            self.end(error)
            raise

    def end(self, error: BaseException | None = None) -> None:
        self._abandoned.detach()
        self._watch.end(error=error)


def _abandon(watch: Watch) -> None:
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
