"""Two runs of the same load at the same moment, in processes of their own, and what must be true of their end."""

import re
import time
from dataclasses import dataclass

from datalake_assets.entities import Entity
from datalake_assets_tests.integration.rehearsal import Rehearsal

_FAILURE = re.compile(r"^(\w+?)__(\w+): (.*)$", re.MULTILINE)
_SUPERSEDED = re.compile(
    r"(Attempt \d+|Run [0-9a-f-]{36}) is no longer the latest: "
    r"run [0-9a-f-]{36} loads this slice now\. Nothing was changed\."
)


@dataclass(frozen=True)
class Process:
    """How a process that runs loads ended, and the Dagster runs that it made, green or not."""

    returncode: int
    runs: dict[str, bool]
    errors: str


def two_runs(lake: Rehearsal, *arguments: str, gap_s: float = 0.0, **additions: str) -> list[Process]:
    """Run a command twice, the second time `gap_s` after the first, and wait for both."""
    processes = [lake.start(*arguments, **additions)]
    time.sleep(gap_s)
    processes.append(lake.start(*arguments, **additions))
    ended = []
    for process in processes:
        output, errors = process.communicate(timeout=180)
        runs = {run_id: how == "succeeded" for how, run_id in re.findall(r"(succeeded|FAILED) \(run (\S+)\)", output)}
        ended.append(Process(process.returncode, runs, errors))
    return ended


def ended_as_one(lake: Rehearsal, processes: list[Process], entity: Entity, *, each_alone: bool = False) -> list[str]:
    """Whoever did not load everything was superseded, said so, and committed nothing from there on.

    Args:
        lake: The lake.
        processes: How both ended.
        entity: What they loaded.
        each_alone: They loaded several partitions, and each may have come second in some.

    Returns:
        The tables at which a run was superseded.
    """
    layers = [str(table) for table in (entity.landing, entity.raw, entity.xform, entity.curated)]
    superseded: list[str] = []
    for process in processes:
        failures = _FAILURE.findall(process.errors)
        red = [run_id for run_id, is_green in process.runs.items() if not is_green]
        # A run stops at the first table that it may not write, and at every one that does not hang on it.
        owners = red * len(failures) if len(red) == 1 else red
        assert bool(failures) == bool(red), process.errors
        for run_id, (schema, table, reason) in zip(owners, failures, strict=True):
            assert _SUPERSEDED.match(reason), process.errors
            name = f"{schema}.{table}"
            superseded.append(name)
            for asset in layers[layers.index(name) if name in layers else 0 :]:
                assert run_id not in {str(receipt["run_id"]) for receipt in lake.receipts(asset)}, asset
    assert each_alone or any(process.returncode == 0 for process in processes), [one.errors for one in processes]
    return superseded


def left_behind(lake: Rehearsal) -> list[str]:
    """Leftovers that `datalake reconcile` does not see to.

    What a dead run was writing, or one that was superseded spooled too late, waits for it.
    """
    if lake.leftovers():
        swept = lake.command("reconcile")
        assert swept.returncode == 0, swept.stderr
    return lake.leftovers()
