"""How much memory a load takes, in a process that does nothing else, and whether it grows with the documents.

The memory of the server is no part of it; that of processes which a load starts is.

    python -m datalake_assets_tests.benchmarks.memory < what_to_load.json
"""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson
from pydantic import SecretStr

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.benchmarks.documents import Documents
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, can_watch_memory, watched_peak_mib
from datalake_assets_tests.benchmarks.sites import Site, loading, site

FEW: Final = 10_000
LIMIT_MIB: Final = 600.0
LIMIT_GROWTH: Final = 1.2


def memory(plan: Plan) -> Iterator[Figure]:
    """Peak of a first load and of one that finds nothing new, beside the same with fewer documents."""
    if not can_watch_memory(plan.say):
        return
    few = min(FEW, plan.documents // 2)
    peaks: dict[int, list[tuple[float, float]]] = {few: [], plan.documents: []}
    for _ in range(plan.rounds):
        for count, taken in peaks.items():
            taken.append(_both_loads(count))
            plan.say(f"{count:,} documents: {taken[-1][0]:.0f} MiB, then {taken[-1][1]:.0f} MiB")
    for place, case in enumerate(("memory of a first load", "memory of a reload, nothing changed")):
        small, large = (tuple(pair[place] for pair in taken) for taken in peaks.values())
        yield Figure(case, f"{few:,} documents", large, small, limit=LIMIT_GROWTH, unit="MiB")
        yield Figure(
            case, "", large, kind=Kind.VALUE, limit=LIMIT_MIB, unit="MiB", note=f"{plan.documents:,} documents"
        )


def _both_loads(count: int) -> tuple[float, float]:
    documents = Documents(count)
    with site(count) as place, place.lake() as lake:
        for number in (0, 1):
            place.land(number, documents.answers(0))
        return _peak_mib(place, lake, 0), _peak_mib(place, lake, 1)


def _peak_mib(place: Site, lake: PostgresAddress, number: int) -> float:
    """Most memory that a process which loads a day has had, and those that it started: the sum of their peaks."""
    told = {
        "address": {**dataclasses.asdict(lake), "password": lake.password.get_secret_value()},
        "folder": str(place.folder),
        "day": number,
    }
    with tempfile.TemporaryFile() as asked:
        asked.write(orjson.dumps(told))
        asked.seek(0)
        process = subprocess.Popen([sys.executable, "-m", __spec__.name], stdin=asked)
    peak = watched_peak_mib(process)
    assert process.returncode == 0, f"The load of day {number} ended with {process.returncode}."
    return peak


def main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    address = told["address"]
    lake = PostgresAddress(**{**address, "password": SecretStr(address["password"])})
    place = Site(lake, Path(told["folder"]))
    place.seconds(lake, loading(told["day"]))


if __name__ == "__main__":
    main()
