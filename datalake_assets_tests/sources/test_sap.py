"""SAP's employee list: who counts, and every way in which an answer is no answer."""

import json
import logging
import traceback
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.ids import IdAnswer
from datalake_assets.sources.policies import SAP_IDS
from datalake_assets.sources.sap import SapEmployees
from datalake_assets_tests.sources.fault_server import FaultServer, Reply, answer, close_delimited, serving

pytestmark = pytest.mark.anyio

FAST = replace(SAP_IDS, connect_s=0.5, read_s=0.5, total_s=1, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
SECRET = "canary-secret"
BUID = "U12345678"


def sap(server: FaultServer, **more: Any) -> SapEmployees:
    return SapEmployees(f"{server.url}/sap", SecretStr(SECRET), policy=FAST, **more)


def employee(buid: object, status: object = "3 - Active") -> dict[str, object]:
    return {"BUID": buid, "EMP_STATUS": status, "BEGDA": "00000000"}


async def ids_of(*replies: Reply, **more: Any) -> IdAnswer:
    async with serving(*replies) as server, sap(server, **more) as source:
        return await source.active_ids()


async def listed(*rows: object, **more: Any) -> IdAnswer:
    return await ids_of(answer({"ET_EMP_LIST": list(rows)}), **more)


async def test_the_bapi_is_posted_as_the_gateway_wants_it() -> None:
    async with serving(answer({"ET_EMP_LIST": [employee("U90000001")]})) as server, sap(server) as source:
        await source.active_ids()
        assert (source.stats.requests, source.stats.retries) == (1, 0)
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR")
    assert (request.headers["x-api-key"], json.loads(request.body)) == (SECRET, {})


async def test_active_employees_count_and_all_rows_are_counted() -> None:
    got = await listed(
        employee("U90000001"),
        employee(" U90000002 ", " 3 - Active  "),
        employee("U90000003", "0 - Withdrawn"),
        employee("U90000004", "3 - active"),
        employee(None, "2 - Retired"),
    )
    assert got.rows == ("U90000001", "U90000002")
    assert (got.received, got.unusable, got.complete) == (5, (), True)
    assert got.bytes_in > 100
    assert "Z_HR_EMPLOYEE_OBJ_LIST" in got.pointer


async def test_an_active_employee_with_a_blank_id_is_nobody() -> None:
    """SAP pads empty fields; whoever has no id yet takes nothing from the completeness of the list."""
    got = await listed(employee("U90000001"), employee("   "), employee("", "2 - Retired"))
    assert (got.rows, got.unusable, got.nameless, got.received) == (("U90000001",), (), 1, 3)


async def test_which_status_counts_is_a_parameter() -> None:
    """Fault P14: a literal in the code, and a population that shrinks when SAP rewords it."""
    rows = [employee("U90000001"), employee("U90000002", "Aktiv"), employee("U90000003", "1 - Leave")]
    assert (await listed(*rows, active=("Aktiv",))).rows == ("U90000002",)
    assert (await listed(*rows, active=("Aktiv", "1 - Leave"))).rows == ("U90000002", "U90000003")


async def test_a_table_of_one_row_may_be_an_object() -> None:
    assert (await ids_of(answer({"ET_EMP_LIST": employee("U90000001")}))).rows == ("U90000001",)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (json.dumps(employee(None)), "no_id"),
        (json.dumps(employee(12345678)), "id_not_text"),
        (json.dumps(employee("U90000002", None)), "no_status"),
        (json.dumps(employee("U90000002", " ")), "no_status"),
        (json.dumps(employee("U90000002", 3)), "no_status"),
        ('{"BUID":"U90000002"}', "no_status"),
        ("{}", "no_status"),
        ("null", "row_not_object"),
        ('"U90000002"', "row_not_object"),
        ('{"BUID":"U90000002","BUID":"U90000003","EMP_STATUS":"3 - Active"}', "duplicate_key"),
    ],
)
async def test_a_row_that_cannot_be_read_is_counted_and_not_taken_for_one_who_left(bad: str, rule: str) -> None:
    body = f'{{"ET_EMP_LIST":[{json.dumps(employee("U90000001"))},{bad}]}}'
    got = await ids_of(answer(body.encode()))
    assert (got.rows, got.received, [one.rule for one in got.unusable]) == (("U90000001",), 2, [rule])


