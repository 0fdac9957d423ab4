"""Several runs at once: one writer per slice, an older attempt never commits, and layers do not tear each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.ledger import SupersededError
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.connections import Watched
from datalake_assets_tests.lake.lakes import SmallLake, answer, outcome, shuffled, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))


@asynccontextmanager
async def another_run(lake: SmallLake, address: PostgresAddress) -> AsyncIterator[SmallLake]:
    async with session(address, application_name="another run") as connection:
        yield SmallLake(connection, lake.landing, lake.folder, services=lake.services)


def land_days(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251", CURRENT_IND="Y")), answer(term("2255", "Spring")), answer(term("2258"))])
    lake.land(
        D2, [answer(term("2251", "Summer", CURRENT_IND="Y")), answer(term("2261")), outcome("2258", Outcome.ABSENT)]
    )
    lake.land(D3, [answer(term("2251", CURRENT_IND="Y")), answer(term("2255", "Fall")), answer(term("2261"))])


# --------------------------------------------------------------------------------------- two runs of one slice


@pytest.mark.parametrize("seed", range(20))
async def test_two_loads_of_one_slice_at_once_end_as_one(
    lake: SmallLake, lake_address: PostgresAddress, seed: int
) -> None:
    """Invariant 11: with "insert if the latest differs", two loads of 300 documents once left 540 rows."""
    delays = iter(shuffled([0.0] * 150 + [0.005] * 50, seed))
    land_days(lake)
    await lake.load(D1)
    async with AsyncExitStack() as stack:
        runs = [await stack.enter_async_context(another_run(lake, lake_address)) for _ in range(2)]

        async def load(run: SmallLake, name: str) -> str | None:
            async def dawdle(_: int) -> None:
                await asyncio.sleep(next(delays))

            slow = SmallLake(Watched(run.connection, dawdle), run.landing, run.folder)
            try:
                await slow.load_raw(D2, name)
            except SupersededError:
                return None
            return name

        names = ["first", "second"] if seed % 2 else ["second", "first"]
        done = await asyncio.gather(*(load(run, name) for run, name in zip(runs, names, strict=True)))
    committed = [name for name in done if name]
    assert committed
    assert await lake.rows("ops.receipt", "run_id") == sorted([(name,) for name in committed] + [("test",)] * 3)
    found = await lake.history()
    await lake.empty()
    land_days(lake)
    await lake.load_raw(D1)
    await lake.load_raw(D2)
    assert found == await lake.history()


@pytest.mark.parametrize("layer", ["raw", "xform", "curated"])
async def test_an_older_attempt_cannot_commit(lake: SmallLake, lake_address: PostgresAddress, layer: str) -> None:
    """Invariant 11: an orphan that wakes up after its slice was given to another run changes nothing."""
    land_days(lake)
    await lake.load(D1)
    before = await lake.contents()
    asset = {"raw": TERM.raw, "xform": TERM.xform, "curated": TERM.curated}[layer]
    if layer != "raw":
        await lake.load_raw(D2)
        before["term_raw.term_data"] = (await lake.contents())["term_raw.term_data"]
    async with another_run(lake, lake_address) as other:

        async def overtake(call: int) -> None:
            if call == 8:
                await other.ledger.begin(other.connection, str(asset), "2026-01-02", "run-2")

        orphan = SmallLake(Watched(lake.connection, overtake), lake.landing, lake.folder)
        with pytest.raises(SupersededError) as refusal:
            await getattr(orphan, f"load_{layer}")(D2, "run-1")
    assert str(refusal.value) == (
        "Attempt 1 is no longer the latest: run run-2 loads this slice now. Nothing was changed. Where: "
        f"{asset}, partition 2026-01-02. What to do: Nothing, if that run is yours; otherwise end it and materialise "
        "the partition again."
    )
    assert await lake.contents() == before
    assert (str(asset), "2026-01-02") not in await lake.rows("ops.receipt", "asset", "partition")


async def test_a_later_attempt_waits_for_one_that_is_about_to_commit(
    lake: SmallLake, lake_address: PostgresAddress
) -> None:
    """Invariant 11: between the check of the fence and the commit no other attempt can begin."""
    async with another_run(lake, lake_address) as other:
        attempt = await lake.ledger.begin(lake.connection, "a.b", "p", "run-1")
        async with lake.connection.transaction():
            await lake.ledger.check_fence(lake.connection, "a.b", "p", attempt)
            later = asyncio.ensure_future(other.ledger.begin(other.connection, "a.b", "p", "run-2"))
            await asyncio.sleep(0.1)
            assert not later.done()
        assert await later == 2
    with pytest.raises(SupersededError):
        await lake.ledger.check_fence(lake.connection, "a.b", "p", attempt)


# ------------------------------------------------------------------------------------- layers beside each other


async def test_a_current_table_made_while_history_changes_is_one_of_its_two_states(
    lake: SmallLake, lake_address: PostgresAddress
) -> None:
    """Invariant 4: a key must not be lost because its change point was mended away between two statements."""
    states = []
    for loaded in ([D1, D3], [D1, D3, D2]):
        await lake.empty()
        land_days(lake)
        for day in loaded:
            await lake.load_raw(day)
        await lake.load_xform(D3)
        states.append((await lake.contents())["term_xform.current_term_data"])
    call = calls = 0
    while call <= calls:
        call += 1
        await lake.empty()
        land_days(lake)
        await lake.load_raw(D1)
        await lake.load_xform(D1)
        await lake.load_raw(D3)
        async with another_run(lake, lake_address) as other:
            calls = await load_xform_while_history_changes(lake, other, call)
        assert (await lake.contents())["term_xform.current_term_data"] in states, f"changed before call {call}"
    assert call > 7


async def load_xform_while_history_changes(lake: SmallLake, other: SmallLake, at: int) -> int:
    """Load the current table; before one of its calls another run loads a day, as far as it is let."""
    changes: list[asyncio.Task[object]] = []

    async def change(call: int) -> None:
        if call == at:
            changes.append(asyncio.ensure_future(other.load_raw(D2)))
            await asyncio.wait(changes, timeout=0.2)

    watched = Watched(lake.connection, change)
    await SmallLake(watched, lake.landing, lake.folder).load_xform(D3)
    await asyncio.gather(*changes)
    return watched.calls


async def test_runs_of_different_days_at_once_end_as_one_after_the_other(
    lake: SmallLake, lake_address: PostgresAddress
) -> None:
    """Invariant 1: a backfill of several days may run side by side with tonight's load."""
    land_days(lake)
    async with AsyncExitStack() as stack:
        runs = [await stack.enter_async_context(another_run(lake, lake_address)) for _ in range(3)]
        await asyncio.gather(*(run.load_raw(day) for run, day in zip(runs, (D3, D1, D2), strict=True)))
        await asyncio.gather(*(run.load_xform(day) for run, day in zip(runs, (D3, D1, D2), strict=True)))
        await asyncio.gather(*(run.load_curated(day) for run, day in zip(runs, (D3, D1, D2), strict=True)))
    found = await lake.contents()
    await lake.empty()
    land_days(lake)
    for day in (D1, D2, D3):
        await lake.load(day)
    assert found == await lake.contents()
