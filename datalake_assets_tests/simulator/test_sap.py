from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.simulator.callers import (
    SAP_PATH,
    SCENARIO_START,
    Heard,
    ask_sap,
    call,
    json_headers,
    people_of,
)


def rows_of(heard: Heard) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = heard.json()["ET_EMP_LIST"]
    return rows


def strike(simulator: SimulatorControl, fault: str, **settings: object) -> None:
    simulator.set_faults([{"fault": fault, "scope": "sap", **settings}])


def code_of(heard: Heard) -> str:
    code: str = heard.json()["fault"]["detail"]["errorcode"]
    return code


def test_the_active_rows_name_exactly_the_employees(simulator: SimulatorControl) -> None:
    rows = rows_of(ask_sap(simulator))
    active = {row["BUID"].strip() for row in rows if row["EMP_STATUS"] == "3 - Active"}
    assert active - {""} == {person.id for person in people_of() if person.employee}


def test_rows_are_as_untidy_as_those_of_sap(simulator: SimulatorControl) -> None:
    """A client that trims nothing, counts rows or skips the status must fail here and not in production."""
    rows = rows_of(ask_sap(simulator))
    assert {row["EMP_STATUS"] for row in rows} == {"3 - Active", "0 - Withdrawn", "1 - Inactive", "2 - Retired"}
    ids = [row["BUID"] for row in rows]
    assert any(text != text.strip() for text in ids if text.strip())
    assert any(not text.strip() for text in ids)
    assert len({text.strip() for text in ids}) < len(ids)
    statuses: dict[str, set[str]] = {}
    for row in rows:
        statuses.setdefault(row["BUID"].strip(), set()).add(row["EMP_STATUS"])
    assert any("3 - Active" in found and len(found) > 1 for found in statuses.values())
    assert {row["ENDDA"] for row in rows} >= {"00000000", "99991231"}
    assert all(len(row["ENAME"]) == 40 for row in rows)


def test_a_single_row_is_an_object() -> None:
    """As where XML stands behind the JSON; a list of one is what clients are tested with, and never get."""
    with running_simulator(day=SCENARIO_START, persons=1, share_student=0, share_faculty=0, share_affiliate=0) as one:
        row = ask_sap(one).json()["ET_EMP_LIST"]
    assert row["EMP_STATUS"] == "3 - Active"


def test_the_gateway_answers_for_keys(simulator: SimulatorControl) -> None:
    without = call(simulator, "POST", SAP_PATH, json_headers(), b"{}")
    wrong = call(simulator, "POST", SAP_PATH, json_headers(("x-api-key", "wrong")), b"{}")
    assert (without.status, code_of(without)) == (401, "steps.oauth.v2.FailedToResolveAPIKey")
    assert (wrong.status, code_of(wrong)) == (401, "oauth.v2.InvalidApiKey")


@pytest.mark.parametrize(
    "target",
    [
        "/sap",
        "/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST",
        "/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR&account=HR",
        "/sap?bapiname=Z_HR_EMPLOYEE_OBJ_LIST&account=HR",
        "/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR&page=1",
    ],
)
def test_other_parameters_are_refused(simulator: SimulatorControl, target: str) -> None:
    assert ask_sap(simulator, target).status == 400


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/sap?BAPIName=Z_OTHER&account=HR", b"{}"),
        ("/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=hr", b"{}"),
        (SAP_PATH, b"[]"),
        (SAP_PATH, b'{"status":"3"}'),
    ],
)
def test_what_the_bapi_dislikes_comes_with_status_200(simulator: SimulatorControl, target: str, body: bytes) -> None:
    heard = ask_sap(simulator, target, body)
    assert heard.status == 200
    [message] = heard.json()["RETURN"]
    assert message["TYPE"] == "E"
    assert "ET_EMP_LIST" not in heard.json()


def test_what_is_no_request_is_refused(simulator: SimulatorControl) -> None:
    headers = json_headers(("x-api-key", simulator.environment()["SAP_KEY"]))
    assert call(simulator, "GET", SAP_PATH, headers).status == 405
    assert call(simulator, "POST", "/sap/other", headers, b"{}").status == 404
    assert ask_sap(simulator, body=b"").status == 400
    assert ask_sap(simulator, body=b"{").status == 400


def test_a_bapi_that_fails_says_so_with_status_200(simulator: SimulatorControl) -> None:
    strike(simulator, "error_200", how="sap_return_e")
    heard = ask_sap(simulator)
    assert heard.status == 200
    assert heard.json()["ET_EMP_LIST"] == []
    assert heard.json()["RETURN"]["TYPE"] == "E"
    strike(simulator, "error_200", how="login_html")
    assert ask_sap(simulator).headers["content-type"].startswith("text/html")


def test_an_error_of_another_system_does_not_happen_here(simulator: SimulatorControl) -> None:
    strike(simulator, "error_200", how="ps_status_error")
    assert rows_of(ask_sap(simulator))


def test_throttling_has_the_form_of_the_gateway(simulator: SimulatorControl) -> None:
    strike(simulator, "status_429", retry_after="seconds")
    heard = ask_sap(simulator)
    assert (heard.status, code_of(heard)) == (429, "policies.ratelimit.QuotaViolation")
    assert heard.headers["retry-after"] == "1"


def test_faults_of_rows_are_keyed_by_person(simulator: SimulatorControl) -> None:
    victim = next(row["BUID"] for row in rows_of(ask_sap(simulator)) if row["BUID"].strip())
    strike(simulator, "wrong_types", how="key_number", keys=[victim])
    assert int(victim[1:]) in [row["BUID"] for row in rows_of(ask_sap(simulator))]
    strike(simulator, "missing_records", keys=[victim])
    assert victim not in [row["BUID"] for row in rows_of(ask_sap(simulator))]
    strike(simulator, "row_cap", rows=20)
    assert len(rows_of(ask_sap(simulator))) == 20


def test_an_outage_has_its_preset(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="outage:sap", days=[SCENARIO_START.isoformat()])
    assert ask_sap(simulator).status == 503
