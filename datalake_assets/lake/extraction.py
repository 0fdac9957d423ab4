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
from datalake_assets.lake.landing import Landing, Snapshot
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.lake.spool import Asked, Spool
from datalake_assets.storage.postgres import scrubbing


class DayError(LoadError):
    """The day of a partition is over or has not come, and its snapshot was never made."""


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


@dataclass(frozen=True)
class Extraction:
    """Lands the answers of one entity.

    Args:
        landing: Where snapshots go.
        spool: Where answers of an unfinished load are kept.
        ledger: Attempts and receipts.
        clock: What today is.
    """

    landing: Landing
    spool: Spool
    ledger: Ledger
    clock: Clock

    async def land(
        self,
        connection: asyncpg.Connection,
        piece: LoadSlice,
        run_id: str,
        *,
        request: str,
        ask: Callable[[], Awaitable[Asked]],
    ) -> Landed:
        """Land an entity whose whole population one request answers.

        Args:
            connection: A connection of its own, outside any transaction.
            piece: The partition.
            run_id: Who loads it.
            request: What is asked, as a name for the spool.
            ask: Asks the source; it raises where there is no trustworthy answer.

        Raises:
            DayError: It is not the partition's day and there is no snapshot.
            SupersededError: Another attempt at the same partition has begun.
        """
        asset = str(self.landing.entity.landing)
        spooled = self.spool.get(piece, request)
        if spooled is None and (kept := self._kept(piece)) is not None:
            return kept
        with scrubbing(f"{asset}, partition {piece.partition}"):
            attempt = await self.ledger.begin(connection, asset, piece.partition, run_id)
        note = "Asked the source."
        if spooled is None:
            reach("mid_request")
            asked = await ask()
            self.spool.put(piece, request, asked, run_id=run_id, clock=self.clock)
            spooled = self.spool.get(piece, request)
        else:
            note = "Took the answer that an unfinished load had spooled; the source was not asked again."
        if spooled is None:
            raise LoadError("The spooled answer is gone.", where=f"{asset}, partition {piece.partition}")
        reach("after_spool")
        snapshot = self.landing.publish(
            piece,
            spooled.answers,
            complete=spooled.named_all,
            source=spooled.source,
            run_id=run_id,
            clock=self.clock,
            keep_current=True,
        )
        reach("after_landing")
        receipt = snapshot.receipt(run_id)
        with scrubbing(f"{asset}, partition {piece.partition}"):
            async with connection.transaction():
                await self.ledger.check_fence(connection, asset, piece.partition, attempt)
                await quarantine.mirror(connection, self.landing, snapshot, run_id)
                await self.ledger.write(connection, receipt, attempt)
                self.landing.promote(snapshot)
        self.spool.clear(piece)
        return Landed(snapshot, receipt, note)

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
