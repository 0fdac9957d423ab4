"""Landed files and the partitions that are made of them: any order, any repetition, any crash, the same rows."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from datalake_assets.clock import Clock
from datalake_assets.keys import TableName
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.file_landing import (
    Dimension,
    Fetch,
    FileLanding,
    FilePiece,
    LandedFile,
    MissingFileError,
    local_file,
)
from datalake_assets.lake.files import FileColumn, FileError, Format
from datalake_assets.lake.ledger import Ledger, Receipt, SupersededError
from datalake_assets.lake.partition_replace import (
    PartitionedTable,
    PartitionError,
    declared_table,
    ensure_table,
    replace_partition,
)
from datalake_assets.lake.row_rules import Rule
from datalake_assets.lake.slices import LoadError
from datalake_assets.sources.url_files import FetchedFile
from datalake_assets.sources.validators import NotModified, Validators
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.lakes import SmallLake

RIDES = TableName("trips_test", "rides")
NAMES = {
    "green": ("lpep_pickup_datetime", "tpep_pickup_datetime", "yellow"),
    "yellow": ("tpep_pickup_datetime", "lpep_pickup_datetime", "green"),
}
RULES = (
    Rule("no_passengers", "passengers = 0", "drop"),
    Rule("outside_month", "date_trunc('month', pickup) <> month", "quarantine"),
)
COLUMNS = (
    Column("pickup", "", parse_type("timestamp"), required=True),
    Column("passengers", "passengers", parse_type("smallint")),
    Column("total", "total", parse_type("numeric(12,2)")),
)
TABLE = declared_table(RIDES, (("color", "text"), ("month", "date")), COLUMNS)


def piece(color: str, month: date, *columns: FileColumn) -> FilePiece:
    name, other, kind = NAMES[color]
    first = FileColumn(COLUMNS[0], (name,), {other: kind})
    rest = [FileColumn(column, (column.name,)) for column in COLUMNS[1:]]
    return FilePiece(
        table=RIDES,
        landing=TableName("trips_test_landing", "rides"),
        name=f"{color}_{month:%Y-%m}.csv",
        key=f"{color}|{month}",
        dimensions=(Dimension("color", color), Dimension("month", month)),
        columns=(first, *rest, *columns),
        format=Format(),
        rules=RULES,
    )


@dataclass
class Months:
    """Monthly files in a folder, and the tables made of them."""

    connection: asyncpg.Connection
    folder: Path

    @property
    def landing(self) -> FileLanding:
        return FileLanding(ParquetStore(str(self.folder / "lake")), Ledger(), Clock(date(2026, 3, 1)))

    def write(self, color: str, month: date, *lines: str) -> FilePiece:
        one = piece(color, month)
        text = "\n".join([f"{NAMES[color][0]},passengers,total", *lines]) + "\n"
        (self.folder / one.name).write_text(text)
        return one

    async def land(self, one: FilePiece, fetch: Fetch | None = None, run_id: str = "test") -> LandedFile:
        found = fetch or local_file(self.folder / one.name)
        return await self.landing.land(self.connection, one, run_id, found)

    async def load(self, one: FilePiece, run_id: str = "test", table: PartitionedTable = TABLE) -> Receipt:
        return await load(self.connection, self.landing, one, run_id, table)

    async def rows(self) -> list[str]:
        found = await self.connection.fetch(f"select t::text from {RIDES} as t order by 1")
        return [row[0] for row in found]

    async def quarantine(self) -> list[tuple[Any, ...]]:
        found = await self.connection.fetch(
            "select entity, load_date, scope, rule, source from ops.quarantine where state = 'open' order by source"
        )
        return [tuple(row) for row in found]


async def load(
    connection: asyncpg.Connection,
    landing: FileLanding,
    one: FilePiece,
    run_id: str = "test",
    table: PartitionedTable = TABLE,
) -> Receipt:
    await ensure_table(connection, table)
    snapshot = landing.require(one)
    receipt = Receipt(asset=str(RIDES), partition=one.key, run_id=run_id, outcomes=snapshot.outcomes)
    values = [dimension.value for dimension in one.dimensions]
    return await replace_partition(connection, Ledger(), table, values, landing.rows(snapshot), receipt)


@pytest.fixture
async def months(lake: SmallLake, tmp_path: Path) -> AsyncIterator[Months]:
    await lake.connection.execute(f"drop schema if exists {RIDES.schema} cascade")
    yield Months(lake.connection, tmp_path)
    await lake.connection.execute(f"drop schema if exists {RIDES.schema} cascade")


JANUARY, FEBRUARY = date(2021, 1, 1), date(2021, 2, 1)


def three_files(months: Months) -> list[FilePiece]:
    return [
        months.write(
            "green", JANUARY, "2021-01-01 00:00:00,1,10.00", "2021-01-02 00:00:00,,0.10", "2009-01-01 00:00:00,1,7"
        ),
        months.write(
            "green", FEBRUARY, "2021-02-01 00:00:00,2,5.05", "2021-01-31 23:59:59,1,6", "2021-02-02 00:00:00,0,1"
        ),
        months.write("yellow", JANUARY, "2021-01-05 00:00:00,1,3.00", "2021-01-05 00:00:00,1,3.00", "soon,1,1"),
    ]


@pytest.mark.anyio
async def test_order_and_repetition_of_months_change_nothing(months: Months) -> None:
    """Invariant 1, for files: a month loaded after its successor, or again, leaves what it would have left at first."""
    pieces = three_files(months)
    results = []
    for order in permutations(range(3)):
        for number in (*order, order[0], order[2]):
            await months.land(pieces[number])
            await months.load(pieces[number])
        results.append((await months.rows(), await months.quarantine()))
    assert all(result == results[0] for result in results)
    assert results[0][0] == [
        '(green,2021-01-01,"2021-01-01 00:00:00",1,10.00)',
        '(green,2021-01-01,"2021-01-02 00:00:00",,0.10)',
        '(green,2021-02-01,"2021-02-01 00:00:00",2,5.05)',
        '(yellow,2021-01-01,"2021-01-05 00:00:00",1,3.00)',
        '(yellow,2021-01-01,"2021-01-05 00:00:00",1,3.00)',
    ]


@pytest.mark.anyio
async def test_a_row_of_another_month_is_in_quarantine_with_its_line(months: Months) -> None:
    for one in three_files(months):
        await months.land(one)
    name = str(RIDES)
    assert await months.quarantine() == [
        (name, JANUARY, "green|2021-01-01", "outside_month", "green_2021-01.csv line 4"),
        (name, FEBRUARY, "green|2021-02-01", "outside_month", "green_2021-02.csv line 3"),
        (name, JANUARY, "yellow|2021-01-01", "not_a_timestamp", "yellow_2021-01.csv line 4"),
    ]


@pytest.mark.anyio
async def test_every_row_that_was_read_is_accounted_for(months: Months) -> None:
    landed = await months.land(three_files(months)[1])
    account = landed.snapshot.account
    assert (account["read"], account["data"], account["dropped"], account["quarantined"]) == (3, 1, 1, 1)
    assert account["by_rule"] == {"no_passengers": 1, "outside_month": 1}


@pytest.mark.anyio
async def test_a_mended_file_closes_its_quarantine(months: Months) -> None:
    one = months.write("green", JANUARY, "2009-01-01 00:00:00,1,1.00")
    await months.land(one)
    await months.land(months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00"))
    await months.load(one)
    assert await months.quarantine() == []
    assert len(await months.rows()) == 1


@pytest.mark.anyio
async def test_a_file_of_another_colour_leaves_the_month_as_it_was(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    await months.land(one)
    await months.load(one)
    yellow = months.write("yellow", JANUARY, "2021-01-01 00:00:00,1,2.00")
    with pytest.raises(FileError, match="which is what files of yellow call it"):
        await months.land(one, local_file(months.folder / yellow.name))
    await months.load(one)
    assert [row.endswith("1.00)") for row in await months.rows()] == [True]


@pytest.mark.anyio
async def test_an_unchanged_file_is_not_fetched_or_landed_again(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    asked: list[Validators | None] = []

    @asynccontextmanager
    async def fetch(unless: Validators | None) -> AsyncIterator[FetchedFile | NotModified]:
        asked.append(unless)
        if unless is not None and unless.etag == '"one"':
            yield NotModified("test")
            return
        async with local_file(months.folder / one.name)(None) as file:
            assert isinstance(file, FetchedFile)
            yield replace(file, validators=Validators('"one"', None))

    first = await months.land(one, fetch)
    again = await months.land(one, fetch)
    assert [unless and unless.etag for unless in asked] == [None, '"one"']
    assert (first.is_new, again.is_new) == (True, False)
    assert again.snapshot.manifest == first.snapshot.manifest
    other_rules = replace(one, rules=())
    assert (await months.land(other_rules, fetch)).is_new
    assert asked[-1] is None


@pytest.mark.anyio
async def test_rows_that_another_declaration_judged_are_not_loaded(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,0,1.00")
    await months.land(one)
    with pytest.raises(LoadError, match="The declaration has changed"):
        await months.load(replace(one, rules=()))


@pytest.mark.anyio
async def test_a_month_that_was_never_landed_cannot_be_loaded(months: Months) -> None:
    with pytest.raises(MissingFileError):
        await months.load(piece("green", JANUARY))


@pytest.mark.anyio
async def test_of_two_loads_of_a_month_at_once_only_the_later_one_counts(
    months: Months, lake_address: PostgresAddress
) -> None:
    one = months.write("green", JANUARY, *[f"2021-01-01 00:00:00,1,{number}" for number in range(1, 500)])
    await months.land(one)
    await ensure_table(months.connection, TABLE)

    async def trigger(number: int) -> Receipt:
        async with session(lake_address, application_name=f"run {number}") as connection:
            return await load(connection, months.landing, one, f"run {number}")

    results = await asyncio.gather(*(trigger(number) for number in range(6)), return_exceptions=True)
    receipts = [result for result in results if isinstance(result, Receipt)]
    refused = [result for result in results if isinstance(result, SupersededError)]
    assert receipts
    assert len(receipts) + len(refused) == 6
    assert len(await months.rows()) == 499


@pytest.mark.anyio
async def test_a_reader_never_sees_a_month_in_parts(months: Months, lake_address: PostgresAddress) -> None:
    one = months.write("green", JANUARY, *[f"2021-01-01 00:00:00,1,{number}" for number in range(1, 3_000)])
    await months.land(one)
    await months.load(one)
    seen: set[int] = set()
    done = asyncio.Event()

    async def read() -> None:
        async with session(lake_address, application_name="reader") as connection:
            while not done.is_set():
                seen.add(await connection.fetchval(f"select count(*) from {RIDES}"))
                await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    for _ in range(10):
        await months.load(one)
    done.set()
    await reader
    assert seen == {2_999}


@pytest.mark.anyio
async def test_views_grants_and_indexes_survive_a_load(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    await months.land(one)
    await months.load(one)
    await months.connection.execute(
        f"create view {RIDES.schema}.totals as select sum(total) as total from {RIDES};"
        f" create index totals_index on {RIDES} (total); grant select on {RIDES} to public"
    )
    await months.load(one)
    assert await months.connection.fetchval(f"select total from {RIDES.schema}.totals") == Decimal("1.00")
    assert await months.connection.fetchval(f"select to_regclass('{RIDES.schema}.totals_index') is not null")
    assert await months.connection.fetchval(f"select has_table_privilege('public', '{RIDES}', 'select')")


@pytest.mark.anyio
async def test_a_column_declared_later_is_added_and_one_of_another_type_is_refused(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    await months.land(one)
    await months.load(one)
    tip = Column("tip", "tip", parse_type("text"))
    await ensure_table(
        months.connection, replace(TABLE, columns=(*TABLE.columns, *declared_table(RIDES, (), [tip]).columns))
    )
    assert await months.connection.fetchval(f"select tip from {RIDES}") is None
    changed = (*COLUMNS[:-1], replace(COLUMNS[-1], type=parse_type("integer")))
    with pytest.raises(PartitionError, match=r"total is numeric\(12,2\), not integer\."):
        await ensure_table(months.connection, declared_table(RIDES, (("color", "text"), ("month", "date")), changed))


@pytest.mark.anyio
async def test_a_guard_that_refuses_leaves_the_month_as_it_was(months: Months) -> None:
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    snapshot = (await months.land(one)).snapshot
    await months.load(one)
    before: list[int] = []

    async def refuse(rows: int) -> None:
        before.append(rows)
        raise LoadError("Too few rows.")

    receipt = Receipt(asset=str(RIDES), partition=one.key, run_id="test", outcomes=snapshot.outcomes)
    with pytest.raises(LoadError, match="Too few"):
        await replace_partition(months.connection, Ledger(), TABLE, ["green", JANUARY], iter(()), receipt, guard=refuse)
    assert before == [1]
    assert len(await months.rows()) == 1


@pytest.mark.anyio
async def test_a_load_that_brings_fewer_rows_than_were_landed_is_refused(months: Months) -> None:
    """Invariant 3: a receipt that does not balance blocks the table."""
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    snapshot = (await months.land(one)).snapshot
    await months.load(one)
    receipt = Receipt(asset=str(RIDES), partition=one.key, run_id="test", outcomes=snapshot.outcomes)
    with pytest.raises(PartitionError, match="1 rows were to come, but 0 were written"):
        await replace_partition(months.connection, Ledger(), TABLE, ["green", JANUARY], iter(()), receipt)
    assert len(await months.rows()) == 1


CRASH = """
import asyncio, pickle, sys
from datalake_assets.lake import crashpoints
from datalake_assets.storage.postgres import session
from datalake_assets_tests.lake.test_partition_replace import Months, piece
from pathlib import Path

