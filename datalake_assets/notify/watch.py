"""Troubles that no run tells of: data that is not as new as it should be, and a quarantine that grows.

How new data must be is known by the freshness checks of `lake/checks.py`; nothing of it is repeated here. Troubles
of runs are found by `datalake_assets/notifications.py`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import asyncpg

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.entities import ENTITIES, Entity
from datalake_assets.lake.checks import GRACE, Lake, checks_of, expected_date
from datalake_assets.notify import store
from datalake_assets.notify.model import DEFAULT_OWNER, Trouble
from datalake_assets.statements import statement

FRESHNESS_CHECK: Final = "is_fresh"
"""The check that data is as new as it should be: told once per entity and due date, whatever runs."""


async def look_at_freshness(lake: Lake, entity: Entity) -> bool:
    """Record an entity whose newest date is older than the one that is due, or that it is fresh again.

    An entity that was never loaded is not stale: its runs fail, or it is not in use.

    Args:
        lake: What its checks look at.
        entity: Which entity.

    Returns:
        Whether anything was recorded.
    """
    now = lake.clock.now()
    due = lake.clock.rehearsed or expected_date(entity, now)
    for check in checks_of(entity):
        if check.name != FRESHNESS_CHECK:
            continue
        verdict = await check.evaluate(lake, due)
        if verdict.passed or not verdict.numbers.get("days_late"):
            continue
        # Layers follow each other, so the first that is late says all.
        start = datetime(due.year, due.month, due.day, entity.load_hour, tzinfo=CAMPUS_ZONE).timestamp()
        trouble = Trouble(
            kind="stale",
            severity="error",
            owner=entity.owner,
            subject=entity.name,
            asset=str(check.table),
            partition=due.isoformat(),
            what=verdict.summary,
            where=f"{check.table}, {verdict.numbers['days_late']} days late",
            todo=f"See whether the schedule {entity.name}_daily runs and how its last run ended, then run it.",
        )
        # Seen when it fell due, so that looking every few minutes counts a date once.
        return await store.record(lake.connection, trouble, datetime.fromtimestamp(start, UTC) + GRACE)
    return await store.resolve_all(lake.connection, "stale", entity.name, at=now, by="freshness")


async def look_at_quarantine(
    connection: asyncpg.Connection, told: Mapping[str, int], tolerated: int, now: datetime
) -> dict[str, int]:
    """Record quarantines that grew by more than is tolerated since they were last told of, or shrank again.

    Growth adds up until it is told, so one document a night is not overlooked for ever.

    Args:
        connection: The lake.
        told: Open documents by entity, as the last look returned them.
        tolerated: How many more documents are no news.
        now: The moment.

    Returns:
        What to pass as `told` next time.
    """
    rows = await connection.fetch(statement("doctor/open_quarantine.sql"))
    found = {row["entity"]: row["documents"] for row in rows}
    owners = {entity.name: entity.owner for entity in ENTITIES}
    level: dict[str, int] = {}
    for name in sorted(found.keys() | told.keys()):
        count, before = found.get(name, 0), told.get(name, 0)
        level[name] = min(count, before)
        if count - before > tolerated:
            level[name] = count
            trouble = Trouble(
                kind="quarantine",
                severity="warn",
                owner=owners.get(name, DEFAULT_OWNER),
                subject=name,
                what=f"{count} documents are in quarantine, {count - before} more than when it was last told.",
                where=f"entity {name}, table ops.quarantine",
                todo=f"Run `datalake quarantine list --entity {name}`, then mend the source or the rule.",
            )
            await store.record(connection, trouble, now)
        elif count <= tolerated:
            await store.resolve_all(connection, "quarantine", name, at=now, by="quarantine")
    return {name: count for name, count in level.items() if count}
