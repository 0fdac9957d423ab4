"""The invented courses: a function of seed, term and day, with the traits that broke the predecessor."""

from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest

from datalake_assets.simulator.canonical import digest
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.courses import CoursePopulation
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.ideal import Asked, CourseIdeal
from datalake_assets.simulator.snaplogic_course import SnapLogicCourse
from datalake_assets.simulator.terms import SCENARIO_SHUFFLE, TermPopulation
from datalake_assets_tests.simulator.callers import SCENARIO_START

STRM = "2268"
STILL = {"course_change_rate": 0, "roster_churn": 0, "course_new_rate": 0, "course_removed_rate": 0}

COURSE_FIELDS = (
    "v2 college department number title titleLong notes enrollmentLimit enrollmentLlimit courseLevel startDate endDate "
    "sections"
)
SECTION_FIELDS = (
    "section classNumber startDate endDate enrollmentCap enrollmentTotal enrolledTotal lastEnrollmentDate "
    "lastDropDateWithPenalty lastDropDateWithoutPenalty suffix title description combinedSection "
    "combinedSectionDescription group sectionType credits creditVariance unitsMinimum unitsMaximum topic "
    "associatedClass classEnrollmentStatus v2"
)


def population(**knobs: Any) -> CoursePopulation:
    config = Config.of({"scenario_start": SCENARIO_START, **knobs})
    return CoursePopulation(config, TermPopulation(config))


def day(number: int) -> date:
    return SCENARIO_START + timedelta(days=number - 1)


def digests(courses: CoursePopulation, number: int, strm: str = STRM) -> dict[tuple[str, ...], str]:
    return {key: digest(document) for key, document in courses.ideal(day(number), strm)}


def ideal_of(courses: CoursePopulation) -> CourseIdeal:
    return CourseIdeal(courses, SnapLogicCourse(courses, Credentials.of(1)))


def sent(courses: CoursePopulation, number: int) -> list[Any]:
    """The courses as they are sent, without their groups."""
    return [course for group in courses.on(day(number), STRM) for course in group["courses"]]  # type: ignore[union-attr]


def sections(courses: CoursePopulation) -> list[dict[str, Any]]:
    return [section for course in sent(courses, 1) if course for section in course["sections"]]


def rosters(courses: CoursePopulation) -> list[dict[str, Any]]:
    return [row for section in sections(courses) for row in section["v2"]["roster"]]


def test_days_and_terms_can_be_asked_for_in_any_order() -> None:
    """Data with a memory would make the result of a backfill depend on its order."""
    asked = [(number, strm) for number in (1, 2, 5, 9) for strm in (STRM, "2261")]
    forward, backward = population(courses_per_term=50), population(courses_per_term=50)
    expected = [forward.on(day(number), strm) for number, strm in asked]
    assert [backward.on(day(number), strm) for number, strm in reversed(asked)] == expected[::-1]


def test_another_seed_brings_other_courses() -> None:
    assert digests(population(seed=1), 1).keys().isdisjoint(digests(population(seed=2), 1))


def test_a_term_is_told_by_the_careers_that_teach_it() -> None:
    assert {group["termDetails"]["academicCareer"] for group in population().on(day(1), STRM)} == {  # type: ignore[index, call-overload]
        "UGRD",
        "GRAD",
        "LAW",
        "MED",
    }
    summer = {key[0] for key, _ in population().ideal(day(1), "2265")}
    assert summer == {"UGRD", "GRAD", "MED"}, "no summer at the law school"


def test_a_term_that_does_not_exist_has_no_group() -> None:
    assert population().on(day(1), "9998") == []
    assert population().on(day(1), "") == []


def test_a_term_that_comes_brings_its_courses() -> None:
    new = "2291"
    assert population().on(day(5), new) == []
    assert {key[0] for key, _ in population().ideal(day(6), new)} == {"UGRD"}


def test_keys_are_unique_and_a_course_may_be_given_twice() -> None:
    """Fault C7: in several sessions, and in several careers; a key of less than four parts would lose one."""
    for careers in ("UGRD,GRAD,LAW,MED", "UGRD"):
        keys = [key for key, _ in population(careers=careers, courses_per_term=400).ideal(day(1), STRM)]
        assert len(set(keys)) == len(keys) == 400
        assert max(Counter((career, course) for career, _, course, _ in keys).values()) > 1
        in_careers = Counter(course for course, _ in {(course, career) for career, _, course, _ in keys})
        assert (max(in_careers.values()) > 1) is (careers != "UGRD")


def test_nothing_happens_without_rates() -> None:
    courses = population(**STILL)
    assert digests(courses, 1) == digests(courses, 30)


@pytest.mark.parametrize(
    ("rate", "share"), [("course_change_rate", 0.03), ("roster_churn", 0.1), ("course_change_rate", 0.5)]
)
def test_courses_change_at_their_rate(rate: str, share: float) -> None:
    courses = population(**{**STILL, rate: share}, courses_per_term=300, roster_size=5)
    days = [digests(courses, number) for number in range(1, 8)]
    changed = [sum(before[key] != after[key] for key in before) for before, after in pairwise(days)]
    assert share * 0.7 < sum(changed) / (6 * 300) < share * 1.3


