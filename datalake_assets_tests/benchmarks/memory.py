"""How much memory a load takes, in a process that does nothing else, and whether it grows with the documents.

The memory of the server is no part of it; that of processes which a load starts is.

    python -m datalake_assets_tests.benchmarks.memory < what_to_load.json
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson
from pydantic import SecretStr

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.benchmarks.documents import Documents
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan
from datalake_assets_tests.benchmarks.sites import Site, loading, site

FEW: Final = 10_000
LIMIT_MIB: Final = 600.0
LIMIT_GROWTH: Final = 1.2
_PAUSE_S: Final = 0.02
_STATUS: Final = Path("/proc/self/status")


def memory(plan: Plan) -> Iterator[Figure]:
    """Peak of a first load and of one that finds nothing new, beside the same with fewer documents."""
    if not _STATUS.exists():
        plan.say(f"{_STATUS} is not there: memory cannot be measured on this system.")
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
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in _family(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))
        time.sleep(_PAUSE_S)
    assert process.returncode == 0, f"The load of day {number} ended with {process.returncode}."
    return sum(peaks.values()) / 1024


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # it has just ended
            continue
        for child in found:
            yield from _family(int(child))


def _peak_kib(pid: int) -> int:
    """What the kernel notes of a process: unlike `ru_maxrss`, without what its parent had before it started it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    address = told["address"]
    lake = PostgresAddress(**{**address, "password": SecretStr(address["password"])})
    place = Site(lake, Path(told["folder"]))
    place.seconds(lake, loading(told["day"]))


if __name__ == "__main__":
    main()
