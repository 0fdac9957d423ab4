"""`make bench`: what the project costs, each figure beside another measured in the same run.

Medians of several rounds, the two sides of a comparison taking turns, so that a machine whose speed drifts does
not decide. Figures of one machine are no figures of another; ratios and differences are what to look at.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from datalake_assets_tests.integration.rehearsal import DATALAKE, Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder, running_server

FIRST = date(2026, 3, 2)
ORCHESTRATION_LIMIT_S = 3.0
"""Most that `term_daily` may take beside importing Dagster and the answer of the source."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (default 5)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, Python {sys.version.split()[0]}")
    figures = orchestration(arguments.rounds)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("figure", "median", "least", "most"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, values in figures.items():
        table.add_row(name, *(f"{pick(values):.2f} s" for pick in (statistics.median, min, max)))
    console.print(table)
    beside = statistics.median(figures["term_daily beside import and source"])
    console.print(f"Orchestration: {beside:.2f} s; at most {ORCHESTRATION_LIMIT_S:.0f} s are wanted.")
    if arguments.json is not None:
        arguments.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    sys.exit(0 if beside <= ORCHESTRATION_LIMIT_S else 1)


def orchestration(rounds: int) -> dict[str, list[float]]:
    """`term_daily` of one partition as a whole process, against `import dagster` and the source's answer."""
    imports: list[float] = []
    runs: list[float] = []
    answers: list[float] = []
    with (
        running_server() as server,
        open_folder() as folder,
        rehearsal(server, "bench", folder, FIRST) as lake,
        tempfile.TemporaryFile() as output,
    ):

        def process(*command: str, environment: Mapping[str, str] | None = None) -> None:
            subprocess.run(command, env=environment, stdout=output, stderr=output, check=True)

        lake.load(FIRST)  # makes Dagster's tables, which later runs find
        for index in range(rounds):
            day = FIRST + timedelta(days=1 + index % 3)
            lake.simulator.set_day(day)
            environment = lake.environment(DATALAKE_TODAY=day.isoformat())
            imports.append(timed(lambda: process(sys.executable, "-c", "import dagster")))
            runs.append(
                timed(
                    lambda day=day, environment=environment: process(
                        *(DATALAKE, "run", "term_daily", "--date", day.isoformat(), "--quiet"), environment=environment
                    )
                )
            )
            answers.append(source_answer(lake))
    return {
        "import dagster": imports,
        "term_daily, whole process": runs,
        "source's answer": answers,
        "term_daily beside import and source": [
            run - load - answer for run, load, answer in zip(runs, imports, answers, strict=True)
        ],
    }


def source_answer(lake: Rehearsal) -> float:
    """How long the source took for its last answer, as the landing receipt has it."""
    tables = lake.receipts("term_landing.term_data")
    return float(tables[-1]["duration_s"])


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()
