"""Everything below landing for one slice: raw, xform and curated, one after the other, from what was landed.

The loads themselves are in `raw.py`, `xform.py` and `curated.py`; Dagster runs the same as assets.
"""

from dataclasses import dataclass

import asyncpg

from datalake_assets.lake.curated import load_curated
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.raw import RawLoad
from datalake_assets.lake.services import Service
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.xform import load_xform
from datalake_assets.statements import statement


@dataclass(frozen=True)
class Rebuild:
    """Brings the tables of one entity up to date with its snapshots.

    Args:
        landing: Where the snapshots are.
        ledger: Attempts and receipts.
        tolerances: How much may be missing or removed.
        services: All services of the entity.
    """

    landing: Landing
    ledger: Ledger
    tolerances: Tolerances
    services: tuple[Service, ...]

    async def load(
        self, connection: asyncpg.Connection, piece: LoadSlice, run_id: str
    ) -> tuple[Receipt, Receipt, Receipt]:
        """Load raw, xform and curated of one slice; what was loaded before a failure stays loaded.

        Args:
            connection: A connection of its own, outside any transaction.
            piece: The partition.
            run_id: Who loads it.

        Returns:
            The receipts of raw, xform and curated.

        Raises:
            LoadError: A load was refused.
        """
        raw = await RawLoad(self.landing, self.ledger, self.tolerances).load(connection, piece, run_id)
        xform = await load_xform(connection, self.ledger, piece, run_id)
        curated = await load_curated(connection, self.ledger, piece, self.services, run_id)
        return raw, xform, curated

    async def is_behind(self, connection: asyncpg.Connection, piece: LoadSlice) -> bool:
        """Whether raw was loaded from another snapshot than the current one, or not at all."""
        snapshot = self.landing.current(piece)
        if snapshot is None:
            return False
        loaded = await connection.fetchval(
            statement("replay/loaded_snapshot.sql"), str(piece.entity.raw), piece.partition
        )
        return bool(loaded != snapshot.sha256)
