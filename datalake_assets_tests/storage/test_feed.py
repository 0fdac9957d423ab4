"""A blocking iterator in a thread of its own: in order, one ahead, closed, and never in the way of the loop."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from datalake_assets.storage.feed import Feed, SourceError

pytestmark = pytest.mark.anyio


async def drained(feed: Feed[int], items: int = 3, seconds: float = 5.0) -> list[list[int]]:
    portions = []
    while await feed.has_more():
        portions.append([item async for item in feed.portion(items, seconds)])
    await feed.close()
    return portions


async def test_items_come_in_order_and_in_portions() -> None:
    assert await drained(Feed(range(7))) == [[0, 1, 2], [3, 4, 5], [6]]
    assert await drained(Feed([])) == []


async def test_a_portion_ends_when_its_time_is_up() -> None:
    """A COPY that waits for a slow source learns nothing of what the server says."""

    def slow() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.1)
            yield number

    portions = await drained(Feed(slow()), items=100, seconds=0.15)
    assert [item for portion in portions for item in portion] == [0, 1, 2, 3]
    assert len(portions) > 1


async def test_the_loop_runs_on_while_the_iterator_blocks() -> None:
    release = threading.Event()

    def stuck() -> Iterator[int]:
        release.wait(10)
        yield 1

    feed = Feed(stuck())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(feed.has_more(), 0.1)
    release.set()
    assert await drained(feed) == [[1]]


async def test_an_error_reaches_whoever_asks_and_keeps_its_identity() -> None:
    error = StopAsyncIteration("odd")  # would end the loop over the items if it came through as it is

    def broken() -> Iterator[int]:
        yield 1
        raise error

    feed = Feed(broken())
    with pytest.raises(SourceError) as caught:
        await drained(feed)
    assert caught.value.error is error
    await feed.close()


async def test_closing_ends_the_iterator_and_leaves_a_stuck_one_behind() -> None:
    closed, release = threading.Event(), threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    feed = Feed(numbers())
    assert await feed.has_more()
    await feed.close()
    assert closed.is_set()

    def stuck() -> Iterator[int]:
        release.wait(10)
        yield 1

    started = time.monotonic()
    await Feed(stuck()).close(patience_s=0.1)
    assert time.monotonic() - started < 1
    release.set()


async def test_no_more_than_one_item_is_drawn_ahead() -> None:
    """Memory holds what is being sent and what comes next, however slow the server is."""
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    feed = Feed(numbers())
    async for item in feed.portion(1, 5):
        assert item == 0
    await asyncio.sleep(0.1)
    assert drawn == [0, 1]
    await feed.close()
