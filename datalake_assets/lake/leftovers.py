"""Leftovers of loads that died: found, and cleared away where `reconcile.py` says that nobody needs them.

Sessions of the database, spooled answers, temporary files and superseded snapshots. Current snapshots are
never touched. Dagster's own records belong to `recovery/runs.py`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from datalake_assets.clock import Clock
from datalake_assets.entities import Entity
from datalake_assets.lake.reconcile import RUN_ID, slice_of_folder, snapshots_to_keep
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Spool
from datalake_assets.statements import statement
from datalake_assets.storage.durable_files import TEMPORARY_SUFFIX, files_at
from datalake_assets.storage.parquet import CURRENT_NAME, DamagedFileError, Manifest, ParquetStore

_REVISION_FILE: Final = re.compile(r"([0-9a-f]{32})\.(?:json|parquet)")

END_WITHIN_MS = 5_000
"""How long a session gets to end; one that is inside a system call may take a moment."""


@dataclass(frozen=True)
class Backend:
    """A session in the lake that works, or worked, for a run."""

    pid: int
    run_id: str
    started_at: datetime
    state: str


async def backends_of_runs(connection: asyncpg.Connection) -> list[Backend]:
    """Sessions in the lake that carry a run's id, oldest first."""
    rows = await connection.fetch(statement("reconcile/backends.sql"), RUN_ID)
    return [Backend(row["pid"], row["run_id"], row["backend_start"], row["state"]) for row in rows]


async def end_backend(connection: asyncpg.Connection, backend: Backend) -> bool:
    """End a session: the server rolls back what it had open and frees its locks.

    Returns:
        Whether it has ended; one that is gone already has.
    """
    ended = await connection.fetchval(
        statement("reconcile/end_backend.sql"), backend.pid, backend.run_id, backend.started_at, END_WITHIN_MS
    )
    return ended is not False


async def clear_spools(
    connection: asyncpg.Connection, store: ParquetStore, entities: Iterable[Entity], *, dry_run: bool
) -> list[LoadSlice]:
    """Forget spooled answers whose load is committed; those of an unfinished load are what its retry needs.

    Args:
        connection: The lake, outside any transaction.
        store: Where answers are spooled.
        entities: Whose.
        dry_run: Only say which.

    Returns:
        Partitions whose answers were forgotten.
    """
    cleared: list[LoadSlice] = []
    for entity in entities:
        pieces = {slice_of_folder(entity, dimensions): None for dimensions in store.partitions(entity.landing)}
        for piece in pieces:
            if piece is None:
                continue
            # No load of the slice can begin, and spool, while the answers of the last one are removed.
            async with connection.transaction():
                query = statement("reconcile/lock_finished_load.sql")
                attempt = await connection.fetchval(query, str(entity.landing), piece.partition)
                if attempt is None:
                    continue
                if not dry_run:
                    Spool(store, piece, run_id="", clock=Clock(), attempt=attempt).clear()
                cleared.append(piece)
    return cleared


async def snapshots_named(connection: asyncpg.Connection, entities: Sequence[Entity]) -> Callable[[Manifest], bool]:
    """Say of a superseded revision whether the latest receipt of its raw partition names it."""
    landings = [str(entity.landing) for entity in entities]
    rows = await connection.fetch(statement("reconcile/named_snapshots.sql"), landings)
    named = {(row["asset"], row["partition"]): row["snapshot_sha256"] for row in rows}
    return snapshots_to_keep(entities, named)


def collectable(location: str, keep: Callable[[Manifest], bool], older_than_s: float) -> Iterator[str]:
    """What `ParquetStore.collect` would remove, without removing it.

    Args:
        location: Folder or address of the store.
        keep: Says of a superseded revision whether it stays.
        older_than_s: How long a revision must have been superseded.

    Yields:
        Addresses of files.
    """
    files = files_at(location)
    folders: dict[str, set[str]] = defaultdict(set)
    for key in files.walk(""):
        folder, _, name = key.rpartition("/")
        folders[folder].add(name)
    for folder, names in sorted(folders.items()):
        for name in sorted(names):
            if name.endswith(TEMPORARY_SUFFIX) and files.abandoned(f"{folder}/{name}"):
                yield files.uri(f"{folder}/{name}")
        for revision in sorted({match[1] for name in names if (match := _REVISION_FILE.fullmatch(name))}):
            found = [name for name in (f"{revision}.json", f"{revision}.parquet") if name in names]
            try:
                current, manifest = (
                    Manifest.from_json(files.read(f"{folder}/{name}"), folder) if name in names else None
                    for name in (CURRENT_NAME, f"{revision}.json")
                )
            except DamagedFileError:
                continue  # what is damaged is left as it is
            if current is not None and current.revision == revision:
                continue
            if files.age_s(f"{folder}/{found[0]}") < older_than_s or (manifest is not None and keep(manifest)):
                continue
            yield from (files.uri(f"{folder}/{name}") for name in found)
