"""Rows prepared while pages arrive: the same tables as without, and nothing left behind where they are of no use."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from datalake_assets.clock import Clock
from datalake_assets.lake.ahead import Ahead
from datalake_assets.lake.datasets import ChecksFailedError, Dataset, land
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.ledger import Ledger
from datalake_assets.settings import project_files
from datalake_assets.sources.api_pages import Page, Paging
from datalake_assets.sources.errors import TransientSourceError
from datalake_assets.sources.validators import Validators
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.test_datasets import DATASET, DEALS, PARTS, Lake, deal

pytestmark = pytest.mark.anyio

PAGING = Paging(kind="single_page")
SOUND = [[deal(0), deal(1, note=None, open=True, parts=[])], [], [deal(2, address=None), deal(3)], [deal(4)]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def lake(database: PostgresAddress, tmp_path: Path) -> AsyncIterator["LakeAhead"]:
    await asyncio.to_thread(migrate, database, project_files() / "sql" / "migrations")
    async with session(database, application_name="tests") as connection:
        yield LakeAhead(connection, tmp_path, database)


class LakeAhead(Lake):
    def __init__(self, connection: Any, folder: Path, address: PostgresAddress) -> None:
        super().__init__(connection, folder)
        self.address = address

    async def land_ahead(self, *bodies: Any, dataset: Dataset = DATASET, day: int = 1, worth_bytes: int = 300) -> None:
        """Land pages with everything prepared from the second page on, the first being remembered."""

        async def pages(ahead: Ahead) -> AsyncIterator[Page]:
            for number, records in enumerate(bodies, 1):
                if isinstance(records, Exception):
                    raise records
                body = orjson.dumps({"results": records})
                sound = await ahead.read(body, number)
                told = (len(body), hashlib.sha256(body).hexdigest(), f"page {number}", Validators())
                yield Page(number, [] if sound else records, *told, sound)

        self.runs += 1
        async with (
            Ahead(dataset, PAGING, lambda: session(self.address, application_name="ahead"), worth_bytes) as ahead,
            aclosing(pages(ahead)) as stream,
        ):
            await land(
                self.connection,
                self.store,
                Ledger(),
                dataset,
                stream,
                SourceAccount,
                run_id=f"run {self.runs}",
                clock=Clock(date(2026, 3, day)),
                ahead=ahead,
            )

    async def parts(self) -> list[str]:
        """Partitions by name, whether or not they belong to a table."""
        rows = await self.connection.fetch("select tablename::text from pg_tables where schemaname = 'lake_parts'")
        return sorted(row[0] for row in rows)

    async def are_prepared(self) -> bool:
        return any("_ahead_" in part for part in await self.parts())


async def test_prepared_rows_and_checks_are_those_that_the_snapshot_gives(lake):
    await lake.land(*SOUND)
    _, expected = await lake.load()
    rows = [await lake.rows(DEALS), await lake.rows(PARTS)]
    declared_anew = replace(DATASET, definition="2")
    await lake.land_ahead(*SOUND, dataset=declared_anew)
    assert len(await lake.parts()) == 4
    loaded, found = await lake.load(declared_anew)
    assert loaded.changed
    assert len(await lake.parts()) == 2
    assert await lake.are_prepared(), "The load has read the snapshot instead of taking what was prepared."
    assert [await lake.rows(DEALS), await lake.rows(PARTS)] == rows
    assert [(each.check, each.table, each.passed) for each in found] == [
        (each.check, each.table, each.passed) for each in expected
    ]


async def test_another_declaration_than_the_one_that_prepared_reads_the_snapshot(lake):
    await lake.land_ahead(*SOUND)
    assert await lake.are_prepared()
    await lake.load(replace(DATASET, definition="2"))
    assert not await lake.are_prepared()
    assert len(await lake.rows()) == 5


async def test_a_flawed_page_ends_the_preparation_and_is_told_by_the_load(lake):
    await lake.land_ahead(SOUND[0], SOUND[2], [deal(9, open="perhaps")], SOUND[3])
    assert await lake.parts() == []
    with pytest.raises(ChecksFailedError, match=r"page 3, record 1, Column open: not_a_boolean"):
        await lake.load()


async def test_a_prepared_load_that_is_refused_leaves_the_old_rows_and_nothing_else(lake):
    await lake.land_ahead(*SOUND)
    await lake.load()
    rows, parts = await lake.rows(), await lake.parts()
    await lake.land_ahead(SOUND[0], SOUND[2], day=2)
    assert len(await lake.parts()) == 4
    with pytest.raises(ChecksFailedError, match="4 rows instead of 5"):
        await lake.load()
    assert (await lake.rows(), await lake.parts()) == (rows, parts)


async def test_a_source_that_fails_leaves_nothing_prepared(lake):
    with pytest.raises(TransientSourceError):
        await lake.land_ahead(*SOUND, TransientSourceError("It is gone."))
    assert await lake.parts() == []


async def test_what_landings_without_a_load_prepared_does_not_pile_up(lake):
    for day in (1, 2, 3):
        await lake.land_ahead(*SOUND, day=day)
    assert len(await lake.parts()) == 2


async def test_rows_that_went_since_they_were_prepared_are_not_loaded(lake):
    await lake.land_ahead(*SOUND)
    (part,) = [each for each in await lake.parts() if each.startswith("deals_")]
    await lake.connection.execute(f"delete from lake_parts.{part} where id = 1")
    await lake.load()
    assert [row[0] for row in await lake.rows()] == [0, 1, 2, 3, 4]


async def test_rows_are_added_to_those_of_earlier_loads_without_any_preparation(lake):
    appending = replace(DATASET, mode="append")
    await lake.land_ahead(*SOUND, dataset=appending)
    assert await lake.parts() == []
    await lake.load(appending)
    assert len(await lake.rows()) == 5
