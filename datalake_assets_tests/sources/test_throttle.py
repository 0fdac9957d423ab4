import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from datalake_assets.sources.throttle import FirstAnswer, RetryBudget, Slots

pytestmark = pytest.mark.anyio


async def hold(slots: Slots, most: list[int], under_way: list[int]) -> None:
    async with slots.slot():
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0.001)
        under_way[0] -= 1


async def test_a_source_that_throttles_is_asked_half_as_much_at_once() -> None:
    slots = Slots(8)
    async with slots.slot() as slot:
        slots.throttled(slot.since)
    most, under_way = [0], [0]
    await asyncio.gather(*[hold(slots, most, under_way) for _ in range(20)])
    assert most == [4]


async def test_slots_that_are_held_have_numbers_of_their_own_and_the_last_one_given_back_is_given_first() -> None:
    """Each number has a connection: those that are in use stay warm."""
    slots = Slots(3)
    async with slots.slot() as first, slots.slot() as second:
        assert len({first.number, second.number} & {0, 1, 2}) == 2
        second.give_back()
        async with slots.slot() as third:
            assert third.number == second.number
    async with slots.slot(), slots.slot(), slots.slot():
        pass


async def test_a_slot_given_back_early_is_given_back_once() -> None:
    slots = Slots(1)
    async with slots.slot() as slot:
        slot.give_back()
        slot.give_back()
    most, under_way = [0], [0]
    await asyncio.gather(*[hold(slots, most, under_way) for _ in range(5)])
    assert most == [1]


async def test_refusals_of_one_moment_count_once() -> None:
    """Ten answers 429 to ten requests of one moment say one thing, not 1 / 1024."""
    slots = Slots(8)
    for _ in range(10):
        slots.throttled(0)
    assert slots.limit == 4


async def test_slots_never_fall_below_one_and_are_regained_one_by_one() -> None:
    slots = Slots(3)
    for since in range(5):
        slots.throttled(since)
    assert slots.limit == 1
    seen = []
    for _ in range(20):
        slots.succeeded()
        seen.append(slots.limit)
    assert seen == [1, 2, 2, 2, 2, *[3] * 15]


async def test_a_regained_slot_wakes_who_waits_for_it() -> None:
    slots = Slots(2)
    slots.throttled(0)
    async with slots.slot():
        waiting = asyncio.create_task(hold(slots, [0], [0]))
        await asyncio.sleep(0)
        slots.succeeded()
        slots.succeeded()
        await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("cancelled_when", ["waiting", "woken"])
async def test_a_cancelled_request_costs_no_slot(cancelled_when: str) -> None:
    slots = Slots(1)
    async with slots.slot():
        waiting = asyncio.create_task(hold(slots, [0], [0]))
        await asyncio.sleep(0)
        if cancelled_when == "waiting":
            waiting.cancel()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(hold(slots, [0], [0]), 1)


def test_retries_stay_within_a_share_of_the_requests() -> None:
    budget = RetryBudget(floor=2, share=0.2)
    for _ in range(10):
        budget.request()
    assert [budget.grants_retry() for _ in range(6)] == [True] * 4 + [False] * 2


async def together(*asked: Coroutine[Any, Any, None]) -> None:
    await asyncio.wait_for(asyncio.gather(*asked), 2)


async def test_the_first_request_goes_alone_until_it_is_answered() -> None:
    door, order = FirstAnswer(60), []

    async def ask(number: int) -> None:
        async with door.turn():
            order.append(f"{number} asks")
            await asyncio.sleep(0.01)
            door.open()
            await asyncio.sleep(0.01)
            order.append(f"{number} ends")

    await together(*[ask(number) for number in range(3)])
    assert order == ["0 asks", "1 asks", "2 asks", "0 ends", "1 ends", "2 ends"]


async def test_after_a_first_request_that_failed_the_next_one_goes_alone_too() -> None:
    door, order = FirstAnswer(60), []

    async def fail(number: int) -> None:
        async with door.turn():
            order.append(f"{number} asks")
            await asyncio.sleep(0.005)
            order.append(f"{number} fails")

    await together(*[fail(number) for number in range(3)])
    assert order == ["0 asks", "0 fails", "1 asks", "1 fails", "2 asks", "2 fails"]


async def test_a_source_that_works_for_minutes_does_not_keep_the_others_waiting() -> None:
    door, asked = FirstAnswer(0.02), []

    async def ask(number: int) -> None:
        async with door.turn():
            asked.append(number)
            while len(asked) < 3:
                await asyncio.sleep(0.001)

    await together(*[ask(number) for number in range(3)])
