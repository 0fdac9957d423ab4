"""One pass over everything that dead runs leave behind, for `datalake reconcile` and for a sensor.

The order matters: a run is ended before its sessions are, and its slots are freed last. What counts as dead or
superseded is decided in `lake/reconcile.py`.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import asyncpg
import dagster as dg

from datalake_assets.entities import LANDED
from datalake_assets.errors import DatalakeError
from datalake_assets.lake import leftovers
from datalake_assets.lake.leftovers import Backend
from datalake_assets.lake.reconcile import SILENT_FOR_S
from datalake_assets.recovery import runs as dead_runs
from datalake_assets.recovery.runs import HeldSlots, JudgedRun
from datalake_assets.storage.parquet import SUPERSEDED_FOR_S, Manifest, ParquetStore


@dataclass
class Reconciled:
    """What a pass did, or would do.

    Attributes:
        dry_run: Nothing was done.
        ended: Runs without a living process.
        left: Runs that are left alone, with the reason.
        backends: Sessions in the lake of runs that have ended.
        slots: Pool slots of runs that have ended.
        spools: Partitions whose spooled answers are no longer needed.
        files: Temporary files and superseded snapshots.
        problems: What could not be done.
    """

    dry_run: bool
    ended: list[JudgedRun] = field(default_factory=list)
    left: list[JudgedRun] = field(default_factory=list)
    backends: list[Backend] = field(default_factory=list)
    slots: list[HeldSlots] = field(default_factory=list)
    spools: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One sentence of counts."""
        return (
            f"{len(self.ended)} runs ended, {len(self.backends)} sessions ended, {len(self.slots)} runs' slots freed, "
            f"{len(self.spools)} spools cleared, {len(self.files)} files removed."
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "dry_run": self.dry_run,
            "runs_ended": [_run(judged) for judged in self.ended],
            "runs_left": [_run(judged) for judged in self.left],
            "sessions_ended": [asdict(backend) for backend in self.backends],
            "slots_freed": [asdict(slots) for slots in self.slots],
            "spools_cleared": self.spools,
            "files_removed": self.files,
            "problems": self.problems,
        }


async def reconcile(
    connection: asyncpg.Connection,
    instance: dg.DagsterInstance,
    *,
    lake_url: str,
    spool_folder: str,
    runs_are_here: bool,
    silent_for_s: float = SILENT_FOR_S,
    superseded_for_s: float = SUPERSEDED_FOR_S,
    dry_run: bool = False,
) -> Reconciled:
    """Clear away what dead runs left.

    Args:
        connection: The lake, outside any transaction.
        instance: Dagster's records.
        lake_url: Where snapshots are.
        spool_folder: Where answers of unfinished loads are.
        runs_are_here: Runs work on this machine unless Dagster recorded another.
        silent_for_s: How long a run must have been silent, and an ended one ended.
        superseded_for_s: How long a snapshot must have been superseded.
        dry_run: Only say what would be done.
    """
    done = Reconciled(dry_run)
    found = await leftovers.backends_of_runs(connection)
    for judged in dead_runs.judged_runs(instance, found, runs_are_here=runs_are_here, older_than_s=silent_for_s):
        is_dead = judged.verdict.state == "dead"
        if is_dead and (dry_run or dead_runs.end_run(instance, judged)):
            done.ended.append(judged)
        else:
            done.left.append(judged)
    ended = dead_runs.ended_runs(instance, (backend.run_id for backend in found), older_than_s=silent_for_s)
    for backend in found:
        if backend.run_id not in ended:
            continue
        if dry_run or await leftovers.end_backend(connection, backend):
            done.backends.append(backend)
        else:
            done.problems.append(f"Server process {backend.pid} of run {backend.run_id} does not end.")
    done.slots = dead_runs.slots_of_ended_runs(instance)
    if not dry_run:
        dead_runs.free_slots(instance, done.slots)
    await _clear_files(connection, done, lake_url, spool_folder, superseded_for_s)
    return done


async def _clear_files(
    connection: asyncpg.Connection, done: Reconciled, lake_url: str, spool_folder: str, superseded_for_s: float
) -> None:
    spool = ParquetStore(spool_folder)
    pieces = await leftovers.clear_spools(connection, spool, LANDED, dry_run=done.dry_run)
    done.spools = [str(piece) for piece in pieces]
    named = await leftovers.snapshots_named(connection, LANDED)

    def unneeded(_: Manifest) -> bool:
        return False

    for location, keep in ((lake_url, named), (spool_folder, unneeded)):
        try:
            if done.dry_run:
                done.files += leftovers.collectable(location, keep, superseded_for_s)
            else:
                done.files += ParquetStore(location).collect(keep=keep, older_than_s=superseded_for_s)
        except DatalakeError as error:
            done.problems.append(str(error))
        except OSError as error:
            done.problems.append(f"{location} cannot be listed: {error.strerror or type(error).__name__}.")


def _run(judged: JudgedRun) -> dict[str, Any]:
    return {**asdict(judged.facts), "verdict": judged.verdict.state, "why": judged.verdict.why}
