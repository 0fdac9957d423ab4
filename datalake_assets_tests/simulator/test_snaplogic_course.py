"""SnapLogic's course task as it is heard at a socket: what it refuses, and what faults make of its answers."""

import gzip
import json
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets_tests.simulator.callers import Heard, call

PATH = "/snaplogic/course"
TERM = "2268"


def headers(simulator: SimulatorControl) -> list[tuple[str, str]]:
    return [("x-api-key", simulator.environment()["SNAPLOGIC_COURSE_KEY"])]


def ask(simulator: SimulatorControl, *more: tuple[str, str], query: str = f"?term={TERM}&csEnv=test") -> Heard:
    return call(simulator, "GET", PATH + query, [*headers(simulator), *more])


def faulty(simulator: SimulatorControl, fault: str, **settings: object) -> Heard:
    simulator.set_faults([{"fault": fault, **settings}])
    return ask(simulator)


def courses(groups: list[dict[str, Any]]) -> list[Any]:
    return [course for group in groups for course in group["courses"]]


def name_of(group: dict[str, Any], course: dict[str, Any]) -> str:
    v2 = course["v2"]
    return f"{group['termDetails']['academicCareer']}/{TERM}/{int(v2['courseId'])}/{v2['sessionCode']}"


def victim(simulator: SimulatorControl) -> tuple[str, dict[str, Any]]:
    simulator.set_faults([])
    group = ask(simulator).json()[0]
    course = next(course for course in group["courses"] if course)
    return name_of(group, course), course


def test_a_right_request_is_answered_by_groups_of_courses(simulator: SimulatorControl) -> None:
    heard = ask(simulator)
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    groups = heard.json()
    assert {frozenset(group) for group in groups} == {frozenset({"termDetails", "courses"})}
    assert len(courses(groups)) >= 200
    assert ask(simulator).body == heard.body


@pytest.mark.parametrize(
    ("method", "target", "key", "status"),
    [
        pytest.param("GET", f"{PATH}?term=2268&csEnv=test", None, 401, id="no key"),
        pytest.param("GET", f"{PATH}?term=2268&csEnv=test", "wrong", 401, id="wrong key"),
        pytest.param("GET", f"{PATH}?term=2268&csEnv=test&x-api-key=KEY", None, 401, id="key in the address"),
        pytest.param("POST", f"{PATH}?term=2268&csEnv=test", "KEY", 405, id="post"),
        pytest.param("GET", f"{PATH}?csEnv=test", "KEY", 400, id="no term"),
        pytest.param("GET", f"{PATH}?term=&csEnv=test", "KEY", 400, id="empty term"),
        pytest.param("GET", f"{PATH}?term=2268", "KEY", 400, id="no environment"),
        pytest.param("GET", f"{PATH}?term=2268&csEnv=dev", "KEY", 400, id="unknown environment"),
        pytest.param("GET", f"{PATH}?term=2268&csenv=test", "KEY", 400, id="wrong case of a parameter"),
        pytest.param("GET", f"{PATH}?term=2268&csEnv=test&page=1", "KEY", 400, id="unknown parameter"),
        pytest.param("GET", f"{PATH}?term=2268&term=2268&csEnv=test", "KEY", 400, id="term twice"),
        pytest.param("GET", f"{PATH}/?term=2268&csEnv=test", "KEY", 404, id="slash at the end"),
        pytest.param("GET", "/snaplogic/courses?term=2268&csEnv=test", "KEY", 404, id="another task"),
    ],
)
def test_a_wrong_request_is_refused_as_the_platform_does(
    simulator: SimulatorControl, method: str, target: str, key: str | None, status: int
) -> None:
    real = dict(headers(simulator))["x-api-key"]
    sent = [] if key is None else [("x-api-key", real if key == "KEY" else key)]
    heard = call(simulator, method, target.replace("KEY", real), sent)
    assert heard.status == status
    assert heard.json()["http_status_code"] == status
    assert set(heard.json()) == {"http_status_code", "response_map"}


