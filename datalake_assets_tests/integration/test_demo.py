"""`datalake demo`, while its sources behave in every way; days without faults are in `test_campus.py`."""

import os
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from datalake_assets_tests.integration.rehearsal import DATALAKE
from datalake_assets_tests.servers import open_folder

UNTIL = date(2026, 3, 6)


def demo(home: Path, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], dict[str, Any]]":
    report = home / "out.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "DE_"))}
    result = subprocess.run(
        [DATALAKE, "demo", "--until", UNTIL.isoformat(), "--persons", "60", "--json", str(report), *arguments],
        env={**environment, "DATALAKE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return result, orjson.loads(report.read_bytes()) if report.exists() else {"days": [], "pipelines": []}


@pytest.fixture(scope="module")
def demo_home():
    with open_folder() as folder:
        yield folder


@pytest.mark.parametrize(
    ("preset", "flavour", "days"),
    [
        ("realistic", "qas", 1),
        ("hostile", "cstools", 2),
        ("outage:peoplesoft", "cstools", 2),
        ("poison-day", "qas", 1),
    ],
)
def test_every_preset_ends_in_the_truth_or_in_a_red_run_that_says_why(
    demo_home: Path, preset: str, flavour: str, days: int
):
    """Invariant 3: never green and wrong. The campaign walks more seeds."""
    result, told = demo(demo_home, "--preset", preset, "--flavour", flavour, "--days", str(days))
    assert result.returncode == 0, result.stdout + result.stderr
    assert (len(told["days"]), len(told["pipelines"])) == (days, 11)
    for report in told["days"]:
        for entity in ("term", "course", "person"):
            load = report[entity]
            assert load["differences"] == [], (report["day"], entity, load["differences"])
            assert load["succeeded"] or "Where:" in load["error"], (report["day"], entity, load["error"])
        assert report["obtainable"] or not report["term"]["succeeded"], report["day"]
    for report in told["pipelines"]:
        assert report["differences"] == [], (report["job"], report["differences"])
        assert report["succeeded"] or report["error"], report["job"]
