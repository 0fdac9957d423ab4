"""What the simulator says that a lake must hold of people and courses, against what it sends at a socket."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import pytest

from datalake_assets.simulator.canonical import canonical_text, cleaned, digest
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.courses import CoursePopulation
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import fault
from datalake_assets.simulator.ideal import Asked, CourseIdeal, Ideals, PersonIdeal, active_terms, counted_sources
from datalake_assets.simulator.json_text import Verbatim
from datalake_assets.simulator.people import People, Study
from datalake_assets.simulator.person_records import PersonRecords
from datalake_assets.simulator.personapi import PersonApi
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.snaplogic_course import SnapLogicCourse
from datalake_assets.simulator.snapperson import SnapPerson
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import (
    CSTOOLS_PATH,
    OBJECTS,
    SCENARIO_START,
    ask_person_api,
    ask_persons,
    ask_snapperson,
    call,
    cstools_headers,
    qas_headers,
    qas_target,
)

KNOBS: dict[str, Any] = {
    "scenario_start": SCENARIO_START,
    "persons": 100,
    "person_change_rate": 0.1,
    "person_new_rate": 0.02,
    "person_removed_rate": 0.03,
    "person_return_rate": 0.3,
    "person_reorder_rate": 0.3,
    "numeric_restyle_rate": 0.1,
    "courses_per_term": 100,
}


def scenario_day(number: int) -> date:
    return SCENARIO_START + timedelta(days=number - 1)


def university(**knobs: Any) -> tuple[People, PersonDocuments, Ideals]:
    config = Config.of({**KNOBS, **knobs})
    terms = TermPopulation(config)
    people = People(config, terms)
    documents = PersonDocuments(config, people)
    courses, credentials = CoursePopulation(config, terms), Credentials.of(1)
    records = PersonRecords(people, documents, config)
    persons = PersonIdeal(
        people, documents, records, [PersonApi(records, credentials), SnapPerson(records, credentials, config)]
    )
    about = {"person": counted_sources(people), "course": active_terms(terms)}
    ideals = Ideals([persons, CourseIdeal(courses, SnapLogicCourse(courses, credentials))], about)
    return people, documents, ideals


def digests(told: dict[str, Any]) -> dict[str, str]:
    return {item["key"][0]: item["digest"] for item in told["keys"]}


def test_every_day_holds_what_the_changes_up_to_it_lead_to() -> None:
    people, documents, ideals = university()
    state: dict[str, str] = {}
    operations = {"I": 0, "U": 0, "D": 0, "unchanged": 0}
    for number in range(1, 8):
        day = scenario_day(number)
        sent = {person.id: digest(documents.true_document(person.id, day)) for person in people.on(day)}
        for person_id in [person_id for person_id in state if person_id not in sent]:
            operations["D"] += 1
            del state[person_id]
        for person_id, now in sent.items():
            before = state.get(person_id)
            operations["unchanged" if before == now else "U" if before else "I"] += 1
            state[person_id] = now
        assert digests(ideals.told("person", Asked(day))) == state
    assert all(operations.values())


def test_the_ideal_does_not_depend_on_the_days_asked_before() -> None:
    _, _, forth = university()
    _, _, back = university()
    days = [scenario_day(number) for number in (1, 3, 9)]
    told = {day: forth.told("person", Asked(day)) for day in days}
    assert {day: back.told("person", Asked(day)) for day in reversed(days)} == told
    assert {day: forth.told("person", Asked(day)) for day in days} == told


@pytest.mark.parametrize("kind", ["person", "course"])
def test_documents_are_told_without_sensitive_keys_and_have_the_digests_told(kind: str) -> None:
    _, _, ideals = university()
    altering = [
        fault("dup_records", how="different", rate=0.2),
        fault("sensitive_elsewhere", how="nested", rate=0.2),
        fault("malformed_json", how="raw_control", rate=0.2),
    ]
    term = "2268" if kind == "course" else None
    asked = Asked(scenario_day(5), term, faults=tuple(altering))
    told: dict[str, Any] = ideals.told(kind, asked, documents=True)
    assert told["keys"] != ideals.told(kind, Asked(scenario_day(5), term))["keys"]
    assert {key: digest(document) for key, document in told["documents"].items()} == {
        "/".join(item["key"]): item["digest"] for item in told["keys"]
    }
    text = str(told["documents"]).lower()
    for name in ("'ssn'", "socialsecuritynumber", "sexualorientation", "finaid", "must be removed"):
        assert name not in text


def test_active_terms_are_those_of_the_day() -> None:
    config = Config(scenario_start=SCENARIO_START)
    about = active_terms(TermPopulation(config))
    assert about(scenario_day(1)) == {"terms": ["2261", "2265", "2268", "2271"]}
    assert about(scenario_day(2)) == {"terms": ["2268", "2271", "2275", "2278"]}


def test_unknown_kinds_and_parts_are_refused() -> None:
    _, _, ideals = university()
    with pytest.raises(SimulatorError, match="person"):
        ideals.told("staff", Asked(scenario_day(1)))
    with pytest.raises(SimulatorError, match="no term"):
        ideals.told("person", Asked(scenario_day(1), "2258"))
    with pytest.raises(SimulatorError, match="'snaplogic_course'"):
        ideals.told("person", Asked(scenario_day(1), endpoint="snaplogic_course"))


@pytest.fixture(scope="module")
def running() -> Any:
    with running_simulator(**KNOBS, whitespace_rate=0.2) as simulator:
        yield simulator


def query_rows(simulator: SimulatorControl, face: str, query: str, **prompts: str) -> list[dict[str, Any]]:
    """The rows of a query, as one of PeopleSoft's two faces answers it."""
    if face == "cstools":
        body: dict[str, Any] = {"query_name": query}
        if prompts:
            body |= {"prompt_names": list(prompts), "prompt_values": list(prompts.values())}
        heard = call(simulator, "POST", CSTOOLS_PATH, cstools_headers(simulator), json.dumps(body).encode())
        rows: list[dict[str, Any]] = heard.json()["data"]
        return rows
    path = f"/PSIGW/RESTListeningConnector/PSFT_CS/ExecuteQuery.v1/PUBLIC/{query}/JSON/NONFILE"
    asked = {"prompt_uniquepromptname": ",".join(prompts), "prompt_fieldvalue": ",".join(prompts.values())}
    target = qas_target(path, **(asked if prompts else {}))
    found: dict[str, Any] = call(simulator, "GET", target, qas_headers(simulator)).json()["data"]["query"]
    assert found["numrows"] == len(found["rows"])
    of_qas: list[dict[str, Any]] = found["rows"]
    return of_qas


