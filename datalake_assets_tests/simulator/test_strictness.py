"""What a request must be: every other one is refused, and as the real system refuses it."""

import gzip
import json
from base64 import b64encode

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.simulator.callers import (
    CSTOOLS_PATH,
    QAS_PATH,
    TERM_QUERY,
    Heard,
    ask_cstools,
    ask_qas,
    call,
    cstools_headers,
    cstools_rows,
    key_of,
    qas_headers,
    qas_rows,
    qas_target,
)

IB_FAULT = (
    '<IBResponse type="error"><DefaultTitle>Integration Broker Response</DefaultTitle><StatusCode>20</StatusCode>'
)


def is_ib_fault(heard: Heard) -> bool:
    return heard.status == 200 and heard.headers["content-type"].startswith("text/xml") and IB_FAULT in heard.text


def test_cs_tools_answers_a_right_request_with_rows_and_nothing_else(simulator: SimulatorControl) -> None:
    heard = ask_cstools(simulator)
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    assert set(heard.json()) == {"data"}
    assert [row["attr:rownumber"] for row in heard.json()["data"]] == list(range(1, 144))


def test_the_query_access_service_answers_a_right_request_with_rows_and_their_number(
    simulator: SimulatorControl,
) -> None:
    answer = ask_qas(simulator).json()
    assert set(answer) == {"status", "data"}
    assert answer["status"] == "success"
    query = answer["data"]["query"]
    assert set(query) == {"numrows", "queryname=", "rows"}
    assert (query["numrows"], query["queryname="]) == (len(query["rows"]), "BU_TERM_QRY")
    assert [row["attr:rownumber"] for row in query["rows"]] == list(range(1, 144))


def test_both_faces_of_peoplesoft_tell_the_same_rows(simulator: SimulatorControl) -> None:
    assert cstools_rows(simulator) == qas_rows(simulator)


def test_rows_hold_the_twelve_fields_of_the_query_and_no_other(simulator: SimulatorControl) -> None:
    names = {name for row in cstools_rows(simulator) for name in row}
    assert names == {
        "attr:rownumber",
        "ACAD_CAREER",
        "STRM",
        "DESCR",
        "TERM_BEGIN_DT",
        "TERM_END_DT",
        "CURRENT_IND",
        "BU_CUR_FUTURE_TERM",
        "BU_FUTURE_TERM_1",
        "BU_PAST_TERM_1",
        "OLD_TERM",
        "ACAD_YEAR",
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "answer"),
    [
        pytest.param("POST", CSTOOLS_PATH, {"x-api-key": None}, TERM_QUERY, 403, {"message": "Forbidden"}, id="no key"),
        pytest.param(
            "POST", CSTOOLS_PATH, {"x-api-key": "wrong"}, TERM_QUERY, 403, {"message": "Forbidden"}, id="wrong key"
        ),
        pytest.param(
            "POST",
            CSTOOLS_PATH,
            {"x-api-key": None, "authorization": "Bearer KEY"},
            TERM_QUERY,
            403,
            {"message": "Forbidden"},
            id="key in another header",
        ),
        pytest.param(
            "POST",
            CSTOOLS_PATH + "?x-api-key=KEY",
            {"x-api-key": None},
            TERM_QUERY,
            403,
            {"message": "Forbidden"},
            id="key in the address",
        ),
        pytest.param("GET", CSTOOLS_PATH, {}, None, 405, {"detail": "Method Not Allowed"}, id="get"),
        pytest.param("PUT", CSTOOLS_PATH, {}, TERM_QUERY, 405, {"detail": "Method Not Allowed"}, id="put"),
        pytest.param("POST", CSTOOLS_PATH + "/", {}, TERM_QUERY, 404, {"detail": "Not Found"}, id="slash at the end"),
        pytest.param("POST", "/cstools/api/v1/queries", {}, TERM_QUERY, 404, {"detail": "Not Found"}, id="wrong path"),
        pytest.param("POST", "/CSTOOLS/api/v1/queries/execute", {}, TERM_QUERY, 404, None, id="wrong case of the path"),
        pytest.param(
            "POST",
            "/cstools/x",
            {"x-api-key": None},
            TERM_QUERY,
            403,
            {"message": "Forbidden"},
            id="wrong path without a key",
        ),
        pytest.param("POST", CSTOOLS_PATH, {"content-type": None}, TERM_QUERY, 422, "body", id="no content type"),
        pytest.param("POST", CSTOOLS_PATH, {"content-type": "text/plain"}, TERM_QUERY, 422, "body", id="text/plain"),
        pytest.param("POST", CSTOOLS_PATH + "?csEnv=test", {}, TERM_QUERY, 422, "csEnv", id="unknown parameter"),
        pytest.param("POST", CSTOOLS_PATH, {}, b"{", 422, "json_invalid", id="no json"),
        pytest.param("POST", CSTOOLS_PATH, {}, b"[" * 100_000, 422, "json_invalid", id="bottomless json"),
        pytest.param("POST", CSTOOLS_PATH, {}, b"\xff\xfe", 422, "json_invalid", id="no utf-8"),
        pytest.param("POST", CSTOOLS_PATH, {}, [TERM_QUERY], 422, "model_attributes_type", id="a list"),
        pytest.param("POST", CSTOOLS_PATH, {}, {}, 422, "query_name", id="no query"),
        pytest.param("POST", CSTOOLS_PATH, {}, {"query_name": 1}, 422, "string_type", id="a number for the query"),
        pytest.param(
            "POST", CSTOOLS_PATH, {}, {**TERM_QUERY, "maxrows": 0}, 422, "extra_forbidden", id="unknown member"
        ),
        pytest.param(
            "POST", CSTOOLS_PATH, {}, {**TERM_QUERY, "prompt_names": "X"}, 422, "list_type", id="a text for a list"
        ),
        pytest.param(
            "POST", CSTOOLS_PATH, {}, {**TERM_QUERY, "prompt_names": [1]}, 422, "list_type", id="a list of numbers"
        ),
        pytest.param(
            "POST",
            CSTOOLS_PATH,
            {},
            {**TERM_QUERY, "prompt_names": [], "prompt_values": []},
            422,
            "The query has no prompts",
            id="prompts for a query without",
        ),
        pytest.param(
            "POST", CSTOOLS_PATH, {}, {"query_name": "BU_X_QRY"}, 404, {"detail": "Query not found"}, id="unknown query"
        ),
        pytest.param(
            "POST", CSTOOLS_PATH, {}, {"query_name": "bu_term_qry"}, 404, {"detail": "Query not found"}, id="wrong case"
        ),
    ],
)
def test_cs_tools_refuses(
    simulator: SimulatorControl,
    method: str,
    path: str,
    headers: dict[str, str | None],
    body: object,
    status: int,
    answer: object,
) -> None:
    key = dict(cstools_headers(simulator))["x-api-key"]
    given = {**dict(cstools_headers(simulator)), **headers}
    sent = [(name, value.replace("KEY", key)) for name, value in given.items() if value is not None]
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    heard = call(simulator, method, path.replace("KEY", key), sent, data)
    assert heard.status == status
    if isinstance(answer, dict):
        assert heard.json() == answer
    elif isinstance(answer, str):
        [detail] = heard.json()["detail"]
        assert set(detail) == {"type", "loc", "msg"}
        assert answer in (detail["type"], detail["msg"], *detail["loc"])


