import json
from collections.abc import Sequence
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.people import People
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import (
    OBJECTS,
    PERSON_PATH,
    QAS_PATH,
    SCENARIO_START,
    ask_person_api,
    ask_persons,
    ask_snapperson,
    call,
    documents_of,
    json_headers,
    people_of,
    qas_headers,
    qas_target,
)

IDS = [person.id for person in people_of()]
CONFIG = Config.of({"scenario_start": SCENARIO_START})
PEOPLE = People(CONFIG, TermPopulation(CONFIG))
STUDENT = next(
    person.id for person in people_of() if person.student and len(PEOPLE.terms_of(person.id, SCENARIO_START)) > 1
)
TEACHER = next(person.id for person in people_of() if PEOPLE.teaching_of(person.id, SCENARIO_START))


def term_rows(person_id: str) -> list[dict[str, Any]]:
    """The rows of a person as the client forwards them: names in lower case, CAMPUS_ID as buid."""
    rows = PEOPLE.terms_of(person_id, SCENARIO_START)
    return [{"buid" if name == "CAMPUS_ID" else name.lower(): value for name, value in row.items()} for row in rows]


def with_terms(students: Sequence[str] = (), teachers: Sequence[str] = (), **more: object) -> dict[str, object]:
    """A body that names terms."""
    uid_car_term = [row for person_id in students for row in term_rows(person_id)]
    emplid_term = [
        {"emplid": person_id, "strm": row["STRM"]}
        for person_id in teachers
        for row in PEOPLE.teaching_of(person_id, SCENARIO_START)
    ]
    options = {"response_format": "ndjson", "batch_size": len(uid_car_term) + 1}
    body: dict[str, object] = {"objects": OBJECTS, "options": options}
    if uid_car_term:
        body["student"] = {"uid_car_term": uid_car_term}
    if emplid_term:
        body["faculty"] = {"emplid_term": emplid_term}
    return body | more


def semesters_of(document: dict[str, Any]) -> set[tuple[str, str]]:
    told = [item["studentSemesterInfo"] for item in document["studentInfo"]["studentSemester"]]
    return {(item["academicCareer"]["code"], item["academicTerm"]["term"]["code"]) for item in told}


# ------------------------------------------------------------------------------------------------ answers


def test_records_come_as_lines_in_chunks(simulator: SimulatorControl) -> None:
    heard = ask_persons(simulator, IDS[:200])
    assert heard.status == 200
    assert heard.headers["content-type"] == "application/x-ndjson"
    assert heard.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in heard.headers
    assert len(heard.chunks) > 3
    assert heard.lines[-1] == b""
    assert [document["personid"] for document in documents_of(heard)] == IDS[:200]


def test_without_a_format_the_answer_is_one_object(simulator: SimulatorControl) -> None:
    heard = ask_persons(simulator, IDS[:3], streamed=False)
    assert heard.headers["content-type"] == "application/json"
    assert heard.json()["data"] == documents_of(ask_persons(simulator, IDS[:3]))


def test_whoever_is_not_known_is_left_out_and_nobody_comes_twice(simulator: SimulatorControl) -> None:
    asked = [IDS[1], "U99999999x", IDS[0], IDS[1], "nobody"]
    documents = documents_of(ask_persons(simulator, asked))
    assert [document["personid"] for document in documents] == [IDS[1], IDS[0]]


def test_a_batch_without_terms_is_answered_with_poorer_documents(simulator: SimulatorControl) -> None:
    """As the real API does: whoever takes an id without terms for a person without terms loses them."""
    [poor] = documents_of(ask_persons(simulator, [STUDENT]))
    [rich] = documents_of(ask_person_api(simulator, with_terms([STUDENT])))
    assert semesters_of(poor) == set()
    assert semesters_of(rich) == {(row["acad_career"], row["strm"]) for row in term_rows(STUDENT)}


def test_only_terms_that_are_asked_for_are_told(simulator: SimulatorControl) -> None:
    first, *_ = term_rows(STUDENT)
    unknown = {**first, "strm": "1999"}
    [document] = documents_of(ask_person_api(simulator, with_terms(student={"uid_car_term": [first, unknown]})))
    assert semesters_of(document) == {(first["acad_career"], first["strm"])}


def test_a_teacher_is_asked_for_by_his_terms(simulator: SimulatorControl) -> None:
    both = documents_of(ask_person_api(simulator, with_terms([STUDENT], [TEACHER])))
    assert [document["personid"] for document in both] == [STUDENT, TEACHER]
    [document] = documents_of(ask_person_api(simulator, with_terms(teachers=[TEACHER])))
    taught = {row["STRM"] for row in PEOPLE.teaching_of(TEACHER, SCENARIO_START)}
    told = {item["academicTerm"]["term"]["code"] for item in document["facultyInfo"]["instruction"]}
    assert told == taught


def test_objects_say_which_sections_are_told(simulator: SimulatorControl) -> None:
    employee = next(person.id for person in people_of() if person.student and person.employee)
    [whole] = documents_of(ask_persons(simulator, [employee]))
    [part] = documents_of(ask_persons(simulator, [employee], objects=["student"]))
    assert set(whole) - set(part) >= {"employeeInfo"}
    assert part == {name: whole[name] for name in part}


