"""From a snapshot to history: the change points of one date, and the mending of later ones.

State after a landed date = state before it, with every `data` outcome written, every `absent` key and every key
that a complete population no longer holds removed, and every failed or quarantined key kept. The raw table
holds the change points of that sequence of states, whatever the order in which its dates were loaded. Reading
snapshots is in `landing.py`; the current state is made in `xform.py`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from typing import Any

import asyncpg
import pyarrow as pa

from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing, Snapshot
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.statements import statement
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
                await self._stage(connection, snapshot)
                await lock_slice(connection, str(entity.raw), piece.scope_text)
                await self._find_changes(connection, snapshot)
                counts = await connection.fetchrow(statement("layers/raw/counts.sql", key_names=entity.key_names))
                await self._guard_volume(connection, piece, counts["rows_removed"], counts["live_before"])
                await self._replace_slice(connection, snapshot, run_id)
                await self._mend_later_dates(connection, piece, run_id)
                receipt = Receipt(
                    asset=str(entity.raw),
                    partition=piece.partition,
                    run_id=run_id,
                    load_date=piece.load_date,
                    scope=piece.scope_text,
                    outcomes=snapshot.outcomes,
                    complete=snapshot.complete,
                    rows_total=await connection.fetchval(statement("layers/count.sql", table=entity.raw)),
                    rows_new=counts["rows_new"],
                    rows_changed=counts["rows_changed"],
                    rows_removed=counts["rows_removed"],
                    rows_unchanged=counts["rows_unchanged"],
                    snapshot_sha256=snapshot.sha256,
                    duration_s=round(time.monotonic() - started, 3),
                )
                await self.ledger.write(connection, receipt, attempt)
                reach("before_commit")
            reach("after_commit")
        return receipt

    async def _stage(self, connection: asyncpg.Connection, snapshot: Snapshot) -> None:
        entity = snapshot.slice.entity
        await connection.execute(statement("layers/raw/stage.sql", key=entity.key))
        await self._copy_answers(connection, snapshot)
        await connection.execute(statement("layers/raw/answers.sql", key_names=entity.key_names, into="answer"))

    async def _copy_answers(self, connection: asyncpg.Connection, snapshot: Snapshot) -> None:
        names = (*snapshot.slice.entity.key_names, "outcome", "digest")

        def records() -> Iterator[tuple[object, ...]]:
            ordinal = 0
            for batch in self.landing.read(snapshot, names):
                columns = [batch.column(name).to_pylist() for name in names]
                for row in zip(*columns, strict=True):
                    yield (*row, ordinal)
                    ordinal += 1

        await copy_records(
            connection,
            "answer_row",
            (*names, "ordinal"),
            records(),
            schema="pg_temp",
            deadline_s=COPY_DEADLINE_S,
        )

    async def _find_changes(self, connection: asyncpg.Connection, snapshot: Snapshot) -> None:
        piece, entity = snapshot.slice, snapshot.slice.entity
        names = {"raw": entity.raw, "key_names": entity.key_names, "scope": entity.scope}
        await connection.execute(statement("layers/raw/state_before.sql", **names), piece.load_date, *piece.scope)
        await connection.execute(statement("layers/raw/changes.sql", **names), snapshot.complete)

    async def _guard_volume(self, connection: asyncpg.Connection, piece: LoadSlice, removed: int, alive: int) -> None:
        asset = str(piece.entity.raw)
        if await self.ledger.override(connection, asset, piece.partition, "volume") is None:
            self.tolerances.check_removal(removed, alive, f"{asset}, partition {piece.partition}")

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
        midnight = datetime.combine(piece.load_date, time_of_day.min)
        columns = (*entity.key_names, "digest", "source", "document")
        names = (*columns[:-1], entity.document_column, entity.dated_column)
        await copy_records(
            connection,
            entity.raw.table,
            ("operation", *names, "load_date", "run_id", "loaded_at"),
            (
                (bytes((operations[ordinal],)), *values, midnight, piece.load_date, run_id, loaded_at)
                for ordinal, *values in self._wanted(snapshot, operations, columns)
            ),
            schema=entity.raw.schema,
            deadline_s=COPY_DEADLINE_S,
        )

    def _wanted(self, snapshot: Snapshot, wanted: bytearray, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Rows of a snapshot that are not zero in `wanted`: their ordinals, then some columns."""
        first = 0
        for batch in self.landing.read(snapshot, columns) if any(wanted) else ():
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


def _pointer(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.sha256[:12]} of {snapshot.slice.partition}"
