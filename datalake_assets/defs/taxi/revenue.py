"""What is made of the taxi trips, as an example: trips with names, and the revenue of a month by zone and service.

Each table is one statement in `sql/taxi/`, run for the color and month of the partition.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import asyncpg
import dagster as dg
import yaml

from datalake_assets.assets.layers import ONE_RETRY, is_last_attempt
from datalake_assets.assets.reporting import account, reported_failures
from datalake_assets.components.scheduling import job_name
from datalake_assets.components.url_files import UrlFilesSpec
from datalake_assets.keys import TableName
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.outcomes import Outcomes
from datalake_assets.lake.partition_replace import (
    PartitionedTable,
    TableColumn,
    ensure_table,
    replace_partition_by_query,
)
from datalake_assets.resources import LakeResource
from datalake_assets.statements import statement

_OWNER: Final = "team:data-engineering"
_PARTITION: Final = {"color": "text", "month": "date"}

NAMED_RIDES: Final = {
    "pickup_datetime": "timestamp without time zone",
    "dropoff_datetime": "timestamp without time zone",
    "pickup_borough": "text",
    "pickup_zone": "text",
    "dropoff_borough": "text",
    "dropoff_zone": "text",
    "payment": "text",
    "passenger_count": "smallint",
    "trip_distance": "numeric(10,2)",
    "fare_amount": "numeric(12,2)",
    "total_amount": "numeric(12,2)",
}
MONTHLY_REVENUE: Final = {
    "borough": "text",
    "zone": "text",
    "trips": "bigint",
    "revenue": "numeric",
    "fares": "numeric",
    "average_distance": "numeric",
    "average_passengers": "numeric",
}


@dg.definitions
def defs() -> dg.Definitions:
    """Trips with names, the revenue of a month, and whether the one adds up to the other."""
    return build_revenue(rides_spec())


def rides_spec() -> UrlFilesSpec:
    """The declaration of the trips, which says what partitions there are."""
    text = Path(__file__).with_name("rides").joinpath("defs.yaml").read_text("utf-8")
    return UrlFilesSpec.model_validate(yaml.safe_load(text)["attributes"])


def build_revenue(rides: UrlFilesSpec) -> dg.Definitions:
    """Make the assets below the trips.

    Args:
        rides: The declaration of the trips.
    """
    lookups = [["trips", "zones"], ["trips", "payment_types"]]
    named = _asset(
        rides,
        "named_rides",
        NAMED_RIDES,
        [rides.name.parts, *lookups],
        "One row per trip, with the names of its zones and of the way it was paid.",
    )
    revenue = _asset(
        rides,
        "monthly_revenue",
        MONTHLY_REVENUE,
        [["trips", "named_rides"]],
        "One row per color, month and zone where trips begin: trips, revenue, fares and averages.",
    )
    job = dg.define_asset_job(
        name=job_name(TableName(rides.name.schema, "monthly_revenue"), "load"),
        selection=dg.AssetSelection.assets(named, revenue),
        description="Makes both tables of the trips of a color and month.",
    )
    return dg.Definitions(assets=[named, revenue], jobs=[job])


def _asset(
    rides: UrlFilesSpec,
    name: str,
    columns: Mapping[str, str],
    deps: Sequence[Sequence[str]],
    description: str,
) -> dg.AssetsDefinition:
    table = PartitionedTable(
        TableName(rides.name.schema, name),
        (
            *(TableColumn(column, sql, nullable=False) for column, sql in _PARTITION.items()),
            *(TableColumn(column, sql) for column, sql in columns.items()),
        ),
        tuple(_PARTITION),
    )
    query = statement(f"taxi/{name}.sql")

    @dg.multi_asset(
        name="__".join(table.name),
        specs=[
            dg.AssetSpec(
                key=table.name.parts,
                deps=deps,
                group_name=rides.name.schema,
                kinds={"postgres", "sql"},
                tags={"lake/layer": "table"},
                owners=[_OWNER],
                description=description,
                metadata={
                    "dagster/table_name": str(table.name),
                    "dagster/storage_kind": "postgres",
                    "dagster/column_schema": dg.TableSchema(
                        columns=[dg.TableColumn(column.name, column.sql) for column in table.columns]
                    ),
                },
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                "adds_up",
                asset=table.name.parts,
                blocking=True,
                description="Number and revenue of the trips are those of the table of trips.",
            )
        ],
        partitions_def=rides.partitions_def,
        retry_policy=ONE_RETRY,
    )
    def made(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with it Dagster expects no results of checks
        async def run() -> tuple[Receipt, int, dg.AssetCheckResult]:
            values = _values(rides, context.partition_key)
            async with lake.connect(context.run.run_id) as connection:
                await ensure_table(connection, table)
                receipt = Receipt(
                    asset=str(table.name),
                    partition=context.partition_key,
                    run_id=context.run.run_id,
                    load_date=values[1],
                    outcomes=await _one_row_per_trip(connection, values) if name == "named_rides" else None,
                )
                done = await replace_partition_by_query(connection, lake.ledger, table, values, query, receipt)
                rows = await connection.fetchval(statement("files/row_count.sql"), str(table.name))
                return done, rows, await _adds_up(connection, name, values)

        with reported_failures(last_attempt=is_last_attempt(context)):
            receipt, rows, verdict = asyncio.run(run())
        context.log.info("%s", account(receipt))
        return dg.MaterializeResult(
            metadata={
                **receipt.metadata(),
                "dagster/row_count": rows,
                "dagster/partition_row_count": receipt.rows_new,
            },
            check_results=[verdict],
        )

    return made


async def _one_row_per_trip(connection: asyncpg.Connection, values: Sequence[str | date]) -> Outcomes:
    """How many rows must come: a lookup that holds a key twice would double trips, and is refused before they show."""
    trips, _ = await connection.fetchrow(statement("taxi/totals/rides.sql"), *values)
    return Outcomes(asked=trips, data=trips)


async def _adds_up(connection: asyncpg.Connection, name: str, values: Sequence[str | date]) -> dg.AssetCheckResult:
    trips, revenue = await connection.fetchrow(statement("taxi/totals/rides.sql"), *values)
    counted, summed = await connection.fetchrow(statement(f"taxi/totals/{name}.sql"), *values)
    return dg.AssetCheckResult(
        check_name="adds_up",
        asset_key=["trips", name],
        passed=(trips, revenue) == (counted, summed),
        description=f"{counted:,} of {trips:,} trips and {summed:,} of {revenue:,} dollars.",
        metadata={"trips": trips, "revenue": float(revenue)},
    )


def _values(rides: UrlFilesSpec, partition: str) -> tuple[str, date]:
    folders = rides.piece(partition).folders
    return folders["color"], date.fromisoformat(folders["month"])