crashpoints.arm(sys.argv[1])
told = pickle.load(sys.stdin.buffer)

async def main():
    async with session(told["address"], application_name="crash") as connection:
        months = Months(connection, Path(told["folder"]))
        await months.land(told["piece"], run_id="crash")
        await months.load(told["piece"], run_id="crash")

asyncio.run(main())
"""


@pytest.mark.anyio
@pytest.mark.parametrize("step", ["mid_request", "after_landing", "mid_copy", "before_commit", "after_commit"])
async def test_a_killed_load_leaves_the_old_month_and_the_next_one_needs_no_cleaning(
    months: Months, lake_address: PostgresAddress, step: str
) -> None:
    """Invariant 4."""
    import pickle

    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,1.00")
    await months.land(one)
    await months.load(one)
    old = await months.rows()
    months.write("green", JANUARY, "2021-01-01 00:00:00,1,2.00", "2021-01-01 00:00:00,1,3.00")
    told = pickle.dumps({"address": lake_address, "folder": str(months.folder), "piece": one})
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CRASH, step], input=told, capture_output=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    assert len(await months.rows()) == (2 if step == "after_commit" else 1)
    assert step == "after_commit" or await months.rows() == old
    await months.land(one, run_id="after")
    await months.load(one, run_id="after")
    assert [row.rpartition(",")[2] for row in await months.rows()] == ["2.00)", "3.00)"]


async def test_two_tables_of_a_new_schema_at_once_are_both_made(months, lake_address):
    async def make(number: int) -> None:
        async with session(lake_address, application_name=f"run {number}") as connection:
            await ensure_table(connection, replace(TABLE, name=TableName(RIDES.schema, f"t{number}")))

    await asyncio.gather(*(make(number) for number in range(8)))


async def test_a_file_whose_snapshot_is_gone_is_landed_again(months):
    one = months.write("green", JANUARY, "2021-01-01 00:00:00,1,10.00")
    await months.land(one)
    for file in (months.folder / "lake").rglob("*.parquet"):
        file.unlink()
    await months.land(one)
    await months.load(one)
    assert len(await months.rows()) == 1
