"""Days materialised in any order, and each twice, through Dagster itself."""

import subprocess
import sys
import uuid
from datetime import date, timedelta
from pathlib import Path

import pytest

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.integration.rehearsal import Rehearsal, differing, rehearsal, same

FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=offset) for offset in range(4)]
"""A first load, a roll, a change with a removal, and a shuffle."""

MATERIALISE = """
import sys
import dagster as dg
from datalake_assets.definitions import defs

definitions = defs()
job = definitions.resolve_job_def("term_daily")
with dg.DagsterInstance.get() as instance:
    for day in sys.argv[1:]:
        result = job.execute_in_process(instance=instance, partition_key=day, raise_on_error=True)
        assert result.success
"""


@pytest.fixture(scope="module")
def landed(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory):
    with rehearsal(postgres_server, f"order_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("order"), FIRST) as lake:
        for day in DAYS:
            result = lake.load(day)
            assert result.returncode == 0, result.stderr
        yield lake


def materialise(lake: Rehearsal, days: list[date]) -> None:
    """Run the daily job of past days, in one process, on the rehearsed day after the last."""
    code = ["exec", "--", sys.executable, "-c", MATERIALISE, *(day.isoformat() for day in days)]
    result = lake.command(*code, DATALAKE_TODAY=(DAYS[-1] + timedelta(days=1)).isoformat())
    assert result.returncode == 0, result.stderr[-3000:]


def test_days_in_another_order_and_each_twice_leave_identical_tables(landed: Rehearsal, tmp_path: Path):
    """Invariants 1 and 9, through the daily job: past days keep their snapshots, everything below is rebuilt."""
    before = landed.dump()
    truth = landed.simulator.truth(kind="term", since=FIRST, day=DAYS[-1])
    assert same(landed.contents(), truth)
    lake = landed.copy(f"order_{uuid.uuid4().hex[:8]}", tmp_path)
    empty(lake)
    materialise(lake, [DAYS[3], DAYS[0], DAYS[2], DAYS[0], DAYS[1], DAYS[3], DAYS[1], DAYS[2]])
    assert differing(lake.dump(), before) == []
    assert same(lake.contents(), truth)


def empty(lake: Rehearsal) -> None:
    """Drop what is below landing, as after the loss of the database."""
    import asyncio

    from datalake_assets.storage.postgres import session

    async def drop() -> None:
        async with session(lake.lake, application_name="test") as connection:
            await connection.execute(
                "truncate term_raw.term_data, term_xform.current_term_data, term_curated.term_data_by_service, "
                "ops.receipt, ops.load_attempt, ops.quarantine, ops.service_version"
            )

    asyncio.run(drop())


def test_the_dagster_command_materialises_a_partition(landed: Rehearsal):
    """The tables are ordinary assets: Dagster's own command line rebuilds one."""
    before = landed.dump()
    result: subprocess.CompletedProcess[str] = landed.command(
        *("exec", "--", "dagster", "asset", "materialize", "-m", "datalake_assets.definitions"),
        *("--select", "key:term_raw/term_data+ and group:term", "--partition", DAYS[1].isoformat()),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert differing(landed.dump(), before) == []
