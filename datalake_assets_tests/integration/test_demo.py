"""`datalake demo`, as a new user runs it, judged by a simulator of the test's own."""

import os
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from datalake_assets.simulator.client import running_simulator
from datalake_assets_tests.integration.rehearsal import DATALAKE, same
from datalake_assets_tests.servers import open_folder

FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=offset) for offset in range(5)]


def demo(home: Path, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]":
    report = home / "out.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "DE_"))}
    result = subprocess.run(
        [DATALAKE, "demo", "--until", DAYS[-1].isoformat(), "--persons", "300", "--json", str(report), *arguments],
        env={**environment, "DATALAKE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return result, orjson.loads(report.read_bytes()) if report.exists() else []


@pytest.fixture(scope="module")
def demo_home():
    with open_folder() as folder:
        yield folder


def test_five_days_equal_the_truth_of_each_day(demo_home: Path):
    """The roll, the change, the removal, the shuffle and the outage end in the tables that the simulator says."""
    result, days = demo(demo_home, "--preset", "clean", "--days", "5")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [report["day"] for report in days] == [day.isoformat() for day in DAYS]
    reports = [{"day": report["day"], **report["term"]} for report in days]
    assert [report["succeeded"] for report in reports] == [True, True, True, True, False]
    with running_simulator(preset="clean", scenario_start=FIRST) as simulator:
        landed: list[date] = []
        for report in reports:
            day = date.fromisoformat(report["day"])
            truth = simulator.truth(kind="term", since=FIRST, day=day)
            if truth["days"][report["day"]]["obtainable"]:
                landed.append(day)
                expected = truth["days"][report["day"]]
                counts = {name: expected[name] for name in ("new", "changed", "removed", "unchanged")}
                raw = report["tables"]["term_raw.term_data"]
                assert {name: raw[f"rows_{name}"] for name in counts} == counts, report["day"]
            assert same(report, truth), report["day"]
    assert len(landed) == 4
    changes = [report["tables"].get("term_raw.term_data", {}) for report in reports]
    assert changes[1]["rows_changed"] > 0, "the roll"
    assert changes[2]["rows_removed"] == 1
    assert changes[3]["rows_changed"] == changes[3]["rows_new"] == changes[3]["rows_removed"] == 0, "the shuffle"
    assert "503" in reports[4]["error"]


@pytest.mark.parametrize(
    ("preset", "flavour", "days"),
    [
        ("realistic", "qas", 2),
        ("hostile", "cstools", 3),
        ("outage:peoplesoft", "cstools", 2),
        ("poison-day", "qas", 2),
    ],
)
def test_every_preset_ends_in_the_truth_or_in_a_red_run_that_says_why(
    demo_home: Path, preset: str, flavour: str, days: int
):
    """Invariant 3: never green and wrong. The campaign walks more seeds."""
    result, reports = demo(demo_home, "--preset", preset, "--flavour", flavour, "--days", str(days))
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(reports) == days
    for report in reports:
        for entity in ("term", "course", "person"):
            load = report[entity]
            assert load["differences"] == [], (report["day"], entity, load["differences"])
            assert load["succeeded"] or "Where:" in load["error"], (report["day"], entity, load["error"])
        assert report["obtainable"] or not report["term"]["succeeded"], report["day"]
