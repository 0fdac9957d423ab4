"""Every source of ids against the simulator: the people it says there are, and no others, fault by fault."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from datalake_assets.settings import CsToolsSettings, Settings, VdsAdapSettings, VdsWrapperSettings
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.people import People, Person
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets.sources.errors import SourceError
from datalake_assets.sources.ids import IdAnswer, peoplesoft_ids
from datalake_assets.sources.peoplesoft import CsTools
from datalake_assets.sources.policies import PEOPLESOFT_IDS, SAP_IDS, VDS_PAGE
from datalake_assets.sources.sap import SapEmployees
from datalake_assets.sources.vds import Affiliation, VdsAdap, VdsWrapper

pytestmark = pytest.mark.anyio

SAP_SOON = replace(SAP_IDS, backoff_base_s=0.01)
VDS_SOON = replace(VDS_PAGE, backoff_base_s=0.01)
"""The policies in force, without their patience between attempts."""

DAY = date(2026, 11, 20)
KNOBS = {"persons": 1500, "whitespace_rate": 0.1}


@pytest.fixture(scope="module")
def started() -> Iterator[SimulatorControl]:
    with running_simulator(day=DAY, **KNOBS) as simulator:
        yield simulator


@pytest.fixture
def simulator(started: SimulatorControl) -> SimulatorControl:
    started.reset()
    return started


@pytest.fixture(scope="module")
def people() -> People:
    config = Config.of({name: str(value) for name, value in KNOBS.items()})
    return People(config, TermPopulation(config))


def named(people: People, role: str) -> set[str]:
    def has(person: Person) -> bool:
        return bool(getattr(person, role))

    return {person.id for person in people.on(DAY) if has(person)}


async def sap_ids(simulator: SimulatorControl) -> IdAnswer:
    way = Settings(simulator.environment()).sap()
    async with SapEmployees(way.url, way.key, policy=SAP_SOON, active=(way.active_status,)) as sap:
        return await sap.active_ids()


async def wrapper_ids(simulator: SimulatorControl, affiliation: Affiliation, **more: Any) -> IdAnswer:
    way = Settings(simulator.environment()).vds()
    assert isinstance(way, VdsWrapperSettings)
    async with VdsWrapper(way.url, way.key, policy=VDS_SOON, **({"size_limit": way.size_limit} | more)) as directory:
        return await directory.ids(affiliation)


async def adap_ids(simulator: SimulatorControl, affiliation: Affiliation, **more: Any) -> IdAnswer:
    way = Settings(simulator.environment(vds="adap")).vds()
    assert isinstance(way, VdsAdapSettings)
    async with VdsAdap(way.url, way.base_dn, basic=way.basic, bearer=way.bearer, policy=VDS_SOON, **more) as directory:
        return await directory.ids(affiliation)


async def ids_of(simulator: SimulatorControl, source: str) -> IdAnswer:
    if source == "sap":
        return await sap_ids(simulator)
    return await (wrapper_ids if source == "wrapper" else adap_ids)(simulator, "staff")


async def test_sap_names_exactly_the_active_employees(simulator: SimulatorControl, people: People) -> None:
    got = await sap_ids(simulator)
    assert set(got.rows) == named(people, "employee")
    assert got.complete
    assert got.unusable == ()
    assert got.received > len(got.rows)


@pytest.mark.parametrize("affiliation", ["faculty", "staff"])
@pytest.mark.parametrize("page_size", [None, 25, 1000])
async def test_the_directory_names_exactly_who_is_affiliated(
    simulator: SimulatorControl, people: People, affiliation: Affiliation, page_size: int | None
) -> None:
    if page_size is None:
        got = await wrapper_ids(simulator, affiliation)
    else:
        got = await adap_ids(simulator, affiliation, page_size=page_size)
    expected = named(people, affiliation)
    assert len(expected) > 30
    assert set(got.rows) == expected
    assert got.complete
    assert got.unusable == ()
    assert len(got.rows) >= got.received == len(expected)


async def test_two_searches_at_once_do_not_mix_their_pages(simulator: SimulatorControl, people: People) -> None:
    way = Settings(simulator.environment(vds="adap")).vds()
    assert isinstance(way, VdsAdapSettings)
    async with VdsAdap(way.url, way.base_dn, basic=way.basic, page_size=20) as directory:
        faculty, staff = await asyncio.gather(directory.ids("faculty"), directory.ids("staff"))
        assert directory.stats.requests > 5
    assert set(faculty.rows) == named(people, "faculty")
    assert set(staff.rows) == named(people, "staff")


@pytest.mark.parametrize(("query", "role"), [("BU_PARM_0216_QRY", "student"), ("BU_PARM_ENRL_DORM_QRY", "dorm")])
async def test_peoplesoft_names_exactly_the_students(
    simulator: SimulatorControl, people: People, query: str, role: str
) -> None:
    way = Settings(simulator.environment()).peoplesoft()
    assert isinstance(way, CsToolsSettings)
    async with CsTools(way.endpoint, way.key, policy=PEOPLESOFT_IDS) as queries:
        got = await peoplesoft_ids(queries, query)
    assert set(got.rows) == named(people, role)
    assert got.complete


async def test_where_paging_is_switched_off_all_is_asked_for_at_once(
    simulator: SimulatorControl, people: People
) -> None:
    simulator.set_faults([{"fault": "row_cap", "scope": "adap", "rows": 100_000}])
    got = await adap_ids(simulator, "staff", page_size=50)
    assert set(got.rows) == named(people, "staff")
    assert got.complete


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status_503", "first_n": 1},
        {"fault": "conn_reset", "when": "mid_body", "first_n": 1},
        {"fault": "body_cut", "how": "close_delimited", "first_n": 1},
        {"fault": "body_cut", "how": "gzip", "first_n": 1},
    ],
    ids=lambda fault: f"{fault['fault']}-{fault.get('how', '')}",
)
async def test_a_failure_that_passes_changes_nothing(
    simulator: SimulatorControl, people: People, fault: dict[str, Any]
) -> None:
    simulator.set_faults([fault])
    assert set((await sap_ids(simulator)).rows) == named(people, "employee")
    assert set((await wrapper_ids(simulator, "staff")).rows) == named(people, "staff")
    got = await adap_ids(simulator, "staff", page_size=50)
    assert set(got.rows) == named(people, "staff")
    assert got.complete


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "error_200", "how": "sap_return_e", "scope": "sap"},
        {"fault": "error_200", "how": "snap_error_doc", "scope": "vds"},
        {"fault": "error_200", "how": "vds_statusline_500", "scope": "vds"},
        {"fault": "error_200", "how": "login_html"},
        {"fault": "shape", "how": "null_data"},
        {"fault": "shape", "how": "missing_data_key"},
        {"fault": "shape", "how": "empty_result"},
        {"fault": "malformed_json", "how": "cut"},
        {"fault": "encoding", "how": "bad_utf8_byte"},
        {"fault": "status_401"},
        {"fault": "redirect_302", "target": "cross_origin"},
        {"fault": "row_cap", "rows": 10, "scope": "vds"},
    ],
    ids=lambda fault: f"{fault['fault']}-{fault.get('how', '')}",
)
async def test_a_failure_that_stays_is_never_a_population(
    simulator: SimulatorControl, people: People, fault: dict[str, Any]
) -> None:
    """Faults P13, P14, P15: an error inside 200, an empty answer, a cut one."""
    simulator.set_faults([fault])
    struck = {"sap": ["sap"], "vds": ["wrapper"]}.get(fault.get("scope", ""), ["sap", "wrapper", "adap"])
    for source in struck:
        with pytest.raises(SourceError):
            await ids_of(simulator, source)


async def test_a_size_limit_that_is_reached_is_noticed(simulator: SimulatorControl) -> None:
    """Fault P13: 25,000 of more people were all there seemed to be."""
    with pytest.raises(SourceError, match="was cut at 40 entries"):
        await wrapper_ids(simulator, "staff", size_limit=40)