@pytest.mark.parametrize("face", ["cstools", "qas"])
def test_the_lists_of_peoplesoft_name_as_many_as_the_truth_says(running: SimulatorControl, face: str) -> None:
    listed = {
        query: [row["CAMPUS_ID"] for row in query_rows(running, face, query)]
        for query in ("BU_PARM_0216_QRY", "BU_PARM_ENRL_DORM_QRY")
    }
    students, residents = ({person_id.strip() for person_id in found} for found in listed.values())
    truth = running.truth("person")
    assert len(students | residents) == truth["population"]["peoplesoft"]
    assert students | residents < set(digests(truth))
    assert students & residents
    assert residents - students
    padded = [person_id for found in listed.values() for person_id in found if person_id != person_id.strip()]
    assert padded


@pytest.mark.parametrize("face", ["cstools", "qas"])
def test_the_terms_of_a_person_are_told_and_nobodys_are_an_explicit_nothing(
    running: SimulatorControl, face: str
) -> None:
    documents = running.truth("person", documents=True)["documents"]
    student = next(one for one in documents.values() if (one.get("studentInfo") or {}).get("studentSemester"))
    rows = query_rows(running, face, "BU_TERM_STD_FULL_TERM", BUID=student["personid"])
    infos = [item["studentSemesterInfo"] for item in student["studentInfo"]["studentSemester"]]
    assert {(row["ACAD_CAREER"], row["STRM"]) for row in rows} == {
        (info["academicCareer"]["code"], info["academicTerm"]["term"]["code"]) for info in infos
    }
    assert [row["attr:rownumber"] for row in rows] == list(range(1, len(rows) + 1))
    assert query_rows(running, face, "BU_TERM_STD_FULL_TERM", BUID="U12345678") == []


