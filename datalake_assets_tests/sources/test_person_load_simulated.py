"""The person load against the simulated sources: real sockets, real documents, faults on the wire."""

from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.sources.peoplesoft import CsTools
from datalake_assets.sources.person_load import LoadProgress, Member, PersonResult, load_persons
from datalake_assets.sources.persons import PersonApi, SnapLogicPersons
from datalake_assets.sources.policies import PERSON_BATCH, PERSON_TERMS
from datalake_assets_tests.sources.test_person_load import Memory

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"backoff_base_s": 0.01, "backoff_cap_s": 0.05}


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorControl]:
    with running_simulator(persons=60, scenario_start="2026-11-16") as simulator:
        yield simulator


@pytest.fixture
def documents(simulator: SimulatorControl) -> dict[str, Any]:
    """What everybody's document says that day."""
    simulator.reset()
    documents: dict[str, Any] = simulator.truth("person", day=simulator.day(), documents=True)["documents"]
    return documents


async def load(
    simulator: SimulatorControl, documents: dict[str, Any], flavour: str = "ndjson"
) -> tuple[dict[str, PersonResult], LoadProgress]:
    members = [Member(id_, "studentInfo" in document, False) for id_, document in documents.items()]
    variables = simulator.environment(person=flavour)
    policy = replace(PERSON_BATCH, **QUICK)
    persons = (
        PersonApi(variables["DE_PERSON_API_URL"], SecretStr(variables["DE_PERSON_API_KEY"]), policy=policy)
        if flavour == "ndjson"
        else SnapLogicPersons(
            variables["SNAPLOGIC_PERSON_URL"],
            SecretStr(variables["SNAPLOGIC_PERSON_KEY"]),
            cs_env=variables["CS_ENV"],
            policy=policy,
        )
    )
    queries = CsTools(
        variables["DE_CSTOOLS_ENDPOINT"], SecretStr(variables["DE_CSTOOLS_KEY"]), policy=replace(PERSON_TERMS, **QUICK)
    )
    results: list[PersonResult] = []
    told: list[LoadProgress] = []
    async with queries, persons:
        groups = load_persons(
            members,
            queries=queries,
            persons=persons,
            memory=Memory(),
            take=lambda document, pointer: document,
            ask_all_for_terms=True,
            batch_ids=20,
            batch_terms=60,
            progress=told.append,
        )
        async with aclosing(groups):
            async for group in groups:
                results += group
    assert sorted(result.id for result in results) == sorted(documents)
    return {result.id: result for result in results}, told[-1]


def semesters(document: dict[str, Any]) -> int:
    return len(document.get("studentInfo", {}).get("studentSemester", []))


def assert_nobody_is_poorer(results: dict[str, PersonResult], documents: dict[str, Any]) -> None:
    for id_, result in results.items():
        for document in result.documents:
            assert document["personid"].strip() == id_
            assert document.keys() == documents[id_].keys()
            assert semesters(document) == semesters(documents[id_])


@pytest.mark.parametrize("flavour", ["ndjson", "snaplogic"])
async def test_everybody_is_loaded_with_all_terms(
    simulator: SimulatorControl, documents: dict[str, Any], flavour: str
) -> None:
    results, _ = await load(simulator, documents, flavour)
    assert {result.outcome for result in results.values()} == {"data"}
    assert sum(map(semesters, documents.values())) > 60
    assert_nobody_is_poorer(results, documents)


def named(fault: dict[str, Any]) -> str:
    return "-".join(str(part) for part in fault.values())


HARMLESS: list[dict[str, Any]] = [
    {"fault": "ndjson_truncate", "how": "mid_line"},
    {"fault": "ndjson_truncate", "how": "no_final_newline"},
    {"fault": "ndjson_garbage_line", "how": "bad_utf8"},
    {"fault": "ndjson_extra_types", "how": "summary"},
    {"fault": "foreign_records"},
    {"fault": "dup_records", "how": "same"},
    {"fault": "conn_reset", "when": "mid_body"},
    {"fault": "body_cut", "how": "gzip"},
    {"fault": "status_504_html"},
]


@pytest.mark.parametrize("fault", HARMLESS, ids=named)
async def test_a_fault_of_every_first_answer_costs_nobody(
    simulator: SimulatorControl, documents: dict[str, Any], fault: dict[str, Any]
) -> None:
    simulator.set_faults([{**fault, "scope": "personapi", "first_n": 1}])
    results, told = await load(simulator, documents)
    assert told.failed == 0
    assert_nobody_is_poorer(results, documents)


LOSING: list[tuple[dict[str, Any], str]] = [
    ({"fault": "ndjson_truncate", "how": "clean_eof"}, "missing_record"),
    ({"fault": "ndjson_extra_types", "how": "error"}, "source_error"),
    ({"fault": "missing_records", "rate": 0.2}, "missing_record"),
    ({"fault": "empty_docs", "how": "instead", "rate": 0.2}, "missing_record"),
    ({"fault": "null_data", "rate": 0.2}, "missing_record"),
    ({"fault": "shape", "how": "empty_result"}, "missing_record"),
]


@pytest.mark.parametrize(("fault", "rule"), LOSING, ids=[named(fault) for fault, _ in LOSING])
async def test_whom_the_source_leaves_out_has_failed_and_everybody_else_is_whole(
    simulator: SimulatorControl, documents: dict[str, Any], fault: dict[str, Any], rule: str
) -> None:
    """Faults P8, P10: partial answers passed for whole ones."""
    simulator.set_faults([{**fault, "scope": "personapi"}])
    results, told = await load(simulator, documents)
    rules = Counter(result.rule for result in results.values() if result.outcome == "failed")
    assert rules == {rule: told.failed}
    assert told.failed > 0
    assert_nobody_is_poorer(results, documents)


async def test_a_person_who_kills_every_batch_costs_nobody_else(
    simulator: SimulatorControl, documents: dict[str, Any]
) -> None:
    """Fault P5: up to 100 people were stale without a word."""
    killer = min(documents)
    simulator.set_faults([{"fault": "batch_killer", "scope": "personapi", "keys": [killer]}])
    results, _ = await load(simulator, documents)
    failed = {id_: result.rule for id_, result in results.items() if result.outcome == "failed"}
    assert failed == {killer: "batch_failed"}
    assert_nobody_is_poorer(results, documents)


async def test_a_person_whose_terms_are_not_known_is_not_asked_for(
    simulator: SimulatorControl, documents: dict[str, Any]
) -> None:
    """Fault P1: the document without terms would replace the good one."""
    simulator.set_faults([{"fault": "status_404", "scope": "cstools", "rate": 0.2}])
    results, _ = await load(simulator, documents)
    failed = [result.rule for result in results.values() if result.outcome == "failed"]
    assert 0 < len(failed) < len(documents)
    assert set(failed) == {"term_query_failed"}
    assert_nobody_is_poorer(results, documents)
