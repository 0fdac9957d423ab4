import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import time_machine
from pydantic import SecretStr

from datalake_assets.cli.doctor import clock_skew, encryption_of, examine_files, space_for
from datalake_assets.settings import Settings
from datalake_assets.storage.durable_files import Space
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.cli.commands import SECOND, Commands, Outcome, three_days
from datalake_assets_tests.cli.test_reconcile import StuckRun, change, start  # noqa: F401 - `start` is a fixture
from datalake_assets_tests.lake.lakes import SmallLake, answer, term


def findings(outcome: Outcome, area: str, state: str | None = None) -> list[dict[str, str]]:
    found: list[dict[str, str]] = outcome.json()["findings"]
    return [one for one in found if one["area"] == area and state in (None, one["state"])]


def examined(commands: Commands) -> Outcome:
    return commands.run("doctor", "--json")


def test_a_good_installation_has_nothing_to_mend(commands: Commands) -> None:
    commands.in_lake(three_days)
    del commands.environment["DATALAKE_TODAY"]
    commands.run("reconcile")  # makes Dagster's storage
    with time_machine.travel("2026-01-03T15:00:00-05:00", tick=True):
        outcome = examined(commands)
    document = outcome.json()
    never = "Nothing was ever loaded."
    wrong = [one for one in document["findings"] if one["state"] != "ok" and one["area"] != "clock"]
    assert [one for one in wrong if not one["what"].endswith(never)] == []
    assert {one["what"].partition("_")[0] for one in wrong} == {"course", "person"}
    areas = {one["area"] for one in document["findings"]}
    assert areas >= {"settings", "disk", "PostgreSQL", "TLS", "clock", "grants", "migrations", "quarantine"}
    assert areas >= {"freshness", "Dagster", "source PeopleSoft"}


def test_a_clock_that_is_wrong_is_an_error(commands: Commands) -> None:
    """Receipts carry the database's clock, snapshots this machine's: their order would mislead."""
    assert [one["state"] for one in findings(examined(commands), "clock")] == ["ok"]
    with time_machine.travel(time.time() - 90, tick=True):
        outcome = examined(commands)
    assert outcome.code == 1
    assert findings(outcome, "clock")[0]["what"].startswith("The clock of the database is 90 s ahead of this machine's")
    assert (clock_skew(-61, 0.5).state, clock_skew(-61, 2).state, clock_skew(60, 0).state) == ("error", "ok", "ok")


@pytest.mark.parametrize(
    ("variables", "area", "state", "what"),
    [
        ({"LAKE_MAX_FAILED_SHARE": "2"}, "settings", "error", "LAKE_MAX_FAILED_SHARE is '2'; it must be a share"),
        ({"LAKE_START_DATE": "soon"}, "settings", "error", "LAKE_START_DATE is 'soon'; it must be a date"),
        ({"DATALAKE_SCHEDULES": "on"}, "settings", "error", "DATALAKE_SCHEDULES is 'on'; it must be one of"),
        ({"POSTGRES_PORT": "x"}, "settings", "error", "POSTGRES_PORT is 'x'; it must be a whole number"),
        ({"SAP_CA_BUNDLE": "/no/such.pem"}, "settings", "error", "SAP_CA_BUNDLE: /no/such.pem cannot be read"),
        ({"DATALAKE_TODAY": "2026-01-03"}, "settings", "warning", "the clock stands still"),
        ({"DATALAKE_CRASH_AT": "mid_copy"}, "settings", "error", "loads kill themselves"),
        ({"SAP_URL": "https://sap.example"}, "source SAP", "error", "SAP_URL is set, its credentials are not"),
        ({"SAP_KEY": "hidden-7"}, "source SAP", "warning", "SAP_KEY is set, SAP_URL is not"),
        ({"SAP_URL": "sap.example", "SAP_KEY": "hidden-7"}, "source SAP", "error", "not a usable address"),
        ({"SAP_URL": "http://sap.example", "SAP_KEY": "hidden-7"}, "source SAP", "warning", "unencrypted"),
        ({"SAP_URL": "https://sap.example", "SAP_KEY": "hidden-7"}, "source SAP", "ok", "Configured."),
        ({"VDS_URL": "https://vds.example", "VDS_USERNAME": "a"}, "source VDS", "error", "credentials are not"),
        (
            {"VDS_URL": "https://vds.example", "VDS_USERNAME": "a", "VDS_PASSWORD": "hidden-7"},
            "source VDS",
            "error",
            "credentials are not",
        ),
        (
            {
                "VDS_URL": "https://vds.example",
                "VDS_USERNAME": "a",
                "VDS_PASSWORD": "hidden-7",
                "VDS_BASE_DN": "o=a",
            },
            "source VDS",
            "ok",
            "Configured.",
        ),
        ({"SOURCE_HUB_URL": "https://hub.example"}, "source hub", "ok", "Configured."),
        ({"SOURCE_HUB_URL": "http://hub.example"}, "source hub", "warning", "unencrypted"),
        (
            {"SOURCE_DATAHUB_URL": "https://hub.example", "SOURCE_DATAHUB_KEY": "hidden-7"},
            "source datahub",
            "error",
            "SOURCE_DATAHUB_ID is not set",
        ),
        ({"LAKE_URL": "nowhere://lake"}, "lake files", "error", "LAKE_URL cannot be listed"),
    ],
)
def test_every_setting_that_is_wrong_is_named_with_what_to_do(
    commands: Commands, variables: dict[str, str], area: str, state: str, what: str
) -> None:
    commands.environment.pop("DATALAKE_TODAY")
    commands.variables.update(variables)
    outcome = examined(commands)
    (found,) = [one for one in findings(outcome, area, state) if what in one["what"]]
    assert bool(found["todo"]) is (state != "ok")
    assert outcome.code == (1 if state == "error" else 0)
    assert "hidden-7" not in outcome.out + outcome.err


