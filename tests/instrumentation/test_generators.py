"""A decorated generator is one execution from its first item to its end, wherever and however it ends."""

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from spanledger.instrumentation import context_attributes, execution


@execution("worker", "count")
def count(to: int) -> Generator[int, Any, str]:
    got: list[Any] = []
    for number in range(to):
        with execution("worker", f"item{number}"):
            try:
                got.append((yield number))
            except LookupError as error:
                got.append(type(error).__name__)
    return f"got {got}"


@execution("worker", "acount")
async def acount(to: int) -> AsyncGenerator[int, Any]:
    for number in range(to):
        with execution("worker", f"item{number}"):
            await asyncio.sleep(0)
            try:
                yield number
            except LookupError:
                yield -1


def test_they_stay_what_they_are() -> None:
    assert inspect.isgeneratorfunction(count)
    assert inspect.isasyncgenfunction(acount)


def test_send_throw_and_the_return_value_pass_through(spans: Any) -> None:
    generator = count(3)
    assert next(generator) == 0
    assert generator.send("a") == 1
    assert generator.throw(LookupError()) == 2
    with pytest.raises(StopIteration) as stop:
        generator.send("c")
    assert stop.value.value == "got ['a', 'LookupError', 'c']"
    assert spans.attributes("count worker")["spanledger.output"] == "\"got ['a', 'LookupError', 'c']\""


def test_the_consumer_between_two_items_is_outside(spans: Any) -> None:
    generator = count(2)
    next(generator)
    assert dict(context_attributes()) == {}
    with execution("consumer", "read"):
        next(generator)
    generator.close()
    worker = spans.named("count worker")
    assert spans.named("item1 worker").parent.span_id == worker.context.span_id
    assert spans.named("read consumer").parent is None


def test_every_item_runs_within_its_own_block(spans: Any) -> None:
    assert list(count(2)) == [0, 1]
    worker = spans.named("count worker")
    assert {spans.named(f"item{n} worker").parent.span_id for n in range(2)} == {worker.context.span_id}
    assert worker.attributes["spanledger.status"] == "completed"


def test_a_generator_left_early_is_cancelled_exactly_once(spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in count(3):
        break
    gc.collect()
    assert spans.attributes("count worker")["spanledger.status"] == "cancelled"
    assert spans.attributes("item0 worker")["spanledger.status"] == "cancelled"
    assert caplog.records == []


def test_a_generator_nobody_reads_is_no_execution(spans: Any) -> None:
    count(3)
    gc.collect()
    assert len(spans) == 0


def test_an_error_in_a_generator_fails_it(spans: Any) -> None:
    @execution("worker", "fail")
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ValueError("after one")

    generator = fail()
    next(generator)
    with pytest.raises(ValueError, match="after one"):
        next(generator)
    assert spans.attributes("fail worker")["spanledger.status"] == "failed"
    assert spans.attributes("fail worker")["spanledger.output"] == "[1]"


def test_an_async_generator_is_one_execution(spans: Any) -> None:
    async def main() -> None:
        generator = acount(2)
        assert await generator.asend(None) == 0
        assert dict(context_attributes()) == {}
        assert await generator.athrow(LookupError()) == -1
        assert [number async for number in generator] == [1]

    asyncio.run(main())
    worker = spans.named("acount worker")
    assert worker.attributes["spanledger.status"] == "completed"
    assert worker.attributes["spanledger.output"] == "[0,-1,1]"
    assert spans.named("item1 worker").parent.span_id == worker.context.span_id


@pytest.mark.parametrize("how", ["break", "aclose", "closed by another task", "loop over"])
def test_an_async_generator_left_early_is_cancelled_exactly_once(
    spans: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    kept: list[Any] = []

    async def main() -> None:
        generator = acount(3)
        async for _ in generator:
            break
        if how == "aclose":
            await generator.aclose()
        elif how == "closed by another task":
            await asyncio.create_task(generator.aclose())
        elif how == "loop over":
            kept.append(generator)
        del generator
        assert dict(context_attributes()) == {}

    asyncio.run(main())
    assert spans.attributes("acount worker")["spanledger.status"] == "cancelled"
    assert caplog.records == []


def test_a_block_in_a_plain_generator_that_another_task_closes_logs_no_error(
    spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        with execution("worker", "plain"):
            yield 1
            yield 2

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        await asyncio.create_task(generator.aclose())
        with execution("next", "step"):
            pass

    asyncio.run(main())
    assert spans.attributes("plain worker")["spanledger.status"] == "cancelled"
    assert spans.named("step next").parent is None
    assert caplog.records == []


def test_only_so_many_items_are_kept(spans: Any) -> None:
    @execution("worker", "many")
    def many() -> Generator[int, None, None]:
        yield from range(5_000)

    assert sum(many()) == sum(range(5_000))
    assert spans.attributes("many worker")["spanledger.output"].endswith(",999]")
