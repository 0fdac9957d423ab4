"""The one builder of raw, xform and curated assets, for any entity.

Each asset is a thin wrapper: it opens a connection that carries the run's id, calls the load in `lake/`, and
reports the receipt. How entities are extracted is in a module per entity beside this one.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import dagster as dg

from datalake_assets.assets.reporting import (
    account,
    column_schema,
    observed_schema,
    preview,
    receipt_metadata,
    reported_failures,
)
from datalake_assets.entities import Entity
from datalake_assets.lake.curated import load_curated
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.raw import RawLoad
from datalake_assets.lake.services import load_services
from datalake_assets.lake.slices import LoadSlice, slice_of
from datalake_assets.lake.tables import Layer, table_of
from datalake_assets.lake.xform import load_xform
from datalake_assets.resources import LakeResource
from datalake_assets.statements import statement_names, statement_text

KINDS: dict[Layer, set[str]] = {
    "landing": {"parquet", "json"},
    "raw": {"postgres", "bronze"},
    "xform": {"postgres", "silver"},
    "curated": {"postgres", "gold"},
}
"""Icons of the UI; the medallion names stand for our layers."""

ONE_RETRY = dg.RetryPolicy(max_retries=1, delay=5)
"""Steps are tried once more if the failure may pass; requests retry on their own, runs only after a crash."""

Load = Callable[[asyncpg.Connection, LoadSlice, str], Awaitable[Receipt]]


def build_layer_assets(*, entity: Entity, partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Make the raw, xform and curated assets of an entity.

    Args:
        entity: Which entity.
        partitions_def: Its partitions; those of the landing asset.
    """

    def load_of(layer: Layer, lake: LakeResource) -> Load:
        async def raw(connection: asyncpg.Connection, piece: LoadSlice, run_id: str) -> Receipt:
            load = RawLoad(lake.landing(entity), lake.ledger, lake.tolerances)
            return await load.load(connection, piece, run_id)

        async def xform(connection: asyncpg.Connection, piece: LoadSlice, run_id: str) -> Receipt:
            return await load_xform(connection, lake.ledger, piece, run_id)

        async def curated(connection: asyncpg.Connection, piece: LoadSlice, run_id: str) -> Receipt:
            services = load_services(entity).services
            return await load_curated(connection, lake.ledger, piece, services, run_id)

        return {"raw": raw, "xform": xform, "curated": curated}[layer]

    def build(layer: Layer, upstream: Layer) -> dg.AssetsDefinition:
        @dg.multi_asset(
            name=step_name(entity, layer),
            specs=[asset_spec(entity, layer, deps=[table_of(entity, upstream).name.parts])],
            partitions_def=partitions_def,
            retry_policy=ONE_RETRY,
        )
        def table(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
            async def run() -> dg.MaterializeResult[Any]:
                async with lake.connect(context.run_id) as connection:
                    receipt = await load_of(layer, lake)(
                        connection, slice_of(entity, context.partition_key), context.run_id
                    )
                    shown: dict[str, Any] = {
                        "dagster/column_schema": await observed_schema(connection, table_of(entity, layer)),
                        "preview": await preview(connection, table_of(entity, layer)),
                    }
                context.log.info("%s", account(receipt))
                return dg.MaterializeResult(metadata={**receipt_metadata(receipt), **shown})

            with reported_failures(last_attempt=is_last_attempt(context)):
                return asyncio.run(run())

        return table

    return [build("raw", "landing"), build("xform", "raw"), build("curated", "xform")]


def is_last_attempt(context: dg.AssetExecutionContext) -> bool:
    """Whether the step has been tried as often as `ONE_RETRY` lets it be."""
    return context.op_execution_context.retry_number >= ONE_RETRY.max_retries


def step_name(entity: Entity, layer: Layer) -> str:
    """The name of the step that makes an asset, e.g. `term_raw__term_data`."""
    return "__".join(table_of(entity, layer).name)


def asset_spec(entity: Entity, layer: Layer, *, deps: Sequence[Sequence[str]]) -> dg.AssetSpec:
    """An asset of a layer as the UI shows it: key, group, owner, kinds, description, columns, code version."""
    table = table_of(entity, layer)
    metadata: dict[str, Any] = {"dagster/column_schema": column_schema(table)}
    if layer != "landing":
        metadata["dagster/table_name"] = str(table.name)
        metadata["dagster/storage_kind"] = "postgres"
    return dg.AssetSpec(
        key=table.name.parts,
        deps=deps,
        group_name=entity.name,
        kinds=KINDS[layer],
        owners=[entity.owner],
        tags={"lake/layer": layer, "lake/entity": entity.name},
        description=_description(entity, layer),
        metadata=metadata,
        code_version=code_version(entity, layer),
    )


def code_version(entity: Entity, layer: Layer) -> str:
    """Hash of the SQL and YAML that a table's rows depend on: the UI shows when it has changed."""
    folders = [f"layers/{layer}", table_of(entity, layer).name.path]
    texts = [statement_text(path) for folder in folders for path in statement_names(folder)]
    if layer == "curated":
        texts.append(load_services(entity).path.read_text("utf-8"))
    return hashlib.blake2b("\0".join([repr(entity), *texts]).encode(), digest_size=6).hexdigest()


def _description(entity: Entity, layer: Layer) -> str:
    key = ", ".join(entity.key_names)
    first = {
        "landing": f"One row per {entity.name} asked for ({key}) and load date, whatever the outcome.",
        "raw": f"One row per {entity.name} and change point; key: {key}, load_date.",
        "xform": f"One row per {entity.name} that exists now; key: {key}.",
        "curated": f"One row per service and {entity.name} it may see; key: service, {key}.",
    }[layer]
    rest = {
        "landing": "A past date keeps its snapshot: sources answer for the present only.",
        "raw": "The history of changes: inserts, updates and deletes, a function of the landed snapshots in any order.",
        "xform": "The last change point of every key, unless it is a removal.",
        "curated": "Each service's allow-list of paths, from `datalake_assets/services/`.",
    }[layer]
    return f"{first}\n\n{entity.description} {rest}"