@pytest.mark.parametrize("face", ["cstools", "qas"])
def test_the_teaching_of_a_person_is_told_and_nobodys_is_an_explicit_nothing(
    running: SimulatorControl, face: str
) -> None:
    documents = running.truth("person", documents=True)["documents"]
    teacher = next(one for one in documents.values() if (one.get("facultyInfo") or {}).get("instruction"))
    rows = query_rows(running, face, "BU_FACULTY_GET", EMPLID=teacher["personid"])
    taught = {item["academicTerm"]["term"]["code"] for item in teacher["facultyInfo"]["instruction"]}
    assert {row["STRM"] for row in rows} == taught
    assert {row["EMPLID"] for row in rows} == {teacher["personid"]}
    assert query_rows(running, face, "BU_FACULTY_GET", EMPLID="U12345678") == []


def test_the_truth_over_the_wire_is_the_ideal(running: SimulatorControl) -> None:
    _, _, ideals = university(whitespace_rate=0.2)
    day = scenario_day(4)
    assert running.truth("person", day=day) == ideals.told("person", Asked(day))


def test_courses_are_told_term_by_term(running: SimulatorControl) -> None:
    truth = running.truth("course", term="2268", documents=True)
    assert truth["terms"] == ["2261", "2265", "2268", "2271"]
    assert truth["keys"]
    assert {"/".join(item["key"]) for item in truth["keys"]} == set(truth["documents"])


# ------------------------------------------------------------------------------------- faults, at a socket

Documents = Mapping[str, list[Any]]
"""What could be read of an answer, by key."""


@pytest.fixture
def simulator(running: SimulatorControl) -> SimulatorControl:
    running.reset()
    return running


def read(text: bytes) -> Any:
    """What a parser makes of a text that keeps the digits of numbers; None if it is no JSON."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs) if len(dict(pairs)) == len(pairs) else {"a key": "twice"}

    try:
        return json.loads(text, parse_float=Verbatim, parse_constant=Verbatim, object_pairs_hook=members, strict=False)
    except (ValueError, RecursionError):
        return None


def by_person(items: Iterable[Any]) -> Documents:
    """The documents that have a canonical text and tell whose they are."""
    found: dict[str, list[Any]] = {}
    for document in items:
        if not isinstance(document, dict) or not isinstance(document.get("personid"), str):
            continue
        try:
            canonical_text(document).encode()
        except ValueError:
            continue
        found.setdefault(document["personid"], []).append(document)
    return found


@lru_cache
def whoever_is_asked_for(day: date) -> tuple[list[str], list[tuple[str, Study]], list[tuple[str, str]]]:
    """Everybody, what they study and what they teach."""
    people, _, _ = university()
    ids = [person.id for person in people.on(day)]
    studies = [(person_id, study) for person_id in ids for study in people.studies(person_id, day)]
    return ids, studies, [(person_id, strm) for person_id in ids for strm in people.taught_codes(person_id, day)]


def heard_of_persons(simulator: SimulatorControl, endpoint: str) -> Documents:
    """Everybody, asked for with all terms, in two batches as the lake asks."""
    ids, studies, taught = whoever_is_asked_for(simulator.day())
    if endpoint == "snapperson":
        rows = [f'{{BUID:"{buid}",ACAD_CAREER:"{study.career}",STRM:"{study.strm}"}}' for buid, study in studies]
        named = {buid for buid, _ in studies}
        rows += [f'{{BUID:"{person_id}"}}' for person_id in ids if person_id not in named]
        target = f"/snaplogic/person?objects=[{','.join(map(repr, OBJECTS))}]&csEnv=test"
        heard = ask_snapperson(simulator, f"[{','.join(rows)}]", target)
        assert heard.status == 200
        return by_person(read(heard.content) or [])
    terms = {
        "student": {
            "uid_car_term": [{"buid": buid, "acad_career": study.career, "strm": study.strm} for buid, study in studies]
        },
        "faculty": {"emplid_term": [{"emplid": buid, "strm": strm} for buid, strm in taught]},
    }
    batch = {"objects": OBJECTS, "options": {"response_format": "ndjson"}, **terms}
    named = {buid for buid, _ in (*studies, *taught)}
    others = [person_id for person_id in ids if person_id not in named]
    lines = [*ask_person_api(simulator, batch).lines, *ask_persons(simulator, others).lines]
    start = b'{"type":"record","data":'
    return by_person(read(line.removeprefix(start)[:-1]) for line in lines if line.startswith(start))


ALTERING: list[dict[str, Any]] = [
    {"fault": "wrong_types", "how": "birth_date_number"},
    {"fault": "wrong_types", "how": "person_basic_list"},
    {"fault": "sensitive_elsewhere", "how": "nested"},
    {"fault": "dup_records", "how": "different"},
    {"fault": "malformed_json", "how": "raw_control"},
    {"fault": "poison", "how": "nul"},
    {"fault": "poison", "how": "huge_number"},
    {"fault": "poison", "how": "long_key"},
]
WITHHOLDING: list[dict[str, Any]] = [
    {"fault": "missing_records"},
    {"fault": "null_data"},
    {"fault": "empty_docs", "how": "instead"},
    {"fault": "wrong_types", "how": "personid_number"},
    {"fault": "wrong_types", "how": "personid_null"},
    {"fault": "malformed_json", "how": "nan"},
    {"fault": "malformed_json", "how": "dup_keys"},
    {"fault": "poison", "how": "lone_surrogate"},
]
WITHHOLDING_LINES: list[dict[str, Any]] = [
    {"fault": "ndjson_extra_types", "how": "error"},
    {"fault": "malformed_json", "how": "unescaped_quote"},
    {"fault": "poison", "how": "deep_nesting"},
]
"""Faults that only an API of lines knows, or that cost an array as a whole with the parser used here."""


def first_of_each(documents: Documents) -> dict[str, str]:
    """The digest of the first in canonical order, by key."""
    return {
        key: digest(min(found, key=lambda document: canonical_text(cleaned(document)).encode()))
        for key, found in documents.items()
    }


def many(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The faults, each striking almost a third."""
    return [{**one, "rate": 0.3} for one in faults]


