"""From a snapshot to history: the change points of one date, and the mending of later ones.

State after a landed date = state before it, with every `data` outcome written, every `absent` key and every key
that a complete population no longer holds removed, and every failed or quarantined key kept. The raw table
holds the change points of that sequence of states, whatever the order in which its dates were loaded. Reading
snapshots is in `landing.py`; the current state is made in `xform.py`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import asyncpg
import pyarrow as pa

from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.delta import Delta, compare
from datalake_assets.lake.guards import Tolerances, VolumeGuardError
from datalake_assets.lake.landing import Landing, Snapshot
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice, midnight
from datalake_assets.statements import statement
from datalake_assets.storage.parquet import DamagedFileError, MissingPartitionError
from datalake_assets.storage.postgres import copy_records, lock_slice, scrubbing

COPY_DEADLINE_S = 600.0
"""Longest time one COPY from a local snapshot may take: an hour's worth of rows passes in far less."""


@dataclass(frozen=True)
class RawLoad:
    """Loads snapshots of one entity into its history.

    Args:
        landing: Where the snapshots are.
        ledger: Attempts and receipts.
        tolerances: How much may be missing or removed.
    """

    landing: Landing
    ledger: Ledger
    tolerances: Tolerances

    async def load(self, connection: asyncpg.Connection, piece: LoadSlice, run_id: str) -> Receipt:
        """Make the history agree with the current snapshot of one partition.

        Args:
            connection: A connection of its own, outside any transaction.
            piece: The partition.
            run_id: Who loads it.

        Returns:
            The receipt that was committed: change points of this date by kind.

        Raises:
            NoSnapshotError: The partition was never landed.
            IntolerableError: Too much of the snapshot is missing.
            VolumeGuardError: Too many keys would go.
            SupersededError: Another attempt at the same partition has begun.
            AdoptedDateError: The date belongs to a history that was adopted.
        """
        started = time.monotonic()
        entity = piece.entity
        where = f"{entity.raw}, partition {piece.partition}"
        snapshot = self.landing.require(piece)
        self.tolerances.check_outcomes(snapshot.outcomes, where)
        with scrubbing(where):
            await self.ledger.refuse_adopted_date(connection, str(entity.raw), piece.load_date)
            attempt = await self.ledger.begin(connection, str(entity.raw), piece.partition, run_id)
            async with connection.transaction():
                await lock_slice(connection, str(entity.raw), piece.scope_text)
                count = statement("layers/count_with_scope.sql", table=entity.raw, scope=entity.scope)
                rows = await connection.fetchrow(count, *piece.scope)
                whole = rows["in_scope"] != await self.ledger.fingerprint(connection, str(entity.raw), piece.scope_text)
                counts = await self._apply(connection, snapshot, run_id, whole=whole)
                rows = await connection.fetchrow(count, *piece.scope)
                receipt = Receipt(
                    asset=str(entity.raw),
                    partition=piece.partition,
                    run_id=run_id,
                    load_date=piece.load_date,
                    scope=piece.scope_text,
                    outcomes=snapshot.outcomes,
                    complete=snapshot.complete,
                    rows_total=rows["total"],
                    rows_new=counts.new,
                    rows_changed=counts.changed,
                    rows_removed=counts.removed,
                    rows_unchanged=counts.unchanged,
                    snapshot_sha256=snapshot.sha256,
                    duration_s=round(time.monotonic() - started, 3),
                )
                await self.ledger.write(connection, receipt, attempt)
                await self.ledger.remember(connection, str(entity.raw), piece.scope_text, rows["in_scope"])
                reach("before_commit")
            reach("after_commit")
        return receipt

    async def _apply(
        self, connection: asyncpg.Connection, snapshot: Snapshot, run_id: str, *, whole: bool
    ) -> "_Counts":
        """Write the change points of the snapshot's date, and mend those of later dates that follow from them."""
        piece, entity = snapshot.slice, snapshot.slice.entity
        # A history that somebody changed by hand is not what follows from the snapshot before.
        delta, alive = (None, 0) if whole else await self._delta(connection, snapshot)
        if delta is not None and delta.is_empty:
            query = statement("layers/raw/has_no_slice.sql", raw=entity.raw, scope=entity.scope)
            if await connection.fetchval(query, piece.load_date, *piece.scope):
                return _Counts(unchanged=delta.repeated)
        await connection.execute(statement("layers/raw/stage.sql", key=entity.key))
        await self._copy_answers(connection, snapshot, delta)
        await connection.execute(statement("layers/raw/answers.sql", key_names=entity.key_names, into="answer"))
        await self._find_changes(connection, snapshot, delta)
        row = await connection.fetchrow(statement("layers/raw/counts.sql", key_names=entity.key_names))
        counts = _Counts(row["rows_new"], row["rows_changed"], row["rows_removed"], row["rows_unchanged"])
        if delta is None:
            alive = row["live_before"]
        else:
            counts.unchanged += delta.repeated
        await self._guard_volume(connection, piece, counts.removed, alive)
        await self._replace_slice(connection, snapshot, run_id)
        await self._mend_later_dates(connection, piece, run_id)
        return counts

    async def _delta(self, connection: asyncpg.Connection, snapshot: Snapshot) -> tuple[Delta | None, int]:
        """What is new in a snapshot, and how many keys at least were alive before it; None if all may be."""
        piece = snapshot.slice
        before = await self.ledger.loaded_before(connection, str(piece.entity.raw), piece.scope_text, piece.load_date)
        if before is None:
            return None, 0
        load_date, sha256, alive = before
        try:
            earlier = self.landing.revision(replace(piece, load_date=load_date), sha256)
            return compare(self.landing, snapshot, earlier), alive
        except (MissingPartitionError, DamagedFileError):  # what is no longer needed for itself need not be there
            return None, 0

    async def _copy_answers(
        self, connection: asyncpg.Connection, snapshot: Snapshot, delta: Delta | None = None
    ) -> None:
        names = (*snapshot.slice.entity.key_names, "outcome", "digest")
        rows = snapshot.manifest.rows

        def records() -> Iterator[tuple[object, ...]]:
            if delta is None:
                yield from self._wanted(snapshot, b"\1" * rows, names)
                return
            yield from self._wanted(snapshot, delta.fresh, names, verify=False)
            for ordinal, key in enumerate(delta.gone, start=rows):
                yield ordinal, *key, Outcome.ABSENT.value, None

        await copy_records(
            connection,
            "answer_row",
            ("ordinal", *names),
            records(),
            schema="pg_temp",
            deadline_s=COPY_DEADLINE_S,
        )

    async def _find_changes(self, connection: asyncpg.Connection, snapshot: Snapshot, delta: Delta | None) -> None:
        piece, entity = snapshot.slice, snapshot.slice.entity
        names = {"raw": entity.raw, "key_names": entity.key_names, "scope": entity.scope}
        before = statement("layers/raw/state_before.sql", of_answers=delta is not None, **names)
        await connection.execute(before, piece.load_date, *piece.scope)
        # Of a delta every key that is gone was named.
        await connection.execute(statement("layers/raw/changes.sql", **names), snapshot.complete and delta is None)

    async def _guard_volume(self, connection: asyncpg.Connection, piece: LoadSlice, removed: int, alive: int) -> None:
        """Refuse to remove too much of what was alive, of which at least so much was."""
        entity, asset = piece.entity, str(piece.entity.raw)
        where = f"{asset}, partition {piece.partition}"
        try:
            self.tolerances.check_removal(removed, alive, where)
        except VolumeGuardError:
            if await self.ledger.override(connection, asset, piece.partition, "volume") is None:
                query = statement(
                    "layers/raw/alive_before.sql", raw=entity.raw, key_names=entity.key_names, scope=entity.scope
                )
                counted = await connection.fetchval(query, piece.load_date, *piece.scope)
                self.tolerances.check_removal(removed, counted, where)

    async def _stage_documents(self, connection: asyncpg.Connection, snapshot: Snapshot) -> None:
        wanted = bytearray(snapshot.manifest.rows)
        async for row in connection.cursor(statement("layers/raw/mend_wanted.sql"), prefetch=10_000):
            wanted[row["ordinal"]] = True
        await copy_records(
            connection,
            "answer_document",
            ("ordinal", "document", "source"),
            self._wanted(snapshot, wanted, ("document", "source")),
            schema="pg_temp",
            deadline_s=COPY_DEADLINE_S,
        )

    async def _write_documents(self, connection: asyncpg.Connection, snapshot: Snapshot, run_id: str) -> None:
        """Write the change points that have a document straight from the snapshot: each is sent and stored once."""
        piece, entity = snapshot.slice, snapshot.slice.entity
        operations = bytearray(snapshot.manifest.rows)
        async for row in connection.cursor(statement("layers/raw/wanted.sql"), prefetch=10_000):
            operations[row["ordinal"]] = ord(row["operation"])
        loaded_at = await connection.fetchval(statement("layers/now.sql"))
        dated = midnight(piece.load_date)
        columns = (*entity.key_names, "digest", "source", "document")
        names = (*columns[:-1], entity.document_column, entity.dated_column)
        await copy_records(
            connection,
            entity.raw.table,
            ("operation", *names, "load_date", "run_id", "loaded_at"),
            (
                (bytes((operations[ordinal],)), *values, dated, piece.load_date, run_id, loaded_at)
                for ordinal, *values in self._wanted(snapshot, operations, columns)
            ),
            schema=entity.raw.schema,
            deadline_s=COPY_DEADLINE_S,
        )

    def _wanted(
        self, snapshot: Snapshot, wanted: bytes | bytearray, columns: Sequence[str], *, verify: bool = True
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of a snapshot that are not zero in `wanted`: their ordinals, then some columns."""
        first = 0
        for batch in self.landing.read(snapshot, columns, verify=verify) if any(wanted) else ():
            indices = [index for index in range(batch.num_rows) if wanted[first + index]]
            chosen = batch if len(indices) == batch.num_rows else batch.take(pa.array(indices, pa.int64()))
            values = (chosen.column(name).to_pylist() for name in columns)
            for row in zip(indices, *values, strict=True):
                yield first + row[0], *row[1:]
                reach("mid_copy")
            first += batch.num_rows

    async def _replace_slice(self, connection: asyncpg.Connection, snapshot: Snapshot, run_id: str) -> None:
        piece, entity = snapshot.slice, snapshot.slice.entity
        names = {
            "raw": entity.raw,
            "key_names": entity.key_names,
            "scope": entity.scope,
            "document": entity.document_column,
            "dated": entity.dated_column,
        }
        await connection.execute(statement("layers/raw/touched.sql", **names), piece.load_date, *piece.scope)
        await connection.execute(statement("layers/raw/announce.sql", touched=entity.touched, **names))
        await connection.execute(statement("layers/raw/delete_slice.sql", **names), piece.load_date, *piece.scope)
        await connection.execute(
            statement("layers/raw/insert_removals.sql", **names), piece.load_date, run_id, _pointer(snapshot)
        )
        await self._write_documents(connection, snapshot, run_id)

    async def _mend_later_dates(self, connection: asyncpg.Connection, piece: LoadSlice, run_id: str) -> None:
        entity = piece.entity
        later = await self.ledger.loaded_after(connection, str(entity.raw), piece.scope_text, piece.load_date)
        for load_date, sha256 in later:
            if not await connection.fetchval(statement("layers/raw/any_touched.sql")):
                return
            await self._mend(connection, LoadSlice(entity, load_date, piece.scope), sha256, run_id)

    async def _mend(self, connection: asyncpg.Connection, piece: LoadSlice, sha256: str, run_id: str) -> None:
        snapshot = self.landing.revision(piece, sha256)
        entity = piece.entity
        names = {
            "raw": entity.raw,
            "key_names": entity.key_names,
            "document": entity.document_column,
            "dated": entity.dated_column,
        }
        await connection.execute(statement("layers/raw/mend_clear.sql"))
        await self._copy_answers(connection, snapshot)
        await connection.execute(statement("layers/raw/answers.sql", key_names=entity.key_names, into="later"))
        load_date: date = piece.load_date
        await connection.execute(statement("layers/raw/mend.sql", **names), load_date, snapshot.complete)
        await self._stage_documents(connection, snapshot)
        await connection.execute(statement("layers/raw/mend_delete.sql", **names), load_date)
        await connection.execute(
            statement("layers/raw/mend_insert.sql", **names), load_date, run_id, _pointer(snapshot)
        )
        await connection.execute(statement("layers/raw/mend_resolve.sql", **names))


@dataclass
class _Counts:
    """Keys of a snapshot by what became of them."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0


def _pointer(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.sha256[:12]} of {snapshot.slice.partition}"