def test_a_changed_course_stays_changed_until_it_changes_again() -> None:
    courses = population(**{**STILL, "course_change_rate": 0.2}, courses_per_term=50)
    days = [digests(courses, number) for number in range(1, 15)]
    histories = [[found[key] for found in days] for key in days[0]]
    for history in histories:
        runs = [value for place, value in enumerate(history) if place == 0 or history[place - 1] != value]
        assert len(set(runs)) == len(runs), "a state returned"
    assert any(len(set(history)) > 2 for history in histories)


def test_courses_come_and_go_and_return() -> None:
    courses = population(course_new_rate=0.01, course_removed_rate=0.02, sections_per_course=0)
    days = [set(digests(courses, number)) for number in range(1, 80, 3)]
    ever: set[tuple[str, ...]] = set()
    came = went = returned = 0
    for before, after in pairwise(days):
        ever |= before
        came += len(after - ever)
        went += len(before - after)
        returned += len((after - before) & ever)
    assert min(came, went, returned) > 10
    assert len(days[0]) == 200


def test_a_shuffle_is_no_change() -> None:
    courses = population(**STILL)
    plain, shuffled = sent(courses, 1), sent(courses, SCENARIO_SHUFFLE)
    assert plain != shuffled
    assert digests(courses, 1) == digests(courses, SCENARIO_SHUFFLE)
    in_order = ["v2", "college", "department"]
    assert sum(list(course)[:3] == in_order for course in shuffled if course) < 20
    assert any(list(course)[:3] != in_order for course in plain if course), "some come in another order on any day"


def test_empty_objects_stand_among_the_courses_as_often_as_asked() -> None:
    assert sum(course == {} for course in sent(population(empty_docs_rate=0), 1)) == 0
    assert 20 < sum(course == {} for course in sent(population(empty_docs_rate=0.2), 1)) < 60


def test_every_field_that_services_read_is_there() -> None:
    """The services of the lake would stay empty without anybody noticing (faults C1, C2)."""
    courses = [course for course in sent(population(), 1) if course]
    assert {frozenset(course) for course in courses} == {frozenset(COURSE_FIELDS.split())}
    assert {frozenset(section) for section in sections(population())} == {frozenset(SECTION_FIELDS.split())}
    assert {frozenset(section["v2"]) for section in sections(population())} == {
        frozenset({"instructionType", "meetingDetails", "roster"})
    }


def test_ids_are_padded_and_codes_are_written_in_several_ways() -> None:
    courses = [course for course in sent(population(), 1) if course]
    assert all(len(course["v2"]["courseId"]) == 6 for course in courses)
    assert any(course["v2"]["courseId"].startswith("0") for course in courses)
    codes = [
        group["termDetails"]["term"]["code"]  # type: ignore[index, call-overload]
        for strm in ("2261", "2265", "2268", "2271", "2275", "2278")
        for group in population().on(day(1), strm)
    ]
    assert {type(code) for code in codes} == {int, str}
    assert any(isinstance(code, str) and code.endswith(" ") for code in codes)


def test_empty_is_written_in_every_way() -> None:
    found = {repr(section["suffix"]) for section in sections(population())}
    assert found == {"None", "''", "' '"}
    assert any(course["sections"] == [] for course in sent(population(), 1) if course)
    assert any(section["v2"]["meetingDetails"] == [] for section in sections(population()))
    assert any(section["v2"]["roster"] == [] for section in sections(population()))


def test_some_rosters_hold_a_number_that_must_not_be_kept() -> None:
    rows = rosters(population())
    keys = {key for row in rows for key in row if key.lower() == "ssn"}
    assert keys == {"ssn", "SSN", "Ssn"}
    numbers = [row[key] for row in rows for key in keys if key in row]
    assert 0 < len(numbers) < len(rows) / 4
    assert all(number.startswith("900-") for number in numbers)


def test_texts_hold_what_parsers_stumble_over() -> None:
    texts = "".join(str(course["notes"]) for course in sent(population(), 1) if course)
    assert all(mark in texts for mark in ("\u2028", "\u0085", "\U0001d11e", "\u0627", '"', "'", "\\"))


def test_the_ideal_is_what_is_sent_flat_and_in_no_order_but_that_of_keys() -> None:
    courses = population()
    ideal = ideal_of(courses)
    told = ideal.of(Asked(day(1), STRM))
    assert ideal.kind == "course"
    assert [key for key, _ in told] == sorted(key for key, _ in told)
    flat = [
        {**course, "termDetails": group["termDetails"]}
        for group in courses.on(day(1), STRM)
        for course in group["courses"]  # type: ignore[union-attr]
        if course
    ]
    assert sorted(map(digest, flat)) == sorted(digest(document) for _, document in told)
    for (career, strm, course_id, session), document in told:
        details: Any = document["termDetails"]
        v2: Any = document["v2"]
        assert (details["academicCareer"], str(details["term"]["code"]).strip()) == (career, strm)
        assert (str(int(v2["courseId"])), v2["sessionCode"]) == (course_id, session)


def test_the_ideal_of_courses_needs_a_term() -> None:
    with pytest.raises(SimulatorError, match="no term is named"):
        ideal_of(population()).of(Asked(day(1)))


def test_sizes_follow_the_knobs() -> None:
    courses = population(courses_per_term=300, sections_per_course=3, roster_size=20)
    assert len(digests(courses, 1)) == 300
    assert 2.5 < len(sections(courses)) / 300 < 3.5
    assert 17 < len(rosters(courses)) / len(sections(courses)) < 23
