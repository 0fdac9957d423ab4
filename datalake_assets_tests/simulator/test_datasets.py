"""Datasets as they come over the wire: judged by mohawk, signed by mohawk, in pages, spoilt where that is asked for."""

import gzip
import json
from decimal import Decimal
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import mohawk
import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets_tests.simulator.callers import Heard, call

ORDERS = "/v4/dataset/omis-dataset"
PAGE_2 = "datahub/omis-dataset/2"
MISSING = object()


def credentials(simulator: SimulatorControl, key: str | None = None) -> dict[str, str]:
    told = simulator.environment()
    return {
        "id": told["SOURCE_DATAHUB_ID"],
        "key": key or told["SOURCE_DATAHUB_KEY"],
        "algorithm": "sha256",
    }


def sender(simulator: SimulatorControl, target: str, method: str = "GET", **more: Any) -> mohawk.Sender:
    known = credentials(simulator, more.pop("key", None))
    return mohawk.Sender(known, simulator.base_url + target, method, content="", content_type="", **more)


def ask(simulator: SimulatorControl, method: str, target: str, *headers: tuple[str, str]) -> Heard:
    return call(simulator, method, target, headers)


def believe(signed: mohawk.Sender, heard: Heard, body: bytes | None = None) -> None:
    """Take an answer as mohawk takes it."""
    content = heard.body if body is None else body
    signed.accept_response(header(heard, "server-authorization"), content=content, content_type="application/json")


def get(
    simulator: SimulatorControl, target: str = ORDERS, *more: tuple[str, str], signed: mohawk.Sender | None = None
) -> Heard:
    signed = signed or sender(simulator, target)
    return ask(simulator, "GET", target, ("authorization", signed.request_header), *more)


def page(simulator: SimulatorControl, target: str = ORDERS) -> dict[str, Any]:
    """A page whose signature mohawk believes."""
    signed = sender(simulator, target)
    heard = get(simulator, target, signed=signed)
    assert heard.status == 200
    believe(signed, heard)
    found: dict[str, Any] = json.loads(heard.body)
    return found


def header(heard: Heard, name: str) -> str | None:
    found = [line.partition(": ")[2] for line in heard.head.split("\r\n") if line.lower().startswith(f"{name}:")]
    return found[0] if found else None


def target(simulator: SimulatorControl, link: str) -> str:
    assert link.startswith(simulator.base_url)
    return link.removeprefix(simulator.base_url)


def walk(simulator: SimulatorControl, first: str) -> list[dict[str, Any]]:
    records, link = [], first
    while True:
        found = page(simulator, link)
        records += found["results"]
        if found["next"] is None:
            return records
        link = target(simulator, found["next"])


def strike(simulator: SimulatorControl, fault: str, how: str, scope: str = PAGE_2, **more: Any) -> None:
    simulator.set_faults([{"fault": fault, "how": how, "scope": scope, **more}])


@pytest.mark.parametrize(
    ("name", "fields"),
    [("omis-dataset", 32), ("investment-projects-dataset", 76), ("contacts-dataset", 14), ("advisers-dataset", 7)],
)
def test_pages_hold_what_the_truth_counts(simulator: SimulatorControl, name: str, fields: int) -> None:
    records = walk(simulator, f"/v4/dataset/{name}?page_size=700")
    truth = simulator.truth("dataset", dataset=name, documents=True)
    assert len(records) == truth["records"] > 100
    assert {record[truth["key"]]: record for record in records} == truth["documents"]
    assert {len(record) for record in records} == {fields}
    for column, told in truth["columns"].items():
        values = [record[column] for record in records]
        assert values.count(None) == told["nulls"]
        assert sum(value is False for value in values) == told["false"]
        assert values.count("") == told["blank"]
        if told["sum"] is not None:
            assert sum(Decimal(str(value)) for value in values if value is not None) == Decimal(told["sum"])


def test_values_that_loaders_lose_are_there(simulator: SimulatorControl) -> None:
    told = simulator.truth("dataset", dataset="investment-projects-dataset")["columns"]
    for name, columns in [("false", "archived"), ("zero", "number_new_jobs"), ("zero", "total_investment")]:
        assert told[columns][name] > 0
    assert told["description"]["blank"] > 0
    assert told["name"]["nulls"] == 0


