"""Invariants 4 and 11 for a declared dataset, as operators run it: in processes that are killed, or that are many."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from datalake_assets.cli.pipeline_judgement import ByPartition, dataset_found, dataset_must, dataset_spec
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal

FIRST, SECOND = date(2026, 3, 2), date(2026, 6, 1)
"""On the second day most records say something else."""
JOB = ("run", "dit__omis_dataset_load", "--quiet")
RUNS = 6


@pytest.fixture(scope="module")
def first_day(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A lake with the dataset of one day; every test loads that of another on a copy."""
    name, folder = f"pipeline_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("pipeline")
    with rehearsal(postgres_server, name, folder, FIRST, dataset_records=300, dataset_page_size=50) as lake:
        done = load(lake, FIRST)
        assert done.returncode == 0, done.stderr
        assert found(lake) == true(lake)
        yield lake


def load(lake: Rehearsal, day: date, **additions: str):
    lake.simulator.set_day(day)
    return lake.command(*JOB, DATALAKE_TODAY=day.isoformat(), **additions)


def true(lake: Rehearsal) -> ByPartition:
    documents = lake.simulator.truth("dataset", dataset="omis-dataset", documents=True)["documents"]
    return dataset_must(dataset_spec("omis_dataset"), list(documents.values()))


def found(lake: Rehearsal) -> ByPartition:
    async def ask() -> ByPartition:
        async with session(lake.lake, application_name="test") as connection:
            return await dataset_found(connection, dataset_spec("omis_dataset"))

    return asyncio.run(ask())


def parts(lake: Rehearsal) -> list[str]:
    """Partitions of declared tables, and other tables that a load may have left."""

    async def ask() -> list[str]:
        async with session(lake.lake, application_name="test") as connection:
            query = "select relname from pg_class where relkind = 'r' and relnamespace = 'lake_parts'::regnamespace"
            return [row["relname"] for row in await connection.fetch(query)]

    return asyncio.run(ask())


@pytest.mark.parametrize("step", ["after_landing", "before_commit"])
def test_a_killed_load_shows_the_old_rows_and_the_next_one_the_new(first_day: Rehearsal, step: str, tmp_path: Path):
    lake = first_day.copy(f"pipeline_{step}_{uuid.uuid4().hex[:6]}", tmp_path)
    old = found(lake)
    killed = load(lake, SECOND, DATALAKE_CRASH_AT=step)
    assert killed.returncode == -9, killed.stderr
    assert found(lake) == old != true(lake)
    again = load(lake, SECOND)
    assert again.returncode == 0, again.stderr
    assert found(lake) == true(lake)
    assert lake.leftovers() == []
    assert len(parts(lake)) == 1


def test_loads_at_the_same_moment_end_as_one(first_day: Rehearsal, tmp_path: Path):
    """Whoever is not the last says so, or finds the tables as they should be; nobody waits for ever."""
    lake = first_day.copy(f"pipeline_many_{uuid.uuid4().hex[:6]}", tmp_path)
    lake.simulator.set_day(SECOND)
    processes = [lake.start(*JOB, DATALAKE_TODAY=SECOND.isoformat()) for _ in range(RUNS)]
    ended = [(*process.communicate(timeout=180), process.returncode) for process in processes]
    assert {code for *_, code in ended} <= {0, 1}
    assert any(code == 0 for *_, code in ended), [errors for _, errors, _ in ended]
    for output, errors, code in ended:
        assert len(re.findall(r"\(run \S+\)", output)) == 1, errors
        assert code == 0 or re.search(r"is no longer the latest: run \S+ loads this slice now", errors), errors
    assert found(lake) == true(lake)
    loads = [receipt for receipt in lake.receipts("dit.omis_dataset") if receipt["load_date"] == SECOND]
    assert len(loads) == 1
    assert lake.leftovers() == []
    assert len(parts(lake)) == 1
