"""API datasets as declared: from the simulated source over HTTP to tables, with the faults that sources have."""

import shutil
from datetime import timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from datalake_assets.components.api_dataset import ApiDatasetSpec, build_api_dataset
from datalake_assets_tests.components.conftest import PAGE_SIZE
from datalake_assets_tests.components.pipelines import Pipelines, attributes_of, checks_of, failure_of, first_day

SHIPPED = ["omis_dataset", "investment_projects_dataset", "contacts"]


def column_facts(pipelines: Pipelines, table: str, column: str, kind: str) -> dict[str, Any]:
    """What the simulator's truth says of a column, asked of the table."""
    text = f'"{column}"::text'
    number = f'"{column}"' if kind in ("integer", "decimal", "number") else "null::numeric"
    (row,) = pipelines.fetch(
        f'select count(*) filter (where "{column}" is null) as nulls,'
        f" count(*) filter (where {text} = 'false') as false,"
        f" count(*) filter (where {text} = '') as blank, count(*) filter (where {number} = 0) as zero,"
        f" coalesce(sum({number}), 0) as sum from dit.{table}"
    )
    facts = dict(row)
    facts["sum"] = str(facts["sum"]) if kind in ("integer", "decimal", "number") else None
    return facts


@pytest.mark.parametrize("pipeline", SHIPPED)
def test_a_shipped_dataset_equals_the_truth_of_its_day(pipelines, pipeline):
    """false, 0 and '' arrive as themselves, in every column of all three datasets."""
    attributes = attributes_of(pipeline)
    definitions = pipelines.dataset(attributes)
    result = pipelines.run(definitions, f"dit__{pipeline}_load")
    assert set(checks_of(result).values()) == {True}
    truth = pipelines.simulator.truth("dataset", dataset=attributes["source"]["path"].rpartition("/")[2])
    assert pipelines.fetch(f"select count(*) as n from dit.{pipeline}")[0]["n"] == truth["records"]
    for column in ApiDatasetSpec.model_validate(attributes).columns:
        expected = truth["columns"][column.path[0]]
        kind = "integer" if column.type == "integer" else "number" if column.type == "decimal" else "other"
        facts = column_facts(pipelines, pipeline, column.name, kind)
        wanted = {name: expected[name] for name in ("nulls", "false", "blank")}
        assert {name: facts[name] for name in wanted} == wanted, column.name
        if kind != "other":
            assert (facts["zero"], Decimal(facts["sum"])) == (expected["zero"], Decimal(expected["sum"])), column.name


OMIS = attributes_of("omis_dataset")


def count(pipelines: Pipelines, table: str = "omis_dataset") -> int:
    return int(pipelines.fetch(f"select count(*) as n from dit.{table}")[0]["n"])


def test_the_next_day_replaces_and_an_unchanged_source_is_neither_fetched_nor_loaded(pipelines):
    definitions = pipelines.dataset(OMIS)
    pipelines.run(definitions, "dit__omis_dataset_load")
    asked = len(pipelines.simulator.requests()["requests"])
    again = pipelines.run(definitions, "dit__omis_dataset_load")
    assert len(pipelines.simulator.requests()["requests"]) == asked + 1
    assert set(checks_of(again).values()) == {True}
    (event,) = [each for each in again.get_asset_materialization_events() if each.asset_key.path[0] == "dit"]
    assert event.materialization.metadata["lake/changed"].value is False
    pipelines.show(first_day() + timedelta(days=1))
    pipelines.run(definitions, "dit__omis_dataset_load")
    truth = pipelines.simulator.truth("dataset", dataset="omis-dataset")
    assert count(pipelines) == truth["records"]
    assert len(pipelines.fetch("select from ops.receipt where asset = 'dit.omis_dataset'")) == 2


