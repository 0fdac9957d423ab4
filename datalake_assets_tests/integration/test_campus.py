"""The whole lineage, terms, courses and people, as `datalake demo` walks it, against the truth of each day."""

import os
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import orjson
import pytest

from datalake_assets import exact_json
from datalake_assets.entities import COURSE, PERSON, Entity
from datalake_assets.lake.canonical import digest
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.integration.oracle import services_of, view
from datalake_assets_tests.integration.rehearsal import DATALAKE, same
from datalake_assets_tests.servers import open_folder

FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=offset) for offset in range(5)]
PERSONS = 100


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    """What `datalake demo --days 5 --json` told of five days: of the scenario, and without any other fault."""
    with open_folder() as home:
        file = home / "out.json"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "DE_"))}
        arguments = [
            "--days",
            str(len(DAYS)),
            "--persons",
            str(PERSONS),
            "--preset",
            "clean",
            "--until",
            DAYS[-1].isoformat(),
        ]
        result = subprocess.run(
            [DATALAKE, "demo", *arguments, "--json", str(file)],
            env={**environment, "DATALAKE_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        yield orjson.loads(file.read_bytes())


@pytest.fixture(scope="module")
def reports(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The days of it."""
    days: list[dict[str, Any]] = told["days"]
    return days


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorControl]:
    """A simulator of the test's own, which shows the same days."""
    with running_simulator(preset="clean", scenario_start=FIRST, persons=PERSONS) as control:
        yield control


def true_documents(simulator: SimulatorControl, entity: Entity, day: str, terms: list[str]) -> dict[str, Any]:
    """Every document that there is on a day, by its key as text."""
    asked = terms if entity is COURSE else [None]
    documents: dict[str, Any] = {}
    for term in asked:
        documents |= simulator.truth(kind=entity.name, day=day, term=term, documents=True)["documents"]
    return documents


def test_terms_of_five_days_equal_the_truth_of_each_day(reports, simulator):
    """The roll, the change, the removal, the shuffle and the outage end in the tables that the simulator says."""
    assert [report["day"] for report in reports] == [day.isoformat() for day in DAYS]
    terms = [{"day": report["day"], **report["term"]} for report in reports]
    assert [report["succeeded"] for report in terms] == [True, True, True, True, False]
    for report in terms:
        truth = simulator.truth(kind="term", since=FIRST, day=date.fromisoformat(report["day"]))
        assert same(report, truth), report["day"]
        expected = truth["days"][report["day"]]
        assert report["succeeded"] == expected["obtainable"]
        if expected["obtainable"]:
            counts = {name: expected[name] for name in ("new", "changed", "removed", "unchanged")}
            raw = report["tables"]["term_raw.term_data"]
            assert {name: raw[f"rows_{name}"] for name in counts} == counts, report["day"]
    changes = [report["tables"].get("term_raw.term_data", {}) for report in terms]
    assert changes[1]["rows_changed"] > 0, "the roll"
    assert changes[2]["rows_removed"] == 1
    assert changes[3]["rows_changed"] == changes[3]["rows_new"] == changes[3]["rows_removed"] == 0, "the shuffle"
    assert "503" in terms[4]["error"]


@pytest.mark.parametrize("entity", [COURSE, PERSON], ids=lambda entity: entity.name)
def test_every_service_sees_of_every_document_exactly_its_paths(reports, simulator, entity: Entity):
    """Invariants 1 and 7, document by document and day by day."""
    key_paths = ["/" + "/".join(column.path) for column in entity.key]
    compared = 0
    known: dict[str, Any] = {}
    for report in reports:
        if report[entity.name]["succeeded"]:
            terms = [term["strm"] for term in report["term"]["active_terms"]]
            known |= true_documents(simulator, entity, report["day"], terms)
        # Which of them are there follows from the account of the lake, which the demo has compared.
        assert report[entity.name]["differences"] == []
        there = {"/".join(row["key"]) for row in report[entity.name]["keys"]}
        known = {key: document for key, document in known.items() if key in there}
        assert known.keys() == there
        for name, service in services_of(entity.name).items():
            expected = {
                key: digest(exact_json.loads(orjson.dumps(seen))).hex()
                for key, document in known.items()
                if (seen := view(service, document, key_paths)) is not None
            }
            rows = report[entity.name]["service_documents"].get(name, [])
            found = {"/".join(row["key"]): row["digest"] for row in rows}
            assert found.keys() == expected.keys(), (report["day"], name)
            assert found == expected, (report["day"], name)
            compared += len(found)
    assert compared > len(DAYS) * len(known)


def test_the_days_of_the_demo_hold_changes_of_every_kind(reports):
    """A comparison with days on which nothing happens would prove nothing."""
    for entity in ("course", "person"):
        counts = {"rows_new": 0, "rows_changed": 0, "rows_removed": 0}
        for report in reports[1:4]:
            raw = report[entity]["tables"][f"{entity}_raw.{entity}_data"]
            for name in counts:
                counts[name] += raw[name]
        assert counts["rows_changed"] > 0, (entity, counts)
    assert reports[-1]["person"]["services"]["full"] > 0


def test_the_declared_pipelines_hold_what_their_sources_have(told, simulator):
    """Asked of a simulator that the demo has never seen; false, 0 and the empty text are there as themselves."""
    simulator.set_day(DAYS[-1])
    pipelines = {each["job"]: each for each in told["pipelines"]}
    assert [(job, each["differences"], each["succeeded"]) for job, each in pipelines.items()] == [
        (job, [], True) for job in pipelines
    ]
    fields = {"omis_dataset": "subtotal", "investment_projects_dataset": "archived", "contacts": "phone"}
    sources = {"subtotal": "invoice__subtotal_cost", "phone": "telephone_number"}
    counts = {"subtotal": "zero", "archived": "false", "phone": "blank"}
    for table, column in fields.items():
        truth = simulator.truth("dataset", dataset=f"{table.removesuffix('_dataset').replace('_', '-')}-dataset")
        totals = pipelines[f"dit__{table}_load"]["totals"][""]
        of_column = truth["columns"][sources.get(column, column)]
        assert totals["rows"] == truth["records"] > 1000
        assert totals[f"{column} nulls"] == of_column["nulls"]
        assert totals[f"{column} {counts[column]}s"] == of_column[counts[column]] > 0
    assert totals["rows"] == pipelines["dit__contacts_load"]["rows"]


def test_views_take_one_run_for_all_their_months_and_files_one_for_each(told, simulator):
    pipelines = {each["job"]: each for each in told["pipelines"]}
    runs = {job: len(each["run_ids"]) for job, each in pipelines.items()}
    assert {runs[job] for job in runs if job.endswith("_views")} == {1}
    assert runs["trips__rides_load"] == runs["trips__monthly_revenue_load"] == 2
    views = [each for job, each in pipelines.items() if job.endswith("_views")]
    assert len(views) == 4
    assert all(len(each["totals"]) == 12 and each["rows"] > 100 for each in views)
    for job in ("trips__rides_load", "trips__monthly_revenue_load"):
        for month in ("2021-01", "2021-02"):
            truth = simulator.truth("taxi", colour="green", month=month)
            totals = pipelines[job]["totals"][f"green|{month}-01"]
            assert (totals["rows"], totals["amount"]) == (truth["kept_rows"], truth["kept_total_amount"])
