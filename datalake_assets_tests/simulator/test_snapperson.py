import json

import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.people import People
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import (
    SCENARIO_START,
    ask_persons,
    ask_snapperson,
    call,
    documents_of,
    json_headers,
    people_of,
)

IDS = [person.id for person in people_of()]
CONFIG = Config.of({"scenario_start": SCENARIO_START})
PEOPLE = People(CONFIG, TermPopulation(CONFIG))
STUDENT = next(one for one in IDS if len(PEOPLE.terms_of(one, SCENARIO_START)) > 1)
ALL = "/snaplogic/person?objects=['student','affiliate','faculty','employee']&csEnv=test"


def literal(ids: list[str]) -> str:
    return "[" + ",".join(f'{{BUID:"{one}"}}' for one in ids) + "]"


def test_persons_come_in_an_array_with_empty_objects_between_them(simulator: SimulatorControl) -> None:
    heard = ask_snapperson(simulator, literal(IDS), ALL)
    documents = heard.json()
    assert [document["personid"] for document in documents if document] == IDS
    assert 0 < documents.count({}) < 0.01 * len(IDS)


def test_both_apis_tell_the_same_of_a_person(simulator: SimulatorControl) -> None:
    neither_taught = [person.id for person in people_of() if not person.faculty][:50]
    told = [document for document in ask_snapperson(simulator, literal(neither_taught), ALL).json() if document]
    assert told == documents_of(ask_persons(simulator, neither_taught))


def test_terms_are_told_when_they_are_asked_for(simulator: SimulatorControl) -> None:
    terms = PEOPLE.terms_of(STUDENT, SCENARIO_START)
    rows = [f'{{BUID:"{STUDENT}",ACAD_CAREER:"{row["ACAD_CAREER"]}",STRM:"{row["STRM"]}"}}' for row in terms]
    [document] = ask_snapperson(simulator, f"[{','.join(rows)}]", ALL).json()
    assert len(document["studentInfo"]["studentSemester"]) == len(terms)


def test_objects_say_which_sections_are_told(simulator: SimulatorControl) -> None:
    employee = next(person.id for person in people_of() if person.student and person.employee)
    assert "employeeInfo" not in ask_snapperson(simulator, literal([employee])).json()[0]
    assert "employeeInfo" in ask_snapperson(simulator, literal([employee]), ALL).json()[0]


def test_the_log_tells_who_was_asked_for(simulator: SimulatorControl) -> None:
    ask_snapperson(simulator, literal(IDS[:2]))
    assert simulator.requests()["people"] == {"snapperson": {IDS[0]: 1, IDS[1]: 1}}


@pytest.mark.parametrize(
    "rows",
    [
        '[{BUID:"U90000001"}, {BUID:"U90000002"}]',
        ' [{BUID:"U90000001",ACAD_CAREER:"UGRD",STRM:"2258"}] ',
        '[{STRM:"2258",BUID:"U90000001",ACAD_CAREER:"UGRD"}]',
    ],
)
def test_a_literal_of_javascript_is_read(simulator: SimulatorControl, rows: str) -> None:
    assert ask_snapperson(simulator, rows).status == 200


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "[]",
        "{}",
        '{BUID:"U90000001"}',
        '[{BUID:"U90000001"}',
        '[{BUID:"U90000001"},]',
        '[{BUID:"U90000001"}{BUID:"U90000002"}]',
        '[{"BUID":"U90000001"}]',
        "[{BUID:'U90000001'}]",
        "[{BUID:U90000001}]",
        '[{buid:"U90000001"}]',
        '[{BUID:"U90"000001"}]',
        '[{BUID:"U90000001\\"}]',
        '[{BUID:"U90000001",BUID:"U90000002"}]',
        '[{BUID:"U90000001",STRM:"2258"}]',
        '[{ACAD_CAREER:"UGRD",STRM:"2258"}]',
        '[{BUID:"U90000001",OTHER:"x"}]',
        '[{BUID:"U90000001"}];drop()',
    ],
)
def test_a_text_that_is_no_such_literal_ends_the_pipeline(simulator: SimulatorControl, rows: str) -> None:
    heard = ask_snapperson(simulator, rows)
    assert (heard.status, heard.json()["http_status_code"]) == (500, 500)


@pytest.mark.parametrize(
    "target",
    [
        "/snaplogic/person",
        "/snaplogic/person?csEnv=test",
        "/snaplogic/person?objects=['student']",
        "/snaplogic/person?objects=student&csEnv=test",
        "/snaplogic/person?objects=['students']&csEnv=test",
        "/snaplogic/person?objects=[]&csEnv=test",
        "/snaplogic/person?objects=['student']&csEnv=live",
        "/snaplogic/person?objects=['student']&csEnv=test&csEnv=test",
    ],
)
def test_parameters_that_are_not_right_are_refused(simulator: SimulatorControl, target: str) -> None:
    assert ask_snapperson(simulator, literal(IDS[:1]), target).status == 400


def test_the_platform_asks_for_a_key_and_a_body(simulator: SimulatorControl) -> None:
    key = ("x-api-key", simulator.environment(person="snaplogic")["SNAPLOGIC_PERSON_KEY"])
    course_key = ("x-api-key", simulator.environment()["SNAPLOGIC_COURSE_KEY"])
    body = json.dumps({"uidCarTerm": literal(IDS[:1])}).encode()
    assert call(simulator, "POST", ALL, json_headers(key), body).status == 200
    for headers in ([], [("x-api-key", "wrong")], [course_key]):
        assert call(simulator, "POST", ALL, json_headers(*headers), body).status == 401
    assert call(simulator, "GET", ALL, json_headers(key)).status == 405
    assert call(simulator, "POST", "/snaplogic/elsewhere", json_headers(key), body).status == 404
    for other in (b"", b"[]", b"{}", b'{"uidCarTerm":[]}', b'{"uidCarTerm":"[]","more":1}'):
        assert call(simulator, "POST", ALL, json_headers(key), other).status == 400
    assert call(simulator, "POST", ALL, [key], body).status == 400
