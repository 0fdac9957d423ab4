"""The account of every load: who may commit a slice, and what became of it.

Dagster may believe a run dead while it still writes, so the right to commit lives in PostgreSQL: each attempt
at a slice gets a number, and only the latest may commit. Receipts are written in the transaction that they
account for. What is loaded, and how, does not belong here.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, cast

import asyncpg

from datalake_assets.lake.outcomes import Outcomes
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import lock_slice

METADATA_NAMES: Final = {
    "rows_new": "lake/rows_new",
    "rows_changed": "lake/rows_changed",
    "rows_removed": "lake/rows_removed",
    "rows_unchanged": "lake/rows_unchanged",
    "quarantined": "lake/rows_quarantined",
    "requests": "lake/requests",
    "retries": "lake/retries",
    "bytes_in": "lake/bytes_in",
    "duration_s": "lake/duration_s",
}
"""Numbers of a receipt by the stable names under which Dagster plots them."""


class SupersededError(LoadError):
    """A later attempt at the same slice has begun, so this one may not commit."""


class AdoptedDateError(LoadError):
    """A date belongs to a history that was adopted, and cannot be loaded."""


@dataclass(frozen=True)
class Receipt:
    """One committed load of one slice of one table; None where a number has no meaning for the layer."""

    asset: str
    partition: str
    run_id: str
    load_date: date | None = None
    scope: str = ""
    outcomes: Outcomes | None = None
    complete: bool | None = None
    rows_total: int | None = None
    rows_new: int | None = None
    rows_changed: int | None = None
    rows_removed: int | None = None
    rows_unchanged: int | None = None
    snapshot_sha256: str | None = None
    requests: int | None = None
    retries: int | None = None
    bytes_in: int | None = None
    duration_s: float | None = None

    def metadata(self) -> dict[str, int | float]:
        """The numbers under their stable names, without those that have no meaning here."""
        values: dict[str, Any] = {name: getattr(self, name, None) for name in METADATA_NAMES}
        if self.outcomes is not None:
            values["quarantined"] = self.outcomes.quarantined
        numbers = {METADATA_NAMES[name]: value for name, value in values.items() if value is not None}
        written = (self.rows_new or 0) + (self.rows_changed or 0) + (self.rows_removed or 0)
        read = self.outcomes.asked if self.outcomes else written + (self.rows_unchanged or 0)
        if self.duration_s:
            numbers["lake/rows_per_s"] = round(read / self.duration_s, 1)
        if self.rows_total is not None:
            numbers["dagster/row_count"] = self.rows_total
        return numbers


class Ledger:
    """Attempts and receipts in schema `ops`; implements `storage.postgres_io_manager.LoadLedger`."""

    async def begin(self, connection: asyncpg.Connection, asset: str, partition: str, run_id: str) -> int:
        """Announce an attempt at a slice, in a transaction of its own, and return its number.

        Raises:
            SupersededError: A younger run is at it.
        """
        number = await connection.fetchval(statement("ledger/number_run.sql"), run_id)
        async with connection.transaction():
            # One at a time, so that a younger run is seen.
            await lock_slice(connection, "attempt", asset, partition)
            attempt = await connection.fetchval(statement("ledger/begin.sql"), asset, partition, run_id, number)
        if attempt is None:
            latest = await connection.fetchrow(statement("ledger/fence.sql"), asset, partition)
            raise _superseded(f"Run {run_id} is no longer the latest", latest, asset, partition)
        return int(attempt)

    async def committed(self, connection: asyncpg.Connection, asset: str, partition: str) -> int:
        """The latest attempt at a slice that was committed; 0 if none was."""
        return int(await connection.fetchval(statement("ledger/committed.sql"), asset, partition))

    async def check_fence(self, connection: asyncpg.Connection, asset: str, partition: str, attempt: int) -> str:
        """Make sure that no later attempt has begun, and that none can until this transaction ends.

        Returns:
            The run that announced the attempt.

        Raises:
            SupersededError: A later attempt has begun.
        """
        latest = await connection.fetchrow(statement("ledger/fence.sql"), asset, partition)
        if latest is None or latest["attempt"] != attempt:
            raise _superseded(f"Attempt {attempt} is no longer the latest", latest, asset, partition)
        return str(latest["run_id"])

    async def commit(self, connection: asyncpg.Connection, asset: str, partition: str, attempt: int, rows: int) -> None:
        """Check the fence and write the receipt of a slice that was replaced as a whole."""
        run_id = await self.check_fence(connection, asset, partition, attempt)
        receipt = Receipt(asset=asset, partition=partition, run_id=run_id, rows_total=rows)
        await self._insert(connection, receipt, attempt)

    async def write(self, connection: asyncpg.Connection, receipt: Receipt, attempt: int) -> None:
        """Check the fence and write a receipt, in the transaction of the load."""
        await self.check_fence(connection, receipt.asset, receipt.partition, attempt)
        await self._insert(connection, receipt, attempt)

    async def loaded_after(
        self, connection: asyncpg.Connection, asset: str, scope: str, load_date: date
    ) -> list[tuple[date, str]]:
        """Later dates that a table was loaded for, oldest first, each with the SHA-256 of its snapshot."""
        rows = await connection.fetch(statement("ledger/loaded_after.sql"), asset, scope, load_date)
        return [(row["load_date"], row["snapshot_sha256"]) for row in rows]

    async def loaded_before(
        self, connection: asyncpg.Connection, asset: str, scope: str, load_date: date
    ) -> tuple[date, str, int] | None:
        """The latest earlier date that a table was loaded for; None if there is none, or it was adopted.

        Returns:
            The date, the SHA-256 of its snapshot, and how many keys had documents then.
        """
        row = await connection.fetchrow(statement("ledger/loaded_before.sql"), asset, scope, load_date)
        return (row["load_date"], row["snapshot_sha256"], row["alive"]) if row and row["snapshot_sha256"] else None

    async def fingerprint(self, connection: asyncpg.Connection, asset: str, scope: str) -> Decimal | None:
        """What the last load of a scope left in a table; None if that is not known."""
        return cast(Decimal | None, await connection.fetchval(statement("ledger/fingerprint.sql"), asset, scope))

    async def remember(
        self, connection: asyncpg.Connection, asset: str, scope: str, fingerprint: Decimal | int
    ) -> None:
        """Note what a load leaves of a scope in a table, in the transaction of the load."""
        await connection.execute(statement("ledger/remember.sql"), asset, scope, fingerprint)

    async def refuse_adopted_date(self, connection: asyncpg.Connection, asset: str, load_date: date) -> None:
        """Make sure that a date does not lie in a history that was adopted from an earlier system.

        Raises:
            AdoptedDateError: It does: later dates have no snapshots from which they could be mended.
        """
        last = await connection.fetchval(statement("adopt/adopted_until.sql"), asset)
        if last is not None and load_date <= last:
            raise AdoptedDateError(
                f"{load_date} belongs to the adopted history, which goes up to {last} and has no snapshots.",
                where=f"{asset}, partition {load_date}",
                todo=f"Load dates after {last}; what the earlier system knew of that day is in the history already.",
            )

    async def override(self, connection: asyncpg.Connection, asset: str, partition: str, guard: str) -> str | None:
        """The reason for which a slice may pass a guard, if `datalake allow` recorded one."""
        reason = await connection.fetchval(statement("ledger/override.sql"), asset, partition, guard)
        return None if reason is None else str(reason)

    async def _insert(self, connection: asyncpg.Connection, receipt: Receipt, attempt: int) -> None:
        outcomes = receipt.outcomes
        await connection.execute(
            statement("ledger/receipt.sql"),
            receipt.asset,
            receipt.partition,
            attempt,
            receipt.run_id,
            receipt.load_date,
            receipt.scope,
            outcomes.asked if outcomes else None,
            outcomes.data if outcomes else None,
            outcomes.absent if outcomes else None,
            outcomes.failed if outcomes else None,
            outcomes.quarantined if outcomes else None,
            receipt.complete,
            receipt.rows_total,
            receipt.rows_new,
            receipt.rows_changed,
            receipt.rows_removed,
            receipt.rows_unchanged,
            receipt.snapshot_sha256,
            receipt.requests,
            receipt.retries,
            receipt.bytes_in,
            receipt.duration_s,
        )


def _superseded(what: str, latest: asyncpg.Record | None, asset: str, partition: str) -> SupersededError:
    successor = "nobody" if latest is None else f"run {latest['run_id']}"
    return SupersededError(
        f"{what}: {successor} loads this slice now. Nothing was changed.",
        where=f"{asset}, partition {partition}",
        todo="Nothing, if that run is yours; otherwise end it and materialise the partition again.",
    )
