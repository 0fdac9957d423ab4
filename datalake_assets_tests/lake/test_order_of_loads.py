"""Every column of every table, whatever the order, repetition or moment of the loads.

What the rows must be is said by the model in `test_history_properties.py`; here loads are compared with loads.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import orjson
import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets import exact_json
from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer, judge
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.storage.postgres import PostgresError
from datalake_assets_tests.lake.lakes import SmallLake, outcome, term

pytestmark = pytest.mark.anyio

FIRST = date(2026, 1, 1)
KEYS = ("2251", "2255", "2258", "2261")

Day = tuple[dict[str, Any], bool]
"""Answers by key (fields of a document, or an outcome), and whether the population was complete."""

fields = st.fixed_dictionaries(
    {"DESCR": st.sampled_from(["Fall", "Summer"]), "CURRENT_IND": st.sampled_from(["Y", "N"])},
    optional={"LIST": st.sampled_from([[1, 2], [2, 1], [1]])},
)
answers = st.one_of(fields, fields, st.sampled_from([Outcome.ABSENT, Outcome.FAILED, Outcome.QUARANTINED]))
days = st.tuples(st.dictionaries(st.sampled_from(KEYS), answers, max_size=4), st.booleans())


def with_one_current_term(found: dict[str, Any]) -> Day:
    """A day on which every key is there and the second is current, so that a selection exists."""
    return {key: {**document, "CURRENT_IND": "Y" if key == KEYS[1] else "N"} for key, document in found.items()}, True


opening = st.fixed_dictionaries(dict.fromkeys(KEYS, fields)).map(with_one_current_term)


@st.composite
def histories(draw: st.DrawFn, most: int) -> dict[date, Day]:
    """Some days, of which the first brings every key and one current term."""
    found = [draw(opening), *draw(st.lists(days, min_size=1, max_size=most))]
    return {FIRST + timedelta(days=index): day for index, day in enumerate(found)}


@st.composite
def histories_with_orders(draw: st.DrawFn) -> tuple[dict[date, Day], list[date]]:
    history = draw(histories(most=4))
    return history, [*draw(st.permutations(list(history))), *draw(st.lists(st.sampled_from(list(history)), max_size=2))]


@st.composite
def histories_with_revisions(draw: st.DrawFn) -> tuple[dict[date, Day], date, Day]:
    history = draw(histories(most=3))
    return history, draw(st.sampled_from(list(history)[1:])), draw(days)


def answer_of(day: date, key: str, answer: Any) -> Answer:
    """An answer whose source pointer tells the day, as those of real sources do."""
    if isinstance(answer, Outcome):
        return outcome(key, answer)
    return judge(TERM, exact_json.loads(orjson.dumps(term(key, **answer))), f"query of {day} row {key}")


def land(lake: SmallLake, day: date, what: Day) -> None:
    found, complete = what
    lake.land(day, [answer_of(day, key, answer) for key, answer in found.items()], complete=complete)


async def loaded(lake: SmallLake, history: dict[date, Day], order: Sequence[date]) -> dict[str, list[str]]:
    """Tables after landing a history and loading its days in an order."""
    await lake.empty()
    for day, what in history.items():
        land(lake, day, what)
    for day in order:
        await lake.load_raw(day)
    for day in order[-2:]:
        await lake.load_xform(day)
        await lake.load_curated(day)
    return await lake.contents()


@given(histories_with_orders())
@settings(deadline=None, max_examples=30)
async def test_every_column_is_the_same_in_any_order_and_repetition(
    module_lake: SmallLake, drawn: tuple[dict[date, Day], list[date]]
) -> None:
    """Invariant 1: a document that a mended change point shows, and where it came from, are those of its own day."""
    history, order = drawn
    expected = await loaded(module_lake, history, list(history))
    assert await loaded(module_lake, history, order) == expected


@given(histories_with_revisions())
@settings(deadline=None, max_examples=15)
async def test_a_day_landed_anew_leaves_nothing_of_what_it_said_before(
    module_lake: SmallLake, drawn: tuple[dict[date, Day], date, Day]
) -> None:
    """Invariant 1: the tables are a function of the current snapshots, not of those that were there once."""
    history, revised, again = drawn
    expected = await loaded(module_lake, {**history, revised: again}, list(history))
    await loaded(module_lake, history, list(history))
    land(module_lake, revised, again)
    await module_lake.load(revised)
    assert await module_lake.contents() == expected


async def test_a_mended_change_point_shows_the_document_of_its_own_day(lake: SmallLake) -> None:
    """Invariant 1: an equal document of another day may hold its arrays in another order."""
    history: dict[date, Day] = {
        FIRST: ({"2251": {"CURRENT_IND": "Y", "LIST": [1, 2]}}, True),
        FIRST + timedelta(days=1): ({"2251": Outcome.ABSENT}, True),
        FIRST + timedelta(days=2): ({"2251": {"CURRENT_IND": "Y", "LIST": [2, 1]}}, True),
    }
    first, second, third = history
    expected = await loaded(lake, history, [first, second, third])
    assert await loaded(lake, history, [first, third, second]) == expected
    assert [document and document["LIST"] for _, _, _, document in await lake.history()] == [[1, 2], None, [2, 1]]


async def test_a_snapshot_that_keeps_digests_only_still_proves_history(lake: SmallLake) -> None:
    """Invariant 1: snapshots are thinned with age; a document that repeated an earlier one is found in the history."""
    first, second, third = (FIRST + timedelta(days=number) for number in range(3))
    good = answer_of(first, "2251", {"CURRENT_IND": "Y"})
    lake.land(first, [good])
    lake.land(third, [replace(good, document=None)])
    await lake.load_raw(first)
    await lake.load_raw(third)
    lake.land(second, [outcome("2251", Outcome.ABSENT)])
    await lake.load_raw(second)
    found = [(day, operation, document) for _, day, operation, document in await lake.history()]
    document = orjson.loads(good.document or b"")
    assert found == [(first, "I", document), (second, "D", None), (third, "I", document)]


async def test_a_document_that_was_never_kept_is_not_made_up(lake: SmallLake) -> None:
    lake.land(FIRST, [replace(answer_of(FIRST, "2251", {"CURRENT_IND": "Y"}), document=None)])
    with pytest.raises(PostgresError, match="CheckViolationError"):
        await lake.load_raw(FIRST)
    assert await lake.history() == []


@pytest.mark.parametrize(
    ("moment", "machine", "database"),
    [
        ("2026-03-08T06:59:59Z", "America/New_York", "America/New_York"),
        ("2026-11-01T05:30:00Z", "Pacific/Kiritimati", "Pacific/Pago_Pago"),
        ("1999-12-31T23:59:59Z", "Asia/Tokyo", "Asia/Tokyo"),
        ("2040-02-29T12:00:00Z", "UTC", "Pacific/Kiritimati"),
    ],
)
async def test_tables_do_not_depend_on_the_moment_or_the_zone_of_a_load(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch, moment: str, machine: str, database: str
) -> None:
    """Invariant 9: a load at 23:59 in another zone, on a night with a clock change, or years later ends in the same."""
    good = {"DESCR": "Fall", "CURRENT_IND": "N"}
    history: dict[date, Day] = {
        FIRST: with_one_current_term(dict.fromkeys(KEYS, good)),
        FIRST + timedelta(days=1): ({"2251": {**good, "DESCR": "Summer"}, "2255": Outcome.FAILED}, True),
        FIRST + timedelta(days=2): ({"2258": good, "2261": Outcome.ABSENT}, False),
    }
    expected = await loaded(lake, history, list(history))
    monkeypatch.setenv("TZ", machine)
    await lake.connection.execute("select set_config('TimeZone', $1, false)", database)
    try:
        with time_machine.travel(datetime.fromisoformat(moment)):
            assert await loaded(lake, history, list(history)[::-1]) == expected
    finally:
        await lake.connection.execute("reset timezone")
