"""API datasets and files from the simulator, through the resource that assets use: whole and exact, or not at all."""

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from datalake_assets.resources import SourcesResource
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.sources.api_pages import Paging, pages, unchanged
from datalake_assets.sources.errors import PermanentSourceError, SourceError
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.policies import URL_FILE
from datalake_assets.sources.url_files import FetchedFile, fetched
from datalake_assets.sources.validators import NotModified
from datalake_assets_tests.sources.fault_server import answer, serving

pytestmark = pytest.mark.anyio

ORDERS = "/v4/dataset/omis-dataset"
GREEN = "/green/green_tripdata_2021-01.csv.gz"


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorControl]:
    with running_simulator(day="2026-11-20", dataset_records=1000) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorControl, monkeypatch: pytest.MonkeyPatch) -> SimulatorControl:
    running.reset()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTP_BACKOFF_FACTOR", "0.01")
    return running


def hub() -> HttpSource:
    return SourcesResource().named("datahub")


async def read(path: str = ORDERS, size: int = 250) -> list[dict[str, Any]]:
    async with hub() as source, aclosing(pages(source, path, Paging(size=size))) as walk:
        return [record async for page in walk for record in page.records]


def strike(
    simulator: SimulatorControl, fault: str, how: str, scope: str = "datahub/omis-dataset/3", **more: Any
) -> None:
    simulator.set_faults([{"fault": fault, "how": how, "scope": scope, **more}])


async def test_every_record_arrives_as_it_was_sent(simulator: SimulatorControl) -> None:
    for name in ("omis-dataset", "contacts-dataset", "advisers-dataset"):
        truth = simulator.truth("dataset", dataset=name, documents=True)
        records = await read(f"/v4/dataset/{name}")
        assert {record[truth["key"]]: record for record in records} == truth["documents"]
        assert len(records) == truth["records"]


@pytest.mark.parametrize("fault", ["status_503", "status_502_html", "conn_reset", "body_cut", "content_length_lie"])
async def test_what_breaks_once_is_asked_for_again_with_another_signature(
    simulator: SimulatorControl, fault: str
) -> None:
    """The simulator remembers nonces: a request that was sent again as it was would be refused."""
    simulator.set_faults([{"fault": fault, "scope": "datahub", "first_n": 1}])
    assert len(await read(size=500)) == simulator.truth("dataset", dataset="omis-dataset")["records"]


@pytest.mark.parametrize(
    ("fault", "how", "says"),
    [
        ("hawk", "bad_response_mac", "signed with another key"),
        ("hawk", "no_server_auth", "is not signed"),
        ("hawk", "other_body", "not the one that was signed"),
        ("hawk", "replay_refused", "clock is wrong"),
        ("hawk", "clock_skew", "allow-list"),
        ("paging", "next_loops", "in a circle"),
        ("paging", "next_other_host", "at another place"),
        ("paging", "next_other_path", "at another place"),
        ("paging", "missing_next", "has no 'next'"),
        ("paging", "page_twice", "sent a page twice"),
        ("malformed_json", "cut", "cannot be read"),
    ],
)
async def test_a_spoilt_page_fails_the_dataset(simulator: SimulatorControl, fault: str, how: str, says: str) -> None:
    """Invariant 3: two whole pages and a spoilt one are no dataset."""
    strike(simulator, fault, how)
    with pytest.raises(PermanentSourceError, match=says) as refused:
        await read()
    assert simulator.environment()["SOURCE_DATAHUB_KEY"] not in str(refused.value)


async def test_an_empty_page_in_the_middle_costs_nothing(simulator: SimulatorControl) -> None:
    whole = await read()
    strike(simulator, "paging", "empty_page", first_n=1)
    assert await read() == whole


async def test_an_empty_dataset_is_an_answer(simulator: SimulatorControl) -> None:
    strike(simulator, "dataset", "empty", scope="datahub")
    assert await read() == []


async def test_an_unchanged_dataset_is_known_by_its_version(simulator: SimulatorControl) -> None:
    async with hub() as source:
        async with aclosing(pages(source, ORDERS, Paging())) as walk:
            first = await anext(walk)
        assert first.validators.last_modified is not None
        assert await unchanged(source, ORDERS, Paging(), first.validators)
        simulator.set_day("2026-11-21")
        assert not await unchanged(source, ORDERS, Paging(), first.validators)


async def test_a_wrong_key_costs_one_request(simulator: SimulatorControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATAHUB_KEY", "wrong-key")
    with pytest.raises(PermanentSourceError, match="id or the key is wrong"):
        await read()
    assert len(simulator.requests()["requests"]) == 1


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ("none", "authorization", None),
        ("basic", "authorization", "Basic bGFrZTpjYW5hcnkta2V5"),
        ("bearer", "authorization", "Bearer canary-key"),
        ("api_key", "x-own", "canary-key"),
    ],
)
async def test_a_named_source_logs_on_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch, auth: str, header: str, value: str | None
) -> None:
    async with serving(answer({"next": None, "results": []})) as server:
        for name, text in {
            "URL": server.url,
            "AUTH": auth,
            "ID": "lake",
            "KEY": "canary-key",
            "KEY_HEADER": "x-own",
        }.items():
            monkeypatch.setenv(f"SOURCE_PARKING_{name}", text)
        async with SourcesResource().named("parking") as source:
            assert [page.number async for page in pages(source, "/v1", Paging())] == [1]
            assert auth == "none" or "canary" not in source.redactor.text("it said canary-key")
    [request] = server.requests
    assert request.headers.get(header) == value
    assert ("x-own" in request.headers) == (auth == "api_key")


# ---------------------------------------------------------------------------------------------------- files


def files() -> HttpSource:
    return SourcesResource().named("nyc_tlc", URL_FILE)


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [{"fault": "conn_reset", "when": "mid_body", "scope": "files", "first_n": 2}],
        [{"fault": "content_length_lie", "how": "more", "scope": "files", "first_n": 1}],
        [{"fault": "body_cut", "how": "chunked", "scope": "files", "first_n": 1}],
        [{"fault": "body_cut", "how": "close_delimited", "scope": "files", "first_n": 1}],
        [{"fault": "status_503", "scope": "files", "first_n": 1}],
    ],
)
async def test_a_file_arrives_whole_whatever_breaks_on_the_way(
    simulator: SimulatorControl, tmp_path: Path, faults: list[dict[str, Any]]
) -> None:
    async with files() as source, fetched(source, GREEN, folder=tmp_path) as found:
        assert isinstance(found, FetchedFile)
        whole = found.sha256
    simulator.set_faults(faults)
    async with files() as source, fetched(source, GREEN, folder=tmp_path) as found:
        assert isinstance(found, FetchedFile)
        assert found.sha256 == whole
    async with files() as source, fetched(source, GREEN, unless=found.validators, folder=tmp_path) as again:
        assert isinstance(again, NotModified)


async def test_a_month_that_is_not_published_is_no_empty_month(simulator: SimulatorControl, tmp_path: Path) -> None:
    async with files() as source:
        with pytest.raises(SourceError, match="status 404"):
            async with fetched(source, GREEN.replace("2021-01", "2031-01"), folder=tmp_path):
                pass
