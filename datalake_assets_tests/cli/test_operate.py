import asyncio
import os
import pwd
from pathlib import Path

from datalake_assets.lake.ledger import Ledger
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.cli.commands import Commands
from datalake_assets_tests.lake.lakes import SmallLake

REASON = "The registrar closed the old careers."


def test_migrate_says_what_is_pending_and_applies_it_once(commands: Commands, database: PostgresAddress) -> None:
    commands.variables["POSTGRES_DB"] = database.database
    planned = commands.run("migrate", "--dry-run")
    assert planned.code == 0
    assert planned.out.splitlines()[:2] == ["pending: 0001_ops.sql", "pending: 0002_term.sql"]
    assert commands.run("migrate", "--dry-run", "--json").json()["pending"] == [
        line.removeprefix("pending: ") for line in planned.out.splitlines()
    ]
    assert not asyncio.run(has_ops(database))
    assert commands.run("migrate").out == planned.out.replace("pending", "applied")
    assert asyncio.run(has_ops(database))
    assert commands.run("migrate").out == "The tables are up to date.\n"
    assert commands.run("migrate", "--json").json() == {"dry_run": False, "database_exists": True, "applied": []}


async def has_ops(address: PostgresAddress) -> bool:
    async with session(address, application_name="tests") as connection:
        return bool(await connection.fetchval("select to_regclass('ops.receipt') is not null"))


def test_migrate_looks_at_a_database_that_is_not_there_without_making_it(commands: Commands) -> None:
    commands.variables["POSTGRES_DB"] = "not_there_yet"
    planned = commands.run("migrate", "--dry-run")
    assert planned.code == 0
    assert planned.out.splitlines()[0] == "would create database not_there_yet"
    assert "pending: 0001_ops.sql" in planned.out
    assert commands.sql("select 1 from pg_catalog.pg_database where datname = 'not_there_yet'") == []


def test_a_permission_is_kept_with_its_reason_and_who_gave_it(commands: Commands) -> None:
    allowed = commands.run("allow", "term_raw.term_data", "2026-01-31", "volume", "--reason", REASON)
    assert allowed.code == 0
    assert "term_raw.term_data 2026-01-31 may pass guard volume" in allowed.out
    assert commands.sql("select asset, partition, guard, reason, granted_by from ops.guard_override") == [
        ("term_raw.term_data", "2026-01-31", "volume", REASON, pwd.getpwuid(os.getuid()).pw_name)
    ]

    async def reason(lake: SmallLake) -> str | None:
        return await Ledger().override(lake.connection, "term_raw.term_data", "2026-01-31", "volume")

    assert commands.in_lake(reason) == REASON


def test_who_permits_is_asked_of_the_system_and_not_of_the_environment(commands: Commands) -> None:
    """LOGNAME can be set by anybody."""
    commands.variables.update(LOGNAME="somebody", USER="somebody", USERNAME="somebody")
    commands.run("allow", "term_raw/term_data", "2026-01-31", "volume", "--reason", REASON)
    assert commands.sql("select granted_by from ops.guard_override") == [(pwd.getpwuid(os.getuid()).pw_name,)]


def test_a_permission_that_is_given_again_has_the_newer_reason(commands: Commands) -> None:
    for reason in (REASON, "They are gone for good."):
        assert commands.run("allow", "term_raw.term_data", "2026-01-31", "volume", "--reason", reason).code == 0
    assert commands.sql("select reason from ops.guard_override") == [("They are gone for good.",)]


def test_help_of_every_command_teaches_with_an_example(commands: Commands) -> None:
    names = ("checks", "quarantine", "as-of", "blame", "migrate", "allow", "reconcile", "doctor")
    for name in (*names, "quarantine list", "quarantine show", "quarantine replay"):
        shown = commands.run(*name.split(), "--help")
        assert shown.code == 0
        assert f"Example: datalake {name}" in " ".join(shown.out.split()), name


def test_help_changes_nothing(commands: Commands) -> None:
    commands.run("reconcile", "--help")
    assert not Path(commands.home).exists()