def test_an_order_is_completed_on_a_day_if_and_only_if_it_is_complete(simulator: SimulatorControl) -> None:
    orders = walk(simulator, f"{ORDERS}?page_size=2000")
    assert all(order["completed_on"] is None for order in orders if order["status"] != "complete")
    complete = [order for order in orders if order["status"] == "complete"]
    months = {order["completed_on"][:7] for order in complete if order["completed_on"]}
    assert {f"2019-{month:02d}" for month in range(7, 13)} | {f"2020-{month:02d}" for month in range(1, 7)} <= months


def test_a_day_changes_some_records_adds_some_and_takes_some(simulator: SimulatorControl) -> None:
    before, after = (
        simulator.truth("dataset", dataset="omis-dataset", day=day, documents=True)["documents"]
        for day in ("2026-11-20", "2026-12-20")
    )
    kept = before.keys() & after.keys()
    changed = sum(before[key] != after[key] for key in kept)
    assert 0.2 < changed / len(kept) < 0.4
    assert after.keys() - before.keys()
    assert before.keys() - after.keys()


def test_a_page_size_is_heeded_and_kept_in_the_links(simulator: SimulatorControl) -> None:
    first = page(simulator, f"{ORDERS}?page_size=7")
    assert len(first["results"]) == 7
    assert first["previous"] is None
    second = page(simulator, target(simulator, first["next"]))
    assert len(second["results"]) == 7
    assert "page_size=7" in second["next"]
    assert target(simulator, second["previous"])
    assert len(page(simulator)["results"]) == 100


# ------------------------------------------------------------------------------------------------- refusals


def test_without_a_signature_nothing_is_told(simulator: SimulatorControl) -> None:
    heard = ask(simulator, "GET", ORDERS)
    assert heard.status == 401
    assert b"not provided" in heard.body
    assert header(heard, "www-authenticate") == "Hawk"
    assert header(heard, "server-authorization") is None


@pytest.mark.parametrize("authorization", ["Basic abc", "Hawk", 'Hawk mac="x"', "Hawk " + "a" * 5000])
def test_a_header_that_is_no_signature_is_refused(simulator: SimulatorControl, authorization: str) -> None:
    assert ask(simulator, "GET", ORDERS, ("authorization", authorization)).status == 401


def test_another_key_another_address_and_an_old_time_are_refused(simulator: SimulatorControl) -> None:
    assert get(simulator, signed=sender(simulator, ORDERS, key="other")).status == 401
    assert get(simulator, ORDERS, signed=sender(simulator, f"{ORDERS}?page_size=1")).status == 401
    assert get(simulator, signed=sender(simulator, ORDERS, _timestamp=1_700_000_000)).status == 401


def test_a_request_is_accepted_once(simulator: SimulatorControl) -> None:
    signed = sender(simulator, ORDERS)
    assert [get(simulator, signed=signed).status for _ in range(2)] == [200, 401]


def test_what_is_not_there_is_said_with_a_signature(simulator: SimulatorControl) -> None:
    for path in ("/v4/dataset/none", f"{ORDERS}?cursor=%%%", f"{ORDERS}?cursor=cD0tMQ==", f"{ORDERS}?page_size=x"):
        signed = sender(simulator, path)
        heard = get(simulator, path, signed=signed)
        assert heard.status == 404
        believe(signed, heard)
    posted = sender(simulator, ORDERS, "POST")
    assert ask(simulator, "POST", ORDERS, ("authorization", posted.request_header)).status == 405
    assert ask(simulator, "GET", "/v4/elsewhere").status == 404


def test_a_version_that_is_known_is_not_sent_again(simulator: SimulatorControl) -> None:
    changed = header(get(simulator), "last-modified")
    assert changed is not None
    signed = sender(simulator, ORDERS)
    heard = get(simulator, ORDERS, ("if-modified-since", changed), signed=signed)
    assert (heard.status, heard.body) == (304, b"")
    believe(signed, heard)
    simulator.set_day("2026-11-21")
    assert get(simulator, ORDERS, ("if-modified-since", changed)).status == 200


def test_a_compressed_page_is_signed_as_what_it_unpacks_to(simulator: SimulatorControl) -> None:
    signed = sender(simulator, ORDERS)
    heard = get(simulator, ORDERS, ("accept-encoding", "gzip"), signed=signed)
    body = gzip.decompress(heard.body)
    believe(signed, heard, body)


