"""What loading an API dataset costs beside its source alone.

The engine lands and loads from the running simulator in a process of its own, with the shipped dataset of 32 columns;
beside it a bare loop of httpx asks for the same pages, signed in the same way, and throws them away. Both are in
`dataset_process.py`. The simulator runs on the same machine, so that its cores decide how much is done meanwhile.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from datalake_assets_tests.benchmarks.extraction import told_by
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, can_watch_memory, in_turns, watched_peak_mib
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder, running_server

DAY: Final = date(2026, 3, 2)
PAGE: Final = 1000
LIMIT: Final = 1.2
MOST_IN_MEMORY: Final = 200_000


def api_dataset(plan: Plan) -> Iterator[Figure]:
    """As many rows as there are documents: landed, checked, and swapped in, beside the source alone."""
    in_memory = plan.documents <= MOST_IN_MEMORY
    with (
        running_server(in_memory=in_memory) as server,
        open_folder(in_memory=in_memory) as folder,
        rehearsal(server, "bench", folder, DAY, dataset_records=plan.documents, dataset_page_size=PAGE) as lake,
    ):
        site = _Site(lake, can_watch_memory(plan.say))

        def load(number: int) -> float:
            # Another day, so that the rows are others, and each load replaces the one before.
            lake.simulator.set_day(DAY + timedelta(days=number))
            told = site.process("load", DAY + timedelta(days=number))
            plan.say(f"landed after {told['landed_s']:.1f} s, loaded after {told['seconds']:.1f} s")
            rows.append(told["rows"])
            return float(told["seconds"])

        rows: list[int] = []
        ours, other = in_turns(plan.rounds, load, lambda _: float(site.process("drain", DAY)["seconds"]))
        note = f"{rows[-1]:,} rows of 32 columns, pages of {PAGE:,}"
        yield Figure("an API dataset", "its source alone", ours, other, limit=LIMIT, note=note)
        if site.peaks:
            case = "memory of loading an API dataset"
            yield Figure(case, "", tuple(site.peaks), kind=Kind.VALUE, unit="MiB", note="both processes")


@dataclass(frozen=True)
class _Site:
    """A lake and a simulator, and what processes on them took at most."""

    lake: Rehearsal
    watches: bool
    peaks: list[float] = field(default_factory=list)

    def process(self, what: str, day: date) -> dict[str, Any]:
        """What a process of `dataset_process.py` tells."""
        process = subprocess.Popen(
            [sys.executable, "-m", "datalake_assets_tests.benchmarks.dataset_process", what],
            env=self.lake.environment(DATALAKE_TODAY=day.isoformat()),
            stdout=subprocess.PIPE,
        )
        if self.watches and what == "load":
            self.peaks.append(watched_peak_mib(process))
        return told_by(process)
