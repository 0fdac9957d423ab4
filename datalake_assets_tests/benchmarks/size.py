"""Whether a document costs more where there are many: time and memory of loads, in processes that do nothing else.

The memory of the server is no part of it; that of processes which a load starts is. What loads cost beside other ways
is in `loads.py`.

    python -m datalake_assets_tests.benchmarks.size < what_to_load.json
"""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from pydantic import SecretStr

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.benchmarks.documents import Documents
from datalake_assets_tests.benchmarks.loads import loading_with_fewer_paths
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, can_watch_memory, watched_peak_mib
from datalake_assets_tests.benchmarks.sites import Site, loading, site

FEW: Final = 20_000
"""What the time of a document is held against where there are more."""

FEW_IN_MEMORY: Final = 10_000
LIMIT_MIB: Final = 600.0
LIMIT_GROWTH: Final = 1.2
NOTHING_CHANGED_S: Final = 5.0

FIRST, UNCHANGED, CHANGED, SERVICE = "first load", "nothing changed", "1 % changed", "one service changed"


@dataclass(frozen=True)
class Cost:
    """What a load took.

    Attributes:
        seconds: From the first statement to the last.
        mib: The sum of the peaks of its processes.
    """

    seconds: float
    mib: float


def size(plan: Plan) -> Iterator[Figure]:
    """Time a document and peak of memory of each load, beside the same with fewer documents."""
    if not can_watch_memory(plan.say):
        return
    fewer, fewest = (min(few, plan.documents // 2) for few in (FEW, FEW_IN_MEMORY))
    costs: dict[int, list[dict[str, Cost]]] = {count: [] for count in (fewest, fewer, plan.documents)}
    for _ in range(plan.rounds):
        for count, taken in costs.items():
            taken.append(_loads(count, plan))
    for name in (FIRST, UNCHANGED, CHANGED, SERVICE):
        large, small, smallest = ([each[name] for each in costs[count]] for count in (plan.documents, fewer, fewest))
        told = f"{plan.documents:,} documents in {large[-1].seconds:.1f} s"
        yield Figure(
            f"a document, {name}",
            f"{fewer:,} documents",
            tuple(1000 * cost.seconds / plan.documents for cost in large),
            tuple(1000 * cost.seconds / fewer for cost in small),
            limit=LIMIT_GROWTH,
            unit="ms",
            note=told,
        )
        if name == UNCHANGED:
            seconds = tuple(cost.seconds for cost in large)
            yield Figure(name, "", seconds, kind=Kind.VALUE, limit=NOTHING_CHANGED_S, note=told)
        peaks, before = (tuple(cost.mib for cost in taken) for taken in (large, smallest))
        case = f"memory, {name}"
        yield Figure(case, f"{fewest:,} documents", peaks, before, limit=LIMIT_GROWTH, unit="MiB")
        yield Figure(case, "", peaks, kind=Kind.VALUE, limit=LIMIT_MIB, unit="MiB")


def _loads(count: int, plan: Plan) -> dict[str, Cost]:
    """The loads of three days, and of the third again with another definition of a service."""
    documents = Documents(count)
    costs = {}
    with site(count) as place, place.lake() as lake:
        for number, (name, version) in enumerate(((FIRST, 0), (UNCHANGED, 0), (CHANGED, 1))):
            place.land(number, documents.answers(version))
            costs[name] = _apart(place, lake, number)
            place.execute(lake, "vacuum analyze")
        costs[SERVICE] = _apart(place, lake, 2, fewer_paths=1)
    for name, cost in costs.items():
        plan.say(f"{count:,} documents, {name}: {cost.seconds:.1f} s, {cost.mib:.0f} MiB")
    return costs


def _apart(place: Site, lake: PostgresAddress, number: int, *, fewer_paths: int = 0) -> Cost:
    """What a load of a numbered day takes in a process of its own; with fewer paths, of the curated table alone."""
    told = {
        "address": {**dataclasses.asdict(lake), "password": lake.password.get_secret_value()},
        "folder": str(place.folder),
        "day": number,
        "fewer_paths": fewer_paths,
    }
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
        asked.write(orjson.dumps(told))
        asked.seek(0)
        process = subprocess.Popen([sys.executable, "-m", __spec__.name], stdin=asked, stdout=answered)
        peak = watched_peak_mib(process)
        assert process.returncode == 0, f"The load of day {number} ended with {process.returncode}."
        answered.seek(0)
        return Cost(float(answered.read()), peak)


def main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    address = told["address"]
    lake = PostgresAddress(**{**address, "password": SecretStr(address["password"])})
    fewer_paths = told["fewer_paths"]
    work = loading_with_fewer_paths(told["day"], fewer_paths) if fewer_paths else loading(told["day"])
    print(Site(lake, Path(told["folder"])).seconds(lake, work))


if __name__ == "__main__":
    main()