def test_a_key_given_twice_is_no_key(simulator: SimulatorControl) -> None:
    assert ask_cstools(simulator, cstools_headers(simulator)[0]).status == 403


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic " + b64encode(b"SIM_QAS_USER:wrong").decode(),
        "Basic " + b64encode(b"SIM_QAS_USER").decode(),
        "Basic " + b64encode(b"\xff\xfe:x").decode(),
        "Bearer TOKEN",
        "TOKEN",
    ],
)
def test_the_query_access_service_asks_for_a_logon(simulator: SimulatorControl, authorization: str | None) -> None:
    token = qas_headers(simulator)[0][1].removeprefix("Basic ")
    headers = [] if authorization is None else [("authorization", authorization.replace("TOKEN", token))]
    heard = call(simulator, "GET", qas_target(), headers)
    assert heard.status == 401
    assert heard.headers["www-authenticate"] == 'Basic realm="PeopleSoft"'
    assert heard.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_the_query_access_service_is_only_read(simulator: SimulatorControl, method: str) -> None:
    assert call(simulator, method, qas_target(), qas_headers(simulator)).status == 405


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("PSFT_CS", "PSFT_HR"),
        ("PSFT_CS", "psft_cs"),
        ("PUBLIC", "PRIVATE"),
        ("PUBLIC", "EVERYBODY"),
        ("BU_TERM_QRY", "BU_X_QRY"),
        ("BU_TERM_QRY", "bu_term_qry"),
        ("JSON", "XMLP"),
        ("NONFILE", "FILE"),
    ],
)
def test_a_wrong_part_of_the_path_is_a_fault_in_a_200(simulator: SimulatorControl, before: str, after: str) -> None:
    heard = call(simulator, "GET", qas_target(QAS_PATH.replace(before, after)), qas_headers(simulator))
    assert is_ib_fault(heard)