def test_a_request_with_a_body_is_refused(simulator: SimulatorControl) -> None:
    assert call(simulator, "GET", f"{PATH}?term=2268&csEnv=test", headers(simulator), b"{}").status == 400


@pytest.mark.parametrize("term", ["9998", "UGRD", "226", "2268%20"])
def test_a_term_that_does_not_exist_is_an_empty_array(simulator: SimulatorControl, term: str) -> None:
    assert ask(simulator, query=f"?term={term}&csEnv=test").body == b"[]"


def test_the_answer_follows_the_day(simulator: SimulatorControl) -> None:
    first = ask(simulator).body
    simulator.set_day("2026-11-21")
    assert ask(simulator).body != first


def test_an_answer_can_be_compressed(simulator: SimulatorControl) -> None:
    packed = ask(simulator, ("accept-encoding", "gzip"))
    assert gzip.decompress(packed.body) == ask(simulator).body


def test_an_error_in_a_200_has_the_form_of_a_pipelines_error_view(simulator: SimulatorControl) -> None:
    heard = faulty(simulator, "error_200", how="snap_error_doc")
    assert heard.status == 200
    assert set(heard.json()[0]) == {"error", "reason", "resolution", "stacktrace"}
    assert faulty(simulator, "error_200", how="login_html").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("how", ["ps_status_error", "sap_return_e"])
def test_errors_of_other_systems_do_not_strike_here(simulator: SimulatorControl, how: str) -> None:
    assert len(courses(faulty(simulator, "error_200", how=how).json())) >= 200


def test_shapes(simulator: SimulatorControl) -> None:
    sound = ask(simulator).json()
    assert faulty(simulator, "shape", how="empty_result").body == b"[]"
    assert faulty(simulator, "shape", how="empty_object").body == b"{}"
    assert faulty(simulator, "shape", how="object_for_array").json() == sound[0]
    assert faulty(simulator, "shape", how="null_data").json() == [{**sound[0], "courses": None}, *sound[1:]]
    assert faulty(simulator, "shape", how="missing_data_key").json() == [
        {"termDetails": sound[0]["termDetails"]},
        *sound[1:],
    ]


@pytest.mark.parametrize(("how", "told"), [("term_code", "1998"), ("term_details_null", None)])
def test_a_group_may_be_of_another_term_or_of_none(simulator: SimulatorControl, how: str, told: str | None) -> None:
    sound = ask(simulator).json()
    groups = faulty(simulator, "wrong_types", how=how).json()
    differing = [group for group, before in zip(groups, sound, strict=True) if group != before]
    assert len(differing) == 1
    details = differing[0]["termDetails"]
    assert (details and details["term"]["code"]) == told
    every = faulty(simulator, "wrong_types", how=how, rate=1).json()
    assert {group["termDetails"] and group["termDetails"]["term"]["code"] for group in every} == {told}


@pytest.mark.parametrize(
    ("fault", "how", "field", "value"),
    [
        ("wrong_types", "v2_null", "v2", None),
        ("wrong_types", "key_null", "v2", None),
        ("wrong_types", "text_number", "titleLong", 2025),
        ("sensitive_elsewhere", "upper", "SSN", "900-12-3456"),
    ],
)
def test_one_course_is_spoilt_and_no_other(
    simulator: SimulatorControl, fault: str, how: str, field: str, value: object
) -> None:
    name, course = victim(simulator)
    sound = courses(ask(simulator).json())
    spoilt = courses(faulty(simulator, fault, how=how, keys=[name]).json())
    place = sound.index(course)
    assert spoilt[place] == {**course, field: value}
    assert [*spoilt[:place], *spoilt[place + 1 :]] == [*sound[:place], *sound[place + 1 :]]


def test_an_id_may_be_no_number_and_sections_may_be_no_array(simulator: SimulatorControl) -> None:
    name, course = victim(simulator)
    spoilt = courses(faulty(simulator, "wrong_types", how="course_id", keys=[name]).json())
    assert {**course, "v2": {**course["v2"], "courseId": "abc"}} in spoilt
    spoilt = courses(faulty(simulator, "wrong_types", how="sections_object", keys=[name]).json())
    assert {**course, "sections": {"first": course["sections"]}} in spoilt


