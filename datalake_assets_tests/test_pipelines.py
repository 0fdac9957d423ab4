"""The code location of declared pipelines as users meet it."""

import re

import dagster as dg
import pytest
import yaml

from datalake_assets import definitions as campus
from datalake_assets.components.scheduling import job_name
from datalake_assets.keys import TableName
from datalake_assets.pipelines import defs
from datalake_assets.settings import project_files

DIT = ("omis_dataset", "investment_projects_dataset", "contacts")
VIEWS = ("cancelled_omis_orders", "completed_omis_orders", "omis_client_survey", "investment_projects")
MADE_OF_TRIPS = ("named_rides", "monthly_revenue")


@pytest.fixture(scope="module")
def pipelines() -> dg.Definitions:
    return defs()


def test_asset_keys_are_the_tables_with_their_landing_and_their_sources_and_nothing_else(pipelines):
    keys = {spec.key.to_user_string() for spec in pipelines.resolve_all_asset_specs()}
    datasets = {f"{place}/{name}" for name in DIT for place in ("dit", "dit_landing")}
    sources = {"datahub/omis-dataset", "datahub/investment-projects-dataset", "datahub/contacts-dataset"}
    files = {f"{place}/{name}" for name in ("rides", "zones", "payment_types") for place in ("trips", "trips_landing")}
    others = {*(f"dit/{name}" for name in VIEWS), *(f"trips/{name}" for name in MADE_OF_TRIPS)}
    assert keys == datasets | sources | files | others | {"nyc_tlc/rides", "nyc_tlc/zones", "trips_duckdb/rides"}


def test_every_table_leads_back_to_a_source_or_a_file_of_the_project(pipelines):
    above = {spec.key: [dep.asset_key for dep in spec.deps] for spec in pipelines.resolve_all_asset_specs()}
    first = {key.to_user_string() for key, deps in above.items() if not deps}
    assert {key for key in first if not key.startswith(("datahub/", "nyc_tlc/"))} == {"trips_landing/payment_types"}
    assert {dep for deps in above.values() for dep in deps} <= set(above)


def test_every_asset_has_group_owner_kinds_layer_and_a_first_line_with_its_grain(pipelines):
    for spec in pipelines.resolve_all_asset_specs():
        assert (spec.description or "").startswith("One row per "), spec.key
        assert spec.group_name in {*DIT, "trips", "datahub", "nyc_tlc"}
        assert spec.owners
        assert spec.kinds
        assert spec.tags["lake/layer"] in {"source", "landing", "table", "view", "copy"}


def test_every_pipeline_is_linked_to_its_declaration(pipelines):
    for spec in pipelines.resolve_all_asset_specs():
        if spec.tags["lake/layer"] == "source" or spec.key.path[-1] in MADE_OF_TRIPS:
            continue
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert re.search(r"datalake_assets/defs/.*/defs\.yaml$", reference.file_path), spec.key


def test_declarations_are_linked_in_the_repository_where_one_is_named(monkeypatch):
    monkeypatch.setenv("DATALAKE_GIT_URL", "https://github.com/example/lake.git")
    table = next(spec for spec in defs().resolve_all_asset_specs() if spec.key == dg.AssetKey(["dit", "contacts"]))
    (reference,) = table.metadata["dagster/code_references"].code_references
    assert reference.url.startswith("https://github.com/example/lake/tree/HEAD/datalake_assets/defs/contacts/defs.yaml")


def test_a_job_for_every_declaration(pipelines):
    loaded = {job_name(TableName("dit", name), "load") for name in DIT}
    files = {
        job_name(TableName("trips", name), "load") for name in ("rides", "zones", "payment_types", "monthly_revenue")
    }
    views = {job_name(TableName("dit", name), "views") for name in VIEWS}
    assert {job.name for job in pipelines.jobs or []} == loaded | files | views


def test_schedules_ship_stopped_and_start_by_setting(pipelines, monkeypatch):
    assert {each.default_status for each in pipelines.schedules or []} == {dg.DefaultScheduleStatus.STOPPED}
    monkeypatch.setenv("DATALAKE_SCHEDULES", "running")
    assert {each.default_status for each in defs().schedules or []} == {dg.DefaultScheduleStatus.RUNNING}


def test_both_locations_are_served_and_share_no_asset(pipelines):
    served = yaml.safe_load((project_files() / "workspace.yaml").read_text("utf-8"))["load_from"]
    names = [each["python_module"]["module_name"] for each in served]
    assert names == ["datalake_assets.definitions", "datalake_assets.pipelines"]
    mine = {spec.key for spec in pipelines.resolve_all_asset_specs()}
    assert mine.isdisjoint(spec.key for spec in campus.defs().resolve_all_asset_specs())
