"""From a source's answer to a committed snapshot: the rule of days, the spool, the receipt.

Sources answer for the present, so a snapshot can be made on its own day only; a past one is kept. How a source
is asked is told by a callable; what follows from a snapshot is in `raw.py`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from datalake_assets.clock import Clock
from datalake_assets.lake import quarantine
from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.landing import Landing, Snapshot, settle_rows
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.lake.spool import Asked, Filled, Spool
from datalake_assets.storage.parquet import ParquetStore, StorageError
from datalake_assets.storage.postgres import scrubbing


class DayError(LoadError):
    """The day of a partition is over or has not come, and its snapshot was never made."""


class SpoolGoneError(LoadError):
    """The answers of a load that has asked for everything are not in the spool any more."""


@dataclass(frozen=True)
class Landed:
    """What became of a landing partition.

    Attributes:
        snapshot: Its current snapshot.
        receipt: What was committed; of the earlier load where the snapshot was kept.
        note: What an operator should know.
    """

    snapshot: Snapshot
    receipt: Receipt
    note: str


Fill = Callable[[Spool], Awaitable[Filled]]
"""Asks for whatever a spool does not hold yet and puts it there."""


def ask_once(request: str, ask: Callable[[], Awaitable[Asked]]) -> Fill:
    """Fill a spool by one request that answers for the whole population.

    Args:
        request: What is asked, as a name for the spool.
        ask: Asks the source; it raises where there is no trustworthy answer.
    """

    async def fill(spool: Spool) -> Filled:
        asked = spool.get(request)
        if asked is None:
            asked = await ask()
            spool.put(request, asked)
        return Filled(asked.named_all)

    return fill


@dataclass(frozen=True)
class Extraction:
    """Lands the answers of one entity.

    Args:
        landing: Where snapshots go.
        spools: Where answers of an unfinished load are kept.
        ledger: Attempts and receipts.
        clock: What today is.
    """

    landing: Landing
    spools: ParquetStore
    ledger: Ledger
    clock: Clock

    async def land(self, connection: asyncpg.Connection, piece: LoadSlice, run_id: str, *, fill: Fill) -> Landed:
        """Land a partition: ask for what no earlier attempt has answered, then publish the snapshot.

        Args:
            connection: A connection of its own, outside any transaction.
            piece: The partition.
            run_id: Who loads it.
            fill: Asks the source.

        Raises:
            DayError: It is not the partition's day and there is no snapshot.
            SupersededError: Another attempt at the same partition has begun.
        """
        asset = str(self.landing.entity.landing)
        with scrubbing(f"{asset}, partition {piece.partition}"):
            spool = await self._spool(connection, piece, run_id)
            if spool.finished() is None and (kept := self._kept(piece)) is not None:
                return kept
            attempt = await self.ledger.begin(connection, asset, piece.partition, run_id)
            # Looked at anew: whoever committed before this attempt began is over, and nobody can from now on.
            spool = await self._spool(connection, piece, run_id, attempt)
        was_finished = spool.finished() is not None
        if not was_finished and (kept := self._kept(piece)) is not None:
            return kept
        note = "Took the answer that an unfinished load had spooled; the source was not asked again."
        try:
            if not was_finished:
                reach("mid_request")
                before = len(spool.answered())
                spool.finish(await fill(spool))
                note = f"Asked the source, apart from {before:,} keys that an unfinished load had spooled."
                note = note if before else "Asked the source."
            reach("after_spool")
            snapshot = self._publish(piece, spool, run_id)
        except (StorageError, SpoolGoneError):
            # A later attempt that was committed has forgotten the spool that this one reads: nothing is damaged.
            with scrubbing(f"{asset}, partition {piece.partition}"):
                await self.ledger.check_fence(connection, asset, piece.partition, attempt)
            raise
        reach("after_landing")
        receipt = snapshot.receipt(run_id)
        with scrubbing(f"{asset}, partition {piece.partition}"):
            async with connection.transaction():
                await self.ledger.check_fence(connection, asset, piece.partition, attempt)
                await quarantine.mirror(connection, self.landing, snapshot, run_id)
                await self.ledger.write(connection, receipt, attempt)
                self.landing.promote(snapshot)
        spool.clear()
        return Landed(snapshot, receipt, note)

    async def _spool(self, connection: asyncpg.Connection, piece: LoadSlice, run_id: str, attempt: int = 0) -> Spool:
        """What counts of the spooled answers at this moment."""
        after = await self.ledger.committed(connection, str(self.landing.entity.landing), piece.partition)
        return Spool(self.spools, piece, run_id=run_id, clock=self.clock, attempt=attempt, after=after)

    def _publish(self, piece: LoadSlice, spool: Spool, run_id: str) -> Snapshot:
        asked = spool.finished()
        if asked is None:
            raise SpoolGoneError(
                "The spooled answers are gone.",
                where=f"{self.landing.entity.landing}, partition {piece.partition}",
                todo="Another load of the partition may have finished meanwhile; materialise it again if not.",
            )
        return self.landing.publish_rows(
            piece,
            settle_rows(spool.keys(), spool.rows(), piece.entity),
            complete=asked.named_all,
            source=asked.source,
            run_id=run_id,
            clock=self.clock,
            keep_current=True,
        )

    def _kept(self, piece: LoadSlice) -> Landed | None:
        today = self.clock.today()
        if piece.load_date == today:
            return None
        where = f"{self.landing.entity.landing}, partition {piece.partition}"
        if piece.load_date > today:
            raise DayError(f"The day has not come: today is {today}.", where=where, todo="Materialise it on its day.")
        snapshot = self.landing.current(piece)
        if snapshot is None:
            raise DayError(
                f"The day is over (today is {today}) without a snapshot; sources answer for the present only.",
                where=where,
                todo="Leave the partition missing: the next load brings the tables up to date, and the history shows "
                "its changes on the next landed day. A snapshot from a copy of the lake can be put back.",
            )
        note = f"The day is over: its snapshot {snapshot.sha256[:12]} is kept as it was landed."
        return Landed(snapshot, snapshot.receipt(snapshot.manifest.run_id), note)
