"""Who reads next, and for how long."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spanledger.query_api.receivers.turns import Turns


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 10))


def test_so_many_read_at_once_and_who_came_last_is_next() -> None:
    async def story() -> None:
        turns, over, read = Turns(2, 60, 60), asyncio.Event(), []

        async def reader(name: int) -> None:
            async with turns.turn():
                read.append(name)
                await over.wait()

        readers = []
        for name in range(5):
            readers.append(asyncio.create_task(reader(name)))
            await asyncio.sleep(0)
        assert read == [0, 1]
        over.set()
        await asyncio.gather(*readers)
        assert read == [0, 1, 4, 3, 2]

    run(story)


def test_a_turn_lasts_long_until_somebody_waits() -> None:
    async def story() -> None:
        turns, loop = Turns(1, 60, 0.05), asyncio.get_running_loop()

        async def forever() -> None:
            async with turns.turn():
                await asyncio.Event().wait()

        slow = asyncio.create_task(forever())
        await asyncio.sleep(0.1)
        assert not slow.done()
        begin = loop.time()
        async with turns.turn():
            assert loop.time() - begin < 5
        with pytest.raises(TimeoutError):
            await slow

    run(story)


def test_who_leaves_while_waiting_or_just_as_the_turn_comes_takes_none_along() -> None:
    async def story() -> None:
        turns = Turns(1, 60, 60)

        async def pass_through() -> None:
            async with turns.turn():
                pass

        async with turns.turn():
            early, late, called = (asyncio.create_task(pass_through()) for _ in range(3))
            await asyncio.sleep(0)
            early.cancel()
            await asyncio.sleep(0)
            late.cancel()  # and has not heard of it when the turn is passed on
        called.cancel()  # whose turn it is by now
        await asyncio.gather(early, late, called, return_exceptions=True)
        await pass_through()
        assert turns._free == 1

    run(story)
