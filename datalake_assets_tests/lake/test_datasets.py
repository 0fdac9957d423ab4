"""API datasets from pages to tables: what arrives as itself, what stops a load, what is left out."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.keys import TableName
from datalake_assets.lake.datasets import (
    CHECKS,
    ChecksFailedError,
    Dataset,
    Extract,
    Finding,
    Limits,
    land,
    landed,
    load,
    version_of,
)
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.ledger import Ledger
from datalake_assets.lake.replacement import DeclaredTable, Loaded
from datalake_assets.settings import project_files
from datalake_assets.sources.api_pages import Page
from datalake_assets.sources.errors import TransientSourceError
from datalake_assets.sources.validators import Validators
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session

pytestmark = pytest.mark.anyio

DEALS, PARTS = TableName("dit", "deals"), TableName("dit", "deal_parts")


def column(name: str, words: str, **options: Any) -> Column:
    return Column(name, name, parse_type(words), **options)


DEAL = Extract(
    table=DeclaredTable(
        DEALS,
        (
            column("id", "integer", key=True),
            column("note", "text"),
            column("open", "boolean", required=True),
            column("city", "varchar(20)"),
        ),
    ),
    sources={"id": ("id",), "note": ("note",), "open": ("open",), "city": ("address", "city")},
    optional=frozenset({"note"}),
)
PART = Extract(
    table=DeclaredTable(
        PARTS,
        (column("id", "integer", key=True), column("position", "integer", key=True), column("size", "decimal(8,3)")),
    ),
    sources={"id": ("id",), "position": (), "size": ("size",)},
    array="parts",
    parent=frozenset({"id"}),
)


DEAL_WITH_PARTS = replace(DEAL, unknown_fields="ignore")

DATASET = Dataset(
    name="deals",
    landing=TableName("dit_landing", "deals"),
    extracts=(DEAL_WITH_PARTS, PART),
    mode="replace",
    limits=Limits(),
    definition="1",
)


def deal(number: int, **members: Any) -> dict[str, Any]:
    usual = {
        "id": number,
        "note": "",
        "open": False,
        "address": {"city": "Leeds"},
        "parts": [{"size": 0}, {"size": 1.5}],
    }
    return {**usual, **members}


def page(number: int, body: bytes, **options: Any) -> Page:
    records = exact_json.loads(body)
    digest = hashlib.sha256(body).hexdigest()
    return Page(number, records, len(body), digest, f"page {number}", options.get("validators", Validators()))


async def pages(*bodies: Any) -> AsyncIterator[Page]:
    for number, body in enumerate(bodies, 1):
        if isinstance(body, Exception):
            raise body
        yield page(number, body if isinstance(body, bytes) else orjson.dumps(body))


class Lake:
    def __init__(self, connection: asyncpg.Connection, folder: Path, name: str = "run") -> None:
        self.connection = connection
        self.name = name
        self.store = ParquetStore(folder)
        self.runs = 0

    async def land(self, *bodies: Any, day: int = 1, dataset: Dataset = DATASET) -> None:
        self.runs += 1
        await land(
            self.connection,
            self.store,
            Ledger(),
            dataset,
            pages(*bodies),
            lambda: SourceAccount(requests=len(bodies)),
            run_id=f"{self.name} {self.runs}, landing",
            clock=Clock(date(2026, 3, day)),
        )

    async def load(self, dataset: Dataset = DATASET) -> tuple[Loaded, list[Finding]]:
        self.runs += 1
        return await load(self.connection, self.store, Ledger(), dataset, run_id=f"{self.name} {self.runs}, load")

    async def rows(self, table: TableName = DEALS) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(f"select * from {table} order by 1, 2")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def lake(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Lake]:
    await asyncio.to_thread(migrate, database, project_files() / "sql" / "migrations")
    async with session(database, application_name="tests") as connection:
        yield Lake(connection, tmp_path)


async def test_false_zero_and_empty_text_arrive_as_themselves_and_an_empty_page_is_legal(lake):
    """The earlier system made NULL of all three, and failed at an empty page."""
    await lake.land([deal(0)], [], [deal(1, note=None, open=True, address=None, parts=[])])
    loaded, found = await lake.load()
    assert await lake.rows() == [(0, "", False, "Leeds"), (1, None, True, None)]
    assert [(*row[:2], str(row[2])) for row in await lake.rows(PARTS)] == [(0, 0, "0.000"), (0, 1, "1.500")]
    assert loaded.rows == {DEALS: 2, PARTS: 2}
    assert all(finding.passed for finding in found)
    assert {finding.check for finding in found} == CHECKS.keys()
    (manifest,) = landed(lake.store, DATASET.landing)
    assert [each["records"] for each in manifest.account["pages"]] == [1, 0, 1]


FLAWS: dict[str, tuple[list[Any], str, str]] = {
    "a type that changed": ([[deal(1), deal(2, open="yes")]], "values_fit", "page 1, record 2, Column open: not_a_boo"),
    "a value that is required": ([[deal(1), deal(2, open=None)]], "values_fit", "Column open: required"),
    "a field that vanished": ([[deal(1)], [{"id": 2, "open": True}]], "fields_are_there", "address (1 records)"),
    "an array that vanished": ([[{k: v for k, v in deal(1).items() if k != "parts"}]], "fields_are_there", "parts"),
    "an array that is none": ([[deal(1), deal(2, parts={"size": 1})]], "values_fit", "parts is no array of objects"),
    "an element that is none": ([[deal(1), deal(2, parts=[5])]], "values_fit", "parts is no array of objects"),
    "a bad value in an element": ([[deal(1, parts=[{"size": "x"}])]], "values_fit", "Column size: not_a_decimal"),
    "a column without any value": ([[deal(1, note=None)]], "no_column_is_empty", "note"),
    "a record that came twice": ([[deal(1)], [deal(1)]], "key_is_unique", "deals_"),
    "JSON that cannot be kept": ([[deal(1)], b'[{"id":2,"id":3,"open":true}]'], "values_fit", "cannot be kept"),
    "nothing at all": ([[]], "enough_rows", "0 rows"),
}


@pytest.mark.parametrize("flaw", FLAWS)
async def test_a_flawed_dataset_is_stopped_by_its_check_and_the_tables_stay(lake, flaw):
    """Invariant 3: missing fields and failed casts were NULLs, half a dataset was a success."""
    bodies, check, said = FLAWS[flaw]
    await lake.land([deal(1, note="old")])
    await lake.load()
    await lake.land(*bodies, day=2)
    with pytest.raises(ChecksFailedError) as caught:
        await lake.load()
    assert check in {finding.check for finding in caught.value.findings if finding.blocks}
    assert said in str(caught.value)
    assert await lake.rows() == [(1, "old", False, "Leeds")]
    assert len(await lake.rows(PARTS)) == 2
    await lake.land([deal(5)], day=3)
    assert (await lake.load())[0].rows == {DEALS: 1, PARTS: 2}


async def test_a_shrink_beyond_a_tenth_stops_and_one_of_a_tenth_does_not(lake):
    await lake.land([deal(number) for number in range(100)])
    await lake.load()
    await lake.land([deal(number) for number in range(89)], day=2)
    with pytest.raises(ChecksFailedError, match="89 rows instead of 100; at least 90"):
        await lake.load()
    await lake.land([deal(number) for number in range(90)], day=3)
    assert (await lake.load())[0].rows[DEALS] == 90


async def test_an_empty_dataset_is_legal_where_it_is_allowed(lake):
    allowed = replace(DATASET, limits=Limits(min_rows=0))
    await lake.land([])
    assert (await lake.load(allowed))[0].rows == {DEALS: 0, PARTS: 0}


async def test_rows_that_do_not_fit_go_to_quarantine_within_the_tolerance_and_their_children_with_them(lake):
    """Invariant 5: one bad record costs one record."""
    tolerant = replace(DATASET, limits=Limits(max_quarantined_share=0.2))
    records = [deal(number) for number in range(9)]
    await lake.land([*records, deal(9, open="no")])
    loaded, _ = await lake.load(tolerant)
    assert loaded.rows == {DEALS: 9, PARTS: 18}
    (row,) = await lake.connection.fetch("select * from ops.quarantine")
    assert (row["entity"], row["rule"], row["reason"]) == ("dit.deals", "not_a_boolean", "Column open: not_a_boolean.")
    assert row["source"].endswith("page 1, record 10, dit.deals")
    assert orjson.loads(row["document"])["id"] == 9


@pytest.mark.parametrize(("policy", "blocks"), [("ignore", None), ("warn", False), ("fail", True)])
async def test_unknown_fields_are_ignored_told_or_refused(lake, policy, blocks):
    extract = replace(DEAL, unknown_fields=policy)
    dataset = replace(DATASET, extracts=(extract,))
    await lake.land([deal(1, extra=1)])
    if blocks:
        with pytest.raises(ChecksFailedError, match="not declared: extra, parts"):
            await lake.load(dataset)
        return
    _, found = await lake.load(dataset)
    told = [finding for finding in found if finding.check == "no_field_is_unknown"]
    assert [(finding.passed, finding.blocks) for finding in told] == ([] if blocks is None else [(False, False)])


async def test_a_page_that_fails_leaves_the_snapshot_before_and_blocks_nothing(lake):
    await lake.land([deal(1)])
    with pytest.raises(TransientSourceError):
        await lake.land([deal(2)], TransientSourceError("Page 2 is gone."), day=2)
    assert [each.partition["load_date"] for each in landed(lake.store, DATASET.landing)] == ["2026-03-01"]
    await lake.land([deal(2)], day=2)
    assert (await lake.load())[0].rows[DEALS] == 1
    assert (await lake.rows())[0][0] == 2


async def test_an_unchanged_dataset_is_not_loaded_again_but_a_changed_definition_loads_it(lake):
    await lake.land([deal(1)])
    await lake.load()
    await lake.land([deal(1)], day=2)
    loaded, found = await lake.load()
    assert (loaded.changed, found) == (False, [])
    assert (await lake.load(replace(DATASET, definition="2")))[0].changed


async def test_a_date_whose_load_failed_is_made_up_for(lake):
    dataset = replace(DATASET, mode="append", limits=Limits(min_rows=0))
    for day in (1, 2, 3):
        await lake.land([deal(day)], day=day, dataset=dataset)
    await lake.load(dataset)
    rows = await lake.connection.fetch("select id, load_date from dit.deals order by id")
    assert [(row["id"], row["load_date"].day) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert not (await lake.load(dataset))[0].changed


async def test_sensitive_members_are_gone_before_a_record_is_landed(lake):
    """Invariant 6."""
    await lake.land([deal(1, SocialSecurityNumber="900-12-3456", address={"city": "Leeds", "ssn": "900-12-3456"})])
    (manifest,) = landed(lake.store, DATASET.landing)
    (document,) = [text for batch in lake.store.read(manifest) for text in batch.column("document").to_pylist()]
    assert b"900-" not in document


LAND_AND_LOAD = """
import asyncio, sys
from pathlib import Path
from pydantic import SecretStr
from datalake_assets.lake import crashpoints
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.test_datasets import Lake, deal
host, port, database, user, password, folder, step = sys.argv[1:]
async def main():
    address = PostgresAddress(host, int(port), database, user, SecretStr(password))
    async with session(address, application_name="victim") as connection:
        lake = Lake(connection, Path(folder), "victim")
        await lake.land([deal(1)], [deal(2)], day=2)
        await lake.load()
