import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.simulator.days import campus_today
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets_tests.simulator.callers import (
    CSTOOLS_PATH,
    SCENARIO_START,
    ask_cstools,
    ask_qas,
    call,
    cstools_headers,
    cstools_rows,
    qas_headers,
    qas_target,
)

PATHS = ["/_sim/reset", "/_sim/day", "/_sim/faults", "/_sim/truth", "/_sim/requests"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "", "wrong", "wröng"])
def test_the_control_asks_for_its_token(simulator: SimulatorControl, path: str, token: str | None) -> None:
    method = "POST" if path == "/_sim/reset" else "GET"
    heard = call(simulator, method, path, [] if token is None else [("x-sim-token", token)])
    assert heard.status == 401


def test_whether_it_is_there_is_told_to_everybody(simulator: SimulatorControl) -> None:
    assert call(simulator, "GET", "/_sim/healthz").json() == {"status": "ok"}


def test_the_control_token_opens_no_source_and_a_source_key_no_control(simulator: SimulatorControl) -> None:
    key = cstools_headers(simulator)[0][1]
    assert call(simulator, "GET", "/_sim/day", [("x-sim-token", key)]).status == 401


def refused(simulator: SimulatorControl, method: str, path: str, body: object = None) -> dict[str, Any]:
    with pytest.raises(SimulatorError) as error:
        simulator._ask(method, path, body)  # type: ignore[arg-type]
    text = str(error.value)
    assert "status 422" in text
    answer: dict[str, Any] = json.loads(text[text.index("{") :])
    return answer


def test_a_day_can_be_set_and_given_back_to_the_calendar(simulator: SimulatorControl) -> None:
    before = cstools_rows(simulator)
    assert simulator.set_day("2026-11-21") == date(2026, 11, 21)
    assert simulator.day() == date(2026, 11, 21)
    assert cstools_rows(simulator) != before
    today = campus_today()
    assert simulator.set_day(None) in (today, campus_today())


@pytest.mark.parametrize(
    "body", [{}, {"day": "tomorrow"}, {"day": 20261120}, {"day": "2026-11-20", "hour": 1}, [], "2026-11-20"]
)
def test_what_is_no_day_is_refused(simulator: SimulatorControl, body: object) -> None:
    assert refused(simulator, "PUT", "/_sim/day", body)["allowed"] != []
    assert simulator.day() == SCENARIO_START


def test_a_method_that_is_not_known_is_refused(simulator: SimulatorControl) -> None:
    with pytest.raises(SimulatorError, match="status 405"):
        simulator._ask("DELETE", "/_sim/faults")


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"preset": "chaos"}, "hostile"),
        ({"colour": 1}, "preset"),
        ({"faults": {}}, "a list of faults"),
        ({"faults": [{"fault": "status_418"}]}, "status_429"),
        ({"faults": [{"fault": "status_503", "scope": "hr"}]}, "cstools[/pattern of request keys]"),
        ({"fault_seed": "x"}, "a whole number"),
        ({"days": ["2026-11-20"]}, "poison-day"),
        ({"preset": "hostile", "days": ["soon"]}, "a day such as 2026-11-20"),
    ],
)
def test_what_is_no_fault_is_refused_and_changes_nothing(
    simulator: SimulatorControl, body: dict[str, Any], allowed: str
) -> None:
    simulator.set_faults([{"fault": "status_503"}])
    assert allowed in refused(simulator, "PUT", "/_sim/faults", body)["allowed"]
    assert simulator.faults()["faults"] == [{"fault": "status_503", "scope": "*"}]


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("", "term"),
        ("kind=staff", "term"),
        ("kind=staff", "person"),
        ("kind=person&term=2258", "no term"),
        ("kind=person&since=2026-11-20", "documents"),
        ("kind=person&documents=yes", "true"),
        ("kind=course", "term=2258"),
        ("kind=term&colour=red", "since"),
        ("kind=term&kind=term", "since"),
        ("kind=term&day=soon", "a day such as 2026-11-20"),
        ("kind=term&since=2026-11-21&day=2026-11-20", "1 to 1000 days"),
        ("kind=term&days=2026-11-25&day=2026-11-20", "days from 2026-11-20 to 2026-11-20"),
        ("kind=term&endpoint=hr", "qas"),
        ("kind=term&attempts=0", "a number above 0"),
        ("kind=term&attempts=many", "a number above 0"),
    ],
)
def test_what_the_truth_does_not_know_is_refused(simulator: SimulatorControl, query: str, allowed: str) -> None:
    assert allowed in refused(simulator, "GET", f"/_sim/truth?{query}")["allowed"]


