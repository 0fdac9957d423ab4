import asyncpg
import pytest

from datalake_assets.notify import store
from datalake_assets.notify.model import Notification
from datalake_assets.notify.store import REMIND_AFTER, NotificationError
from datalake_assets_tests.notify.troubles import DAY, HOUR, NOW, trouble

pytestmark = pytest.mark.anyio


async def rows(connection: asyncpg.Connection, *, open_only: bool = False) -> list[Notification]:
    return [notification for notification, _ in await store.listing(connection, open_only=open_only)]


async def tell_all(connection: asyncpg.Connection, at: object = NOW) -> int:
    owed = await store.owed(connection)
    for notification, _ in owed:
        await store.delivered(connection, [notification], "webhook:default", at=at, error=None)  # type: ignore[arg-type]
        await store.told(connection, notification, at=at)  # type: ignore[arg-type]
    return len(owed)


async def test_a_trouble_is_kept_with_all_that_one_needs_to_act(connection: asyncpg.Connection) -> None:
    assert await store.record(connection, trouble(owner="team:registrar"), NOW)
    (kept,) = await rows(connection)
    assert (kept.kind, kept.severity, kept.owner, kept.asset) == (
        "run_failed",
        "error",
        "team:registrar",
        "term_raw.term_data",
    )
    assert (kept.partition, kept.run_id, kept.times_seen, kept.state) == ("2026-01-02", "run-1", 1, "unsent")
    assert (kept.first_seen_at, kept.last_seen_at) == (NOW, NOW)
    assert kept.title == "Run failed: term_raw.term_data"
    assert kept.text == trouble().text


async def test_the_same_trouble_the_next_day_only_counts(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    assert await tell_all(connection) == 1
    assert await store.record(connection, trouble(partition="2026-01-03", run_id="run-2", what="Again."), NOW + DAY)
    assert await store.owed(connection) == []
    (kept,) = await rows(connection)
    assert (kept.times_seen, kept.first_seen_at, kept.last_seen_at) == (2, NOW, NOW + DAY)
    assert (kept.partition, kept.run_id) == ("2026-01-03", "run-2")
    assert kept.text.startswith("Again.")
    assert kept.open_partitions == ("2026-01-02", "2026-01-03")


async def test_a_trouble_that_lasts_is_told_again_after_the_window(connection: asyncpg.Connection) -> None:
    """Otherwise a message that nobody read in January would silence the trouble of March."""
    await store.record(connection, trouble(), NOW)
    await tell_all(connection)
    await store.record(connection, trouble(run_id="run-2"), NOW + REMIND_AFTER - HOUR)
    assert await store.owed(connection) == []
    await store.record(connection, trouble(run_id="run-3"), NOW + REMIND_AFTER)
    ((kept, taken),) = await store.owed(connection)
    assert (kept.times_seen, taken) == (3, frozenset())
    await tell_all(connection, NOW + REMIND_AFTER + HOUR)
    await store.record(connection, trouble(run_id="run-4"), NOW + REMIND_AFTER + DAY)
    assert await store.owed(connection) == []


async def test_a_sighting_that_is_recorded_again_changes_nothing(connection: asyncpg.Connection) -> None:
    """A tick that dies after recording is repeated, with all its runs."""
    story = [(trouble(), NOW), (trouble(partition="2026-01-03", run_id="run-2"), NOW + HOUR)]
    for seen, at in story:
        await store.record(connection, seen, at)
    assert [await store.record(connection, seen, at) for seen, at in story] == [False, False]
    assert [kept.times_seen for kept in await rows(connection)] == [2]
    # The end of one run, told twice, is one sighting too.
    assert not await store.record(connection, story[1][0], NOW + 2 * HOUR)


async def test_a_trouble_that_was_resolved_and_returns_is_a_new_one(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    await tell_all(connection)
    over = {"at": NOW + HOUR, "by": "run-2"}
    assert await store.resolve(connection, ["run_failed"], "term_raw.term_data", "2026-01-02", **over)
    assert [kept.state for kept in await rows(connection)] == ["resolved"]
    # Told once more by a repeated tick, it stays resolved...
    assert not await store.record(connection, trouble(), NOW)
    assert await rows(connection, open_only=True) == []
    # ...and seen again later, it is told again.
    assert await store.record(connection, trouble(run_id="run-3"), NOW + DAY)
    (new,) = await rows(connection, open_only=True)
    assert (new.times_seen, new.first_seen_at, new.state) == (1, NOW + DAY, "unsent")
    assert len(await rows(connection)) == 2


async def test_a_trouble_is_over_when_every_partition_is_good_again(connection: asyncpg.Connection) -> None:
    """One good day after a week of failures would otherwise hide that six days are missing."""
    await store.record(connection, trouble(), NOW)
    await store.record(connection, trouble(partition="2026-01-03", run_id="run-2"), NOW + HOUR)
    subject = "term_raw.term_data"
    assert not await store.resolve(connection, ["run_failed"], subject, "2026-01-04", at=NOW + DAY, by="run-3")
    assert await store.resolve(connection, ["run_failed"], subject, "2026-01-03", at=NOW + DAY, by="run-4")
    (kept,) = await rows(connection, open_only=True)
    assert kept.open_partitions == ("2026-01-02",)
    assert await store.resolve(connection, ["run_failed"], subject, "2026-01-02", at=NOW + DAY, by="run-5")
    (kept,) = await rows(connection)
    assert (kept.state, kept.resolved_at, kept.resolved_by) == ("resolved", NOW + DAY, "run-5")


async def test_a_success_from_before_the_failure_resolves_nothing(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    before = {"at": NOW - HOUR, "by": "run-0"}
    assert not await store.resolve(connection, ["run_failed"], "term_raw.term_data", "2026-01-02", **before)


async def test_a_success_of_one_kind_leaves_the_others_open(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(kind="check_failed"), NOW)
    over = {"at": NOW + HOUR, "by": "run-2"}
    assert not await store.resolve(connection, ["run_failed"], "term_raw.term_data", "2026-01-02", **over)


async def test_what_no_run_will_ever_end_is_closed_by_hand(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    (kept,) = await rows(connection)
    await store.close(connection, kept.number, at=NOW + HOUR, by="somebody")
    assert await store.owed(connection) == []
    with pytest.raises(NotificationError, match=f"There is no open notification {kept.number}"):
        await store.close(connection, kept.number, at=NOW + HOUR, by="somebody")
