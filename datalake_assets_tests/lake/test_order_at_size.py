"""The days of a month of twenty thousand persons, loaded in any order: what small histories show, once at size.

Small histories of every kind are in `test_order_of_loads.py` and `test_history_properties.py`; Dagster's part of it
is in `integration/test_order_campus.py`.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest

from datalake_assets.entities import PERSON
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets_tests.lake.lakes import OPERATIONS, SmallLake, answer, person, tables_of
from datalake_assets_tests.lake.model import Day, Model

pytestmark = [pytest.mark.campaign, pytest.mark.anyio]

PERSONS = 20_000
DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(31)]
EVERY_DAY = PERSONS // 100
"""So many persons change on a day; a fifth of them leave, return, fail, or cannot be kept."""

INCOMPLETE = {DAYS[9], DAYS[20]}
"""Days whose population may lack somebody: nobody is removed."""

SERVICES = tuple(
    Service(name=name, description="Of a test only.", owner="team:test", paths=paths, requires=requires)
    for name, paths, requires in (
        ("full", ("/",), ()),
        ("mail", ("/personid", "/email/address"), ()),
        ("students", ("/personid", "/student"), ("/student/term",)),
        ("terms", ("/personid", "/student/grades/term"), ("/student",)),
    )
)


async def test_days_of_a_month_in_random_order_leave_the_tables_of_date_order(lake: SmallLake) -> None:
    """Invariant 1, for 20,000 persons: raw, xform and curated are a function of what was landed."""
    persons = lake.of(PERSON, services=SERVICES)
    model = Model.after({day: as_model(day, landed) for day, landed in month(persons)})
    order = random.Random(20260101).sample(DAYS, len(DAYS))  # noqa: S311 - drawn to be repeated, not to be secret
    assert order != sorted(order)
    prints = []
    for days in (DAYS, [*order, *order[:3]]):
        tables = ", ".join([*tables_of(PERSON), *OPERATIONS, "ops.person_filtered", "ops.person_touched"])
        await lake.connection.execute(f"truncate {tables}")
        for day in days:
            await persons.load(day)
        assert await change_points(persons) == [(key, day, what, found) for key, day, what, found in model.history]
        prints.append([await fingerprint(persons, table) for table in tables_of(PERSON)])
    assert prints[0] == prints[1]
    for rows, _ in prints[0]:
        assert rows > PERSONS * 0.9
    assert {operation for _, _, operation, _ in model.history} == {"I", "U", "D"}


async def change_points(lake: SmallLake) -> list[tuple[str, date, str, Any]]:
    """The history as the model tells it, of documents their digests."""
    rows = await lake.connection.fetch(f"select bu_uid, load_date, operation, digest from {PERSON.raw}")
    found = [(row[0], row[1], row[2].decode(), None if row[3] is None else {"digest": row[3]}) for row in rows]
    return sorted(found, key=lambda row: row[:2])


async def fingerprint(lake: SmallLake, table: str) -> tuple[int, int]:
    """How many rows there are, and a sum over what they hold, but for who wrote them and when."""
    row = await lake.connection.fetchrow(
        "select count(*), sum(hashtextextended((to_jsonb(t) - 'run_id' - 'loaded_at')::text, 0)::numeric)"
        f" from {table} as t"
    )
    return row[0], int(row[1])


# ------------------------------------------------------------------------------------------------- the month


def month(lake: SmallLake) -> Iterator[tuple[date, list[Answer]]]:
    """Land every day, one after the other.

    Yields:
        The day, and what was landed on it.
    """
    draw = random.Random(1)  # noqa: S311 - drawn to be repeated, not to be secret
    versions = dict.fromkeys(range(PERSONS), 0)
    gone: list[int] = []
    for day in DAYS:
        outcomes: dict[int, Outcome] = {}
        if day != DAYS[0]:
            for number in draw.sample(sorted(versions), EVERY_DAY):
                versions[number] += 1
            returning = draw.sample(gone, min(len(gone), EVERY_DAY // 20))
            leaving = draw.sample(sorted(versions), EVERY_DAY // 10)
            versions |= {number: draw.randrange(9) for number in returning}
            gone = [number for number in [*gone, *leaving] if number not in returning]
            versions = {number: version for number, version in versions.items() if number not in leaving}
            kinds = (Outcome.ABSENT, Outcome.FAILED, Outcome.QUARANTINED)
            outcomes = {number: draw.choice(kinds) for number in draw.sample(sorted(versions), EVERY_DAY // 10)}
        answers = [
            told_on(day, number, version, draw.random() < 0.01, outcomes.get(number))
            for number, version in versions.items()
            if day not in INCOMPLETE or draw.random() < 0.95
        ]
        draw.shuffle(answers)
        lake.land(day, answers, complete=day not in INCOMPLETE)
        yield day, answers


def told_on(day: date, number: int, version: int, is_shuffled: bool, outcome: Outcome | None) -> Answer:
    """What a source says of a person; where it came from tells the day, as it does of real sources."""
    source = f"day {day} person {number}"
    if outcome is None:
        return replace(told(number, version, is_shuffled), source=source)
    rule = None if outcome is Outcome.ABSENT else "test"
    return Answer(key=(key_of(number),), outcome=outcome, source=source, rule=rule)


@cache
def told(number: int, version: int, is_shuffled: bool) -> Answer:
    """A document of about a kilobyte, of whose arrays the order means nothing."""
    grades = [{"term": str(2200 + 5 * place), "grade": "ABCDF"[(number + place) % 5]} for place in range(20)]
    fields: dict[str, Any] = {"note": f"version {version} of {number}", "gpa": (number + version) % 400 / 100}
    if number % 3:
        fields["student"] = {"term": 2200 + version % 7, "grades": grades[::-1] if is_shuffled else grades}
    return answer(person(key_of(number), **fields), PERSON)


def key_of(number: int) -> str:
    return f"U{number:08}"


def as_model(day: date, landed: list[Answer]) -> Day:
    """The same as the model is told."""
    answers = {
        str(one.key[0]): {"digest": one.digest} if one.outcome is Outcome.DATA else one.outcome.value for one in landed
    }
    return Day(answers, complete=day not in INCOMPLETE)
