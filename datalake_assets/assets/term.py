"""Term, from PeopleSoft to landing: the source asset and the extraction.

The layers below landing come from `layers.py`; how PeopleSoft is asked is in `sources/peoplesoft.py`; the rule
of days and the spool are in `lake/extraction.py`.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from datalake_assets.assets.layers import ONE_RETRY, asset_spec, build_layer_assets, is_last_attempt, step_name
from datalake_assets.assets.reporting import account, column_schema, reported_failures
from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer, judge, settle_duplicates, unusable
from datalake_assets.lake.extraction import Extraction, Landed
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.spool import Asked
from datalake_assets.lake.tables import table_of
from datalake_assets.partitions import slice_of
from datalake_assets.resources import LakeResource, PeopleSoftResource
from datalake_assets.sources.http import TERM_QUERY
from datalake_assets.sources.peoplesoft import CsTools, QueryAccessService, QueryAnswer, UnusableRow

QUERY: Final = "BU_TERM_QRY"
"""Query of all terms of all careers; it has no prompts."""

SOURCE_KEY: Final = ["peoplesoft", QUERY]


def build_term_assets(
    partitions_def: dg.PartitionsDefinition[str],
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of the Term lineage, from source to curated."""
    source = dg.AssetSpec(
        key=SOURCE_KEY,
        group_name=TERM.name,
        kinds={"source"},
        owners=[TERM.owner],
        tags={"lake/layer": "source", "lake/entity": TERM.name},
        description="One row per term of every career: PeopleSoft Campus Solutions, BU_TERM_QRY, through CS Tools or "
        "the Query Access Service.",
    )

    @dg.multi_asset(
        name=step_name(TERM, "landing"),
        specs=[asset_spec(TERM, "landing", deps=[SOURCE_KEY])],
        partitions_def=partitions_def,
        retry_policy=ONE_RETRY,
    )
    def term_landing(
        context: dg.AssetExecutionContext, lake: LakeResource, peoplesoft: PeopleSoftResource
    ) -> dg.MaterializeResult[Any]:
        async def run() -> Landed:
            extraction = Extraction(lake.landing(TERM), lake.spool(TERM), lake.ledger, lake.clock)
            piece = slice_of(TERM, context.partition_key)
            async with lake.connect(context.run_id) as connection:
                return await extraction.land(
                    connection,
                    piece,
                    context.run_id,
                    request=QUERY,
                    ask=lambda: ask_for_terms(peoplesoft.queries(TERM_QUERY)),
                )

        with reported_failures(last_attempt=is_last_attempt(context)):
            landed = asyncio.run(run())
        context.log.info("%s %s", landed.note, account(landed.receipt))
        return dg.MaterializeResult(
            metadata={
                **landed.receipt.metadata(),
                "dagster/partition_row_count": landed.snapshot.manifest.rows,
                "dagster/column_schema": column_schema(table_of(TERM, "landing"), landed.snapshot.manifest.columns),
                "lake/complete": landed.snapshot.complete,
                "lake/note": landed.note,
                "lake/snapshot_sha256": landed.snapshot.sha256,
                "dagster/uri": lake.landing(TERM).uri(landed.snapshot),
            },
            data_version=dg.DataVersion(landed.snapshot.sha256),
        )

    return [source, term_landing, *build_layer_assets(entity=TERM, partitions_def=partitions_def)]


async def ask_for_terms(queries: CsTools | QueryAccessService) -> Asked:
    """Ask PeopleSoft for all terms and judge every row.

    Raises:
        SourceError: No trustworthy answer; an empty one is none.
    """
    async with queries:
        answer = await queries.run_query(QUERY)
    source = SourceAccount(
        requests=queries.stats.requests,
        retries=queries.stats.retries,
        bytes_in=queries.stats.bytes_in,
        duration_s=round(answer.seconds, 3),
    )
    return Asked(list(settle_duplicates(judged(answer), TERM)), source, named_all=answer.proof != "none")


def judged(answer: QueryAnswer) -> Iterator[Answer]:
    """Judge the rows of a query's answer one by one."""
    for row, ordinal in zip(answer.rows, answer.ordinals, strict=True):
        source = f"{answer.pointer} row {ordinal}"
        if isinstance(row, UnusableRow):
            yield unusable(TERM, row.rule, row.reason, source)
        else:
            yield judge(TERM, row, source)