def test_an_empty_object_stands_beside_a_course_or_in_its_place(simulator: SimulatorControl) -> None:
    name, course = victim(simulator)
    sound = courses(ask(simulator).json())
    place = sound.index(course)
    assert courses(faulty(simulator, "empty_docs", how="instead", keys=[name]).json()) == [
        *sound[:place],
        {},
        *sound[place + 1 :],
    ]
    assert courses(faulty(simulator, "empty_docs", how="added", keys=[name]).json()) == [
        *sound[: place + 1],
        {},
        *sound[place + 1 :],
    ]


def test_courses_come_twice_alike_or_different(simulator: SimulatorControl) -> None:
    name, course = victim(simulator)
    alike = courses(faulty(simulator, "dup_records", how="same", keys=[name]).json())
    assert alike.count(course) == 2
    different = courses(faulty(simulator, "dup_records", how="different", keys=[name]).json())
    assert different.count(course) == 1
    assert {**course, "titleLong": course["titleLong"] + "*"} in different


@pytest.mark.parametrize(
    ("how", "written"),
    [
        ("nul", b"\\u0000"),
        ("lone_surrogate", b"\\ud83d"),
        ("huge_number", b"1e400000"),
        ("deep_nesting", b"[" * 300),
        ("long_key", b"K" * 300),
        ("huge_doc_mb", b"x" * 300_000),
    ],
)
def test_poison_is_written_into_a_course(simulator: SimulatorControl, how: str, written: bytes) -> None:
    name, _ = victim(simulator)
    assert written not in ask(simulator).body
    heard = faulty(simulator, "poison", how=how, keys=[name], mb=0.3, length=300, depth=300)
    assert heard.body.count(written) == 1


@pytest.mark.parametrize(
    ("how", "written"),
    [("nan", b":NaN"), ("dup_keys", b',"titleLong":"twice"}'), ("raw_control", b"\t")],
)
def test_a_course_may_be_hardly_json(simulator: SimulatorControl, how: str, written: bytes) -> None:
    name, _ = victim(simulator)
    assert written not in ask(simulator).body
    assert faulty(simulator, "malformed_json", how=how, keys=[name]).body.count(written) == 1


@pytest.mark.parametrize("how", ["cut", "trailing_comma", "unescaped_quote"])
def test_a_body_may_be_no_json_at_all(simulator: SimulatorControl, how: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        faulty(simulator, "malformed_json", how=how).json()


@pytest.mark.parametrize(("how", "encoding"), [("bom", "utf-8-sig"), ("utf16", "utf-16"), ("latin1_body", "latin-1")])
def test_a_body_may_be_in_another_encoding(simulator: SimulatorControl, how: str, encoding: str) -> None:
    sound = ask(simulator).body
    body = faulty(simulator, "encoding", how=how).body
    assert body != sound
    assert len(courses(json.loads(body.decode(encoding)))) >= 200
    if how != "bom":
        with pytest.raises(UnicodeDecodeError):
            body.decode("utf-8")


def test_a_body_may_hold_one_byte_that_is_no_utf_8(simulator: SimulatorControl) -> None:
    assert faulty(simulator, "encoding", how="bad_utf8_byte").body.count(b"\xff") == 1


def test_a_fault_may_strike_one_term_only(simulator: SimulatorControl) -> None:
    simulator.set_faults([{"fault": "status_503", "scope": f"snaplogic_course/{TERM}"}])
    assert ask(simulator).status == 503
    assert ask(simulator, query="?term=2261&csEnv=test").status == 200


def test_an_outage_of_snaplogic_leaves_peoplesoft_alone(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="outage:snaplogic", days=["2026-11-20"])
    assert ask(simulator).status == 503
    assert simulator.truth()["landed_days"] == ["2026-11-20"]