def test_the_log_tells_who_was_asked_for_how_often(simulator: SimulatorControl) -> None:
    ask_persons(simulator, IDS[:3])
    ask_persons(simulator, IDS[2:4])
    told = simulator.requests()
    assert told["people"] == {"personapi": {IDS[0]: 1, IDS[1]: 1, IDS[2]: 2, IDS[3]: 1}}
    assert [request["people"] for request in told["requests"]] == [IDS[:3], IDS[2:4]]


@pytest.mark.parametrize("flavour", ["cstools", "qas"])
def test_the_log_tells_whose_terms_were_asked_for(simulator: SimulatorControl, flavour: str) -> None:
    environment = simulator.environment(flavour)
    if flavour == "cstools":
        query = {"query_name": "BU_TERM_STD_FULL_TERM", "prompt_names": ["BUID"], "prompt_values": [STUDENT]}
        headers = json_headers(("x-api-key", environment["DE_CSTOOLS_KEY"]))
        call(simulator, "POST", "/cstools/api/v1/queries/execute", headers, json.dumps(query).encode())
    else:
        path = QAS_PATH.replace("BU_TERM_QRY", "BU_TERM_STD_FULL_TERM")
        target = qas_target(path, prompt_uniquepromptname="BUID", prompt_fieldvalue=STUDENT)
        call(simulator, "GET", target, qas_headers(simulator))
    told = simulator.requests()
    assert told["people"] == {flavour: {STUDENT: 1}}
    assert STUDENT not in told["requests"][-1]["path"]


# --------------------------------------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    "changed",
    [
        {"buids": None},
        {"buids": []},
        {"buids": "U90000001"},
        {"buids": [90000001]},
        {"buids": [""]},
        {"objects": None},
        {"objects": []},
        {"objects": ["students"]},
        {"objects": "student"},
        {"options": []},
        {"options": {"response_format": "csv"}},
        {"options": {"format": "ndjson"}},
        {"options": {"batch_size": 0}},
        {"options": {"batch_size": "601"}},
        {"csEnv": "test"},
        {"student": {"uid_car_term": [{"buid": "U90000001", "acad_career": "UGRD", "strm": "2258"}]}},
    ],
)
def test_a_body_that_is_not_right_is_refused(simulator: SimulatorControl, changed: dict[str, object]) -> None:
    heard = ask_persons(simulator, IDS[:2], **changed)
    assert heard.status == 422
    assert heard.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        {},
        [{}],
        ["U90000001"],
        [{"buid": "U90000001", "strm": "2258"}],
        [{"buid": "U90000001", "acad_career": "UGRD", "strm": 2258}],
        [{"BUID": "U90000001", "ACAD_CAREER": "UGRD", "STRM": "2258"}],
    ],
)
def test_rows_without_their_columns_are_refused(simulator: SimulatorControl, rows: object) -> None:
    assert ask_person_api(simulator, with_terms(student={"uid_car_term": rows})).status == 422
    assert ask_person_api(simulator, with_terms(student={"rows": rows})).status == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"U90000001"', b"\xff"])
def test_what_is_no_object_is_refused(simulator: SimulatorControl, body: bytes) -> None:
    headers = json_headers(("x-api-key", simulator.environment()["DE_PERSON_API_KEY"]))
    assert call(simulator, "POST", PERSON_PATH, headers, body).status == 422


def test_the_gateway_asks_for_a_key(simulator: SimulatorControl) -> None:
    body = json.dumps({"buids": IDS[:1], "objects": OBJECTS}).encode()
    key = ("x-api-key", simulator.environment()["DE_PERSON_API_KEY"])
    for headers in ([], [("x-api-key", "wrong")], [("authorization", f"Bearer {key[1]}")], [key, key]):
        assert call(simulator, "POST", PERSON_PATH, json_headers(*headers), body).status == 403
    assert call(simulator, "GET", PERSON_PATH, json_headers(key)).status == 405
    assert call(simulator, "POST", "/person/v2/batch", json_headers(key), body).status == 404
    assert call(simulator, "POST", "/person/v2/batch", json_headers(), body).status == 403
    assert call(simulator, "POST", PERSON_PATH + "?csEnv=test", json_headers(key), body).status == 422
    assert call(simulator, "POST", PERSON_PATH, [key], body).status == 422


# ------------------------------------------------------------------------------------------- time, limits


def test_a_batch_takes_its_time() -> None:
    with running_simulator(day=SCENARIO_START, persons=50, person_batch_s=0.3) as slow:
        known = [person.id for person in people_of(Config.of({"persons": 50}))]
        heard = ask_persons(slow, known[:5])
        assert heard.pieces[0][0] >= 0.3
        assert len(documents_of(heard)) == 5
        assert ask_snapperson(slow, f'[{{BUID:"{known[0]}"}}]').pieces[0][0] >= 0.3


def test_a_gateway_gives_up_on_a_batch_that_takes_too_long() -> None:
    with running_simulator(day=SCENARIO_START, persons=50, person_batch_s=60, gateway_cut_s=0.2) as slow:
        heard = ask_persons(slow, ["U90000001"])
    assert 0.2 <= heard.pieces[0][0] < 5
    assert heard.status == 504
    assert heard.headers["content-type"].startswith("text/html")
