"""All or nothing: whatever statement a load dies at, the tables are as before, and a retry ends as if undisturbed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import pytest

from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, session
from datalake_assets_tests.lake.connections import Watched
from datalake_assets_tests.lake.lakes import OPERATIONS, TABLES, SmallLake, answer, outcome, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))

NAMES = Service(
    name="names", description="Names of terms.", owner="team:test", paths=("/STRM", "/DESCR"), requires=("/DESCR",)
)


async def two_days(lake: SmallLake) -> None:
    """Days 1 and 3 are loaded; loading day 2 inserts, changes, removes, and mends day 3."""
    lake.services = (*lake.services, NAMES)
    lake.land(D1, [answer(term("2251", CURRENT_IND="Y")), answer(term("2255", "Spring")), answer(term("2258"))])
    lake.land(D3, [answer(term("2251", CURRENT_IND="Y")), answer(term("2255", "Fall")), answer(term("2261"))])
    await lake.load(D1)
    await lake.load(D3)
    lake.land(
        D2, [answer(term("2251", "Summer", CURRENT_IND="Y")), answer(term("2261")), outcome("2258", Outcome.ABSENT)]
    )


Step = Callable[[SmallLake], Awaitable[Any]]
STEPS: dict[str, tuple[list[Step], Step]] = {
    "raw": ([], lambda lake: lake.load_raw(D2)),
    "xform": ([lambda lake: lake.load_raw(D2)], lambda lake: lake.load_xform(D2)),
    "curated": ([lambda lake: lake.load_raw(D2), lambda lake: lake.load_xform(D2)], lambda lake: lake.load_curated(D2)),
}


async def everything(connection: asyncpg.Connection) -> dict[str, list[Any]]:
    """Every column of every table, those of runs and clocks included; attempts aside, which are meant to stay."""
    tables = [table for table in (*TABLES, *OPERATIONS) if table != "ops.load_attempt"]
    return {
        table: [tuple(row) for row in await connection.fetch(f"select * from {table} t order by t")] for table in tables
    }


@asynccontextmanager
async def cut_at(lake: SmallLake, address: PostgresAddress, number: int) -> AsyncIterator[tuple[SmallLake, Watched]]:
    """The lake on a connection whose server process is ended before one of its calls."""
    async with session(address, application_name="victim") as connection:
        pid = connection.get_server_pid()

        async def cut(call: int) -> None:
            if call == number:
                assert await lake.connection.fetchval("select pg_terminate_backend($1, 5000)", pid)

        watched = Watched(connection, cut)
        yield SmallLake(watched, lake.landing, lake.folder, services=lake.services), watched


@pytest.mark.parametrize("layer", STEPS)
async def test_a_load_that_dies_at_any_statement_leaves_every_table_as_it_was(
    lake: SmallLake, lake_address: PostgresAddress, layer: str
) -> None:
    """Invariant 4: a reader sees the old or the new state, and the retry ends as an undisturbed load would have.

    It fails, too: an insert that went wrong was once a line in a log (faults P6, C6).
    """
    prepare, step = STEPS[layer]
    await two_days(lake)
    for preparation in prepare:
        await preparation(lake)
    before = await everything(lake.connection)
    number, died = 1, 0
    while True:
        async with cut_at(lake, lake_address, number) as (victim, watched):
            try:
                await step(victim)
            except PostgresError:
                died += 1
            else:
                assert watched.calls < number
                break
        assert await everything(lake.connection) == before, f"call {number} of {layer}"
        assert await leftovers(lake) == []
        number += 1
    assert died == watched.calls > 7
    after = await lake.contents()
    await lake.empty()
    await two_days(lake)
    for preparation in [*prepare, step]:
        await preparation(lake)
    assert await lake.contents() == after


async def leftovers(lake: SmallLake) -> list[Any]:
    """Sessions, locks and temporary tables that a dead load left behind."""
    return [
        tuple(row)
        for row in await lake.connection.fetch(
            "with here as (select oid from pg_database where datname = current_database())"
            " select 'session', a.application_name from pg_stat_activity as a inner join here on a.datid = here.oid"
            " where a.application_name = 'victim'"
            " union all select 'lock', l.locktype from pg_locks as l inner join here on l.database = here.oid"
            " where l.locktype = 'advisory'"
            " union all select 'table', relname from pg_class where relpersistence = 't'"
        )
    ]


async def test_a_reader_sees_every_table_as_before_or_as_after(lake: SmallLake, lake_address: PostgresAddress) -> None:
    """Invariant 4: never empty, never mixed, however often somebody looks while a load works."""
    await two_days(lake)
    seen: dict[str, set[str]] = {table: set() for table in TABLES}
    before = await lake.contents()
    done = asyncio.Event()
    looks = 0

    async def look() -> None:
        nonlocal looks
        async with session(lake_address, application_name="reader") as connection:
            reader = SmallLake(connection, lake.landing, lake.folder)
            while not done.is_set():
                for table, rows in (await reader.contents()).items():
                    seen[table].add(repr(rows))
                looks += 1

    reading = asyncio.ensure_future(look())
    while not looks:
        await asyncio.sleep(0)

    async def breathe(_: int) -> None:
        await asyncio.sleep(0.01)

    watched = SmallLake(Watched(lake.connection, breathe), lake.landing, lake.folder, services=lake.services)
    await watched.load(D2)
    done.set()
    await reading
    after = await lake.contents()
    assert looks > 20
    for table in TABLES:
        assert before[table] != after[table]
        assert seen[table] <= {repr(before[table]), repr(after[table])}
