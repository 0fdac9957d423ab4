"""What may be cleared away: the decisions of `datalake reconcile`, as plain functions of what was found.

A decision is made only on proof; what cannot be proved is left alone and said. Looking and clearing are done in
`leftovers.py` (database and files) and `recovery/runs.py` (Dagster).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from datalake_assets.entities import Entity
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.storage.parquet import Manifest

RUN_ID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""What Dagster's run ids look like, to Python and to PostgreSQL: other sessions of the lake are people's."""

SILENT_FOR_S: Final = 300.0
"""How long a run must have been silent: a process that starts on a busy machine may take a minute or two."""

RunState = Literal["alive", "young", "unknown", "dead"]


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run that Dagster takes for a working one.

    Attributes:
        run_id: The run in Dagster.
        job: Its job.
        status: Its status in Dagster.
        silent_s: Seconds since it last said anything, or since its status last changed.
        pids: Processes that it said to work in.
        living_pids: Those of them that live on this machine.
        backends: Server processes of the lake that work for it.
        is_here: Whether a process of it would be seen on this machine.
    """

    run_id: str
    job: str
    status: str
    silent_s: float
    pids: tuple[int, ...]
    living_pids: tuple[int, ...]
    backends: tuple[int, ...]
    is_here: bool


@dataclass(frozen=True)
class RunVerdict:
    """Whether a run works.

    Attributes:
        state: dead only if nothing speaks for life and the machine it works on is this one.
        why: The proof, as a sentence.
    """

    state: RunState
    why: str


def judge_run(facts: RunFacts, older_than_s: float) -> RunVerdict:
    """Say whether a run works.

    A session in the lake or a living process is life. A run that was heard of lately is left alone: its process
    may be about to start. Of a run that may work on another machine nothing can be said from here.

    Args:
        facts: What is known.
        older_than_s: How long a run must have been silent.
    """
    if facts.backends:
        return RunVerdict("alive", f"It works in the lake (server process {_list(facts.backends)}).")
    if facts.living_pids and facts.is_here:
        return RunVerdict("alive", f"Its process {_list(facts.living_pids)} lives.")
    if facts.silent_s < older_than_s:
        return RunVerdict("young", f"It was heard of {facts.silent_s:.0f} s ago; {older_than_s:.0f} s are waited for.")
    if not facts.is_here:
        return RunVerdict("unknown", "It may work on another machine, whose processes cannot be seen from here.")
    process = f"its process {_list(facts.pids)} is gone" if facts.pids else "no process of it ever spoke"
    return RunVerdict("dead", f"Silent for {facts.silent_s:.0f} s; {process}, and it has no session in the lake.")


def looks_like_run_id(name: str) -> bool:
    """Whether a text is a run's id."""
    return re.match(RUN_ID, name) is not None


def snapshots_to_keep(entities: Iterable[Entity], named: Mapping[tuple[str, str], str]) -> Callable[[Manifest], bool]:
    """Say of a superseded revision of the lake whether something may still be loaded from it.

    Mending history reads, for each later date, the snapshot that its raw partition was last loaded from, which
    is the current one unless the partition was landed anew and not loaded since.

    Args:
        entities: Whose landing there is.
        named: Snapshot by asset and partition, from the latest receipts.
    """
    landings = {entity.landing.path: entity for entity in entities}
    digests = frozenset(named.values())

    def keep(manifest: Manifest) -> bool:
        entity = landings.get(manifest.dataset)
        if entity is None:
            return manifest.sha256 in digests
        piece = slice_of_folder(entity, manifest.partition)
        return piece is None or named.get((str(entity.raw), piece.partition)) == manifest.sha256

    return keep


def slice_of_folder(entity: Entity, dimensions: Mapping[str, str]) -> LoadSlice | None:
    """The slice that a folder of landing or spool belongs to; None for a folder that is none of theirs."""
    try:
        day = date.fromisoformat(dimensions["load_date"])
        return LoadSlice(entity, day, tuple(dimensions[name] for name in entity.scope))
    except (KeyError, ValueError):
        return None


def _list(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
