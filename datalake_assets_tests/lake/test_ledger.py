"""Receipts as numbers for Dagster, attempts, and the permissions that operators give."""

from datetime import date
from typing import Any

import pytest

from datalake_assets.lake.ledger import METADATA_NAMES, Ledger, Receipt, SupersededError
from datalake_assets.lake.outcomes import Outcomes
from datalake_assets_tests.lake.lakes import SmallLake

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"rows_total": 5}, {"dagster/row_count": 5}),
        (
            {"rows_new": 1, "rows_changed": 2, "rows_removed": 3, "rows_unchanged": 4, "duration_s": 2.0},
            {
                "lake/rows_new": 1,
                "lake/rows_changed": 2,
                "lake/rows_removed": 3,
                "lake/rows_unchanged": 4,
                "lake/duration_s": 2.0,
                "lake/rows_per_s": 5.0,
            },
        ),
        (
            {"outcomes": Outcomes(asked=10, data=9, quarantined=1), "requests": 3, "retries": 1, "duration_s": 4.0},
            {
                "lake/rows_quarantined": 1,
                "lake/requests": 3,
                "lake/retries": 1,
                "lake/duration_s": 4.0,
                "lake/rows_per_s": 2.5,
            },
        ),
        ({"duration_s": 0.0, "rows_new": 0}, {"lake/rows_new": 0, "lake/duration_s": 0.0}),
    ],
)
def test_numbers_have_stable_names_and_none_is_made_up(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Dagster plots them over years; a number without a meaning for a layer is left out instead of being zero."""
    assert Receipt(asset="a.b", partition="p", run_id="r", **fields).metadata() == expected


def test_the_names_are_those_of_the_design() -> None:
    assert set(METADATA_NAMES.values()) == {
        "lake/rows_new",
        "lake/rows_changed",
        "lake/rows_removed",
        "lake/rows_unchanged",
        "lake/rows_quarantined",
        "lake/requests",
        "lake/retries",
        "lake/bytes_in",
        "lake/duration_s",
    }


async def test_attempts_are_counted_for_each_slice(lake: SmallLake) -> None:
    ledger = Ledger()
    numbers = [
        await ledger.begin(lake.connection, asset, partition, "run")
        for asset, partition in (("a.b", "1"), ("a.b", "1"), ("a.b", "2"), ("a.c", "1"), ("a.b", "1"))
    ]
    assert numbers == [1, 2, 1, 1, 3]


async def test_a_slice_that_nobody_began_cannot_be_committed(lake: SmallLake) -> None:
    """Invariant 11: somebody may have emptied the table of attempts under a running load."""
    with pytest.raises(SupersededError, match="Attempt 1 is no longer the latest: nobody loads this slice now"):
        await Ledger().check_fence(lake.connection, "a.b", "1", 1)


async def test_a_superseded_attempt_writes_no_receipt(lake: SmallLake) -> None:
    ledger = Ledger()
    first = await ledger.begin(lake.connection, "a.b", "1", "run-1")
    second = await ledger.begin(lake.connection, "a.b", "1", "run-2")
    for write in (
        ledger.write(lake.connection, Receipt(asset="a.b", partition="1", run_id="run-1"), first),
        ledger.commit(lake.connection, "a.b", "1", first, 7),
    ):
        with pytest.raises(SupersededError, match="run run-2 loads this slice now"):
            await write
    await ledger.commit(lake.connection, "a.b", "1", second, 7)
    assert await lake.rows("ops.receipt", "attempt", "rows_total") == [(2, 7)]


async def test_later_dates_are_told_with_the_snapshot_of_their_last_load(lake: SmallLake) -> None:
    """Invariant 1: mending follows the dates, and each date as it was loaded last."""
    ledger = Ledger()
    for day, sha256 in ((D3, "c"), (D1, "a"), (D2, "old"), (D2, "b")):
        attempt = await ledger.begin(lake.connection, "a.b", str(day), "run")
        receipt = Receipt("a.b", str(day), "run", load_date=day, snapshot_sha256=sha256)
        await ledger.write(lake.connection, receipt, attempt)
    other = Receipt("a.b", "other scope", "run", load_date=D3, scope="2258", snapshot_sha256="x")
    await ledger.write(lake.connection, other, await ledger.begin(lake.connection, "a.b", "other scope", "run"))
    assert await ledger.loaded_after(lake.connection, "a.b", "", D1) == [(D2, "b"), (D3, "c")]
    assert await ledger.loaded_after(lake.connection, "a.b", "", D3) == []
    assert await ledger.loaded_after(lake.connection, "a.b", "2258", D1) == [(D3, "x")]
    assert await ledger.loaded_after(lake.connection, "a.c", "", D1) == []


async def test_a_permission_is_told_with_its_reason(lake: SmallLake) -> None:
    ledger = Ledger()
    await lake.connection.execute(
        "insert into ops.guard_override values ('a.b', '1', 'volume', 'The registrar confirmed it.', 'operator', now())"
    )
    assert await ledger.override(lake.connection, "a.b", "1", "volume") == "The registrar confirmed it."
    assert await ledger.override(lake.connection, "a.b", "2", "volume") is None
    assert await ledger.override(lake.connection, "a.b", "1", "other") is None


async def test_an_older_run_cannot_supersede_a_younger_one(lake: SmallLake) -> None:
    """Invariant 11: each of two runs would win at another table, and in the end none would have loaded everything."""
    ledger = Ledger()
    await ledger.begin(lake.connection, "a.one", "p", "older")
    await ledger.begin(lake.connection, "a.two", "p", "younger")
    await ledger.begin(lake.connection, "a.one", "p", "younger")
    with pytest.raises(SupersededError, match="Run older is no longer the latest: run younger loads this slice now"):
        await ledger.begin(lake.connection, "a.two", "p", "older")
    await ledger.write(lake.connection, Receipt(asset="a.two", partition="p", run_id="younger"), 1)


async def test_an_older_run_may_load_again_what_a_younger_one_has_committed(lake: SmallLake) -> None:
    ledger = Ledger()
    await ledger.begin(lake.connection, "a.one", "p", "older")
    await ledger.begin(lake.connection, "a.two", "p", "younger")
    await ledger.write(lake.connection, Receipt(asset="a.two", partition="p", run_id="younger"), 1)
    assert await ledger.begin(lake.connection, "a.two", "p", "older") == 2