# --------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("how", ["bad_response_mac", "no_server_auth", "other_body"])
def test_a_page_is_not_signed_as_it_should_be(simulator: SimulatorControl, how: str) -> None:
    link = target(simulator, page(simulator)["next"])
    strike(simulator, "hawk", how)
    signed = sender(simulator, link)
    heard = get(simulator, link, signed=signed)
    assert heard.status == 200
    with pytest.raises(Exception, match=r"."):
        believe(signed, heard)
    assert page(simulator)["results"]


@pytest.mark.parametrize("how", ["replay_refused", "clock_skew"])
def test_a_right_request_is_refused(simulator: SimulatorControl, how: str) -> None:
    strike(simulator, "hawk", how, scope="datasets")
    assert get(simulator).status == 401
    strike(simulator, "hawk", "clock_skew", scope="datasets", seconds=30)
    assert get(simulator).status == 200


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("next_loops", lambda link, first: link.endswith(first)),
        ("next_other_host", lambda link, _: link.startswith("http://other.")),
        ("next_other_path", lambda link, _: "/v4/elsewhere/omis-dataset" in link),
    ],
)
def test_a_page_names_a_wrong_one_as_the_next(simulator: SimulatorControl, how: str, says: Any) -> None:
    link = target(simulator, page(simulator)["next"])
    strike(simulator, "paging", how)
    assert says(page(simulator, link)["next"], link)


def test_a_page_says_nothing_of_the_next(simulator: SimulatorControl) -> None:
    strike(simulator, "paging", "missing_next", scope="datasets")
    assert set(page(simulator)) == {"previous", "results"}


def test_a_page_comes_twice(simulator: SimulatorControl) -> None:
    first = page(simulator)
    strike(simulator, "paging", "page_twice")
    again = page(simulator, target(simulator, first["next"]))
    assert again["results"] == first["results"]
    assert again["next"] != first["next"]


def test_a_page_is_empty_and_not_the_last(simulator: SimulatorControl) -> None:
    """Nothing is lost by it: the records come on the page after it."""
    whole = walk(simulator, f"{ORDERS}?page_size=500")
    strike(simulator, "paging", "empty_page", first_n=1)
    assert page(simulator, target(simulator, page(simulator, f"{ORDERS}?page_size=500")["next"]))["results"] == []
    strike(simulator, "paging", "empty_page", first_n=1)
    assert walk(simulator, f"{ORDERS}?page_size=500") == whole


@pytest.mark.parametrize("how", ["field_vanishes", "field_appears", "type_changes"])
def test_the_fields_of_a_page_are_others(simulator: SimulatorControl, how: str) -> None:
    usual = page(simulator)
    strike(simulator, "dataset", how, scope="datahub")
    spoilt = page(simulator)
    differing = [
        {
            name
            for name in before.keys() | after.keys()
            if (name in before, before.get(name)) != (name in after, after.get(name))
        }
        for before, after in zip(usual["results"], spoilt["results"], strict=True)
    ]
    assert len({frozenset(names) for names in differing}) == 1
    assert len(differing[0]) == 1


def test_a_dataset_is_empty_or_has_shrunk(simulator: SimulatorControl) -> None:
    whole = len(walk(simulator, f"{ORDERS}?page_size=500"))
    strike(simulator, "dataset", "shrinks", scope="datahub", share=0.2)
    assert len(walk(simulator, f"{ORDERS}?page_size=500")) == int(whole * 0.8)
    strike(simulator, "dataset", "empty", scope="datahub")
    assert page(simulator) == {"next": None, "previous": None, "results": []}


def test_a_page_is_no_json(simulator: SimulatorControl) -> None:
    strike(simulator, "malformed_json", "cut", scope="datahub")
    with pytest.raises(json.JSONDecodeError):
        json.loads(get(simulator).body)


def test_the_key_of_hawk_is_known_as_a_secret(simulator: SimulatorControl) -> None:
    key = credentials(simulator)["key"]
    get(simulator, f"{ORDERS}?key={key}")
    assert [entry["secret_in_url"] for entry in simulator.requests()["requests"]] == [True]
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(f"{simulator.base_url}/_sim/healthz")) as answer:  # noqa: S310
        assert answer.status == 200
