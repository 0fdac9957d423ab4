import time
from collections.abc import Iterator
from datetime import date, timedelta
from statistics import median
from typing import Any

import pytest

from datalake_assets.simulator.canonical import digest
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import Verbatim, write
from datalake_assets.simulator.people import People
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.terms import TermPopulation

START = date(2026, 11, 20)

SERVICE_PATHS = (
    "/affiliateInfo/address",
    "/affiliateInfo/affiliateAssignment",
    "/affiliateInfo/affiliateType",
    "/affiliateInfo/assignmentBeginDate",
    "/affiliateInfo/assignmentEndDate",
    "/affiliateInfo/department",
    "/affiliateInfo/organizationalUnit",
    "/affiliateInfo/organizationalUnitParent",
    "/affiliateInfo/personalArea",
    "/affiliateInfo/personalSubArea",
    "/affiliateInfo/sponsorID",
    "/affiliateInfo/supervisorID",
    "/affiliateInfo/unit",
    "/email/address",
    "/email/isPreferred",
    "/email/type",
    "/employeeInfo/address",
    "/employeeInfo/positions/positionInfo/academic",
    "/employeeInfo/positions/positionInfo/basicData",
    "/employeeInfo/positions/positionInfo/department/department",
    "/employeeInfo/positions/positionInfo/department/departmentName",
    "/employeeInfo/positions/positionInfo/department/organizationalUnit",
    "/employeeInfo/positions/positionInfo/department/organizationalUnitDescription",
    "/employeeInfo/positions/positionInfo/department/unit",
    "/employeeInfo/positions/positionInfo/office",
    "/employeeInfo/positions/positionInfo/supervisor",
    "/personBasic/birthDate",
    "/personBasic/names",
    "/personBasic/pronouns",
    "/personDetails/emergencyContact",
    "/personDetails/group",
    "/personid",
    "/phone/isPreferred",
    "/phone/number",
    "/phone/type",
    "/studentInfo/academicProgress",
    "/studentInfo/address",
    "/studentInfo/admissionHistory",
    "/studentInfo/advisor",
    "/studentInfo/studentSemester/studentSemesterInfo/academicCareer",
    "/studentInfo/studentSemester/studentSemesterInfo/academicTerm",
    "/studentInfo/studentSemester/studentSemesterInfo/certification",
    "/studentInfo/studentSemester/studentSemesterInfo/certificationApproved",
    "/studentInfo/studentSemester/studentSemesterInfo/cumulativeGpa",
    "/studentInfo/studentSemester/studentSemesterInfo/currentClassYear",
    "/studentInfo/studentSemester/studentSemesterInfo/currentGpa",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/academicCareer",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/academicGroup",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/academicOrganization",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/academicPlan",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/college/description",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/degree/description",
    "/studentInfo/studentSemester/studentSemesterInfo/degreeProgram/program/description",
    "/studentInfo/studentSemester/studentSemesterInfo/projectedGraduationDate",
    "/studentInfo/studentSemester/studentSemesterInfo/registrationStatus",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/campus/description",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/course",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/calendar",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/instructionType/description",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/instructor/email",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/instructor/firstName",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/instructor/lastName",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/details/location",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/enrollmentStatus/description",
    "/studentInfo/studentSemester/studentSemesterInfo/studentClass/section",
    "/studentInfo/studentSemester/studentSemesterInfo/unitsCumulative",
    "/studentInfo/studentSemester/studentSemesterInfo/unitsTermTotal",
    "/studentInfo/studentSemester/studentSemesterInfo/withdrawalStatus",
    "/studentInfo/testResults",
)
"""Every path that a service may see; arrays on the way add nothing to it."""

SENSITIVE_PATHS = (
    "/personBasic/ssn",
    "/personBasic/socialSecurityNumber",
    "/personBasic/sexualOrientation",
    "/studentInfo/finAid",
    "/studentInfo/finAidReceived",
)


def documents_of(**knobs: Any) -> tuple[People, PersonDocuments]:
    config = Config.of({"scenario_start": START, "persons": 600, **knobs})
    people = People(config, TermPopulation(config))
    return people, PersonDocuments(config, people)


def true_documents(people: People, documents: PersonDocuments, day: date) -> dict[str, dict[str, Any]]:
    return {person.id: documents.true_document(person.id, day) for person in people.on(day)}


@pytest.fixture(scope="module")
def university() -> tuple[People, PersonDocuments]:
    return documents_of()


