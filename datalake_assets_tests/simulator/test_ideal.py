import json
from datetime import date, timedelta
from typing import Any

import pytest

from datalake_assets.simulator.canonical import digest
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.ideal import Ideals, PersonIdeal, active_terms, counted_sources
from datalake_assets.simulator.people import People
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import (
    CSTOOLS_PATH,
    SCENARIO_START,
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
}


def scenario_day(number: int) -> date:
    return SCENARIO_START + timedelta(days=number - 1)


def university(**knobs: Any) -> tuple[People, PersonDocuments, Ideals]:
    config = Config.of({**KNOBS, **knobs})
    terms = TermPopulation(config)
    people = People(config, terms)
    documents = PersonDocuments(config, people)
    about = {"person": counted_sources(people), "course": active_terms(terms)}
    return people, documents, Ideals([PersonIdeal(people, documents)], about)


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
        assert digests(ideals.told("person", day)) == state
    assert all(operations.values())


def test_the_ideal_does_not_depend_on_the_days_asked_before() -> None:
    _, _, forth = university()
    _, _, back = university()
    days = [scenario_day(number) for number in (1, 3, 9)]
    told = {day: forth.told("person", day) for day in days}
    assert {day: back.told("person", day) for day in reversed(days)} == told
    assert {day: forth.told("person", day) for day in days} == told


def test_documents_are_told_without_sensitive_keys_and_have_the_digests_told() -> None:
    _, _, ideals = university()
    told: dict[str, Any] = ideals.told("person", scenario_day(5), documents=True)
    assert {key: digest(document) for key, document in told["documents"].items()} == digests(told)
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
        ideals.told("staff", scenario_day(1))
    with pytest.raises(SimulatorError, match="no term"):
        ideals.told("person", scenario_day(1), "2258")


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
    assert running.truth("person", day=day) == ideals.told("person", day)


def test_courses_are_told_term_by_term(running: SimulatorControl) -> None:
    truth = running.truth("course", term="2268", documents=True)
    assert truth["terms"] == ["2261", "2265", "2268", "2271"]
    assert truth["keys"]
    assert {"/".join(item["key"]) for item in truth["keys"]} == set(truth["documents"])