def name(settings: Mapping[str, Any]) -> str:
    return " ".join(map(str, settings.values()))


@pytest.mark.parametrize("endpoint", ["personapi", "snapperson"])
@pytest.mark.parametrize("altering", [{"fault": "wrong_types", "how": "birth_date_number"}, *many(ALTERING)], ids=name)
def test_the_truth_of_persons_is_what_is_sent(
    simulator: SimulatorControl, altering: dict[str, Any], endpoint: str
) -> None:
    unspoilt = digests(simulator.truth("person"))
    simulator.set_faults([{**altering, "scope": endpoint}])
    truth = digests(simulator.truth("person", endpoint=endpoint))
    heard = heard_of_persons(simulator, endpoint)
    assert first_of_each(heard) == truth
    changed = sum(truth[key] != unspoilt[key] or len(heard[key]) > 1 for key in truth)
    assert changed == 1 if "rate" not in altering else 10 < changed < 50
    # An endpoint that the fault does not strike sends the same as before.
    other = {"personapi": "snapperson", "snapperson": "personapi"}[endpoint]
    assert digests(simulator.truth("person", endpoint=other)) == unspoilt


@pytest.mark.parametrize(
    ("endpoint", "withholding"),
    [
        *(pytest.param("personapi", one, id=f"personapi {name(one)}") for one in (*WITHHOLDING, *WITHHOLDING_LINES)),
        *(pytest.param("snapperson", one, id=f"snapperson {name(one)}") for one in WITHHOLDING),
    ],
)
def test_a_person_of_whom_nothing_can_be_kept_is_told_as_without_faults(
    simulator: SimulatorControl, endpoint: str, withholding: dict[str, Any]
) -> None:
    unspoilt = digests(simulator.truth("person"))
    simulator.set_faults([{**withholding, "rate": 0.3, "scope": endpoint}])
    heard = first_of_each(heard_of_persons(simulator, endpoint))
    truth = digests(simulator.truth("person", endpoint=endpoint))
    assert truth == unspoilt
    assert 40 < len(heard) < 90
    assert heard.items() < truth.items()


