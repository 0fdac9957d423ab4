"""Invariants 1 and 9 for the whole lineage: landed days of every entity loaded in any order, and again."""

import asyncio
import random
import sys
import uuid
from datetime import date, timedelta
from pathlib import Path

from datalake_assets.entities import COURSE, ENTITIES, PERSON
from datalake_assets.lake.landing import Landing
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.integration.rehearsal import TABLES, Rehearsal, differing, rehearsal

FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=offset) for offset in range(2)]
KNOBS = {
    "persons": 100,
    "person_change_rate": 0.1,
    "person_new_rate": 0.02,
    "person_removed_rate": 0.02,
    "courses_per_term": 30,
    "course_change_rate": 0.1,
    "course_new_rate": 0.05,
    "course_removed_rate": 0.05,
}
"""So few documents, and yet changes of every kind on every day."""

LAND = """
import os
import sys
from datetime import date
from datalake_assets.cli.jobs import run_job
from datalake_assets.simulator.client import SimulatorControl

simulator = SimulatorControl(*sys.argv[1:3])
for day in sys.argv[3:]:
    simulator.set_day(day)
    os.environ["DATALAKE_TODAY"] = day
    for name in ("term_daily", "course_daily", "person_daily"):
        outcome = run_job(name, date.fromisoformat(day), quiet=True)
        assert outcome.succeeded, outcome.errors
"""

MATERIALISE = """
import sys
from datetime import date
from datalake_assets.cli.jobs import instance_for_runs
from datalake_assets.definitions import defs
from datalake_assets.partitions import partition_key

definitions = defs()
with instance_for_runs() as instance:
    for piece in sys.argv[1:]:
        job, day, *scope = piece.split("|")
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=partition_key(date.fromisoformat(day), *scope),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert result.success
"""


def test_days_of_every_entity_in_another_order_and_again_leave_identical_tables(
    postgres_server: PostgresAddress, tmp_path: Path
):
    name = f"order_{uuid.uuid4().hex[:8]}"
    with rehearsal(postgres_server, name, tmp_path / "landed", FIRST, **KNOBS) as landed:
        control = landed.simulator
        python(landed, LAND, DAYS[-1], control.base_url, control._token, *map(str, DAYS))
        before = landed.dump()
        lake = landed.copy(f"{name}_again", tmp_path / "again")
        asyncio.run(empty(lake))
        assert not any(lake.dump().values())
        python(lake, MATERIALISE, DAYS[-1] + timedelta(days=1), *shuffled(pieces(lake)))
        assert differing(lake.dump(), before) == []
        for entity in (COURSE, PERSON):
            operations = {row["operation"] for row in landed.contents(entity)["history"]}
            assert operations == {"I", "U", "D"}, "a history without changes proves nothing"


def pieces(lake: Rehearsal) -> list[str]:
    """Every landed partition, as job and key."""
    store = ParquetStore(str(lake.folder / "lake"))
    return [
        f"{entity.name}_daily|{piece.partition}"
        for entity in ENTITIES
        for day in DAYS
        for piece in Landing(store, entity).pieces(day)
    ]


def shuffled(pieces: list[str]) -> list[str]:
    """All of them, and then a third of them again."""
    draw = random.Random(20260302)  # noqa: S311 - drawn to be repeated, not to be secret
    return [*draw.sample(pieces, len(pieces)), *draw.sample(pieces, len(pieces) // 3)]


def python(lake: Rehearsal, code: str, today: date, *arguments: str) -> None:
    command = ["exec", "--", sys.executable, "-c", code, *arguments]
    process = lake.start(*command, DATALAKE_TODAY=today.isoformat())
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]


async def empty(lake: Rehearsal) -> None:
    """Drop what is below landing, as after the loss of the database."""
    account = ["ops.receipt", "ops.load_attempt", "ops.quarantine", "ops.service_version", "ops.table_state"]
    filtered = [f"ops.{entity.name}_{what}" for entity in ENTITIES for what in ("filtered", "touched")]
    async with session(lake.lake, application_name="test") as connection:
        await connection.execute(f"truncate {', '.join([*TABLES, *account, *filtered])}")