@pytest.mark.parametrize(
    "path", [QAS_PATH + "/", QAS_PATH.replace("ExecuteQuery.v1", "ExecuteQuery.v2"), "/PSIGW/x", QAS_PATH.lower()]
)
def test_a_path_that_leads_nowhere_is_a_page_of_the_web_server(simulator: SimulatorControl, path: str) -> None:
    heard = call(simulator, "GET", qas_target(path), qas_headers(simulator))
    assert heard.status == 404
    assert heard.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "changed",
    [
        {"isconnectedquery": None},
        {"isconnectedquery": "Y"},
        {"isconnectedquery": "false"},
        {"maxrows": None},
        {"maxrows": ""},
        {"maxrows": "-1"},
        {"maxrows": "ten"},
        {"maxrows": "9" * 5000},
        {"json_resp": "yes"},
        {"colour": "red"},
        {"MAXROWS": "0"},
        {"prompt_psqueryname": "X"},
        {"prompt_uniquepromptname": "BUID"},
        {"prompt_uniquepromptname": "BUID", "prompt_fieldvalue": "U00000001"},
        {"prompt_fieldvalue": "U00000001"},
        {"filterfields": "A.COLOUR"},
        {"filterfields": "STRM"},
        {"filterfields": "A.strm"},
        {"filterfields": "A.STRM,A.STRM"},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_a_fault_in_a_200(simulator: SimulatorControl, changed: dict[str, str | None]) -> None:
    assert is_ib_fault(ask_qas(simulator, **changed))


@pytest.mark.parametrize("json_resp", [None, "false", "FALSE"])
def test_json_comes_only_if_it_is_insisted_on(simulator: SimulatorControl, json_resp: str | None) -> None:
    heard = ask_qas(simulator, json_resp=json_resp)
    assert (heard.status, heard.headers["content-type"]) == (200, "text/xml; charset=utf-8")
    assert heard.text.startswith('<?xml version="1.0"?><query numrows="143" queryname="BU_TERM_QRY">')
    assert heard.text.count("<row rownumber=") == 143


def test_names_of_parameters_and_owner_are_read_in_any_case(simulator: SimulatorControl) -> None:
    """Documented so; a simulator that is stricter than the real thing would forbid what works."""
    target = QAS_PATH.replace("PUBLIC", "public") + "?isConnectedQuery=n&MaxRows=0&JSON_RESP=TRUE"
    assert call(simulator, "GET", target, qas_headers(simulator)).json()["data"]["query"]["numrows"] == 143


def test_maxrows_cuts_without_a_word(simulator: SimulatorControl) -> None:
    query = ask_qas(simulator, maxrows="10").json()["data"]["query"]
    assert (query["numrows"], len(query["rows"])) == (10, 10)


def test_filterfields_leave_only_the_fields_named(simulator: SimulatorControl) -> None:
    rows = ask_qas(simulator, filterfields="A.STRM,A.ACAD_CAREER").json()["data"]["query"]["rows"]
    assert all(set(row) == {"attr:rownumber", "STRM", "ACAD_CAREER"} for row in rows)


def test_an_address_outside_every_system_leads_nowhere(simulator: SimulatorControl) -> None:
    assert call(simulator, "GET", "/").status == 404


def test_a_refused_request_is_no_attempt(simulator: SimulatorControl) -> None:
    """A client that was refused for its key must meet the faults of the first attempt afterwards."""
    simulator.set_faults([{"fault": "status_503", "first_n": 1}])
    assert call(simulator, "POST", CSTOOLS_PATH, [], b"{}").status == 403
    assert [ask_cstools(simulator).status for _ in range(2)] == [503, 200]


def test_answers_are_compressed_only_for_those_who_accept_it(simulator: SimulatorControl) -> None:
    plain, packed = ask_cstools(simulator), ask_cstools(simulator, ("accept-encoding", "gzip"))
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_what_is_no_http_is_refused(simulator: SimulatorControl) -> None:
    assert call(simulator, "GET", "/a b").status == 400


def test_knobs_shape_the_answer() -> None:
    with running_simulator(
        alias_fields="true", term_order="strm", compress="false", careers=["UGRD", "LAW"]
    ) as simulator:
        heard = ask_qas(simulator, ("accept-encoding", "gzip"))
        assert "content-encoding" not in heard.headers
        rows = heard.json()["data"]["query"]["rows"]
        assert all(name == "attr:rownumber" or name.startswith("A.") for row in rows for name in row)
        assert [row["A.STRM"].strip() for row in rows] == sorted(row["A.STRM"].strip() for row in rows)
        bare = [{name.removeprefix("A."): value for name, value in row.items()} for row in rows]
        assert bare == cstools_rows(simulator)
        assert {key_of(row).partition("/")[0] for row in bare} == {"UGRD", "LAW"}
