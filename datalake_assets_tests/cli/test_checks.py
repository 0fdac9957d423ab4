import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from datalake_assets_tests.cli.commands import Commands, three_days

DAY = ("--date", "2026-01-03", "--entity", "term")


def failed(document: dict[str, list[dict[str, object]]]) -> set[tuple[object, object]]:
    return {(check["asset"], check["check"]) for check in document["checks"] if not check["passed"]}


def test_a_good_lake_passes_every_check(commands: Commands) -> None:
    commands.in_lake(three_days)
    checked = commands.run("checks", *DAY, "--json")
    document = checked.json()
    assert (checked.code, document["passed"], document["errors"], failed(document)) == (0, True, 0, set())
    assert document["load_date"] == "2026-01-03"
    assert {check["asset"] for check in document["checks"]} == {
        "term_landing.term_data",
        "term_raw.term_data",
        "term_xform.current_term_data",
        "term_curated.term_data_by_service",
    }


def test_a_failed_check_with_severity_error_exits_1_and_is_named(commands: Commands) -> None:
    """A CI that calls this must not go green on rows that do not follow from the history."""
    commands.in_lake(three_days)
    commands.sql("update term_xform.current_term_data set digest = digest || 'x'::bytea where strm = '2261'")
    assert commands.run("checks", *DAY).code == 1
    document = commands.run("checks", *DAY, "--json").json()
    assert failed(document) >= {("term_xform.current_term_data", "shows_the_last_change_point")}
    assert document["errors"] == len(failed(document))


def test_a_warning_is_shown_and_does_not_fail(commands: Commands) -> None:
    commands.in_lake(three_days)
    commands.variables["DATALAKE_TODAY"] = "2026-01-05"
    checked = commands.run("checks", *DAY)
    assert checked.code == 0
    assert [line.split()[1:4] for line in checked.out.splitlines() if " is_fresh " in line] == [
        ["is_fresh", "warn", "warning"]
    ] * 3
    assert checked.out.splitlines()[-1].endswith("3 with a warning, 0 with an error.")


def test_a_date_that_was_not_landed_fails(commands: Commands) -> None:
    commands.in_lake(three_days)
    checked = commands.run("checks", "--date", "2026-01-09", "--json")
    assert checked.code == 1
    assert ("term_landing.term_data", "receipt_balances") in failed(checked.json())


def test_a_check_that_cannot_be_evaluated_fails_and_the_others_still_run(commands: Commands) -> None:
    """A table that is gone is the worst reason to stop looking."""
    commands.in_lake(three_days)
    commands.sql("alter table term_curated.term_data_by_service rename to gone")
    try:
        checked = commands.run("checks", *DAY, "--json")
    finally:
        commands.sql("alter table term_curated.gone rename to term_data_by_service")
    document = checked.json()
    assert checked.code == 1
    assert {asset for asset, _ in failed(document)} == {"term_curated.term_data_by_service"}
    summaries = [check["summary"] for check in document["checks"] if not check["passed"]]
    assert any(summary.startswith("Could not be evaluated: ") for summary in summaries)
    assert len(document["checks"]) > 10


def test_the_demo_lake_is_looked_at_as_on_its_own_day(commands: Commands) -> None:
    """On a server of the operator's the demo has databases of its own: it is never the real lake."""
    name = f"{commands.address.database}_demo"
    environment = {**commands.environment, "LAKE_URL": str(commands.home / "demo" / "lake"), "POSTGRES_DB": name}
    demo = replace(commands, environment=environment, address=commands.address.with_database(name))
    assert demo.run("migrate").code == 0
    demo.in_lake(three_days)
    del commands.environment["DATALAKE_TODAY"]
    checked = commands.run("checks", *DAY, "--demo", "--json")
    assert (checked.code, failed(checked.json())) == (0, set())


def test_a_demo_that_never_ran_is_said(commands: Commands) -> None:
    checked = commands.run("checks", "--demo")
    assert (checked.code, checked.out) == (1, "")
    assert "There is no demo lake." in checked.err
    assert "Run `datalake demo` first." in checked.err


def test_checks_do_not_wait_for_dagster() -> None:
    """Its import takes longer than all checks; a CI calls this often."""
    code = "import sys, datalake_assets.cli.checks; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), check=False).returncode == 0
