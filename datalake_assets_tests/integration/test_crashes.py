"""Invariant 4: a run killed at any step, then run again, ends where an undisturbed one would, and leaves nothing."""

import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import get_args

import pytest

from datalake_assets.lake.crashpoints import Step
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal, same

FIRST, SECOND = date(2026, 3, 2), date(2026, 3, 3)
ANSWERED_BEFORE = {"after_spool", "after_landing", "mid_copy", "before_commit", "after_commit"}


@pytest.fixture(scope="module")
def first_day(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A lake with one day loaded; every test kills the load of the second on a copy."""
    with rehearsal(postgres_server, f"crash_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("crash"), FIRST) as lake:
        result = lake.load(FIRST)
        assert result.returncode == 0, result.stderr
        yield lake


@pytest.mark.parametrize("step", get_args(Step))
def test_a_run_killed_at_a_step_is_made_good_by_running_it_again(first_day: Rehearsal, step: str, tmp_path: Path):
    lake = first_day.copy(f"crash_{step}_{uuid.uuid4().hex[:6]}", tmp_path)
    lake.simulator.reset()
    killed = lake.load(SECOND, DATALAKE_CRASH_AT=step)
    assert killed.returncode == -9, killed.stderr
    asked_before = asked(lake)
    again = lake.load(SECOND)
    assert again.returncode == 0, again.stderr + again.stdout
    if step in ANSWERED_BEFORE - {"mid_copy", "before_commit", "after_commit"}:
        assert asked(lake) == asked_before, "the source was asked again for what it had answered"
    truth = lake.simulator.truth(kind="term", since=FIRST, day=SECOND)
    assert same(lake.contents(), truth)
    assert lake.leftovers() == []


def asked(lake: Rehearsal) -> int:
    return len(lake.simulator.requests()["requests"])