crashpoints.arm(step)
asyncio.run(main())
"""


@pytest.mark.parametrize("step", ["mid_request", "after_landing", "mid_copy", "before_commit", "after_commit"])
async def test_killed_at_any_step_the_next_run_ends_as_an_undisturbed_one(lake, database, tmp_path, step):
    """Invariant 4; pages that a failed run of the earlier system left were loaded by the next one."""
    await lake.land([deal(9)])
    await lake.load()
    arguments = (database.host, str(database.port), database.database, database.user)
    secret = database.password.get_secret_value()
    command = [sys.executable, "-c", LAND_AND_LOAD, *arguments, secret, str(tmp_path), step]
    killed = await asyncio.to_thread(
        subprocess.run, command, cwd=project_files(), env=dict(os.environ), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    numbers = [row[0] for row in await lake.rows()]
    assert numbers == ([1, 2] if step == "after_commit" else [9])
    await lake.land([deal(1)], [deal(2)], day=2)
    await lake.load()
    assert [row[0] for row in await lake.rows()] == [1, 2]
    assert await lake.connection.fetchval("select count(*) from pg_tables where schemaname = 'lake_parts'") == 2


DAILY = replace(DATASET, extracts=(DEAL_WITH_PARTS,))


@pytest.mark.parametrize("mode", ["append", "upsert"])
async def test_a_refused_day_is_told_and_does_not_keep_back_the_days_after_it(lake, mode):
    """It can never be landed again: sources answer for the present."""
    dataset = replace(DAILY, mode=mode)
    for day, flaw in ((1, {}), (2, {"open": "yes"}), (3, {})):
        await lake.land([deal(day, **flaw)], day=day, dataset=dataset)
    with pytest.raises(ChecksFailedError):
        await lake.load(dataset)
    assert [row[0] for row in await lake.rows()] == [1, 3]


async def test_a_table_that_was_emptied_by_hand_is_not_called_loaded(lake):
    await lake.land([deal(1)])
    await lake.load()
    await lake.connection.execute("delete from dit.deals")
    await lake.load()
    assert len(await lake.rows()) == 1


async def test_a_key_twice_in_an_upsert_is_a_failed_check(lake):
    dataset = replace(DAILY, mode="upsert")
    await lake.land([deal(1)], [deal(1, note="x")], dataset=dataset)
    with pytest.raises(ChecksFailedError):
        await lake.load(dataset)


async def test_field_names_in_messages_are_few_and_plain(lake):
    """Objects that are used as maps have personal data for names."""
    dataset = replace(DATASET, extracts=(replace(DEAL_WITH_PARTS, unknown_fields="fail"),))
    names = [f"field_{number}" for number in range(1000)]
    await lake.land([deal(1, **dict.fromkeys(["jane.doe@example.edu", *names], 1))], dataset=dataset)
    with pytest.raises(ChecksFailedError) as caught:
        await lake.load(dataset)
    assert len(str(caught.value)) < 1000
    assert "jane.doe" not in str(caught.value)


async def test_a_version_that_differs_from_page_to_page_is_none_of_the_dataset(lake):
    """Frameworks hash each page: a record that changes on the second leaves the first as it was."""

    async def two() -> AsyncIterator[Page]:
        for number in (1, 2):
            yield page(number, orjson.dumps([deal(number)]), validators=Validators(f'"{number}"'))

    clock = Clock(date(2026, 3, 1))
    await land(lake.connection, lake.store, Ledger(), DATASET, two(), SourceAccount, run_id="run", clock=clock)
    (manifest,) = landed(lake.store, DATASET.landing)
    assert not version_of(manifest)
