"""Stale data and a growing quarantine, told from a real lake by a clock that tests set."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from datalake_assets.clock import CAMPUS_ZONE, Clock
from datalake_assets.entities import ENTITIES, TERM
from datalake_assets.lake.checks import Lake, checks_of
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.notify import store
from datalake_assets.notify.model import Notification
from datalake_assets.notify.watch import FRESHNESS_CHECK, look_at_freshness, look_at_quarantine
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.notify.troubles import NOW

pytestmark = pytest.mark.anyio

TABLES = (TERM.raw, TERM.xform, TERM.curated)


@dataclass(frozen=True)
class FixedClock(Clock):
    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment


async def loaded(connection: asyncpg.Connection, *days: date, tables: tuple[object, ...] = TABLES) -> None:
    for day in days:
        for table in tables:
            receipt = Receipt(str(table), day.isoformat(), "run", load_date=day)
            attempt = await Ledger().begin(connection, str(table), day.isoformat(), "run")
            await Ledger().write(connection, receipt, attempt)


async def look(connection: asyncpg.Connection, tmp_path: Path, moment: datetime, rehearsed: date | None = None) -> None:
    landing = Landing(ParquetStore(str(tmp_path)), TERM)
    clock = FixedClock(rehearsed, moment=moment)
    await look_at_freshness(Lake(connection, landing, (), Tolerances(0, 0, 0), clock), TERM)


async def rows(connection: asyncpg.Connection) -> list[Notification]:
    return [kept for kept, _ in await store.listing(connection, open_only=False)]


def local(day: date, hour: int, minute: int = 0, fold: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=CAMPUS_ZONE, fold=fold).astimezone(UTC)


def test_the_freshness_check_has_the_name_that_is_looked_for() -> None:
    """Under another name it would be told by every run and by nobody in between."""
    for entity in ENTITIES:
        assert [check.layer for check in checks_of(entity) if check.name == FRESHNESS_CHECK] == [
            "raw",
            "xform",
            "curated",
        ]


@pytest.mark.parametrize(
    ("day", "fresh_until"),
    [
        pytest.param(date(2026, 1, 15), local(date(2026, 1, 15), 7), id="winter: 01:00 and six hours"),
        pytest.param(date(2026, 3, 8), local(date(2026, 3, 8), 8), id="the day of 23 hours: 01:00 and six hours"),
        pytest.param(date(2026, 11, 1), local(date(2026, 11, 1), 6), id="the day of 25 hours: 01:00 and six hours"),
    ],
)
async def test_data_is_stale_from_the_end_of_the_grace_on(
    connection: asyncpg.Connection, tmp_path: Path, day: date, fresh_until: datetime
) -> None:
    """An hour off on a day of the clock change would wake somebody for nothing, or not at all."""
    await loaded(connection, day - timedelta(days=1))
    await look(connection, tmp_path, fresh_until - timedelta(minutes=1))
    assert await rows(connection) == []
    await look(connection, tmp_path, fresh_until + timedelta(minutes=1))
    (stale,) = await rows(connection)
    assert (stale.kind, stale.severity, stale.owner) == ("stale", "error", TERM.owner)
    assert (stale.asset, stale.partition, stale.first_seen_at) == ("term_raw.term_data", day.isoformat(), fresh_until)
    assert f"The newest load date is {day - timedelta(days=1)}; {day} is due." in stale.text


async def test_looking_every_few_minutes_counts_a_date_once(connection: asyncpg.Connection, tmp_path: Path) -> None:
    await loaded(connection, date(2026, 1, 14))
    for minute in (1, 6, 11):
        await look(connection, tmp_path, local(date(2026, 1, 15), 7, minute))
    assert [stale.times_seen for stale in await rows(connection)] == [1]
    await look(connection, tmp_path, local(date(2026, 1, 16), 7, 1))
    (stale,) = await rows(connection)
    assert (stale.times_seen, stale.partition) == (2, "2026-01-16")


async def test_a_load_of_an_older_date_does_not_make_data_fresh_and_the_due_one_does(
    connection: asyncpg.Connection, tmp_path: Path
) -> None:
    """Dagster's own freshness looks at the newest materialization: a backfill would turn it green."""
    await loaded(connection, date(2026, 1, 13))
    await look(connection, tmp_path, local(date(2026, 1, 15), 8))
    await loaded(connection, date(2026, 1, 12))
    await look(connection, tmp_path, local(date(2026, 1, 15), 9))
    assert [stale.state for stale in await rows(connection)] == ["unsent"]
    await loaded(connection, date(2026, 1, 15))
    await look(connection, tmp_path, local(date(2026, 1, 15), 10))
    assert [stale.state for stale in await rows(connection)] == ["resolved"]


