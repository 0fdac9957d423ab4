"""The one builder of landing assets: a step that asks a source and publishes the snapshot of a partition.

What is asked, and of whom, is told by the module of the entity; the rule of days, the spool and the receipt are in
`lake/extraction.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import dagster as dg

from datalake_assets.assets.layers import ONE_RETRY, asset_spec, is_last_attempt, step_name
from datalake_assets.assets.reporting import account, column_schema, reported_failures
from datalake_assets.entities import Entity
from datalake_assets.lake.extraction import Extraction, Fill, Landed
from datalake_assets.lake.slices import LoadSlice, slice_of
from datalake_assets.lake.tables import table_of
from datalake_assets.resources import LakeResource, SourcesResource

FillOf = Callable[["LandingRun"], Awaitable[Fill]]
"""Makes what asks the source for one partition; here it may look at the lake first."""


class LandingRun:
    """What asking for one partition may use.

    Attributes:
        piece: The partition.
        lake: The lake.
        sources: The sources.
        connection: A connection to the lake that carries the run's id.
        log: Tells the run's log one line.
    """

    def __init__(
        self,
        piece: LoadSlice,
        lake: LakeResource,
        sources: SourcesResource,
        connection: asyncpg.Connection,
        log: Callable[[str], None],
    ) -> None:
        self.piece = piece
        self.lake = lake
        self.sources = sources
        self.connection = connection
        self.log = log


def build_landing_asset(
    *,
    entity: Entity,
    deps: Sequence[Any],
    partitions_def: dg.PartitionsDefinition[str],
    fill_of: FillOf,
) -> dg.AssetsDefinition:
    """Make the landing asset of an entity.

    Args:
        entity: Which entity.
        deps: What it is read from, as keys or `dg.AssetDep`.
        partitions_def: Its partitions.
        fill_of: Makes what asks the source.
    """

    @dg.multi_asset(
        name=step_name(entity, "landing"),
        specs=[asset_spec(entity, "landing", deps=deps)],
        partitions_def=partitions_def,
        retry_policy=ONE_RETRY,
    )
    def landing(
        context: dg.AssetExecutionContext, lake: LakeResource, sources: SourcesResource
    ) -> dg.MaterializeResult[Any]:
        async def run() -> Landed:
            piece = slice_of(entity, context.partition_key)
            extraction = Extraction(lake.landing(entity), lake.spools, lake.ledger, lake.clock)
            async with lake.connect(context.run_id) as connection:
                asked = LandingRun(piece, lake, sources, connection, lambda line: context.log.info("%s", line))
                return await extraction.land(connection, piece, context.run_id, fill=await fill_of(asked))

        with reported_failures(last_attempt=is_last_attempt(context)):
            landed = asyncio.run(run())
        context.log.info("%s %s", landed.note, account(landed.receipt))
        snapshot = landed.snapshot
        return dg.MaterializeResult(
            metadata={
                **landed.receipt.metadata(),
                "dagster/partition_row_count": snapshot.manifest.rows,
                "dagster/column_schema": column_schema(table_of(entity, "landing"), snapshot.manifest.columns),
                "lake/complete": snapshot.complete,
                "lake/note": landed.note,
                "lake/rows_failed": snapshot.outcomes.failed,
                "lake/rows_rejected": snapshot.source.rejected,
                "lake/snapshot_sha256": snapshot.sha256,
                "dagster/uri": lake.landing(entity).uri(snapshot),
            },
            data_version=dg.DataVersion(snapshot.sha256),
        )

    return landing


def source_spec(key: Sequence[str], *, entity: Entity, description: str) -> dg.AssetSpec:
    """A source system's answer as the UI shows it, at the left edge of the graph."""
    return dg.AssetSpec(
        key=key,
        group_name=entity.name,
        kinds={"source", key[0]},
        owners=[entity.owner],
        tags={"lake/layer": "source", "lake/entity": entity.name},
        description=description,
    )
