import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from datalake_assets.simulator import vds
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.people import People
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import (
    SCENARIO_START,
    Heard,
    ask_adap,
    ask_vds,
    call,
    json_headers,
    people_of,
)

FACULTY = "(PersonPrimaryAffiliation=faculty)"
FACULTY_SEARCH = f"filter={FACULTY}&sizeLimit=25000"


def faculty() -> set[str]:
    return {person.id for person in people_of() if person.faculty}


def entity_of(heard: Heard) -> dict[str, Any]:
    found = heard.json()
    [output] = found if isinstance(found, list) else [found]
    assert output["statusLine"]["statusCode"] == 200
    entity: dict[str, Any] = output["entity"]
    return entity


def ids_of(resources: Iterable[dict[str, Any]]) -> set[str]:
    """Every value of every entry, as a client has to take them."""
    values = (entry["attributes"]["PersonBuid"] for entry in resources)
    return {text.strip() for value in values for text in (value if isinstance(value, list) else [value])}


def strike(simulator: SimulatorControl, fault: str, **settings: object) -> None:
    simulator.set_faults([{"fault": fault, "scope": "vds", **settings}])


def message_of(heard: Heard) -> str:
    assert heard.json()["httpStatus"] == heard.status
    message: str = heard.json()["message"]
    return message


# ------------------------------------------------------------------------------------------------ entries


def test_faculty_and_staff_are_found_by_their_primary_affiliation(simulator: SimulatorControl) -> None:
    assert ids_of(entity_of(ask_vds(simulator, FACULTY_SEARCH))["resources"]) == faculty()
    staff = ask_vds(simulator, "filter=(PersonPrimaryAffiliation=staff)&sizeLimit=0")
    assert ids_of(entity_of(staff)["resources"]) == {person.id for person in people_of() if person.staff}


def test_affiliates_are_found_by_the_older_filter(simulator: SimulatorControl) -> None:
    parts = "(!(PersonPrimaryAffiliation=staff))(!(PersonPrimaryAffiliation=faculty))"
    found = ask_adap(simulator, filter=f"(&(AffiliateAssignmentEndDate=*)(&{parts}))", sizeLimit="25000").json()
    affiliates = {person.id for person in people_of() if person.affiliate and not (person.faculty or person.staff)}
    assert affiliates
    assert ids_of(found["resources"]) == affiliates


def test_an_id_is_sometimes_a_list_and_sometimes_padded(simulator: SimulatorControl) -> None:
    resources = entity_of(ask_vds(simulator, FACULTY_SEARCH))["resources"]
    values = [entry["attributes"]["PersonBuid"] for entry in resources]
    assert any(isinstance(value, list) and len(value) == 2 for value in values)
    assert any(isinstance(value, str) and value != value.strip() for value in values)


def test_with_return_mode_array_every_value_is_a_list(simulator: SimulatorControl) -> None:
    found = ask_adap(simulator, filter=FACULTY, returnMode="array", attributes="PersonBuid").json()
    assert all(isinstance(entry["attributes"]["PersonBuid"], list) for entry in found["resources"])
    assert {name for entry in found["resources"] for name in entry["attributes"]} == {"PersonBuid"}


def test_without_credentials_there_is_less_and_no_error(simulator: SimulatorControl) -> None:
    heard = ask_adap(simulator, anonymously=True, filter=FACULTY, sizeLimit="0")
    assert heard.status == 200
    seen = ids_of(heard.json()["resources"])
    assert 0 < len(seen) < len(faculty()) / 2
    assert heard.json()["totalResults"] == heard.json()["count"] == len(heard.json()["resources"])


# --------------------------------------------------------------------------------------- limits and pages


def test_the_default_size_limit_cuts_and_says_so_in_a_number() -> None:
    with running_simulator(scenario_start=SCENARIO_START, vds_size_limit=50) as limited:
        adap = ask_adap(limited, filter=FACULTY).json()
        wrapped = entity_of(ask_vds(limited, f"filter={FACULTY}"))
        raised = entity_of(ask_vds(limited, FACULTY_SEARCH))
    assert (len(adap["resources"]), adap["count"], adap["totalResults"]) == (50, 50, -1)
    assert (len(wrapped["resources"]), wrapped["totalResults"]) == (50, -1)
    assert len(raised["resources"]) == len(faculty())


def test_the_default_size_limit_is_1000() -> None:
    with running_simulator(day=SCENARIO_START, persons=11_000) as large:
        assert ask_adap(large, filter=FACULTY).json()["totalResults"] == -1
        assert len(ask_adap(large, filter=FACULTY).json()["resources"]) == 1000


def test_only_without_a_limit_the_total_is_told(simulator: SimulatorControl) -> None:
    assert ask_adap(simulator, filter=FACULTY, sizeLimit="0").json()["totalResults"] == len(faculty())
    assert ask_adap(simulator, filter=FACULTY, sizeLimit="500").json()["totalResults"] == -3
    window = ask_adap(simulator, filter=FACULTY, sizeLimit="0", startIndex="11", count="5").json()
    whole = ask_adap(simulator, filter=FACULTY, sizeLimit="0").json()
    assert window["resources"] == whole["resources"][10:15]
    assert (window["count"], window["totalResults"]) == (5, len(faculty()))