GOOD = [employee("U90000001")]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        # P14: failures that SAP reports with status 200
        (
            {"RETURN": {"TYPE": "E", "ID": "ZHR", "NUMBER": "042", "MESSAGE": "Locked"}, "ET_EMP_LIST": GOOD},
            "is a failure that SAP reports in RETURN. It said: TYPE 'E', ID 'ZHR', NUMBER '042', MESSAGE 'Locked'",
        ),
        ({"RETURN": {"TYPE": "A", "ID": "ZHR", "NUMBER": 42}, "ET_EMP_LIST": GOOD}, "TYPE 'A', ID 'ZHR', NUMBER '42'"),
        ({"RETURN": [{"TYPE": "S"}, {"TYPE": "E"}], "ET_EMP_LIST": GOOD}, "is a failure that SAP reports"),
        ({"RETURN": [{"TYPE": "X"}], "ET_EMP_LIST": GOOD}, "is a failure that SAP reports"),
        ({"RETURN": {"TYPE": "e "}, "ET_EMP_LIST": GOOD}, "is a failure that SAP reports"),
        ({"RETURN": {"TYPE": "E"}}, "is a failure that SAP reports"),
        ({"RETURN": {"TYPE": "E"}, "ET_EMP_LIST": []}, "is a failure that SAP reports"),
        ({"RETURN": "Locked", "ET_EMP_LIST": GOOD}, "has a text where a message of RETURN belongs"),
        ({"RETURN": [None], "ET_EMP_LIST": GOOD}, "has null where a message of RETURN belongs"),
        # an answer without employees is no answer
        ({"ET_EMP_LIST": []}, "names no employee, and there always are some"),
        ({"ET_EMP_LIST": {}}, "has an object where the table 'ET_EMP_LIST' belongs"),
        ({"ET_EMP_LIST": None}, "has null where the table 'ET_EMP_LIST' belongs"),
        ({"ET_EMP_LIST": "x"}, "has a text where the table 'ET_EMP_LIST' belongs"),
        ({}, "has no 'ET_EMP_LIST'"),
        ([], "has a list where an object with 'ET_EMP_LIST' belongs"),
        ([GOOD], "has a list where an object with 'ET_EMP_LIST' belongs"),
        ({"message": "Forbidden"}, "has no 'ET_EMP_LIST'. It said: 'Forbidden'."),
        (
            {"fault": {"faultstring": "Invalid key", "detail": {"errorcode": "oauth.v2.InvalidApiKey"}}},
            "It said: 'oauth.v2.InvalidApiKey'; 'Invalid key'.",
        ),
        (
            {"ET_EMP_LIST": [employee("U90000001", "Aktiv"), employee(None)]},
            "has 2 rows, and none names an employee whose EMP_STATUS is '3 - Active'",
        ),
        (b'{"ET_EMP_LIST":[],"ET_EMP_LIST":[]}', "names a field beside 'ET_EMP_LIST' twice"),
        (b'{"ET_EMP_LIST":[1,]}', "is not readable"),
    ],
)
async def test_an_answer_that_cannot_be_trusted_is_refused(document: Any, sentence: str) -> None:
    """Faults P14, P15: never an empty or a shrunken population."""
    async with serving(answer(document)) as server, sap(server) as source:
        with pytest.raises(PermanentSourceError) as refusal:
            await source.active_ids()
    assert sentence in str(refusal.value)
    assert "What to do: " in str(refusal.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("said", [None, [], {}, {"TYPE": ""}, {"TYPE": "S"}, [{"TYPE": "W"}, {"TYPE": "I"}]])
async def test_messages_that_are_no_failures_do_no_harm(said: Any) -> None:
    got = await ids_of(answer({"RETURN": said, "ET_EMP_LIST": GOOD}))
    assert got.rows == ("U90000001",)


async def test_a_cut_answer_is_asked_for_once_more_and_then_given_up() -> None:
    body = json.dumps({"ET_EMP_LIST": [employee("U90000001"), employee("U90000002")]}).encode()
    got = await ids_of(close_delimited(body[:-30]), answer(body))
    assert len(got.rows) == 2
    with pytest.raises(TransientSourceError, match="ended early, twice"):
        await ids_of(close_delimited(body[:-30]))


async def test_a_failure_that_passes_is_asked_again() -> None:
    assert (await ids_of(answer(b"", 503), answer({"ET_EMP_LIST": GOOD}))).rows == ("U90000001",)


@pytest.mark.parametrize(
    "document",
    [
        {"RETURN": {"TYPE": "E", "ID": BUID, "NUMBER": SECRET, "MESSAGE": f"{BUID} is locked by {SECRET}"}},
        {"ET_EMP_LIST": [employee(BUID, SECRET)]},
        {"error": {"message": f"no {BUID} for {SECRET}"}},
    ],
)
async def test_no_person_and_no_secret_is_named(document: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        await ids_of(answer(document))
    said = "".join([*traceback.format_exception(caught.value), repr(caught.value), caplog.text])
    assert [canary for canary in (BUID, SECRET) if canary in said] == []


async def test_neither_client_nor_answer_shows_what_it_holds() -> None:
    source = SapEmployees("https://x.example", SecretStr(SECRET))
    assert "canary" not in repr(source) + repr(vars(source))
    assert BUID not in repr(await listed(employee(BUID), employee(BUID, None)))
