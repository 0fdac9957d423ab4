"""What Dagster and starting a process cost a load that has next to nothing to do."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, in_turns, timed
from datalake_assets_tests.integration.rehearsal import DATALAKE, Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder, running_server

FIRST = date(2026, 3, 2)
LIMIT_S = 3.0
"""Most that a job may take beside importing Dagster and the answers of its sources."""


def orchestration(plan: Plan) -> Iterator[Figure]:
    """`term_daily` of one partition as a whole process, beside `import dagster` and the source's answer."""
    with (
        running_server() as server,
        open_folder() as folder,
        rehearsal(server, "bench", folder, FIRST) as lake,
        tempfile.TemporaryFile() as output,
    ):

        def process(*command: str, environment: Mapping[str, str] | None = None) -> None:
            subprocess.run(command, env=environment, stdout=output, stderr=output, check=True)

        def job(index: int) -> float:
            day = FIRST + timedelta(days=1 + index % 3)
            lake.simulator.set_day(day)
            environment = lake.environment(DATALAKE_TODAY=day.isoformat())
            command = (DATALAKE, "run", "term_daily", "--date", day.isoformat(), "--quiet")
            return timed(lambda: process(*command, environment=environment)) - source_answer(lake)

        lake.load(FIRST)  # makes Dagster's tables, which later runs find
        ours, imports = in_turns(
            plan.rounds, job, lambda _: timed(lambda: process(sys.executable, "-c", "import dagster"))
        )
        yield Figure("term_daily, whole process", "import dagster", ours, imports, Kind.DIFFERENCE, LIMIT_S)


def source_answer(lake: Rehearsal) -> float:
    """How long the source took for its last answer, as the landing receipt has it."""
    return float(lake.receipts("term_landing.term_data")[-1]["duration_s"])