def test_faults_explain_themselves(simulator: SimulatorControl) -> None:
    told = simulator.set_faults(
        [{"fault": "latency", "ms": 5, "scope": "qas"}], preset="hostile", days=["2026-11-20.."], fault_seed=7
    )
    assert (told["preset"], told["days"], told["fault_seed"]) == ("hostile", ["2026-11-20.."], 7)
    assert told["faults"] == [{"fault": "latency", "ms": 5, "scope": "qas"}]
    assert told["today"][0] == told["faults"][0]
    assert len(told["today"]) > 1
    assert told["knobs"]["poison"]["parameters"]["depth"] == "a number from 200 to 1e+06"
    assert told["knobs"]["poison"]["endpoints"][:2] == ["cstools", "qas"]
    assert told["knobs"]["ndjson_crlf"]["endpoints"] == ["personapi"]
    assert "outage:peoplesoft" in told["presets"]


def test_a_reset_forgets_everything(simulator: SimulatorControl) -> None:
    simulator.set_day("2026-11-23")
    simulator.set_faults([{"fault": "status_503", "first_n": 1}])
    ask_cstools(simulator)
    simulator.reset()
    assert simulator.day() == SCENARIO_START
    assert simulator.faults()["faults"] == []
    assert simulator.requests() == {"endpoints": {}, "people": {}, "requests": []}


def test_new_faults_meet_a_first_attempt(simulator: SimulatorControl) -> None:
    ask_cstools(simulator)
    simulator.set_faults([{"fault": "status_503", "first_n": 1}])
    assert [ask_cstools(simulator).status for _ in range(2)] == [503, 200]


def test_the_log_tells_how_a_client_asked(simulator: SimulatorControl) -> None:
    simulator.set_faults([{"fault": "status_503", "first_n": 1}])
    ask_cstools(simulator, ("user-agent", "lake/1"), ("accept-encoding", "gzip"))
    ask_cstools(simulator)
    ask_qas(simulator, ("cookie", "a=b"))
    call(simulator, "POST", CSTOOLS_PATH, [], b"{}")
    first, second, third, fourth = simulator.requests()["requests"]
    assert [(entry["endpoint"], entry["attempt"], entry["status"]) for entry in (first, second, third, fourth)] == [
        ("cstools", 1, 503),
        ("cstools", 2, 200),
        ("qas", 1, 503),
        ("cstools", None, 403),
    ]
    assert (first["user_agent"], second["user_agent"]) == ("lake/1", None)
    assert first["headers"] == {
        "authorization": False,
        "x-api-key": True,
        "x-sim-token": False,
        "content-type": True,
        "accept-encoding": True,
        "cookie": False,
    }
    assert (third["headers"]["authorization"], third["headers"]["cookie"]) == (True, True)
    assert first["faults"] == ["status_503"]
    assert second["bytes"] > 30_000
    assert first["key"] == second["key"]
    assert "BU_TERM_QRY" not in json.dumps([entry["key"] for entry in (first, second)])
    assert [entry["ordinal"] for entry in (first, second, third, fourth)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("target", "leaks"),
    [
        (CSTOOLS_PATH, False),
        (CSTOOLS_PATH + "?key=KEY", True),
        (CSTOOLS_PATH + "?key=s%69mulated-" + "KEY_REST", True),
        ("/elsewhere/KEY", True),
        (qas_target(prompt_fieldvalue="PASSWORD"), True),
    ],
)
def test_a_secret_in_an_address_is_noticed_and_not_repeated(
    simulator: SimulatorControl, target: str, leaks: bool
) -> None:
    key = cstools_headers(simulator)[0][1]
    password = simulator.environment("qas")["PEOPLE_SOFT_PASS"]
    target = target.replace("KEY_REST", key.removeprefix("simulated-")).replace("KEY", key)
    call(simulator, "GET", target.replace("PASSWORD", password), qas_headers(simulator))
    told = simulator.requests()
    assert told["requests"][-1]["secret_in_url"] is leaks
    assert key not in json.dumps(told)
    assert password not in json.dumps(told)


def test_requests_at_the_same_time_are_counted(simulator: SimulatorControl) -> None:
    simulator.set_faults([{"fault": "latency", "ms": 500, "scope": "cstools"}])
    with ThreadPoolExecutor(6) as callers:
        heard = list(callers.map(lambda _: ask_cstools(simulator).status, range(6)))
    ask_qas(simulator)
    ask_cstools(simulator)
    assert heard == [200] * 6
    assert simulator.requests()["endpoints"] == {
        "cstools": {"requests": 7, "high_water": 6},
        "qas": {"requests": 1, "high_water": 1},
    }


def test_faults_strike_attempts_and_not_the_order_of_requests(simulator: SimulatorControl) -> None:
    """Whatever comes at the same time: so many attempts meet the same faults."""

    def statuses(threads: int) -> list[int]:
        simulator.set_faults([{"fault": "status_503", "rate": 0.4}])
        with ThreadPoolExecutor(threads) as callers:
            return sorted(callers.map(lambda _: ask_cstools(simulator).status, range(20)))

    assert statuses(1) == statuses(6)