def test_faults_of_one_person_combine_in_the_truth_as_at_the_socket(simulator: SimulatorControl) -> None:
    """Two documents of whom one tells no id or is no JSON leave the other one."""
    faults = many([*ALTERING, *WITHHOLDING[3:]])
    simulator.set_faults([{**one, "scope": "personapi"} for one in faults])
    unspoilt = digests(simulator.truth("person", endpoint="snapperson"))
    truth, heard = digests(simulator.truth("person")), first_of_each(heard_of_persons(simulator, "personapi"))
    assert len(heard) > 20
    assert heard.items() < truth.items()
    assert all(truth[key] == unspoilt[key] for key in truth.keys() - heard.keys())


def heard_of_courses(simulator: SimulatorControl) -> Documents:
    """The courses of a term in their groups, flat."""
    key = simulator.environment()["SNAPLOGIC_COURSE_KEY"]
    heard = call(simulator, "GET", f"/snaplogic/course?term={STRM}&csEnv=test", [("x-api-key", key)])
    found: dict[str, list[Any]] = {}
    for group in read(heard.content):
        for course in filter(None, group["courses"]):
            v2, career = course["v2"], group["termDetails"]["academicCareer"]
            document = {**course, "termDetails": group["termDetails"]}
            found.setdefault(f"{career}/{STRM}/{int(v2['courseId'])}/{v2['sessionCode']}", []).append(document)
    return found


STRM = "2268"
ALTERING_COURSES: list[dict[str, Any]] = [
    {"fault": "wrong_types", "how": "sections_object"},
    {"fault": "wrong_types", "how": "text_number"},
    {"fault": "sensitive_elsewhere", "how": "nested"},
    {"fault": "dup_records", "how": "different"},
    {"fault": "malformed_json", "how": "raw_control"},
    {"fault": "poison", "how": "nul"},
    {"fault": "poison", "how": "huge_number"},
    {"fault": "poison", "how": "long_key"},
]


def of_courses(simulator: SimulatorControl) -> dict[str, str]:
    return {"/".join(item["key"]): item["digest"] for item in simulator.truth("course", term=STRM)["keys"]}


@pytest.mark.parametrize(
    "altering", [{"fault": "sensitive_elsewhere", "how": "nested"}, *many(ALTERING_COURSES)], ids=name
)
def test_the_truth_of_courses_is_what_is_sent(simulator: SimulatorControl, altering: dict[str, Any]) -> None:
    unspoilt = of_courses(simulator)
    simulator.set_faults([{**altering, "scope": "snaplogic_course"}])
    truth, heard = of_courses(simulator), heard_of_courses(simulator)
    assert first_of_each(heard) == truth
    changed = sum(truth[key] != unspoilt[key] or len(heard[key]) > 1 for key in truth)
    assert changed == 1 if "rate" not in altering else 15 < changed < 50


def test_a_course_that_came_as_an_empty_object_is_in_no_truth(simulator: SimulatorControl) -> None:
    """Nobody who reads the answer can know that there is one."""
    unspoilt = of_courses(simulator)
    simulator.set_faults([{"fault": "empty_docs", "how": "instead", "rate": 0.3, "scope": "snaplogic_course"}])
    truth = of_courses(simulator)
    assert first_of_each(heard_of_courses(simulator)) == truth
    assert truth.items() < unspoilt.items()


@pytest.mark.parametrize(
    "unreadable",
    [
        {"fault": "wrong_types", "how": "course_id", "rate": 0.3},
        {"fault": "wrong_types", "how": "v2_null", "rate": 0.3},
        {"fault": "malformed_json", "how": "dup_keys", "rate": 0.3},
        {"fault": "wrong_types", "how": "term_code"},
        {"fault": "status_404"},
    ],
    ids=name,
)
def test_courses_that_cannot_be_kept_are_told_as_without_faults(
    simulator: SimulatorControl, unreadable: dict[str, Any]
) -> None:
    unspoilt = of_courses(simulator)
    simulator.set_faults([{**unreadable, "scope": "snaplogic_course"}])
    assert of_courses(simulator) == unspoilt
