"""Term, from PeopleSoft to landing: the source asset and what is asked.

The layers below landing come from `layers.py`; how PeopleSoft is asked is in `sources/peoplesoft.py`.
"""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from datalake_assets.assets.landing import LandingRun, build_landing_asset, source_spec
from datalake_assets.assets.layers import build_layer_assets
from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer, judge, unusable
from datalake_assets.lake.extraction import Fill, ask_once
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.spool import Asked
from datalake_assets.sources.peoplesoft import CsTools, QueryAccessService, QueryAnswer, UnusableRow
from datalake_assets.sources.policies import TERM_QUERY

QUERY: Final = "BU_TERM_QRY"
"""Query of all terms of all careers; it has no prompts."""

SOURCE_KEY: Final = ["peoplesoft", QUERY]


def build_term_assets(partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of the Term lineage, from source to curated."""

    async def fill_of(run: LandingRun) -> Fill:
        return ask_once(QUERY, lambda: ask_for_terms(run.sources.queries(TERM_QUERY)))

    return [
        source_spec(
            SOURCE_KEY,
            entity=TERM,
            description="One row per term of every career: PeopleSoft Campus Solutions, BU_TERM_QRY, through CS Tools "
            "or the Query Access Service.",
        ),
        build_landing_asset(entity=TERM, deps=[SOURCE_KEY], partitions_def=partitions_def, fill_of=fill_of),
        *build_layer_assets(entity=TERM, partitions_def=partitions_def),
    ]


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
    return Asked(list(judged(answer)), source, named_all=answer.proof != "none")


def judged(answer: QueryAnswer) -> Iterator[Answer]:
    """Judge the rows of a query's answer one by one."""
    for row, ordinal in zip(answer.rows, answer.ordinals, strict=True):
        source = f"{answer.pointer} row {ordinal}"
        if isinstance(row, UnusableRow):
            yield unusable(TERM, row.rule, row.reason, source)
        else:
            yield judge(TERM, row, source)
