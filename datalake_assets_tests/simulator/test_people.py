from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.days import days_between
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.people import People
from datalake_assets.simulator.terms import TermPopulation

START = date(2026, 11, 20)


def people(**knobs: Any) -> People:
    config = Config.of({"scenario_start": START, "persons": 2000, **knobs})
    return People(config, TermPopulation(config))


@pytest.fixture(scope="module")
def everybody() -> People:
    return people()


def ids(population: People, day: date) -> set[str]:
    return {person.id for person in population.on(day)}


def test_a_day_is_the_same_whatever_was_asked_before() -> None:
    forth, back = people(), people()
    days = [START + timedelta(days=number) for number in (0, 5, 40)]
    seen = {day: forth.on(day) for day in days}
    assert {day: back.on(day) for day in reversed(days)} == seen
    versions = {one.id: forth.version(one.id, days[2]) for one in seen[days[2]]}
    assert versions == {person_id: back.version(person_id, days[2]) for person_id in reversed(list(versions))}


def test_other_seeds_have_other_people() -> None:
    # A few ids are drawn for both.
    assert len(ids(people(seed=1), START) & ids(people(seed=2), START)) < 20


def test_the_first_day_has_as_many_as_asked_for_and_before_it_nothing_happens(everybody: People) -> None:
    assert len(ids(everybody, START)) == 2000
    assert everybody.on(START - timedelta(days=300)) == everybody.on(START)
    assert {everybody.version(one.id, START).number for one in everybody.on(START)} == {0}


def test_ids_are_sorted_and_look_like_ids(everybody: People) -> None:
    listed = [person.id for person in everybody.on(START)]
    assert listed == sorted(set(listed))
    assert all(len(one) == 9 and one[0] == "U" and one[1:].isdigit() for one in listed)


def test_somebody_is_found_by_id_exactly_while_there() -> None:
    population = people(person_removed_rate=0.05, person_new_rate=0.05)
    last = START + timedelta(days=30)
    known = set().union(*(ids(population, day) for day in days_between(START, last)))
    for day in (START, last):
        found = {person_id for person_id in known if population.named(person_id, day)}
        assert found == ids(population, day) != known


@pytest.mark.parametrize("person_id", ["", "U", "U12345678", "U9000000", "U9000000٣", "U9-000001", "V90000001"])
def test_what_is_nobodys_id_finds_nobody(everybody: People, person_id: str) -> None:
    assert everybody.named(person_id, START) is None
    assert everybody.terms_of(person_id, START) == everybody.teaching_of(person_id, START) == []
    with pytest.raises(KeyError):
        everybody.version(person_id, START)


def test_people_come_go_and_return_as_often_as_the_rates_say() -> None:
    population = people(person_new_rate=0.01, person_removed_rate=0.02, person_return_rate=0.1)
    came = went = returned = absent = there = 0
    seen, before = ids(population, START), ids(population, START)
    for day in days_between(START + timedelta(days=1), START + timedelta(days=60)):
        now = ids(population, day)
        came += len(now - seen)
        absent += len(seen - before)
        returned += len((now - before) & seen)
        went += len(before - now)
        there += len(before)
        seen, before = seen | now, now
    assert came == 60 * 20
    assert 0.9 < went / there / 0.02 < 1.1
    assert 0.9 < returned / absent / 0.1 < 1.1


def test_people_change_as_often_as_the_rate_says(everybody: People) -> None:
    last = START + timedelta(days=100)
    there = [person.id for person in everybody.on(START)]
    changes = [everybody.version(person_id, last).number for person_id in there]
    assert 0.9 < sum(changes) / len(there) / 100 / 0.01 < 1.1
    assert all(START <= everybody.version(person_id, last).since <= last for person_id in there)


@pytest.mark.parametrize(("rate", "changes"), [(0.0, 0), (1.0, 30)])
def test_a_rate_of_nothing_or_everything_is_certain(rate: float, changes: int) -> None:
    population = people(person_change_rate=rate, persons=20)
    last = START + timedelta(days=30)
    assert {population.version(person.id, last).number for person in population.on(START)} == {changes}


def test_everybody_is_named_by_some_source(everybody: People) -> None:
    for one in everybody.on(START):
        assert one.student or one.dorm or one.employee or one.faculty or one.staff
        assert not (one.faculty and one.staff)


def test_roles_overlap_and_every_list_names_somebody_alone(everybody: People) -> None:
    roles = Counter(
        (person.student, person.dorm, person.faculty or person.staff, person.employee) for person in everybody.on(START)
    )
    alone = [(True, False, False, False), (False, True, False, False), (False, False, False, True)]
    overlaps = [(True, True, False, False), (True, False, False, True), (False, False, True, True)]
    assert all(roles[combination] for combination in [*alone, *overlaps])
    assert any(one.faculty and not one.employee and not one.student for one in everybody.on(START))
    assert any(one.affiliate and one.student for one in everybody.on(START))


def test_shares_weigh_roles() -> None:
    there = people(share_student=0, share_faculty=1, share_staff=0, share_affiliate=0).on(START)
    assert all(person.faculty for person in there)
    with pytest.raises(SimulatorError, match="all 0"):
        people(share_student=0, share_faculty=0, share_staff=0, share_affiliate=0)


def test_former_employees_are_not_active_and_some_are_gone() -> None:
    population = people(person_removed_rate=0.02)
    day = START + timedelta(days=30)
    former, there = set(population.former_employees(day)), {one.id: one for one in population.on(day)}
    assert not former & {one.id for one in there.values() if one.employee}
    assert former & set(there)
    assert former - set(there)


def test_students_study_terms_that_there_are(everybody: People) -> None:
    known = {document.key for document in TermPopulation(Config(scenario_start=START)).on(START)}
    counts: Counter[int] = Counter()
    for one in everybody.on(START):
        rows = everybody.terms_of(one.id, START)
        keys = [(row["ACAD_CAREER"], row["STRM"]) for row in rows]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= known
        assert all(row["CAMPUS_ID"] == one.id for row in rows)
        if one.student:
            counts[len(rows)] += 1
        else:
            assert rows == []
    assert 3 < sum(size * count for size, count in counts.items()) / counts.total() < 5
    assert counts[0]
    assert max(counts) <= 14


def test_teachers_teach_terms_and_nobody_else_does(everybody: People) -> None:
    taught = {person.id: everybody.teaching_of(person.id, START) for person in everybody.on(START)}
    teachers = {person.id for person in everybody.on(START) if person.faculty}
    assert {person_id for person_id, rows in taught.items() if rows} < teachers
    assert all(row["EMPLID"] == person_id for person_id, rows in taught.items() for row in rows)


def test_the_roll_of_terms_reaches_only_those_who_change(everybody: People) -> None:
    """Otherwise every student would change on the day of the roll."""
    day = START + timedelta(days=9)
    assert TermPopulation(Config(scenario_start=START)).taught("UGRD", day) != TermPopulation(
        Config(scenario_start=START)
    ).taught("UGRD", START)
    moved = {
        person.id
        for person in everybody.on(START)
        if everybody.named(person.id, day)
        and everybody.terms_of(person.id, day) != everybody.terms_of(person.id, START)
    }
    assert moved
    assert all(everybody.version(person_id, day).number for person_id in moved)
