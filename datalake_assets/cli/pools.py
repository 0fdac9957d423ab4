"""Waiting for the pools that a job needs, politely, and taking back what killed runs still hold of them.

Dagster waits as well, but without a pause between two looks, and a run that was killed holds its slot until somebody
ends it. Which runs are dead is decided in `lake/reconcile.py`.
"""

import asyncio
import random
import time
from collections.abc import Collection
from typing import Final

import dagster as dg

from datalake_assets.cli.output import hint
from datalake_assets.lake.leftovers import Backend, backends_of_runs
from datalake_assets.recovery import runs
from datalake_assets.storage.postgres import PostgresAddress, scrubbing, session

_LOOK_EVERY_S: Final = 0.5
_SAY_AFTER_S: Final = 2.0


def pools_of(job: dg.JobDefinition) -> set[str]:
    """The pools that steps of a job need."""
    return {node.pool for node in job.all_node_defs if isinstance(node, dg.OpDefinition) and node.pool}


def wait_for_pools(names: Collection[str], instance: dg.DagsterInstance, lake: PostgresAddress) -> None:
    """Return when each of some pools has a free slot.

    Args:
        names: The pools.
        instance: Dagster's records.
        lake: The lake, whose sessions prove that a run lives.
    """
    started, has_said = time.monotonic(), False
    while full := [pool.name for pool in runs.pools(instance) if pool.name in names and pool.taken >= pool.slots]:
        _end_dead_holders(full, instance, lake)
        if not has_said and time.monotonic() - started > _SAY_AFTER_S:
            hint(f"Waiting for {', '.join(full)}: another run works with it.")
            has_said = True
        time.sleep(_LOOK_EVERY_S * random.uniform(0.2, 1))  # noqa: S311 - so that those who wait do not look at once


def _end_dead_holders(full: Collection[str], instance: dg.DagsterInstance, lake: PostgresAddress) -> None:
    infos = instance.event_log_storage.get_concurrency_infos(sorted(full))
    holders = {slot.run_id for info in infos.values() for slot in info.claimed_slots}
    backends = asyncio.run(_backends(lake))
    # Whoever holds a slot has said in which process it works: there is no need to wait for it to be silent.
    for judged in runs.judged_runs(instance, backends, runs_are_here=lake.is_local, older_than_s=0):
        if judged.facts.run_id in holders and judged.facts.pids and judged.verdict.state == "dead":
            runs.end_run(instance, judged)
    runs.free_slots(instance, [held for held in runs.slots_of_ended_runs(instance) if held.pool in full])


async def _backends(lake: PostgresAddress) -> list[Backend]:
    async with session(lake, application_name="datalake run") as connection:
        with scrubbing("looking at sessions"):
            return await backends_of_runs(connection)
