"""`datalake run`, `allow` and `quarantine` on declared pipelines, with a simulated source behind them."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.cli.commands import Commands

DAY = date(2026, 1, 3)
"""What the commands' clock shows."""
OMIS = ("run", "dit__omis_dataset_load", "--quiet")
RIDES = ("run", "trips__rides_load", "--quiet")
JANUARY = "green|2021-01-01"
REASON = ("--reason", "The source confirms that it is right.")


@pytest.fixture(scope="module")
def sources() -> Iterator[SimulatorControl]:
    with running_simulator(day=DAY, dataset_records=100, taxi_rows=100) as control:
        yield control


@pytest.fixture
def lake(commands: Commands, sources: SimulatorControl) -> Commands:
    """An empty lake, and a source without faults."""
    sources.reset()
    commands.variables.update(sources.environment(), HTTP_BACKOFF_FACTOR="0.01")
    for schema in ("dit", "trips"):
        commands.sql(f"drop schema if exists {schema} cascade")
    commands.sql("delete from ops.declared_load")
    return commands


def test_a_dataset_and_a_range_of_its_views_take_a_run_each(lake: Commands, sources: SimulatorControl) -> None:
    assert lake.run(*OMIS).out.startswith("dit__omis_dataset_load: succeeded (run ")
    must = sources.truth("dataset", dataset="omis-dataset")["records"]
    assert lake.sql("select count(*) from dit.omis_dataset") == [(must,)]
    views = ("run", "dit__cancelled_omis_orders_views", "--quiet")
    told = lake.run(*views, "--from", "2019-07-01", "--to", "2020-06-01")
    (line,) = told.out.splitlines()
    assert (told.code, line[: line.index("(")]) == (
        0,
        "dit__cancelled_omis_orders_views 2019-07-01...2020-06-01: succeeded ",
    )
    ends = "select min(month)::text, max(month)::text, count(distinct month) from dit.cancelled_omis_orders"
    assert lake.sql(ends) == [("2019-07-01", "2020-06-01", 12)]
    assert lake.run(*views, "--date", "2020-07-31").out.startswith("dit__cancelled_omis_orders_views 2020-07-01: succ")
    assert lake.sql(ends) == [("2019-07-01", "2020-07-01", 13)]


def test_months_of_files_are_loaded_one_after_the_other(lake: Commands) -> None:
    """A month that cannot be had does not keep the next from being loaded."""
    for job in ("zones", "payment_types"):
        assert lake.run("run", f"trips__{job}_load", "--quiet").code == 0
    told = lake.run(*RIDES, "--from", JANUARY, "--to", "green|2021-02-01")
    assert [line[: line.index("(")] for line in told.out.splitlines()] == [
        "trips__rides_load green|2021-01-01: succeeded ",
        "trips__rides_load green|2021-02-01: succeeded ",
    ]
    assert lake.run("run", "trips__monthly_revenue_load", "--partition", JANUARY, "--quiet").code == 0
    assert lake.sql("select count(distinct month) from trips.rides") == [(2,)]
    assert lake.sql("select sum(trips)::int from trips.monthly_revenue") == lake.sql(
        "select count(*) from trips.rides where month = '2021-01-01'"
    )


def test_a_month_that_fails_does_not_keep_the_next_from_being_loaded(lake: Commands, sources: SimulatorControl) -> None:
    sources.set_faults([{"fault": "status_401", "scope": "files/green/green_tripdata_2021-01*"}])
    told = lake.run(*RIDES, "--from", JANUARY, "--to", "green|2021-02-01")
    assert [word in line for word, line in zip(("FAILED", "succeeded"), told.out.splitlines(), strict=True)] == [
        True
    ] * 2
    assert (told.code, "401" in told.err) == (1, True)
    assert lake.sql("select distinct month::text from trips.rides") == [("2021-02-01",)]


def test_a_dataset_that_shrank_stops_until_it_is_allowed(lake: Commands, sources: SimulatorControl) -> None:
    assert lake.run(*OMIS).code == 0
    before = lake.sql("select count(*) from dit.omis_dataset")
    sources.set_faults([{"fault": "dataset", "scope": "datahub", "how": "shrinks", "share": 0.3}])
    refused = lake.run(*OMIS)
    assert (refused.code, "enough_rows" in refused.err) == (1, True)
    assert lake.sql("select count(*) from dit.omis_dataset") == before
    allowed = lake.run("allow", "dit/omis_dataset", DAY, "volume", *REASON)
    assert allowed.out.startswith("dit.omis_dataset 2026-01-03 may pass guard volume, said ")
    assert lake.run(*OMIS).code == 0
    assert lake.sql("select count(*) from dit.omis_dataset") < before


