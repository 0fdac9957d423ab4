"""Asset checks: every check of `lake/checks.py` as Dagster runs and shows it.

What must hold is said there; here a check only gets its asset, its severity and whether it blocks. The checks of
one table share a step and a connection: a step of their own each would cost more than the checks do.
"""

import asyncio
from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import Final

import dagster as dg

from datalake_assets.assets.reporting import reported_failures
from datalake_assets.entities import Entity
from datalake_assets.lake.checks import Check, Lake, Verdict, checks_of
from datalake_assets.lake.services import load_services
from datalake_assets.lake.slices import slice_of
from datalake_assets.resources import LakeResource

PARTITION_TAG: Final = "dagster/partition"


def build_entity_checks(entity: Entity) -> list[dg.AssetChecksDefinition]:
    """All asset checks of an entity, one definition per table."""
    by_table = groupby(checks_of(entity), key=lambda check: check.table)
    return [_table_checks(entity, list(checks)) for _, checks in by_table]


def _table_checks(entity: Entity, checks: list[Check]) -> dg.AssetChecksDefinition:
    table = checks[0].table

    @dg.multi_asset_check(
        name=f"{table.schema}__{table.table}__checks",
        specs=[
            dg.AssetCheckSpec(
                name=check.name, asset=table.parts, description=check.description, blocking=check.blocking
            )
            for check in checks
        ],
        can_subset=True,
    )
    def table_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterable[dg.AssetCheckResult]:
        partition = context.run.tags.get(PARTITION_TAG)
        piece = slice_of(entity, partition) if partition else None
        load_date = piece.load_date if piece else lake.clock.today()
        scope = piece.scope if piece else ()
        wanted = {key.name for key in context.selected_asset_check_keys}
        chosen = [check for check in checks if check.name in wanted]
        with reported_failures():
            verdicts = asyncio.run(_evaluate(lake, entity, chosen, load_date, scope, context.run.run_id))
        for check, verdict in zip(chosen, verdicts, strict=True):
            yield dg.AssetCheckResult(
                check_name=check.name,
                asset_key=table.parts,
                passed=verdict.passed,
                severity=dg.AssetCheckSeverity.ERROR if check.severity == "error" else dg.AssetCheckSeverity.WARN,
                description=verdict.summary,
                metadata={"load_date": load_date.isoformat(), **verdict.numbers},
            )

    return table_checks


async def _evaluate(
    lake: LakeResource,
    entity: Entity,
    checks: list[Check],
    load_date: date,
    scope: tuple[str | int, ...],
    run_id: str,
) -> list[Verdict]:
    async with lake.connect(run_id) as connection:
        services = load_services(entity).services
        seen = Lake(connection, lake.landing(entity), services, lake.tolerances, lake.clock, scope)
        return [await check.evaluate(seen, load_date) for check in checks]
