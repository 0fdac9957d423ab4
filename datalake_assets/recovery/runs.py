"""Dagster's side of `datalake reconcile`: runs without a living process are found, ended, and give back their slots.

Dagster's own run monitoring cannot see the processes of its default launcher, so a run whose machine or code
server died stays "started" for ever. Only what a `DagsterInstance` offers is used. Whether a run is dead is
decided in `lake/reconcile.py`; sessions and files it left are cleared away by `lake/leftovers.py`.
"""

import json
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from datalake_assets.lake.leftovers import Backend
from datalake_assets.lake.reconcile import RunFacts, RunVerdict, judge_run
from datalake_assets.recovery.processes import is_alive

WORKING: Final = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

_LAUNCHER_TAG: Final = ".dagster/grpc_info"
"""Where the default launcher notes the code server that started the run, and so its machine."""

_PROCESS_EVENTS: Final = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_WORKER_STARTED}


@dataclass(frozen=True)
class JudgedRun:
    """A run that Dagster takes for a working one, and whether it is."""

    facts: RunFacts
    verdict: RunVerdict


@dataclass(frozen=True)
class HeldSlots:
    """Slots of a pool that an ended run still holds."""

    pool: str
    run_id: str
    slots: int


@dataclass(frozen=True)
class Pool:
    """A pool and how many of its slots are taken."""

    name: str
    slots: int
    taken: int


def judged_runs(
    instance: dg.DagsterInstance, backends: Iterable[Backend], *, runs_are_here: bool, older_than_s: float
) -> list[JudgedRun]:
    """Judge every run that should be working, oldest first.

    Args:
        instance: Dagster's records.
        backends: Sessions in the lake.
        runs_are_here: Runs work on this machine unless Dagster recorded another.
        older_than_s: How long a run must have been silent to count as dead.
    """
    by_run: dict[str, list[int]] = defaultdict(list)
    for backend in backends:
        by_run[backend.run_id].append(backend.pid)
    records = instance.get_run_records(dg.RunsFilter(statuses=list(WORKING)), ascending=True)
    judged = []
    for record in records:
        facts = _facts(instance, record, tuple(by_run[record.dagster_run.run_id]), runs_are_here)
        judged.append(JudgedRun(facts, judge_run(facts, older_than_s)))
    return judged


def end_run(instance: dg.DagsterInstance, judged: JudgedRun) -> bool:
    """Record the end of a dead run: canceled if that was asked for, else failed, so that it may be retried.

    Returns:
        Whether it was still as it had been judged; otherwise nothing is done.
    """
    run = instance.get_run_by_id(judged.facts.run_id)
    if run is None or run.status.value != judged.facts.status:
        return False
    message = f"Ended by `datalake reconcile`: {judged.verdict.why}"
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)
    return True


def ended_runs(instance: dg.DagsterInstance, run_ids: Iterable[str], *, older_than_s: float) -> set[str]:
    """Those of some runs that Dagster recorded as ended, long enough ago for their sessions to be gone."""
    wanted = sorted(set(run_ids))
    if not wanted:
        return set()
    records = instance.get_run_records(dg.RunsFilter(run_ids=wanted))
    latest = time.time() - older_than_s
    return {
        record.dagster_run.run_id
        for record in records
        if record.dagster_run.is_finished and (record.end_time or record.update_timestamp.timestamp()) <= latest
    }


def slots_of_ended_runs(instance: dg.DagsterInstance) -> list[HeldSlots]:
    """Pool slots that ended runs hold, by pool and run."""
    storage = instance.event_log_storage
    ended = ended_runs(instance, storage.get_concurrency_run_ids(), older_than_s=0)
    held = []
    for pool, info in sorted(storage.get_concurrency_infos(sorted(storage.get_concurrency_keys())).items()):
        for run_id in sorted(ended):
            slots = sum(slot.run_id == run_id for slot in info.claimed_slots)
            if slots:
                held.append(HeldSlots(pool, run_id, slots))
    return held


def free_slots(instance: dg.DagsterInstance, held: Sequence[HeldSlots]) -> None:
    """Give back slots of ended runs, and what these runs still waited for."""
    for run_id in sorted({slots.run_id for slots in held}):
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def pools(instance: dg.DagsterInstance) -> list[Pool]:
    """Every pool that was ever used, by name."""
    storage = instance.event_log_storage
    infos = storage.get_concurrency_infos(sorted(storage.get_concurrency_keys()))
    return [Pool(name, info.slot_count, info.active_slot_count) for name, info in sorted(infos.items())]


def _facts(
    instance: dg.DagsterInstance, record: dg.RunRecord, backends: tuple[int, ...], runs_are_here: bool
) -> RunFacts:
    run = record.dagster_run
    known = _processes(instance, run.run_id)
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    heard = max([record.update_timestamp.timestamp(), *(event.timestamp for event in last)])
    return RunFacts(
        run_id=run.run_id,
        job=run.job_name,
        status=run.status.value,
        silent_s=max(0.0, time.time() - heard),
        pids=tuple(known),
        living_pids=tuple(pid for pid, known_at in known.items() if is_alive(pid, known_at)),
        backends=backends,
        is_here=runs_are_here and _launched_here(run.tags.get(_LAUNCHER_TAG)),
    )


def _processes(instance: dg.DagsterInstance, run_id: str) -> dict[int, float]:
    """Processes that a run said to work in, and when it said so last."""
    known: dict[int, float] = {}
    for event in instance.all_logs(run_id, of_type=_PROCESS_EVENTS):
        if event.dagster_event is None:
            continue
        value = event.dagster_event.engine_event_data.metadata.get("pid")
        if value is not None and str(value.value).isdecimal():
            known[int(str(value.value))] = event.timestamp
    return known


def _launched_here(note: str | None) -> bool:
    """Whether the code server that started a run is on this machine; runs of `datalake run` have no note."""
    if note is None:
        return True
    try:
        host = json.loads(note).get("host")
    except (ValueError, AttributeError):
        return False
    return host in ("localhost", "127.0.0.1", "::1", socket.gethostname())