@pytest.fixture(scope="module")
def told(university: tuple[People, PersonDocuments]) -> dict[str, dict[str, Any]]:
    return true_documents(*university, START + timedelta(days=30))


def at(value: Any, *names: str) -> Iterator[Any]:
    """Every value at a path, through all arrays."""
    if isinstance(value, list):
        for item in value:
            yield from at(item, *names)
    elif not names:
        yield value
    elif isinstance(value, dict) and names[0] in value:
        yield from at(value[names[0]], *names[1:])


def scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for member in value.values():
            yield from scalars(member)
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item)
    else:
        yield value


def names_of(path: str) -> list[str]:
    return path.strip("/").split("/")


@pytest.mark.parametrize("path", SERVICE_PATHS)
def test_every_path_of_every_service_holds_data(told: dict[str, dict[str, Any]], path: str) -> None:
    found = [value for document in told.values() for value in at(document, *names_of(path))]
    assert any(scalar not in (None, "", " ") for scalar in scalars(found))


@pytest.mark.parametrize("path", SENSITIVE_PATHS)
def test_sensitive_keys_are_always_there(
    university: tuple[People, PersonDocuments], told: dict[str, dict[str, Any]], path: str
) -> None:
    people, _ = university
    students = {one.id for one in people.on(START + timedelta(days=30)) if one.student or one.dorm}
    owners = {person_id for person_id, document in told.items() if any(at(document, *names_of(path)))}
    assert owners == (students if path.startswith("/studentInfo") else set(told))


@pytest.mark.parametrize(
    "sign", ["\u2028", "\u0085", "\U0001f393", "\u05e0", "\u0644", "\u0308"], ids=lambda sign: f"U+{ord(sign):04X}"
)
def test_names_hold_signs_that_break_readers(told: dict[str, dict[str, Any]], sign: str) -> None:
    names = "".join(name for document in told.values() for name in at(document, "personBasic", "names", "firstName"))
    assert sign in names


def test_empty_is_written_in_every_way(told: dict[str, dict[str, Any]]) -> None:
    assert {value for one in told.values() for value in at(one, "personBasic", "names", "suffix")} == {None, "", " "}
    assert {repr(one.get("affiliateInfo", "left out"))[:9] for one in told.values()} >= {"None", "{}", "'left out"}
    assert {repr(one["personBasic"]["pronouns"]) for one in told.values()} >= {"None", "[]"}


def test_numbers_come_as_text_and_as_numbers(told: dict[str, dict[str, Any]]) -> None:
    infos = ("studentInfo", "studentSemester", "studentSemesterInfo")
    units = {value for one in told.values() for value in at(one, *infos, "unitsTermTotal")}
    assert units >= {"16.00", "0.00"}
    written = {value.text for one in told.values() for value in at(one, *infos, "studentClass", "units")}
    assert written >= {"4.0", "4.00", "3"}


def test_blanks_trail_as_often_as_asked_for() -> None:
    def share(rate: float) -> float:
        documents = true_documents(*documents_of(whitespace_rate=rate), START).values()
        names = [str(name) for one in documents for name in at(one, "personBasic", "names", "lastName")]
        return sum(name != name.rstrip() for name in names) / len(names)

    assert share(0.0) == 0
    assert share(1.0) == 1


@pytest.mark.parametrize("doc_kb", [8, 9, 30, 100])
def test_the_median_document_is_about_as_large_as_asked_for(doc_kb: int) -> None:
    documents = true_documents(*documents_of(doc_kb=doc_kb, persons=120), START).values()
    assert 0.75 < median(len(write(document).encode()) for document in documents) / 1024 / doc_kb < 1.25


def test_exactly_the_terms_that_are_asked_for_and_real_are_told(university: tuple[People, PersonDocuments]) -> None:
    people, documents = university
    student = next(one.id for one in people.on(START) if len(people.terms_of(one.id, START)) > 2)
    studied = [(str(row["ACAD_CAREER"]), str(row["STRM"])) for row in people.terms_of(student, START)]

    def semesters(*asked: tuple[str, str]) -> list[tuple[str, str]]:
        told = documents.document(student, START, terms=asked)
        infos = at(told, "studentInfo", "studentSemester", "studentSemesterInfo")
        return sorted((info["academicCareer"]["code"], info["academicTerm"]["term"]["code"]) for info in infos)

    assert semesters() == []
    assert semesters(studied[1], ("LAW", "1999"), (studied[0][0], "9999")) == [studied[1]]
    assert semesters(*studied) == sorted(studied)
    rich, poor = documents.true_document(student, START), documents.document(student, START)
    assert digest(rich) != digest(poor)
    rich["studentInfo"]["studentSemester"] = []  # type: ignore[call-overload, index]
    assert digest(rich) == digest(poor)