def test_a_month_with_too_many_flaws_stops_until_it_is_allowed(lake: Commands, sources: SimulatorControl) -> None:
    """The rows stay in quarantine, where they are listed and shown, and said how to be mended."""
    sources.set_faults([{"fault": "file", "scope": "files", "how": "other_month", "rows": 30}])
    refused = lake.run(*RIDES, "--partition", JANUARY)
    assert (refused.code, "quarantined_share" in refused.err) == (1, True)
    assert lake.run("allow", "trips.rides", JANUARY, "volume", *REASON).code == 0
    assert lake.run(*RIDES, "--partition", JANUARY).code == 0
    assert lake.sql("select count(*) between 1 and 70 from trips.rides") == [(True,)]
    listed = lake.run("quarantine", "list", "--entity", "trips.rides", "--json").json()
    assert [len(listed)] == [row[0] for row in lake.sql("select count(*) from ops.quarantine")]
    assert {item["rule"] for item in listed} == {"outside_month"}
    assert lake.run("quarantine", "list", "--entity", "term").out == "Nothing is in quarantine.\n"
    number = listed[0]["number"]
    assert '"2009-01-01 00:30:00"' in lake.run("quarantine", "show", number).out
    replayed = lake.run("quarantine", "replay", number)
    advice = "Correct it at its source, or the declaration of trips.rides, and materialise the partition again"
    assert (replayed.code, advice in replayed.err) == (1, True)
    every = lake.run("quarantine", "replay", "--all", "--json")
    assert (every.code, len(every.json()["refused"])) == (1, len(listed))
    sources.reset()
    assert lake.run(*RIDES, "--partition", JANUARY).code == 0
    assert lake.run("quarantine", "list").out == "Nothing is in quarantine.\n"


def test_a_lookup_has_no_partition_to_be_allowed_for(lake: Commands) -> None:
    assert lake.run("allow", "trips.zones", "volume", *REASON).code == 0
    assert lake.sql("select asset, partition, guard from ops.guard_override") == [("trips.zones", "", "volume")]


def test_the_doctor_says_which_sources_of_pipelines_answer(lake: Commands) -> None:
    def found() -> dict[str, tuple[str, str]]:
        findings = lake.run("doctor", "--json").json()["findings"]
        return {one["area"]: (one["state"], one["what"]) for one in findings if one["area"].startswith("pipelines")}

    assert found() == {
        "pipelines of datahub": ("ok", "SOURCE_DATAHUB_URL answers."),
        "pipelines of nyc_tlc": ("ok", "SOURCE_NYC_TLC_URL answers."),
    }
    lake.variables["SOURCE_DATAHUB_URL"] = "http://127.0.0.1:1"
    del lake.variables["SOURCE_NYC_TLC_URL"]
    assert found() == {
        "pipelines of datahub": ("warning", "SOURCE_DATAHUB_URL does not answer (Connection refused)."),
        "pipelines of nyc_tlc": (
            "ok",
            "The address that comes with the project is used (SOURCE_NYC_TLC_URL is not set).",
        ),
    }


def test_the_help_teaches_every_way_to_name_a_partition(commands: Commands) -> None:
    shown = " ".join(commands.run("run", "--help").out.split())
    for example in ("run term_daily --date", "run dit__contacts_load", "--from 2019-07-01 --to", "--partition"):
        assert f"{example}" in shown


def test_a_daily_job_starts_without_what_is_declared(commands: Commands) -> None:
    """It would be slower by half a second, and fail with any declaration that is wrong."""
    code = (
        "import sys; from datalake_assets.cli.main import cli\n"
        "try: cli(['run', 'term_daily', '--term', '2258'])\n"
        "except Exception as error: print(error)\n"
        "print([name for name in sys.modules if name.startswith('datalake_assets') and 'pipelines' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=commands.folder,
        env=commands.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["term_daily is not run by term. What to do: Leave the term out.", "[]"]