FAULTS = {
    "a wrong MAC on page 3": (
        {"fault": "hawk", "how": "bad_response_mac", "keys": ["omis-dataset/3"]},
        "signed with another key",
    ),
    "a signature that is missing": ({"fault": "hawk", "how": "no_server_auth", "keys": ["omis-dataset/2"]}, ""),
    "a clock that is late": ({"fault": "hawk", "how": "clock_skew"}, "clock"),
    "a replay that is refused": ({"fault": "hawk", "how": "replay_refused"}, ""),
    "next that loops": ({"fault": "paging", "how": "next_loops"}, ""),
    "next that leads to another host": ({"fault": "paging", "how": "next_other_host"}, ""),
    "next that leads to another path": ({"fault": "paging", "how": "next_other_path"}, ""),
    "next that is missing": ({"fault": "paging", "how": "missing_next"}, "next"),
    "a page that comes twice": ({"fault": "paging", "how": "page_twice", "keys": ["omis-dataset/3"]}, ""),
    "a field that vanishes": ({"fault": "dataset", "how": "field_vanishes", "keys": ["omis-dataset/3"]}, "are missing"),
    "a field of another type": ({"fault": "dataset", "how": "type_changes"}, "not fit"),
    "no records at all": ({"fault": "dataset", "how": "empty"}, "0 rows"),
    "a shrink beyond a tenth": ({"fault": "dataset", "how": "shrinks", "share": 0.11}, "at least"),
    "half a body": ({"fault": "malformed_json", "keys": ["omis-dataset/2"]}, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_the_source_does_the_old_table_stays_and_the_next_run_needs_no_cleaning(pipelines, fault):
    """Invariant 3 and weaknesses 3 to 7 and 9 of the earlier system."""
    definitions = pipelines.dataset(OMIS)
    pipelines.run(definitions, "dit__omis_dataset_load")
    before = pipelines.fetch("select * from dit.omis_dataset order by 1")
    pipelines.show(first_day() + timedelta(days=1))
    condition, said = FAULTS[fault]
    pipelines.simulator.set_faults([{"scope": "datasets", **condition}])
    result = pipelines.run(definitions, "dit__omis_dataset_load", raise_on_error=False)
    assert not result.success
    assert said in failure_of(result)
    assert pipelines.fetch("select * from dit.omis_dataset order by 1") == before
    assert len(pipelines.fetch("select from pg_tables where schemaname = 'lake_parts'")) == 1
    pipelines.simulator.set_faults()
    assert pipelines.run(definitions, "dit__omis_dataset_load").success
    assert count(pipelines) == pipelines.simulator.truth("dataset", dataset="omis-dataset")["records"]


def test_a_failed_check_is_told_as_a_failed_check(pipelines):
    definitions = pipelines.dataset(OMIS)
    pipelines.simulator.set_faults([{"fault": "dataset", "scope": "datasets", "how": "empty"}])
    result = pipelines.run(definitions, "dit__omis_dataset_load", raise_on_error=False)
    assert checks_of(result)["omis_dataset.enough_rows"] is False


def test_an_empty_page_in_the_middle_and_an_unknown_field_are_no_reason_to_stop(pipelines):
    definitions = pipelines.dataset(OMIS)
    faults = [
        {"fault": "paging", "scope": "datasets", "how": "empty_page", "keys": ["omis-dataset/3"], "first_n": 1},
        {"fault": "dataset", "scope": "datasets", "how": "field_appears"},
    ]
    pipelines.simulator.set_faults(faults)
    result = pipelines.run(definitions, "dit__omis_dataset_load")
    assert [name for name, passed in checks_of(result).items() if not passed] == ["omis_dataset.no_field_is_unknown"]
    assert count(pipelines) == pipelines.simulator.truth("dataset", dataset="omis-dataset")["records"]


def test_upsert_keeps_what_the_source_no_longer_tells(pipelines):
    attributes = {**OMIS, "target": {**OMIS["target"], "load": "upsert"}}
    definitions = pipelines.dataset(attributes)
    pipelines.run(definitions, "dit__omis_dataset_load")
    keys = {row[0] for row in pipelines.fetch("select omis_order_reference from dit.omis_dataset")}
    later = first_day() + timedelta(days=200)
    pipelines.show(later)
    pipelines.run(definitions, "dit__omis_dataset_load")
    documents = pipelines.simulator.truth("dataset", dataset="omis-dataset", documents=True)["documents"]
    now = {row[0] for row in pipelines.fetch("select omis_order_reference from dit.omis_dataset")}
    assert now == keys | documents.keys()
    assert keys - documents.keys()


def test_a_page_size_is_asked_for_and_more_pages_than_allowed_are_refused(pipelines):
    paging = {"type": "next_link", "size_parameter": "page_size", "size": 20, "max_pages": 3}
    definitions = pipelines.dataset({**OMIS, "source": {**OMIS["source"], "paging": paging}})
    result = pipelines.run(definitions, "dit__omis_dataset_load", raise_on_error=False)
    assert not result.success
    assert "3" in failure_of(result)
    assert PAGE_SIZE != 20


def changed(**attributes: Any) -> dict[str, Any]:
    small = {"source": OMIS["source"], "target": OMIS["target"], "columns": OMIS["columns"][:3]}
    return {**small, **attributes}


COLUMN = {"from": "a", "type": "text"}
NONSENSE = {
    "a word that is none": (changed(colums=[]), "colums"),
    "a type that is none": (changed(columns=[{"from": "a", "type": "string"}]), "There is no type 'string'"),
    "a column that comes twice": (changed(columns=[COLUMN, COLUMN]), "column a is declared twice"),
    "an index without a column": (changed(target={**OMIS["target"], "indexes": [["b"]]}), "index names column b"),
    "an upsert without a key": (
        changed(target={**OMIS["target"], "load": "upsert"}, columns=[COLUMN]),
        "`load: upsert` needs a key",
    ),
    "children without a key": (
        changed(columns=[COLUMN], children=[{"array": "x", "table": "y", "columns": [COLUMN]}]),
        "children are found by the key",
    ),
    "a name that is none": (changed(target={"schema": "Dit", "table": "x"}), "pattern"),
    "a schedule that is none": (changed(schedule="@sometimes"), "@sometimes"),
    "a name that PostgreSQL would cut": (changed(columns=[{"from": "a" * 64, "type": "text"}]), "longer than the 63"),
    "a name that PostgreSQL has given away": (changed(columns=[{"from": "xmin", "type": "text"}]), "of every table"),
    "a field that is never kept": (changed(columns=[{"from": "SSN", "to": "a", "type": "text"}]), "SSN is never kept"),
    "a table that comes twice": (
        changed(children=[{"array": "x", "table": "omis_dataset", "columns": [COLUMN]}]),
        "table omis_dataset is declared twice",
    ),
    "a column that the load brings": (
        changed(
            target={**OMIS["target"], "load": "append"},
            children=[{"array": "x", "table": "y", "columns": [{"from": "load_date", "type": "date"}]}],
        ),
        "adds a column load_date",
    ),
    "a source named as its table": (
        changed(source={**OMIS["source"], "resource": "dit", "path": "/v2/omis_dataset"}),
        "both what is read and the table",
    ),
    "an owner who is none": (changed(owner="bob"), "'bob' owns nothing"),
    "an unknown paging": (changed(source={**OMIS["source"], "paging": {"type": "scroll"}}), "next_link"),
}


@pytest.mark.parametrize("flaw", NONSENSE)
def test_nonsense_is_refused_with_a_sentence(flaw):
    attributes, said = NONSENSE[flaw]
    with pytest.raises(ValidationError, match=said):
        ApiDatasetSpec.model_validate(attributes)


def test_every_column_tells_the_field_that_it_comes_from(pipelines):
    definitions = pipelines.dataset(OMIS)
    spec = definitions.resolve_assets_def(["dit", "omis_dataset"]).get_asset_spec()
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    assert [each.column_name for each in lineage["company_name"]] == ["document.company__name"]
    assert spec.metadata["dagster/column_schema"].columns[0].name == "omis_order_reference"


def test_the_shipped_datasets_map_every_field_of_the_system_they_replace():
    """122 fields in three datasets."""
    specs = [ApiDatasetSpec.model_validate(attributes_of(pipeline)) for pipeline in SHIPPED]
    assert [len(spec.columns) for spec in specs] == [32, 76, 14]
    assert {spec.schedule.cron for spec in specs} == {"@monthly", "@daily"}


def test_two_schemas_may_have_a_table_of_the_same_name_read_from_the_same_path(pipelines):
    """And each is loaded, checked and remembered on its own."""
    both = [attributes_of("omis_dataset"), {**OMIS, "target": {"schema": "dat", "table": "omis_dataset"}}]
    specs = [ApiDatasetSpec.model_validate(each) for each in both]
    definitions = pipelines.with_resources(*(build_api_dataset(spec, running=False) for spec in specs))
    pipelines.run(definitions, "dit__omis_dataset_load")
    pipelines.show(first_day() + timedelta(days=1))
    pipelines.run(definitions, "dat__omis_dataset_load")
    truth = pipelines.simulator.truth("dataset", dataset="omis-dataset")
    assert pipelines.fetch("select count(*) as n from dat.omis_dataset")[0]["n"] == truth["records"]
    assert pipelines.fetch("select count(distinct load_date) as n from ops.declared_load")[0]["n"] == 2
    pipelines.run(definitions, "dit__omis_dataset_load")
    assert count(pipelines) == truth["records"]


@pytest.mark.parametrize("lost", ["the table", "the lake", "both"])
def test_what_was_removed_by_hand_between_two_runs_is_there_again(pipelines, lost):
    definitions = pipelines.dataset(OMIS)
    pipelines.run(definitions, "dit__omis_dataset_load")
    rows = pipelines.fetch("select * from dit.omis_dataset order by 1")
    if lost != "the table":
        shutil.rmtree(pipelines.home / "lake")
    if lost != "the lake":
        pipelines.execute("drop table dit.omis_dataset")
    assert pipelines.run(definitions, "dit__omis_dataset_load").success
    assert pipelines.fetch("select * from dit.omis_dataset order by 1") == rows
    assert len(pipelines.fetch("select from pg_tables where schemaname = 'lake_parts'")) == 1


def test_a_shrink_can_be_allowed_for_its_day(pipelines):
    definitions = pipelines.dataset(OMIS)
    pipelines.run(definitions, "dit__omis_dataset_load")
    pipelines.show(first_day() + timedelta(days=1))
    pipelines.simulator.set_faults([{"fault": "dataset", "scope": "datasets", "how": "shrinks", "share": 0.11}])
    result = pipelines.run(definitions, "dit__omis_dataset_load", raise_on_error=False)
    assert checks_of(result)["omis_dataset.enough_rows"] is False
    before = count(pipelines)
    pipelines.execute(
        f"insert into ops.guard_override values ('dit.omis_dataset', '{first_day() + timedelta(days=1)}', 'volume',"
        " 'gone at the source', 'test', now())"
    )
    pipelines.run(definitions, "dit__omis_dataset_load")
    assert count(pipelines) < 0.9 * before


def test_a_definition_that_changes_between_landing_and_load_is_that_of_the_load(pipelines):
    """Records are landed whole, so the tables are a function of the snapshot and of the latest declaration."""
    pipelines.run(pipelines.dataset(OMIS), "dit__omis_dataset_load")
    fewer = {**OMIS, "columns": OMIS["columns"][:5], "unknown_fields": "ignore"}
    only = [dg.AssetKey(["dit", "omis_dataset"])]
    pipelines.run(pipelines.dataset(fewer), "dit__omis_dataset_load", asset_selection=only)
    assert count(pipelines) == pipelines.simulator.truth("dataset", dataset="omis-dataset")["records"]
    columns = pipelines.fetch("select column_name from information_schema.columns where table_name = 'omis_dataset'")
    assert len(columns) == 5


def test_messages_hold_no_value_of_a_record(pipelines):
    """Names, addresses and numbers of people stay out of logs, whatever is wrong with them."""
    narrow = [{**each, "type": "varchar(1)"} if each.get("personal") else each for each in OMIS["columns"]]
    definitions = pipelines.dataset({**OMIS, "columns": narrow})
    result = pipelines.run(definitions, "dit__omis_dataset_load", raise_on_error=False)
    told = " ".join(str(event) for event in result.all_events)
    assert "too_long" in told
    documents = pipelines.simulator.truth("dataset", dataset="omis-dataset", documents=True)["documents"].values()
    people = {each[f"contact__{part}"] for each in documents for part in ("last_name", "email", "telephone_number")}
    assert not [person for person in people if person and len(person) > 3 and person in told]