def test_several_wrong_settings_are_told_at_once(commands: Commands) -> None:
    """Nobody wants to mend one, run again, and meet the next."""
    commands.variables.update(LAKE_START_DATE="soon", LAKE_MAX_REMOVED_SHARE="many", DATALAKE_SCHEDULES="on")
    names = {one["what"].split()[0] for one in findings(examined(commands), "settings", "error")}
    assert names == {"LAKE_START_DATE", "LAKE_MAX_REMOVED_SHARE", "DATALAKE_SCHEDULES"}


def test_a_server_that_does_not_answer_is_a_finding_and_no_traceback(commands: Commands) -> None:
    commands.variables["POSTGRES_HOST"] = str(commands.folder)
    outcome = examined(commands)
    assert outcome.code == 1
    assert "socket" in findings(outcome, "PostgreSQL", "error")[0]["what"]


def test_looking_makes_no_database_and_applies_no_migration(commands: Commands, database: PostgresAddress) -> None:
    commands.variables["POSTGRES_DB"] = "not_there_yet"
    assert findings(examined(commands), "PostgreSQL", "warning")[0]["todo"] == "`datalake migrate` makes it."
    assert commands.sql("select 1 from pg_catalog.pg_database where datname = 'not_there_yet'") == []
    commands.variables["POSTGRES_DB"] = database.database
    outcome = examined(commands)
    assert findings(outcome, "migrations", "warning")[0]["what"].startswith("Pending: 0001_ops.sql, ")
    assert outcome.code == 0

    async def schemas() -> int:
        async with session(database, application_name="tests") as connection:
            return int(await connection.fetchval("select count(*) from pg_namespace where nspname = 'ops'"))

    assert asyncio.run(schemas()) == 0


def test_nothing_is_made_where_nothing_was_loaded_yet(commands: Commands) -> None:
    for name in [name for name in commands.environment if name.startswith("POSTGRES_")]:
        del commands.environment[name]
    outcome = examined(commands)
    assert outcome.code == 0
    assert "not made yet" in findings(outcome, "PostgreSQL")[0]["what"]
    assert not commands.home.exists()


def test_a_migration_that_was_edited_is_an_error(commands: Commands) -> None:
    (before,) = commands.sql("select sha256 from ops.migration where number = '0001'")
    commands.sql("update ops.migration set sha256 = 'x' where number = '0001'")
    try:
        outcome = examined(commands)
    finally:
        commands.sql("update ops.migration set sha256 = $1 where number = '0001'", before[0])
    assert outcome.code == 1
    assert "was edited after it had been applied" in findings(outcome, "migrations", "error")[0]["what"]


