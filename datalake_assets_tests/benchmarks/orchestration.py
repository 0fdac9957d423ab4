"""What Dagster and starting a process cost a load that has next to nothing to do."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import partial

from datalake_assets.entities import ID_SOURCES, PERSON, TERM, Entity
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, in_turns, timed
from datalake_assets_tests.integration.rehearsal import DATALAKE, Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder, running_server

FIRST = date(2026, 3, 2)
PERSONS = 10
LIMIT_S = 3.0
"""Most that a job may take beside importing Dagster and the answers of its sources."""


def orchestration(plan: Plan) -> Iterator[Figure]:
    """Daily jobs of one partition as whole processes, beside `import dagster` and the answers of their sources."""
    with (
        running_server() as server,
        open_folder() as folder,
        rehearsal(server, "bench", folder, FIRST, persons=PERSONS) as lake,
        tempfile.TemporaryFile() as output,
    ):

        def process(*command: str, environment: Mapping[str, str] | None = None) -> None:
            subprocess.run(command, env=environment, stdout=output, stderr=output, check=True)

        def job(index: int, entity: Entity, landed: Sequence[Entity]) -> float:
            day = FIRST + timedelta(days=1 + index % 3)
            lake.simulator.set_day(day)
            environment = lake.environment(DATALAKE_TODAY=day.isoformat())
            command = (DATALAKE, "run", f"{entity.name}_daily", "--date", day.isoformat(), "--quiet")
            seconds = timed(lambda: process(*command, environment=environment))
            return seconds - sum(source_answer(lake, each) for each in landed)

        for entity, landed, note in (
            (TERM, (TERM,), ""),
            (PERSON, (*ID_SOURCES, PERSON), f"{PERSONS} persons from four sources"),
        ):
            lake.load(FIRST, entity)  # makes Dagster's tables, which later runs find
            ours, imports = in_turns(
                plan.rounds,
                partial(job, entity=entity, landed=landed),
                lambda _: timed(lambda: process(sys.executable, "-c", "import dagster")),
            )
            case = f"{entity.name}_daily, whole process"
            yield Figure(case, "import dagster", ours, imports, Kind.DIFFERENCE, LIMIT_S, note=note)


def source_answer(lake: Rehearsal, entity: Entity) -> float:
    """How long a source took for its last answer, as the landing receipt has it."""
    return float(lake.receipts(str(entity.landing))[-1]["duration_s"])
