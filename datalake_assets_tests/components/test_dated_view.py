"""Dated views: the four that are shipped against the truth of the source, and what must not happen to SQL."""

from calendar import monthrange
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from datalake_assets.components.dated_view import DatedViewSpec, build_dated_view
from datalake_assets.lake.dated_views import Period
from datalake_assets_tests.components.pipelines import Pipelines, attributes_of, failure_of

MONTHS = [date(2019 + (6 + month) // 12, (6 + month) % 12 + 1, 1) for month in range(12)]
"""July 2019 to June 2020."""


def view(pipelines: Pipelines, attributes: dict[str, Any]) -> dg.Definitions:
    spec = DatedViewSpec.model_validate(attributes)
    return pipelines.with_resources(build_dated_view(spec, running=False))


def backfill(pipelines: Pipelines, name: str, first: date = MONTHS[0], last: date = MONTHS[-1], **options: Any) -> Any:
    attributes = {**attributes_of(name), **options.pop("attributes", {})}
    tags = {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
    return pipelines.run(view(pipelines, attributes), f"dit__{name}_views", tags=tags, **options)


def dated(name: str, month: date) -> str:
    return f"dit.{name}_{month.replace(day=monthrange(month.year, month.month)[1]):%Y_%m_%d}"


@pytest.fixture
def omis(pipelines: Pipelines) -> list[dict[str, Any]]:
    """The orders, loaded, and as the source tells them."""
    pipelines.run(pipelines.dataset(attributes_of("omis_dataset")), "dit__omis_dataset_load")
    return list(pipelines.simulator.truth("dataset", dataset="omis-dataset", documents=True)["documents"].values())


def test_twelve_months_in_one_run_equal_the_truth_of_the_source(pipelines, omis):
    """A view of July 2019 bears its last day, and the stable view tells the months apart."""
    result = backfill(pipelines, "completed_omis_orders")
    assert len(result.get_asset_materialization_events()) == 12
    found = 0
    for month in MONTHS:
        complete = [
            each
            for each in omis
            if each["status"] == "complete" and (each["completed_on"] or "").startswith(f"{month:%Y-%m}")
        ]
        rows = pipelines.fetch(
            f'select "Company Name", "Subtotal" * 100 as pence from {dated("completed_omis_orders", month)}'
        )
        expected = [(each["company__name"], each["invoice__subtotal_cost"]) for each in complete]
        shown = [(row[0], None if row[1] is None else int(row[1])) for row in rows]
        assert sorted(map(repr, shown)) == sorted(map(repr, expected))
        found += len(rows)
    assert found > 20
    per_month = pipelines.fetch("select month, count(*) as n from dit.completed_omis_orders group by 1")
    assert sum(row["n"] for row in per_month) == found
    assert {row["month"] for row in per_month} <= set(MONTHS)


def test_cancelled_orders_are_those_since_the_financial_year_began(pipelines, omis):
    backfill(pipelines, "cancelled_omis_orders")
    for month, begins in ((MONTHS[0], "2019-04-01"), (MONTHS[8], "2019-04-01"), (MONTHS[9], "2020-04-01")):
        expected = [each for each in omis if each["status"] == "cancelled" and (each["cancelled_on"] or "") >= begins]
        (row,) = pipelines.fetch(f"select count(*) as n from {dated('cancelled_omis_orders', month)}")
        assert row["n"] == len(expected) > 0, month


def test_the_two_others_are_made_and_all_columns_means_all(pipelines, omis):
    backfill(pipelines, "omis_client_survey")
    pipelines.run(
        pipelines.dataset(attributes_of("investment_projects_dataset")), "dit__investment_projects_dataset_load"
    )
    backfill(pipelines, "investment_projects")
    (row,) = pipelines.fetch(
        "select count(*) as n from pg_attribute where attrelid = 'dit.investment_projects_2019_07_31'::regclass"
        " and attnum > 0"
    )
    assert row["n"] == 76
    inside = "created_on >= '2019-07-01Z' and created_on < '2020-07-01Z'"
    (row,) = pipelines.fetch(
        f"select (select count(*) from dit.investment_projects_dataset where {inside}) as expected,"
        " (select count(*) from dit.investment_projects) as found"
    )
    assert row["found"] == row["expected"] > 0


def test_views_survive_the_next_load_and_show_it(pipelines, omis):
    backfill(pipelines, "omis_client_survey")
    pipelines.execute("create view dit.own as select * from dit.omis_client_survey")
    pipelines.execute("grant select on dit.omis_client_survey_2019_07_31 to public")
    pipelines.show(date(2026, 12, 24))
    pipelines.run(pipelines.dataset(attributes_of("omis_dataset")), "dit__omis_dataset_load")
    backfill(pipelines, "omis_client_survey")
    assert pipelines.fetch("select count(*) as n from dit.own")[0]["n"] > 0
    granted = "select relacl::text as acl from pg_class where oid = 'dit.omis_client_survey_2019_07_31'::regclass"
    assert "=r/" in pipelines.fetch(granted)[0]["acl"]


def test_a_column_that_the_dataset_lost_fails_before_anything_is_dropped(pipelines, omis):
    backfill(pipelines, "omis_client_survey")
    attributes = attributes_of("omis_dataset")
    lost = {**attributes, "columns": [each for each in attributes["columns"] if each.get("to") != "company_name"]}
    result = pipelines.run(pipelines.dataset(lost), "dit__omis_dataset_load", raise_on_error=False)
    assert 'Column "company_name" is no longer declared, but views read it: dit.omis_client_survey_2019_07_31' in (
        failure_of(result)
    )
    assert pipelines.fetch("select count(*) as n from dit.omis_client_survey")[0]["n"] > 0


def test_a_renamed_column_of_a_view_fails_and_every_view_stays(pipelines, omis):
    backfill(pipelines, "omis_client_survey")
    changed = [{"expr": "company_name", "as": "Company"}]
    result = backfill(pipelines, "omis_client_survey", attributes={"columns": changed}, raise_on_error=False)
    assert "Views of 12 periods have other columns" in failure_of(result)
    assert pipelines.fetch('select count("Company Name") as n from dit.omis_client_survey')[0]["n"] > 0


def test_a_column_that_the_table_does_not_have_is_named(pipelines, omis):
    changed = {"columns": [{"expr": "upper(compny_name)", "as": "Company"}]}
    result = backfill(pipelines, "omis_client_survey", attributes=changed, raise_on_error=False)
    assert "dit.omis_dataset has no column compny_name" in failure_of(result)


SMALL: dict[str, Any] = {
    "view": "small",
    "table": "dit.omis_dataset",
    "columns": [{"expr": "company_name", "as": "name"}],
    "partition": {"every": "month", "start": "2019-07-01"},
}


@pytest.mark.parametrize("value", ["o'neill", "x'; drop table dit.omis_dataset; --", "back\\slash'", "%s $1 {{ds}}"])
def test_a_value_is_a_literal_whatever_it_holds(pipelines, omis, value):
    """Invented parameters cannot become SQL."""
    attributes = {**SMALL, "columns": [{"expr": "{{ params.value }}", "as": "value"}], "params": {"value": value}}
    pipelines.run(view(pipelines, attributes), "dit__small_views", partition_key="2019-07-01")
    assert {row["value"] for row in pipelines.fetch("select distinct value from dit.small")} == {value}


NONSENSE = {
    "two statements": ({"where": "true; drop table x"}, "no SQL expression"),
    "a query that ends early": ({"where": "true) from secrets where (true"}, "more than one SQL expression"),
    "another column": ({"where": "a), (b"}, "more than one SQL expression"),
    "a subquery": ({"where": "id in (select id from secrets)"}, "more than one SQL expression"),
    "a comment": ({"where": "true -- and false"}, "more than one SQL expression"),
    "no SQL": ({"where": "a between"}, "no SQL expression"),
    "an unknown word": ({"where": "a < {{ execution_date }}"}, "'execution_date' is undefined"),
    "the inside of Python": ({"where": "{{ ds.__class__.__mro__ }}"}, "cannot"),
    "a function that is not called": ({"where": "a < {{ fy_start }}"}, "cannot stand in SQL"),
    "a financial year that is none": ({"where": "a < {{ fy_start('31-12') }}"}, "financial year begins"),
    "a start within a month": ({"partition": {"every": "month", "start": "2019-07-02"}}, "on which no month begins"),
    "a column twice": ({"columns": [{"expr": "a", "as": "x"}, {"expr": "b", "as": "x"}]}, "column x is declared twice"),
    "a start within a week": ({"partition": {"every": "week", "start": "2019-07-03"}}, "on which no week begins"),
    "a start within a year": ({"partition": {"every": "year", "start": "2019-07-01"}}, "on which no year begins"),
    "an end before the start": (
        {"partition": {"every": "month", "start": "2019-07-01", "end": "2019-07-01"}},
        "the periods end on 2019-07-01",
    ),
    "a time zone that is none": (
        {"partition": {"every": "month", "start": "2019-07-01", "timezone": "Mars/Base"}},
        "no time zone 'Mars/Base'",
    ),
    "a name that is too long": ({"view": "v" * 60}, "at most"),
    "a column that is too long in bytes": ({"columns": [{"expr": "a", "as": "é" * 32}]}, "63 bytes"),
    "a column named as the period": ({"columns": [{"expr": "a", "as": "month"}]}, "month tells the periods apart"),
    "a view named as its table": ({"view": "omis_dataset"}, "is called as its table"),
    "a template that fails": ({"where": "a < {{ ds + 1 }}"}, "cannot be rendered"),
    "a value within quotes": ({"where": "a < '{{ ds }}'"}, "within quotes"),
    "the clock": ({"where": "a < now()"}, "another one each time"),
    "an owner who is none": ({"owner": "bob"}, "'bob' owns nothing"),
}


@pytest.mark.parametrize("flaw", NONSENSE)
def test_nonsense_is_refused_with_a_sentence_when_definitions_load(flaw):
    attributes, said = NONSENSE[flaw]
    with pytest.raises(ValidationError, match=said):
        DatedViewSpec.model_validate({**SMALL, **attributes})


@pytest.mark.parametrize(
    ("every", "start", "last_day"),
    [
        ("day", date(2020, 2, 29), date(2020, 2, 29)),
        ("week", date(2020, 2, 24), date(2020, 3, 1)),
        ("month", date(2020, 2, 1), date(2020, 2, 29)),
        ("year", date(2020, 1, 1), date(2020, 12, 31)),
    ],
)
def test_a_period_follows_from_its_last_day(every, start, last_day):
    period = Period(every, start)
    assert period.last_day == last_day
    assert Period.that_ends(every, last_day) == period


def test_the_schedule_catches_up_with_every_month_that_is_over(pipelines, tmp_path):
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    definitions = view(pipelines, {**SMALL, "schedule": "@monthly"})
    late = view(pipelines, {**SMALL, "schedule": "@monthly", "catchup": False})
    key = dg.AssetKey(["dit", "small"])
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2019-08-01"))

    def requested(found: dg.Definitions) -> list[str | None]:
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2019, 11, 1, 4, tzinfo=UTC),
            repository_def=found.get_repository_def(),
        ) as context:
            result = found.resolve_schedule_def("dit__small_views").evaluate_tick(context)
            return [request.partition_key for request in result.run_requests or []]

    assert requested(definitions) == ["2019-07-01", "2019-09-01", "2019-10-01"]
    assert requested(late) == ["2019-10-01"]


def test_each_column_is_traced_to_those_it_reads(pipelines):
    attributes = {**SMALL, "columns": [{"expr": 'coalesce(a, "B", lower(C)) || {{ ds }}', "as": "x"}]}
    spec = view(pipelines, attributes).resolve_assets_def(["dit", "small"]).get_asset_spec()
    deps = spec.metadata["dagster/column_lineage"].deps_by_column["x"]
    assert [each.column_name for each in deps] == ["B", "a", "c"]
