"""What assets tell the UI: failures as sentences, receipts as lines, tables as they are, previews without documents."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from datalake_assets.assets.reporting import (
    MASK,
    account,
    column_schema,
    observed_schema,
    preview,
    reported_failures,
)
from datalake_assets.entities import TERM
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.outcomes import Outcomes
from datalake_assets.lake.tables import table_of
from datalake_assets.settings import project_files
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.lake.lakes import SmallLake, answer, small_lake, term
from datalake_assets_tests.servers import fresh_database

FIRST, SECOND = date(2026, 1, 1), date(2026, 1, 2)
RAW, LANDING = table_of(TERM, "raw"), table_of(TERM, "landing")


# ------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "last_attempt", "tried_again"),
    [
        (TransientSourceError("Down.", where="there", todo="Wait."), False, True),
        (TransientSourceError("Down.", where="there", todo="Wait."), True, False),
        (PermanentSourceError("Refused.", where="there", todo="Wait."), False, False),
        (DatalakeError("Full.", where="there", todo="Wait."), False, False),
    ],
)
def test_a_failure_says_what_where_and_what_to_do_and_is_tried_again_only_where_that_helps(
    error: DatalakeError, last_attempt: bool, tried_again: bool
) -> None:
    """A retry allowed after the last attempt makes Dagster show "Exceeded max_retries" in place of the sentence."""
    with pytest.raises(dg.Failure) as caught, reported_failures(last_attempt=last_attempt):
        raise error
    failure = caught.value
    assert failure.description == f"{error.what} Where: there. What to do: Wait."
    assert {name: entry.value for name, entry in failure.metadata.items()} == {
        "what": error.what,
        "where": "there",
        "what_to_do": "Wait.",
    }
    assert failure.allow_retries is tried_again


def test_a_bug_is_not_dressed_as_a_failure_of_the_lake() -> None:
    with pytest.raises(KeyError), reported_failures():
        raise KeyError("a bug")


# ------------------------------------------------------------------------------------------------- receipts


def test_a_receipt_is_told_in_one_line() -> None:
    landed = Receipt(
        asset="term_landing.term_data",
        partition="2026-01-01",
        run_id="r",
        outcomes=Outcomes(asked=1206, data=1200, absent=3, failed=2, quarantined=1),
        duration_s=0.25,
    )
    assert account(landed) == (
        "term_landing.term_data, partition 2026-01-01: 1,206 asked, 1,200 data, 3 absent, 2 failed, 1 quarantined "
        "in 0.25 s."
    )
    loaded = replace(landed, asset="term_raw.term_data", rows_new=0, rows_changed=4, rows_removed=1, rows_unchanged=139)
    assert account(loaded) == (
        "term_raw.term_data, partition 2026-01-01: 0 new, 4 changed, 1 removed, 139 unchanged, 1 quarantined in 0.25 s."
    )
    derived = replace(loaded, asset="term_xform.current_term_data", outcomes=None, duration_s=None)
    assert account(derived) == (
        "term_xform.current_term_data, partition 2026-01-01: 0 new, 4 changed, 1 removed, 139 unchanged."
    )


# -------------------------------------------------------------------------------------------------- columns


def test_columns_are_shown_as_declared_or_as_found() -> None:
    declared = column_schema(RAW)
    assert [column.name for column in declared.columns] == [column.name for column in RAW.columns]
    assert column_schema(RAW, [(column.name, column.type) for column in RAW.columns]) == declared
    found = column_schema(LANDING, [("strm", "int64"), ("extra", "string")])
    assert [(column.name, column.type) for column in found.columns] == [("strm", "int64"), ("extra", "string")]
    assert found.columns[0].description == "Term code; within a career it orders the terms in time."
    assert found.columns[1].description == "Not declared."


# ------------------------------------------------------------------------------------------- a lake with rows


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address


@pytest.fixture
async def lake(anyio_backend: str, migrated: PostgresAddress, tmp_path: Path) -> AsyncIterator[SmallLake]:
    async with small_lake(migrated, tmp_path / "lake") as lake:
        await lake.empty()
        yield lake


@pytest.mark.anyio
async def test_the_columns_of_a_table_are_read_from_the_table(lake: SmallLake) -> None:
    """The declared columns say what should be; drift shows only in what is."""
    assert await observed_schema(lake.connection, RAW) == column_schema(RAW)
    await lake.connection.execute("alter table term_raw.term_data add column hotfix integer")
    try:
        observed = await observed_schema(lake.connection, RAW)
    finally:
        await lake.connection.execute("alter table term_raw.term_data drop column hotfix")
    assert [(column.name, column.type) for column in observed.columns][-1] == ("hotfix", "integer")


@pytest.mark.anyio
async def test_a_preview_shows_the_last_changes_first_and_no_document(lake: SmallLake) -> None:
    lake.land(FIRST, [answer(term("2251", "Fall|2025 <b>")), answer(term("2258", "canary"))])
    lake.land(SECOND, [answer(term("2251", "Fall|2025 <b>")), answer(term("2258", "another canary"))])
    await lake.load_raw(FIRST)
    await lake.load_raw(SECOND)
    shown = (await preview(lake.connection, RAW)).value.splitlines()
    assert shown[0] == "| acad_career | strm | term_data | load_date | operation | digest |"
    assert [line.split(" | ")[1:5] for line in shown[2:]] == [
        ["2258", MASK, "2026-01-02", "U"],
        ["2251", MASK, "2026-01-01", "I"],
        ["2258", MASK, "2026-01-01", "I"],
    ]
    assert "canary" not in "".join(shown)


@pytest.mark.anyio
async def test_a_value_cannot_break_out_of_its_cell(lake: SmallLake) -> None:
    """Markdown takes `|` for the end of a cell and `<` for a tag."""
    lake.land(FIRST, [answer(term("2251", "a|b<img\nc\\"))])
    await lake.load_raw(FIRST)
    await lake.load_xform(FIRST)
    (row,) = (await preview(lake.connection, table_of(TERM, "xform"))).value.splitlines()[2:]
    assert " | a\\|b&lt;img c\\\\ | " in row


@pytest.mark.anyio
async def test_a_preview_ends_after_ten_rows(lake: SmallLake) -> None:
    lake.land(FIRST, [answer(term(str(2000 + number))) for number in range(12)])
    await lake.load_raw(FIRST)
    assert len((await preview(lake.connection, RAW)).value.splitlines()) == 2 + 10