@pytest.fixture
def guest(commands: Commands) -> Iterator[PostgresAddress]:
    """A role that may look and do nothing else."""
    name = f"guest_{os.getpid()}"
    schemas = "ops, term_raw, term_xform, term_curated"
    commands.sql(f"create role {name} login password 'guest'")
    commands.sql(f"grant usage on schema {schemas} to {name}")
    commands.sql(f"grant select on all tables in schema {schemas} to {name}")
    yield replace(commands.address, user=name, password=SecretStr("guest"))
    commands.sql(f"drop owned by {name}")
    commands.sql(f"drop role {name}")


def test_what_a_role_may_not_do_is_named_object_by_object(commands: Commands, guest: PostgresAddress) -> None:
    """A load would fail on it in the night, with one grant missing at a time."""
    commands.variables.update(POSTGRES_USER=guest.user, POSTGRES_PASS="guest")
    outcome = examined(commands)
    assert outcome.code == 1
    lacking = {one["what"] for one in findings(outcome, "grants", "error")}
    assert f"Role {guest.user} lacks CREATE on schema term_raw." in lacking
    assert f"Role {guest.user} lacks DELETE, INSERT, OWNERSHIP, UPDATE on table term_raw.term_data." in lacking


def test_quarantine_and_staleness_are_warnings(commands: Commands) -> None:
    async def story(lake: SmallLake) -> None:
        await three_days(lake)
        await lake.mirror_quarantine(lake.land(SECOND, [answer(term("2261", 17))]))

    commands.in_lake(story)
    commands.variables["DATALAKE_TODAY"] = "2026-01-05"
    outcome = examined(commands)
    assert findings(outcome, "quarantine", "warning")[0]["what"] == (
        "1 documents of term are in quarantine since 2026-01-02."
    )
    stale = {one["what"].split(":")[0] for one in findings(outcome, "freshness", "warning") if "term_" in one["what"]}
    assert stale == {"term_raw.term_data", "term_xform.current_term_data", "term_curated.term_data_by_service"}
    assert outcome.code == 0


def test_dead_runs_and_the_slots_they_keep_are_named(commands: Commands, start: Any) -> None:  # noqa: F811
    dead, ended = start("pool"), start()
    assert isinstance(dead, StuckRun)
    for run in (dead, ended):
        run.kill()
    with time_machine.travel(time.time() + 400, tick=True):
        outcome = examined(commands)
    assert {one["what"].split()[1] for one in findings(outcome, "dead runs", "warning")} == {dead.run_id, ended.run_id}
    change(commands, dead.run_id, lambda instance, run: instance.report_run_failed(run))
    (held,) = findings(examined(commands), "pool slots", "warning")
    assert held["what"] == f"1 slot(s) of pool stuck are held by run {dead.run_id}, which has ended."
    free = [one["what"] for one in findings(examined(commands), "pool slots", "ok")]
    assert "0 of 1 of stuck are free." in free


# ---------------------------------------------------------------------------------------------------- files


def test_files_with_secrets_that_others_may_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings({"DATALAKE_HOME": str(tmp_path / "home")})
    server = tmp_path / "home" / "postgres"
    server.mkdir(parents=True)
    secrets = (Path(".env"), server / "password")
    for path in secrets:
        path.write_text("x")
    for path, closed in ((Path(".env"), 0o600), (server / "password", 0o600), (server, 0o700)):
        for mode, state in ((closed, "ok"), (closed | 0o044, "open")):
            path.chmod(mode)
            (found,) = [one for one in examine_files(settings) if one.what.startswith(f"{path} ")]
            assert (found.state == "ok") is (state == "ok")
            assert found.todo == ("" if state == "ok" else f"chmod {closed:03o} {path}")
        path.chmod(closed)


@pytest.mark.parametrize(
    ("free", "state"), [(50 << 30, "ok"), ((5 << 30) - 1, "warning"), ((500 << 20) - 1, "error"), (0, "error")]
)
def test_a_disk_that_fills_up_is_told_before_it_is_full(free: int, state: str) -> None:
    assert space_for("the lake", "/lake", Space(free, 100 << 30)).state == state


def test_a_password_that_crosses_a_network_must_be_encrypted() -> None:
    here = PostgresAddress("localhost", 5432, "lake", "a", SecretStr("b"))
    there = replace(here, host="db.example.edu", sslmode=None)
    assert encryption_of(here, False, None).state == "ok"
    assert encryption_of(there, True, "TLSv1.3").state == "ok"
    assert encryption_of(replace(there, sslmode="prefer"), False, None).state == "error"
    assert encryption_of(replace(there, sslmode="require"), True, "TLSv1.3").state == "warning"