def test_exactly_the_teaching_that_is_asked_for_and_real_is_told(university: tuple[People, PersonDocuments]) -> None:
    people, documents = university
    teacher = next(one.id for one in people.on(START) if len(people.teaching_of(one.id, START)) > 1)
    taught = [str(row["STRM"]) for row in people.teaching_of(teacher, START)]

    def codes(*asked: str) -> list[str]:
        told = documents.document(teacher, START, teaching=asked)
        return sorted(at(told, "facultyInfo", "instruction", "academicTerm", "term", "code"))

    assert codes() == []
    assert codes(taught[1], "9999") == [taught[1]]
    assert codes(*taught) == sorted(taught)


def test_nobody_has_no_document(university: tuple[People, PersonDocuments]) -> None:
    with pytest.raises(KeyError):
        university[1].document("U12345678", START)


def test_a_document_depends_on_seed_person_and_day_alone(told: dict[str, dict[str, Any]]) -> None:
    """Nor on what was put together before it: parts are shared between documents."""
    people, documents = documents_of()
    day = START + timedelta(days=30)
    again = {one.id: documents.true_document(one.id, day) for one in reversed(people.on(day))}
    for person_id, document in told.items():
        assert write(again[person_id]) == write(document)


def test_somebody_who_changes_is_told_otherwise_from_that_day_on_and_nobody_else_is() -> None:
    people, documents = documents_of(
        person_change_rate=0.3, numeric_restyle_rate=0, person_removed_rate=0, person_new_rate=0, persons=80
    )
    for number in range(1, 8):
        before, now = (START + timedelta(days=shift) for shift in (number - 1, number))
        for person in people.on(now):
            changed = people.version(person.id, now) != people.version(person.id, before)
            told = [digest(documents.true_document(person.id, day)) for day in (before, now)]
            assert (told[0] != told[1]) == changed


def test_another_order_is_seen_and_is_no_change() -> None:
    knobs = {"person_change_rate": 0, "numeric_restyle_rate": 0, "persons": 300}
    plain = true_documents(*documents_of(**knobs, person_reorder_rate=0), START)
    mixed = true_documents(*documents_of(**knobs, person_reorder_rate=0.25), START)
    moved = {person_id for person_id in plain if write(plain[person_id]) != write(mixed[person_id])}
    assert 0.18 < len(moved) / len(plain) < 0.32
    assert all(digest(plain[person_id]) == digest(mixed[person_id]) for person_id in plain)
    members = {list(mixed[person_id]) == list(plain[person_id]) for person_id in moved}
    assert members == {True, False}


def test_another_style_of_numbers_is_a_change_only_in_texts() -> None:
    knobs = {"person_change_rate": 0, "person_reorder_rate": 0, "persons": 300}
    plain = true_documents(*documents_of(**knobs, numeric_restyle_rate=0), START)
    styled = true_documents(*documents_of(**knobs, numeric_restyle_rate=1), START)
    gpa = ("studentInfo", "studentSemester", "studentSemesterInfo", "cumulativeGpa")
    of_texts, of_numbers = 0, 0
    for person_id, document in plain.items():
        if not list(at(document, *gpa)):
            continue
        if list(at(document, *gpa)) == list(at(styled[person_id], *gpa)):
            of_numbers += 1
            assert digest(document) == digest(styled[person_id])
            assert write(document) != write(styled[person_id]) or not numbers_in(document)
        else:
            of_texts += 1
            assert digest(document) != digest(styled[person_id])
    assert min(of_texts, of_numbers) > 50


def numbers_in(document: object) -> list[Verbatim]:
    return [scalar for scalar in scalars(document) if isinstance(scalar, Verbatim)]


def test_documents_are_put_together_fast() -> None:
    """A bound that only a mistake misses: a thousand take about a third of a second."""
    people, documents = documents_of(persons=1000)
    started = time.process_time()
    assert len(true_documents(people, documents, START)) == 1000
    assert time.process_time() - started < 4
