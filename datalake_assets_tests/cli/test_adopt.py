"""`datalake adopt`: shown first, carried out in one go, and undone."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from datalake_assets.storage.embedded import drop_database
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.cli.commands import Commands
from datalake_assets_tests.cli.conftest import dagster_database, environment_for
from datalake_assets_tests.lake import predecessor
from datalake_assets_tests.lake.predecessor import fingerprint, insert_course, insert_person, insert_terms
from datalake_assets_tests.servers import fresh_database

NIGHT: Final = datetime(2026, 1, 1, 8, 10)  # noqa: DTZ001 - as the old flows stored it
SECRET: Final = "900-00-0001"


@pytest.fixture
def old_commands(postgres_server: PostgresAddress, tmp_path: Path) -> Iterator[Commands]:
    """A shell at a database that the old flows filled, and that was never migrated."""
    with fresh_database(postgres_server) as address:
        asyncio.run(_fill(address))
        yield Commands(tmp_path, environment_for(address, tmp_path), address)
        asyncio.run(drop_database(postgres_server, dagster_database(address)))


async def _fill(address: PostgresAddress) -> None:
    async with session(address, application_name="test") as connection:
        await predecessor.build(connection)
        for number, gpa in enumerate((3.5, 3.6)):
            document = predecessor.person("U00000001", gpa=gpa, kin={"ssn": SECRET})
            await insert_person(connection, NIGHT + timedelta(hours=12 * number), document)
        await insert_course(connection, NIGHT, predecessor.course(7))
        fall = {"ACAD_CAREER": "UGRD", "STRM": "2258", "DESCR": "Fall 2025", "CURRENT_IND": "Y"}
        await insert_terms(connection, NIGHT, [fall])


def contents(address: PostgresAddress) -> dict[str, str]:
    async def read() -> dict[str, str]:
        async with session(address, application_name="test") as connection:
            return await fingerprint(connection)

    return asyncio.run(read())


def test_the_whole_walk_of_an_operator(old_commands: Commands):
    """Plan, adopt, work with the lake, look again, go back: and everything is as it was."""
    before = contents(old_commands.address)
    planned = old_commands.run("adopt")
    assert planned.code == 0, planned.err
    assert "person_raw.person_data" in planned.out
    assert "trg_skip_repeated" in planned.out
    assert "Nothing was changed" in planned.err
    assert SECRET not in planned.out + planned.err
    assert contents(old_commands.address) == before

    done = old_commands.run("adopt", "--execute")
    assert done.code == 0, done.err
    assert "Adopted in" in done.out
    assert old_commands.run("migrate", "--dry-run").out == "The tables are up to date.\n"
    shown = old_commands.run("as-of", "term", "UGRD", "2258")
    assert shown.code == 0, shown.err
    assert "Fall 2025" in shown.out

    again = old_commands.run("adopt")
    assert again.code == 0
    assert "adopted already" in again.err
    back = old_commands.run("adopt", "--undo")
    assert back.code == 0, back.err
    assert "restored: person_raw.person_data" in back.out
    assert contents(old_commands.address) == before


def test_a_plan_as_json_has_every_number(old_commands: Commands):
    plan = old_commands.run("adopt", "--json").json()
    assert plan["executed"] is False
    history = next(item for item in plan["histories"] if item["entity"] == "person")
    assert (history["rows"], history["states"], history["change_points"], history["within_a_date"]) == (2, 2, 1, 1)
    assert history["last_date"] == "2026-01-01"
    assert plan["problems"] == []
    assert old_commands.run("adopt", "--execute", "--json").json()["executed"] is True
    assert old_commands.run("adopt", "--json").json()["adopted"][0]["loads"] == 0
    assert "person_raw.person_data" in old_commands.run("adopt", "--undo", "--json").json()["restored"]


def test_a_problem_is_said_and_nothing_happens(old_commands: Commands):
    old_commands.sql("create materialized view public.frozen as select bu_uid from person_xform.current_person_data")
    planned = old_commands.run("adopt")
    assert planned.code == 1
    assert "problem: View public.frozen cannot be made anew" in planned.out
    before = contents(old_commands.address)
    refused = old_commands.run("adopt", "--execute")
    assert refused.code == 1
    assert "public.frozen" in refused.err
    assert contents(old_commands.address) == before


def test_migrating_over_old_tables_points_to_the_adoption(old_commands: Commands):
    """Every command migrates first; over tables of an earlier system that must not end in a riddle."""
    result = old_commands.run("migrate")
    assert result.code == 1
    assert "`datalake adopt` shows how to take them over" in result.err


def test_a_new_lake_has_nothing_to_adopt(commands: Commands):
    result = commands.run("adopt")
    assert result.code == 1
    assert "nothing to adopt" in result.err
    assert "no adoption to go back from" in commands.run("adopt", "--undo").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--execute", "--undo"), "contradict"),
        (("--accept-differences",), "goes with --execute"),
        (("--discard-loads",), "goes with --undo"),
        (("--timestamps", "Mars/Olympus"), "There is no time zone"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_contradictions_are_refused(commands: Commands, words: tuple[str, ...], said: str):
    result = commands.run("adopt", *words)
    assert result.code != 0
    assert said in result.err
