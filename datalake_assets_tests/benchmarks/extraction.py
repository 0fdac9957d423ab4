"""What landing persons costs beside what their sources take: at once, and with batches that take two seconds.

The engine lands from the running simulator in a process of its own, from ids that are known to a snapshot that is
published; beside it a bare loop of httpx sends the very same requests, as many at a time, and throws the answers away.
Both are in `person_process.py`.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import orjson

from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, can_watch_memory, in_turns, watched_peak_mib
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder, running_server

DAY: Final = date(2026, 3, 2)

PERSONS: Final = 4_000
"""Some thirty batches; the simulator remembers the texts of so many, and would else be busier than those who ask."""

BATCH_S: Final = 2.0
FEW: Final = 10_000
MANY: Final = 50_000
LIMIT_AT_ONCE: Final = 1.5
LIMIT_SLOW: Final = 1.05
LIMIT_MIB: Final = 600.0
LIMIT_GROWTH: Final = 1.2

Told = dict[str, Any]


def extraction(plan: Plan) -> Iterator[Figure]:
    """Landing of 4,000 persons, however many documents a load has: from sources that answer at once, and a slow one."""
    with landing_site(PERSONS) as site:
        plan.say("the requests of one landing")
        requests = str(site.folder / "requests.pickle")
        recorded = site.process("record", DAY.isoformat(), requests)

        def drain(_: int) -> float:
            told = site.process("drain", requests)
            counts.update(told)
            return float(told["seconds"])

        def land(_: int) -> float:
            told = site.process("land", DAY.isoformat())
            assert told["documents"] == recorded["documents"]
            return float(told["seconds"])

        counts: Told = {}
        for case, wait_s, limit in (
            ("landing of persons", 0.0, LIMIT_AT_ONCE),
            (f"landing of persons, a batch in {BATCH_S:g} s", BATCH_S, LIMIT_SLOW),
        ):
            plan.say(case)
            site.answer_batches_in(wait_s)
            ours, other = in_turns(plan.rounds, land, drain)
            note = f"{recorded['documents']:,} documents, {counts['batches']} batches, {counts['queries']:,} queries"
            yield Figure(case, "a bare loop of httpx", ours, other, limit=limit, note=note)


def extraction_memory(plan: Plan) -> Iterator[Figure]:
    """Peak of a process that lands as many persons as there are documents, at most 50,000, beside fewer."""
    if not can_watch_memory(plan.say):
        return
    many = min(MANY, plan.documents)
    few = min(FEW, many // 2)
    peaks = {}
    for count in (few, many):
        with landing_site(count) as site:
            process = site.start("land", DAY.isoformat())
            peaks[count] = watched_peak_mib(process)
            told = told_by(process)
        plan.say(f"{count:,} persons: {peaks[count]:.0f} MiB, {told['seconds']:.0f} s")
    case = "memory of a landing of persons"
    yield Figure(case, f"{few:,} persons", (peaks[many],), (peaks[few],), limit=LIMIT_GROWTH, unit="MiB")
    yield Figure(case, "", (peaks[many],), kind=Kind.VALUE, limit=LIMIT_MIB, unit="MiB", note=f"{many:,} persons")


@dataclass(frozen=True)
class LandingSite:
    """A lake in which the population of a day is landed, and a simulator to land the persons from."""

    lake: Rehearsal

    @property
    def folder(self) -> Path:
        """Where files may be left."""
        return self.lake.folder

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a process of `person_process.py`."""
        return subprocess.Popen(
            [sys.executable, "-m", "datalake_assets_tests.benchmarks.person_process", *arguments],
            env=self.lake.environment(DATALAKE_TODAY=DAY.isoformat()),
            stdout=subprocess.PIPE,
        )

    def process(self, *arguments: str) -> Told:
        """What a process of `person_process.py` tells."""
        return told_by(self.start(*arguments))

    def answer_batches_in(self, seconds: float) -> None:
        """Let the person API be silent for so long before it answers."""
        slow = {"fault": "latency", "scope": "personapi", "ms": 1000 * seconds}
        self.lake.simulator.set_faults([slow] if seconds else [])


def told_by(process: "subprocess.Popen[bytes]") -> Told:
    """What a process of `person_process.py` tells at its end."""
    said, _ = process.communicate()
    assert process.returncode == 0, f"{process.args} ended with {process.returncode}."
    told: Told = orjson.loads(said)
    return told


@contextmanager
def landing_site(persons: int) -> Iterator[LandingSite]:
    """A lake with the population of a day, and the simulated sources of all that is told of it."""
    in_memory = persons <= PERSONS
    with (
        running_server() as server,
        open_folder(in_memory=in_memory) as folder,
        rehearsal(server, "bench", folder, DAY, persons=persons) as lake,
    ):
        lake.simulator.set_day(DAY)
        command = ("dagster", "asset", "materialize", "-m", "datalake_assets.definitions")
        selection = ("--select", "+person_landing/population", "--partition", DAY.isoformat())
        done = lake.command("exec", "--", *command, *selection, DATALAKE_TODAY=DAY.isoformat())
        assert done.returncode == 0, done.stderr
        yield LandingSite(lake)