async def test_a_layer_that_stays_behind_is_told_by_its_table(connection: asyncpg.Connection, tmp_path: Path) -> None:
    await loaded(connection, date(2026, 1, 14))
    await loaded(connection, date(2026, 1, 15), tables=(TERM.raw, TERM.xform))
    await look(connection, tmp_path, local(date(2026, 1, 15), 8))
    assert [stale.asset for stale in await rows(connection)] == ["term_curated.term_data_by_service"]


async def test_what_was_never_loaded_is_not_stale(connection: asyncpg.Connection, tmp_path: Path) -> None:
    """An entity that is not in use would be told for ever; one whose first load fails is told by its run."""
    await look(connection, tmp_path, local(date(2026, 1, 15), 8))
    assert await rows(connection) == []


# -------------------------------------------------------------------------------------------------- quarantine


async def quarantined(connection: asyncpg.Connection, count: int, entity: str = "term") -> None:
    """Make so many documents stand open."""
    await connection.execute("delete from ops.quarantine where entity = $1", entity)
    await connection.execute(
        "insert into ops.quarantine (entity, load_date, document_key, rule, reason, source, fingerprint, run_id,"
        " first_seen_at) select $1, '2026-01-02', '{}', 'r', 'r', 's', decode(lpad(to_hex(n), 8, '0'), 'hex'), 'run',"
        " now() from generate_series(1, $2) as n",
        entity,
        count,
    )


async def story(connection: asyncpg.Connection, tolerated: int, *counts: int) -> list[int]:
    """How often the quarantine was told of after each look."""
    level: dict[str, int] = {}
    seen = []
    for hour, count in enumerate(counts):
        await quarantined(connection, count)
        level = await look_at_quarantine(connection, level, tolerated, NOW + timedelta(hours=hour))
        seen.append(sum(kept.times_seen for kept in await rows(connection)))
    return seen


async def test_a_quarantine_that_grew_beyond_the_tolerance_is_told(connection: asyncpg.Connection) -> None:
    assert await story(connection, 5, 0, 5, 11, 11, 12) == [0, 0, 1, 1, 1]
    (grew,) = await rows(connection)
    assert (grew.kind, grew.severity, grew.subject, grew.owner) == ("quarantine", "warn", "term", TERM.owner)
    assert "11 documents are in quarantine, 11 more than when it was last told." in grew.text


async def test_slow_growth_adds_up(connection: asyncpg.Connection) -> None:
    """One document a night within the tolerance of every night would never be told."""
    assert await story(connection, 2, 1, 2, 3, 4, 5, 6) == [0, 0, 1, 1, 1, 2]


async def test_growth_counts_from_the_lowest_since(connection: asyncpg.Connection) -> None:
    assert await story(connection, 2, 10, 4, 7) == [1, 1, 2]


async def test_a_quarantine_that_was_worked_off_is_over(connection: asyncpg.Connection) -> None:
    assert await story(connection, 2, 10, 3) == [1, 1]
    assert [kept.state for kept in await rows(connection)] == ["unsent"]
    await quarantined(connection, 0)
    assert await look_at_quarantine(connection, {"term": 3}, 2, NOW + timedelta(days=1)) == {}
    assert [kept.state for kept in await rows(connection)] == ["resolved"]


async def test_each_entity_grows_by_itself(connection: asyncpg.Connection) -> None:
    await quarantined(connection, 3)
    await quarantined(connection, 1, "clicks")
    level = await look_at_quarantine(connection, {"term": 3}, 0, NOW)
    assert level == {"term": 3, "clicks": 1}
    assert [(kept.subject, kept.owner) for kept in await rows(connection)] == [("clicks", "team:data-engineering")]
