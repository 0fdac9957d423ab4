"""Course, from SnapLogic to landing: the source asset and what is asked, one term at a time.

The layers below landing come from `layers.py`; how SnapLogic is asked is in `sources/courses.py`, which terms are
active in `lake/terms.py`.
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from datalake_assets.assets.landing import LandingRun, build_landing_asset, source_spec
from datalake_assets.assets.layers import build_layer_assets
from datalake_assets.entities import COURSE, TERM
from datalake_assets.lake.documents import Answer, judge, unusable
from datalake_assets.lake.extraction import Fill
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.spool import Asked, Filled, Spool
from datalake_assets.sources.courses import CourseItem

SOURCE_KEY: Final = ["snaplogic", "course"]


def build_course_assets(partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of the Course lineage, from source to curated."""

    async def fill_of(run: LandingRun) -> Fill:
        return lambda spool: ask_for_courses(run, spool)

    return [
        source_spec(
            SOURCE_KEY,
            entity=COURSE,
            description="One row per course and session of one term, with its sections: SnapLogic.",
        ),
        build_landing_asset(
            entity=COURSE,
            # Courses are asked for by active term.
            deps=[SOURCE_KEY, TERM.curated.parts],
            partitions_def=partitions_def,
            fill_of=fill_of,
        ),
        *build_layer_assets(entity=COURSE, partitions_def=partitions_def),
    ]


async def ask_for_courses(run: LandingRun, spool: Spool) -> Filled:
    """Ask SnapLogic for all courses of the partition's term; they are spooled while the answer arrives.

    Raises:
        SourceError: No trustworthy answer; one without courses is none.
    """
    term = str(run.piece.scope[0])
    tries = 1

    async def restart() -> None:
        nonlocal tries
        tries += 1

    async def take(items: Sequence[CourseItem]) -> None:
        spool.append(Asked([_judged(item, term) for item in items]), request=f"try {tries}")

    async with run.sources.courses() as courses:
        account = await courses.fetch_term(term, take, restart=restart)
        source = SourceAccount(
            requests=courses.stats.requests,
            retries=courses.stats.retries,
            bytes_in=courses.stats.bytes_in,
            duration_s=round(account.seconds, 3),
        )
    spool.append(Asked([], source), request=f"try {tries}")
    # SnapLogic strews empty objects into its answers; many of them may stand in place of courses that are still there.
    complete = account.empty_objects <= run.lake.tolerances.empty * account.courses
    if account.empty_objects:
        consequence = "too few to matter" if complete else "so many that no course counts as gone"
        run.log(f"{account.empty_objects:,} empty objects stood among {account.courses:,} courses: {consequence}.")
    return Filled(named_all=complete, only=f"try {tries}")


def _judged(item: CourseItem, term: str) -> Answer:
    source = f"snaplogic/course term {term}, course {item.ordinal}"
    if item.rule is not None:
        return unusable(COURSE, item.rule, item.reason or "", source)
    return judge(COURSE, item.value, source)
