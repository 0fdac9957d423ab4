"""`make campaign`: many seeds and many kills of what the suite shows once or a few times."""

import random
import subprocess
import time
import uuid
from datetime import date, timedelta
from pathlib import Path

import pytest

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.integration.rehearsal import DATALAKE, rehearsal, same

pytestmark = pytest.mark.campaign

FIRST = date(2026, 3, 2)
KILLS = 30
SEEDS = 20


def test_runs_killed_at_random_moments_are_made_good_by_the_next(postgres_server: PostgresAddress, tmp_path: Path):
    """Invariant 4, without naming a step: the moment is drawn over the length of a run."""
    draw = random.Random(20260302)  # noqa: S311 - drawn to be repeated, not to be secret
    with rehearsal(postgres_server, f"kills_{uuid.uuid4().hex[:8]}", tmp_path, FIRST) as lake:
        assert lake.load(FIRST).returncode == 0
        for number in range(KILLS):
            day = FIRST + timedelta(days=1 + number % 3)
            lake.simulator.set_day(day)
            moment = draw.uniform(0.5, 5.0)
            process = subprocess.Popen(
                [DATALAKE, "run", "term_daily", "--date", day.isoformat(), "--quiet"],
                env=lake.environment(DATALAKE_TODAY=day.isoformat()),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(moment)
            process.kill()
            process.wait()
            again = lake.load(day)
            assert again.returncode == 0, f"kill {number} after {moment:.2f} s: {again.stderr}"
            landed = sorted({FIRST, *(FIRST + timedelta(days=1 + earlier % 3) for earlier in range(number + 1))})
            truth = lake.simulator.truth(kind="term", since=FIRST, day=max(landed), days=landed)
            assert same(lake.contents(), truth), f"kill {number} after {moment:.2f} s"
            assert lake.leftovers() == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_hostile_sources_never_make_a_run_green_and_wrong(postgres_server: PostgresAddress, tmp_path: Path, seed: int):
    """Invariant 3 over many draws of faults: a loaded day equals the truth, any other left the tables alone."""
    name = f"hostile_{seed}_{uuid.uuid4().hex[:6]}"
    with rehearsal(postgres_server, name, tmp_path, FIRST, preset="hostile", seed=seed) as lake:
        landed: list[date] = []
        for offset in range(6):
            day = FIRST + timedelta(days=offset)
            result = lake.load(day)
            if lake.receipts("term_raw.term_data") and lake.receipts("term_raw.term_data")[-1]["load_date"] == day:
                landed.append(day)
            else:
                assert result.returncode != 0, f"{day} is green and was not loaded"
            if landed:
                truth = lake.simulator.truth(kind="term", since=landed[0], day=day, days=landed)
                assert same(lake.contents(), truth), f"seed {seed}, {day}"