def pages(simulator: SimulatorControl, size: int) -> list[dict[str, Any]]:
    found = [ask_adap(simulator, filter=FACULTY, pageSize=str(size)).json()]
    while cookie := found[-1]["cookie"]:
        found.append(ask_adap(simulator, filter=FACULTY, pageSize=str(size), cookie=cookie).json())
    return found


def test_pages_follow_their_cookies_to_the_last(simulator: SimulatorControl) -> None:
    found = pages(simulator, 64)
    assert [page["totalResults"] for page in found] == [-2] * (len(found) - 1) + [-3]
    assert len(found) == -(-len(faculty()) // 64)
    assert ids_of(entry for page in found for entry in page["resources"]) == faculty()
    entries = [entry["dn"] for page in found for entry in page["resources"]]
    assert len(set(entries)) == len(entries)


def test_a_page_of_size_0_ends_the_search(simulator: SimulatorControl) -> None:
    cookie = ask_adap(simulator, filter=FACULTY, pageSize="10").json()["cookie"]
    ended = ask_adap(simulator, filter=FACULTY, pageSize="0", cookie=cookie).json()
    assert (ended["resources"], ended["totalResults"], ended["cookie"]) == ([], -3, None)


def test_a_cookie_is_good_for_its_own_search_only(simulator: SimulatorControl) -> None:
    cookie = ask_adap(simulator, filter=FACULTY, pageSize="10").json()["cookie"]
    other = ask_adap(simulator, filter="(PersonPrimaryAffiliation=staff)", pageSize="10", cookie=cookie)
    forged = ask_adap(simulator, filter=FACULTY, pageSize="10", cookie=cookie[:-1] + "x")
    unpaged = ask_adap(simulator, filter=FACULTY, cookie=cookie)
    assert [heard.status for heard in (other, forged, unpaged)] == [400, 400, 400]
    assert "another search" in message_of(other)


def test_a_cookie_expires_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where the clock can be moved."""
    config = Config.of({})
    directory = vds.Directory(People(config, TermPopulation(config)), config)
    cookie = directory._cookie(10, FACULTY)
    assert directory._read_cookie(cookie, FACULTY) == 10
    now = vds.time.time()
    monkeypatch.setattr(vds.time, "time", lambda: now + 61)
    with pytest.raises(vds.SearchError, match="expired"):
        directory._read_cookie(cookie, FACULTY)


def test_each_page_has_attempts_of_its_own(simulator: SimulatorControl) -> None:
    strike(simulator, "status_503", first_n=1)
    search = {"filter": FACULTY, "pageSize": "100"}
    assert ask_adap(simulator, **search).status == 503
    cookie = ask_adap(simulator, **search).json()["cookie"]
    assert [ask_adap(simulator, **search, cookie=cookie).status for _ in range(2)] == [503, 200]


# --------------------------------------------------------------------------------------------- strictness


def test_the_directory_knows_its_clients(simulator: SimulatorControl) -> None:
    environment = simulator.environment(vds="adap")
    key = simulator.environment()["VDS_KEY"]
    target = f"/adap/{environment['VDS_BASE_DN']}?filter=(buid=*)"
    wrong = b64encode(f"{environment['VDS_USERNAME']}:wrong".encode()).decode()
    found = [
        call(simulator, "GET", target, [("authorization", given)]).status
        for given in (f"Bearer {key}", "Bearer wrong", f"Basic {wrong}", "Basic", "Digest x")
    ]
    assert found == [200, 401, 401, 401, 401]


@pytest.mark.parametrize(
    "search",
    [
        {"Filter": FACULTY},
        {"filter": "(PersonPrimaryAffiliation=faculty"},
        {"filter": FACULTY, "sizelimit": "0"},
        {"filter": FACULTY, "sizeLimit": "-1"},
        {"filter": FACULTY, "sizeLimit": "all"},
        {"filter": FACULTY, "scope": "subtree"},
        {"filter": FACULTY, "returnMode": "list"},
        {"filter": FACULTY, "pageSize": "x"},
    ],
)
def test_what_is_no_search_is_refused(simulator: SimulatorControl, search: dict[str, str]) -> None:
    heard = ask_adap(simulator, **search)
    assert heard.status == 400
    assert message_of(heard)


def test_a_filter_whose_signs_are_not_escaped_is_cut_at_them(simulator: SimulatorControl) -> None:
    environment = simulator.environment(vds="adap")
    headers = [("authorization", f"Bearer {simulator.environment()['VDS_KEY']}")]
    target = f"/adap/{environment['VDS_BASE_DN']}?filter=(&(buid=*)(PersonPrimaryAffiliation=staff))"
    assert call(simulator, "GET", target, headers).status == 400


def test_base_and_scope_say_where_to_search(simulator: SimulatorControl) -> None:
    def count(base: str, scope: str) -> int:
        heard = ask_adap(simulator, base=base, filter=FACULTY, sizeLimit="0", scope=scope)
        return len(heard.json()["resources"]) if heard.status == 200 else -heard.status

    people, above = "ou=people,dc=example,dc=edu", "dc=example,dc=edu"
    everybody = len(faculty())
    assert [count(people, scope) for scope in ("sub", "one", "base")] == [everybody, everybody, 0]
    assert [count(above, scope) for scope in ("sub", "one")] == [everybody, 0]
    assert count("ou=elsewhere,dc=example,dc=edu", "sub") == -400


def test_other_methods_are_refused(simulator: SimulatorControl) -> None:
    key = simulator.environment()["VDS_KEY"]
    headers = json_headers(("authorization", f"Bearer {key}"))
    assert call(simulator, "POST", "/adap/ou=people,dc=example,dc=edu", headers, b"{}").status == 405
    assert call(simulator, "GET", "/vds", headers).status == 405
    assert call(simulator, "POST", "/vds/other", headers, b"{}").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"params":1}', 400),
        (b'{"params":"filter=(buid=*)","more":1}', 400),
    ],
)
def test_the_wrapper_takes_params_and_nothing_else(simulator: SimulatorControl, body: bytes, status: int) -> None:
    headers = json_headers(("authorization", f"Bearer {simulator.environment()['VDS_KEY']}"))
    heard = call(simulator, "POST", "/vds", headers, body)
    assert (heard.status, heard.json()["http_status_code"]) == (status, status)


def test_the_wrapper_needs_its_key(simulator: SimulatorControl) -> None:
    body = json.dumps({"params": FACULTY_SEARCH}).encode()
    for headers in ([], [("authorization", "Bearer wrong")], [("x-api-key", simulator.environment()["VDS_KEY"])]):
        assert call(simulator, "POST", "/vds", json_headers(*headers), body).status == 401


def test_what_the_directory_refuses_comes_through_the_wrapper_with_status_200(simulator: SimulatorControl) -> None:
    heard = ask_vds(simulator, "filter=(broken")
    assert heard.status == 200
    [output] = heard.json()
    assert output["statusLine"]["statusCode"] == 400
    assert "resources" not in output["entity"]


# -------------------------------------------------------------------------------------------------- forms


def test_the_wrapper_answers_on_some_days_with_an_array(simulator: SimulatorControl) -> None:
    kinds = set()
    for offset in range(8):
        simulator.set_day(SCENARIO_START + timedelta(days=offset))
        simulator.set_faults()
        kinds.add(type(ask_vds(simulator, FACULTY_SEARCH).json()))
    assert kinds == {dict, list}


def test_an_upstream_failure_comes_with_status_200(simulator: SimulatorControl) -> None:
    strike(simulator, "error_200", how="vds_statusline_500")
    heard = ask_vds(simulator, FACULTY_SEARCH)
    assert heard.status == 200
    assert heard.json()[0]["statusLine"]["statusCode"] == 500
    strike(simulator, "error_200", how="snap_error_doc")
    assert "reason" in ask_vds(simulator, FACULTY_SEARCH).json()[0]


def test_a_cap_of_the_directory_is_told_by_the_total(simulator: SimulatorControl) -> None:
    strike(simulator, "row_cap", rows=30)
    for entity in (
        entity_of(ask_vds(simulator, FACULTY_SEARCH)),
        ask_adap(simulator, filter=FACULTY, sizeLimit="0").json(),
        ask_adap(simulator, filter=FACULTY, pageSize="100").json(),
    ):
        assert (len(entity["resources"]), entity["count"], entity["totalResults"]) == (30, 30, -1)
        assert entity["cookie"] is None


def test_faults_of_rows_are_keyed_by_person(simulator: SimulatorControl) -> None:
    victim = min(faculty())
    strike(simulator, "missing_records", keys=[victim])
    entity = entity_of(ask_vds(simulator, FACULTY_SEARCH))
    assert f"uid={victim}," not in str([entry["dn"] for entry in entity["resources"]])
    assert entity["count"] == len(entity["resources"]) + 1
    strike(simulator, "wrong_types", how="row_null", keys=[victim])
    assert None in entity_of(ask_vds(simulator, FACULTY_SEARCH))["resources"]
    strike(simulator, "dup_records", how="same", keys=[victim])
    names = [entry["dn"] for entry in entity_of(ask_vds(simulator, FACULTY_SEARCH))["resources"]]
    assert names.count(f"uid={victim},ou=people,dc=example,dc=edu") == 2


def test_nothing_stands_where_the_entries_belong(simulator: SimulatorControl) -> None:
    found = {}
    for how in ("null_data", "missing_data_key", "empty_result"):
        strike(simulator, "shape", how=how)
        found[how] = entity_of(ask_vds(simulator, FACULTY_SEARCH)).get("resources", "absent")
    assert found == {"null_data": None, "missing_data_key": "absent", "empty_result": []}


def test_an_outage_of_vds_has_both_faces(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="outage:vds", days=[SCENARIO_START.isoformat()])
    assert ask_vds(simulator, FACULTY_SEARCH).status == 503
    assert ask_adap(simulator, filter=FACULTY).status == 503
