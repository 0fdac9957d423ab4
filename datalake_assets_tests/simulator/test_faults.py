from datetime import date
from typing import Any

import pytest

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.cstools import CsTools
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import Fault, fault, parse_fault, strike
from datalake_assets.simulator.people import People
from datalake_assets.simulator.peoplesoft import QueryAccessService
from datalake_assets.simulator.queries import Queries
from datalake_assets.simulator.terms import TermPopulation

TERMS = TermPopulation(Config())
QUERIES = Queries(TERMS, People(Config(), TERMS))
CSTOOLS = CsTools(QUERIES, Credentials.of(1))
QAS = QueryAccessService(QUERIES, Credentials.of(1), alias_fields=False)
DAY = date(2026, 11, 20)


def struck(one: Fault, *, endpoint: Any = CSTOOLS, key: str = "BU_TERM_QRY", day: date = DAY, attempt: int = 1) -> bool:
    return bool(strike([one], 1, endpoint, key, day, attempt).faults)


def test_a_fault_strikes_the_endpoints_of_its_scope() -> None:
    assert [struck(fault("status_503", scope=scope)) for scope in ("*", "peoplesoft", "cstools", "qas")] == [
        True,
        True,
        True,
        False,
    ]
    assert struck(fault("status_503", scope="peoplesoft"), endpoint=QAS)


def test_a_scope_can_name_request_keys() -> None:
    assert struck(fault("status_503", scope="cstools/BU_TERM_*"))
    assert not struck(fault("status_503", scope="cstools/BU_PARM_*"))
    assert not struck(fault("status_503", keys=["BU_PARM_0216_QRY"]))


def test_first_n_lets_the_next_attempt_through() -> None:
    one = fault("status_503", first_n=2)
    assert [struck(one, attempt=attempt) for attempt in (1, 2, 3)] == [True, True, False]


def test_a_rate_is_drawn_for_each_attempt_and_day() -> None:
    one = fault("status_503", rate=0.3)
    drawn = [struck(one, day=date(2026, 11, day), attempt=attempt) for day in range(1, 31) for attempt in range(1, 11)]
    assert 60 < sum(drawn) < 120
    days = [drawn[start : start + 10] for start in range(0, len(drawn), 10)]
    assert any(True in day and False in day for day in days)
    assert drawn == [
        struck(one, day=date(2026, 11, day), attempt=attempt) for day in range(1, 31) for attempt in range(1, 11)
    ]


def test_two_faults_of_one_description_draw_alike() -> None:
    """A fault that was sent again must strike where it struck before."""
    first, again = ([struck(fault("status_503", rate=0.5), attempt=attempt) for attempt in range(50)] for _ in range(2))
    assert first == again


def test_a_draw_does_not_depend_on_the_faults_beside_it() -> None:
    """Else adding a fault to a test would change all the others."""
    one, other = fault("status_503", rate=0.5), fault("latency", rate=0.5)
    for attempt in range(1, 50):
        alone = strike([one], 1, CSTOOLS, "k", DAY, attempt).faults
        beside = strike([other, one], 1, CSTOOLS, "k", DAY, attempt).faults
        assert (one in alone) == (one in beside)


def test_rows_are_drawn_alike_on_every_attempt() -> None:
    """A poisoned row that heals on a retry would not be poison."""
    one = fault("poison", rate=0.1)
    keys = [f"UGRD/{number}" for number in range(1000)]
    chosen = [strike([one], 1, CSTOOLS, "k", DAY, attempt).rows(one, keys) for attempt in (1, 2, 3)]
    assert chosen[0] == chosen[1] == chosen[2]
    assert 60 < len(chosen[0]) < 140


def test_without_rate_and_keys_one_row_is_struck_whatever_else_is_there() -> None:
    one = fault("poison")
    keys = [f"UGRD/{number}" for number in range(100)]
    [chosen] = strike([one], 1, CSTOOLS, "k", DAY, 1).rows(one, keys)
    fewer = [key for key in keys if key == chosen or key.endswith("3")]
    assert strike([one], 1, CSTOOLS, "k", date(2026, 11, 21), 2).rows(one, fewer) == {chosen}


def test_a_fault_is_described_as_it_is_read() -> None:
    described = {
        "fault": "status_429",
        "scope": "cstools/BU_*",
        "rate": 0.5,
        "first_n": 2,
        "keys": ["BU_TERM_QRY"],
        "days": ["2026-11-20..", "2026-11-18"],
        "retry_after": "seconds",
        "retry_after_s": 3,
    }
    assert parse_fault(described, [CSTOOLS, QAS]).as_json() == described


@pytest.mark.parametrize(
    ("described", "allowed"),
    [
        ("status_503", "an object such as"),
        ({}, "status_503"),
        ({"fault": "status_418"}, "status_429"),
        ({"fault": ["status_503"]}, "status_503"),
        ({"fault": "status_503", "colour": 1}, "retry_after"),
        ({"fault": "status_503", "ms": 1}, "first_n"),
        ({"fault": "status_503", "scope": "sap"}, "peoplesoft"),
        ({"fault": "status_503", "scope": 1}, "cstools"),
        ({"fault": "status_503", "rate": 0}, "a share above 0"),
        ({"fault": "status_503", "rate": 1.1}, "a share above 0"),
        ({"fault": "status_503", "rate": True}, "a share above 0"),
        ({"fault": "status_503", "first_n": 0}, "a whole number from 1"),
        ({"fault": "status_503", "first_n": 1.5}, "a whole number from 1"),
        ({"fault": "status_503", "keys": "BU_TERM_QRY"}, "a list of keys"),
        ({"fault": "status_503", "keys": []}, "a list of keys"),
        ({"fault": "status_503", "days": "2026-11-20"}, "a list of days"),
        ({"fault": "status_503", "days": ["soon"]}, "a day such as"),
        ({"fault": "status_503", "retry_after": "soon"}, "http_date"),
        ({"fault": "latency", "ms": -1}, "a number from 0"),
        ({"fault": "latency", "ms": "10"}, "a number from 0"),
        ({"fault": "poison", "how": "arsenic"}, "lone_surrogate"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(described: object, allowed: str) -> None:
    with pytest.raises(SimulatorError) as refused:
        parse_fault(described, [CSTOOLS, QAS])
    assert allowed in str(refused.value)
