"""Invariants 1, 2, 5 and 9 over random histories, against a model of a few lines."""

import asyncio
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.lake.documents import Answer
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets_tests.lake.lakes import SmallLake, answer, outcome, small_lake, term
from datalake_assets_tests.lake.model import Day, Model

FIRST = date(2026, 1, 1)
KEYS = ("2251", "2255", "2258", "2261")

NAMES = Service(
    name="names",
    description="Names of terms, for the properties.",
    owner="team:test",
    paths=("/STRM", "/DESCR"),
    requires=("/DESCR",),
)

documents = st.sampled_from(["Fall", "Spring", None, ""]).map(lambda descr: {"DESCR": descr})
poison = st.sampled_from(["\0", "x" * 21, 17, {"deep": 1}])
answers = st.one_of(
    documents,
    documents,
    st.sampled_from(["absent", "failed", "quarantined"]),
    poison.map(lambda value: {"POISON": value}),
)
days = st.builds(Day, answers=st.dictionaries(st.sampled_from(KEYS), answers, max_size=4), complete=st.booleans())
histories = st.lists(days, min_size=1, max_size=5)


def landed(key: str, value: Any) -> Answer:
    if isinstance(value, str):
        return outcome(key, Outcome(value))
    if "POISON" in value:
        return answer(term(key, value["POISON"]))
    return answer(term(key, value["DESCR"]))


def as_model(day: Day) -> Day:
    return Day(
        answers={
            key: value if isinstance(value, str) else "quarantined" if "POISON" in value else term(key, value["DESCR"])
            for key, value in day.answers.items()
        },
        complete=day.complete,
    )


@pytest.mark.parametrize("layer", ["all"])
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_any_order_and_repetition_of_days_gives_the_history_of_the_model(lake_address, layer, data):
    """Invariants 1, 2 and 5: raw, xform and curated are functions of the snapshots, whatever the order of loads."""
    history = data.draw(histories)
    dates = [FIRST + timedelta(days=index) for index in range(len(history))]
    order = data.draw(st.permutations(dates))
    repeated = data.draw(st.lists(st.sampled_from(dates), max_size=3))
    asyncio.run(_check(lake_address, dict(zip(dates, history, strict=True)), [*order, *repeated]))


@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_a_day_landed_anew_replaces_what_its_first_snapshot_said(lake_address, data):
    """Invariant 1: a partition's later snapshot counts, and change points after it are mended."""
    history = data.draw(histories)
    dates = [FIRST + timedelta(days=index) for index in range(len(history))]
    again = data.draw(st.sampled_from(dates))
    revised = data.draw(days)
    order = data.draw(st.permutations(dates))
    asyncio.run(_check(lake_address, dict(zip(dates, history, strict=True)), list(order), revision=(again, revised)))


async def _check(
    address: Any, history: dict[date, Day], order: list[date], revision: tuple[date, Day] | None = None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with small_lake(address, Path(folder)) as lake:
            await lake.empty()
            lake.services = (NAMES,)
            for day, what in history.items():
                _land(lake, day, what)
            for day in order:
                await lake.load(day)
            if revision is not None:
                day, what = revision
                history = {**history, day: what}
                _land(lake, day, what)
                await lake.load(day)
            model = Model.after({day: as_model(what) for day, what in history.items()})
            assert await lake.history() == model.history
            current = await lake.rows("term_xform.current_term_data", "strm", "descr", "load_date")
            last = {key: day for key, day, _, _ in model.history}
            assert current == sorted(
                ((key, document["DESCR"], last[key]) for key, document in model.state.items()),
                key=lambda row: row[0],
            )
            curated = await lake.rows("term_curated.term_data_by_service", "strm", "descr", "load_date")
            assert curated == [row for row in current if row[1] is not None]


def _land(lake: SmallLake, day: date, what: Day) -> None:
    lake.land(day, [landed(key, value) for key, value in what.answers.items()], complete=what.complete)


def test_the_model_itself_tells_inserts_updates_and_deletes_apart():
    """A model that says nothing would let every engine pass."""
    day = [FIRST + timedelta(days=index) for index in range(4)]
    model = Model.after(
        {
            day[0]: Day({"a": {"x": 1}, "b": {"x": 1}}),
            day[1]: Day({"a": {"x": 2}, "b": "failed"}),
            day[2]: Day({}, complete=False),
            day[3]: Day({"a": "absent"}),
        }
    )
    assert model.history == [
        ("a", day[0], "I", {"x": 1}),
        ("a", day[1], "U", {"x": 2}),
        ("a", day[3], "D", None),
        ("b", day[0], "I", {"x": 1}),
        ("b", day[3], "D", None),
    ]
    assert orjson.dumps(model.state) == b"{}"
