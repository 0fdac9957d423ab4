"""Declared files end to end: real HTTP, real PostgreSQL, real DuckDB."""

import gzip
import os
import shutil
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from datalake_assets.components.url_files import UrlFilesSpec, build_url_files
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets_tests.components.served_files import ServedFiles, migrated, place

__all__ = ["migrated", "place"]

RIDES: dict[str, Any] = {
    "source": {"resource": "nyc_tlc", "path": "/{color}/{color}_tripdata_{month:%Y-%m}.csv.gz"},
    "target": {"schema": "trips", "table": "rides", "duckdb": True},
    "partitions": [
        {"name": "color", "values": ["yellow", "green"]},
        {"name": "month", "start": "2021-01", "end": "2021-04", "lag_months": 1},
    ],
    "columns": [
        {
            "from": {"yellow": "tpep_pickup_datetime", "green": "lpep_pickup_datetime"},
            "to": "pickup",
            "type": "timestamp",
            "required": True,
        },
        {"from": ["passenger_count", "passengers"], "to": "passengers", "type": "smallint"},
        {"from": "total_amount", "to": "total", "type": "decimal(12,2)"},
        {"from": {"green": "trip_type"}, "to": "trip_type", "type": "smallint"},
    ],
    "rules": [
        {"name": "no_passengers", "where": "passengers = 0", "do": "drop"},
        {"name": "outside_month", "where": "date_trunc('month', pickup) <> month", "do": "quarantine"},
    ],
    "checks": {"max_quarantined_share": 0.5},
    "schedule": "0 5 1 * *",
}
GREEN = "lpep_pickup_datetime,passenger_count,total_amount,trip_type"
YELLOW = "tpep_pickup_datetime,passenger_count,total_amount"
VERSIONS = count()


def write(place: ServedFiles, color: str, month: str, *lines: str) -> None:
    path = place.folder / color / f"{color}_tripdata_{month}.csv.gz"
    path.parent.mkdir(exist_ok=True)
    header = GREEN if color == "green" else YELLOW
    path.write_bytes(gzip.compress(("\n".join([header, *lines]) + "\n").encode()))
    # Last-Modified counts in seconds; each writing is a version of its own.
    os.utime(path, (0, 1_600_000_000 + next(VERSIONS)))


def rides(folder: Path, **changes: Any) -> dg.Definitions:
    return build_url_files(UrlFilesSpec.model_validate({**RIDES, **changes}), folder, running=False)


def test_a_month_goes_to_the_lake_to_postgres_and_to_duckdb(place: ServedFiles) -> None:
    write(
        place,
        "green",
        "2021-01",
        "2021-01-01 00:15:56,1,6.80,1",
        "2021-01-01 00:00:00,0,1.00,1",
        "2009-01-01 00:00:00,1,2,1",
    )
    write(place, "yellow", "2021-01", "2021-01-05 10:00:00,2,9.30")
    definitions = rides(place.folder)
    for color in ("green", "yellow"):
        result = place.materialize(definitions, f"{color}|2021-01-01")
        assert result.success
    query = "select color, month::text, pickup::text, passengers, total::text, trip_type from trips.rides order by 1"
    assert place.rows(query) == [
        ("green", "2021-01-01", "2021-01-01 00:15:56", 1, "6.80", 1),
        ("yellow", "2021-01-01", "2021-01-05 10:00:00", 2, "9.30", None),
    ]
    assert place.copied(query) == place.rows(query)
    quarantined = place.rows("select scope, rule, source from ops.quarantine")
    assert quarantined == [("green|2021-01-01", "outside_month", "green/green_tripdata_2021-01.csv.gz line 4")]
    [table] = result.asset_materializations_for_node("trips__rides")
    assert table.metadata["dagster/row_count"].value == 2
    assert table.metadata["dagster/partition_row_count"].value == 1


def test_an_unchanged_month_is_not_sent_again_and_changes_nothing(place: ServedFiles) -> None:
    write(place, "green", "2021-01", "2021-01-01 00:15:56,1,6.80,1")
    definitions = rides(place.folder)
    for _ in range(2):
        assert place.materialize(definitions, "green|2021-01-01").success
    assert [code for _, code in place.seen] == [200, 304]
    assert place.rows("select count(*) from trips.rides") == [(1,)]
    assert place.copied("select count(*) from trips.rides") == [(1,)]


def test_a_month_that_shrinks_stops_before_the_table_and_can_be_let_pass(place: ServedFiles) -> None:
    lines = [f"2021-01-01 00:15:56,1,{number},1" for number in range(1, 11)]
    write(place, "green", "2021-01", *lines)
    definitions = rides(place.folder)
    assert place.materialize(definitions, "green|2021-01-01").success
    write(place, "green", "2021-01", *lines[:4], "2021-01-01 00:15:56,1,99.99,1")
    assert place.materialize(definitions, "green|2021-01-01").success  # half of them may go
    write(place, "green", "2021-01", *lines[:2])
    result = place.materialize(definitions, "green|2021-01-01")
    assert not result.success
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.check_name for check in failed] == ["row_change_ratio"]
    assert place.rows("select count(*) from trips.rides") == [(5,)]
    place.rows(
        "insert into ops.guard_override values ('trips.rides', 'green|2021-01-01', 'volume', 'gone at the source',"
        " 'test', now()) returning 1"
    )
    assert place.materialize(definitions, "green|2021-01-01").success
    assert place.rows("select count(*) from trips.rides") == [(2,)]
    assert place.materialize(definitions, "green|2021-01-01").success  # a month rerun changes nothing
    write(place, "green", "2021-01", *lines[:2], *lines[4:10])
    assert not place.materialize(definitions, "green|2021-01-01").success  # it was allowed for once
    assert place.rows("select count(*) from trips.rides") == [(2,)]


def test_the_table_is_not_loaded_from_a_file_that_does_not_pass_even_if_it_is_materialised_alone(
    place: ServedFiles,
) -> None:
    write(place, "green", "2021-01")
    definitions = rides(place.folder)
    landing = dg.AssetSelection.assets(["trips_landing", "rides"])
    place.materialize(definitions, "green|2021-01-01", selection=landing)
    result = place.materialize(definitions, "green|2021-01-01", selection=dg.AssetSelection.assets(["trips", "rides"]))
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert "0 good rows; at least 1 are expected" in str(event.step_failure_data.user_failure_data.description)


def test_a_yellow_file_under_a_green_address_fails_with_a_sentence(place: ServedFiles) -> None:
    path = place.folder / "green" / "green_tripdata_2021-01.csv.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(f"{YELLOW},trip_type\n2021-01-05 10:00:00,2,9.30,1\n".encode()))
    result = place.materialize(rides(place.folder), "green|2021-01-01")
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert "which is what files of yellow call it" in event.step_failure_data.user_failure_data.description


def test_a_file_beside_the_declaration_keeps_the_text_na(place: ServedFiles, tmp_path: Path) -> None:
    (tmp_path / "zones.csv").write_text('"locationid","zone"\n264,"NV"\n265,NA\n')
    spec = UrlFilesSpec.model_validate(
        {
            "source": {"file": "zones.csv"},
            "target": {"schema": "trips", "table": "zones"},
            "columns": [
                {"from": ["LocationID", "locationid"], "to": "zone_id", "type": "smallint"},
                {"from": "zone", "type": "text"},
            ],
        }
    )
    for _ in range(2):
        assert place.materialize(build_url_files(spec, tmp_path, running=False), None).success
    assert place.rows("select zone_id, zone from trips.zones order by 1") == [(264, "NV"), (265, "NA")]


def test_the_copy_gets_nothing_that_the_table_refused(place: ServedFiles) -> None:
    """Even if it is materialised alone: analysts would compute with a file that no check let pass."""
    definitions = rides(place.folder)
    write(place, "green", "2021-01", "2021-01-01 00:15:56,1,6.80,1")
    assert place.materialize(definitions, "green|2021-01-01").success
    write(place, "green", "2021-01")
    assert not place.materialize(definitions, "green|2021-01-01").success
    copy = dg.AssetSelection.assets(["trips_duckdb", "rides"])
    result = place.materialize(definitions, "green|2021-01-01", selection=copy)
    assert "does not show the file that was landed last" in failure(result)
    assert place.copied("select count(*) from trips.rides") == [(1,)]


@pytest.mark.parametrize("order", [("01", "02", "01"), ("02", "01", "02"), ("02", "02", "01")])
def test_months_in_any_order_and_again_give_the_same_rows_in_the_table_and_in_the_copy(
    place: ServedFiles, order: tuple[str, ...]
) -> None:
    for month in ("01", "02"):
        lines = [f"2021-{month}-01 00:15:56,1,{int(month)}.80,1", f"2021-{month}-02 00:00:00,,,"]
        write(place, "green", f"2021-{month}", *lines)
    definitions = rides(place.folder)
    for month in order:
        assert place.materialize(definitions, f"green|2021-{month}-01").success
    query = "select month::text, total::text from trips.rides order by 1, 2 nulls last"
    assert place.rows(query) == [
        ("2021-01-01", "1.80"),
        ("2021-01-01", None),
        ("2021-02-01", "2.80"),
        ("2021-02-01", None),
    ]
    assert place.copied(query) == place.rows(query)


def test_what_was_removed_by_hand_between_two_runs_is_there_again(place: ServedFiles) -> None:
    write(place, "green", "2021-01", "2021-01-01 00:15:56,1,6.80,1")
    definitions = rides(place.folder)
    for lost in ("nothing", "the lake", "the table", "the copy"):
        if lost == "the lake":
            shutil.rmtree(place.home / "lake")
        elif lost == "the table":
            place.rows("drop table trips.rides; select 1")
        elif lost == "the copy":
            (place.home / "analysis.duckdb").unlink()
        assert place.materialize(definitions, "green|2021-01-01").success, lost
        assert place.rows("select count(*) from trips.rides") == [(1,)]
        assert place.copied("select count(*) from trips.rides") == [(1,)]


OPEN = {"from": "total_amount", "to": "total", "type": "decimal"}


def test_the_copy_keeps_every_digit_and_follows_the_declaration(place: ServedFiles) -> None:
    """DuckDB's own `numeric` has three digits behind the point, and rounds to them without a word."""
    write(place, "green", "2021-01", "2021-01-01 00:15:56,1,0.123456789012,1")
    declared = {"columns": [RIDES["columns"][0], OPEN], "rules": []}
    assert place.materialize(rides(place.folder, **declared), "green|2021-01-01").success
    assert [str(row[0]) for row in place.copied("select total from trips.rides")] == ["0.123456789012000000"]
    more = {**declared, "columns": [*declared["columns"], {"from": "passenger_count", "type": "smallint"}]}
    assert place.materialize(rides(place.folder, **more), "green|2021-01-01").success
    assert place.copied("select passenger_count from trips.rides") == [(1,)]
    place.rows("alter table trips.rides alter total type numeric(4,1); select 1")
    less = {**more, "columns": [more["columns"][0], {**OPEN, "type": "decimal(4,1)"}, more["columns"][2]]}
    write(place, "green", "2021-01", "2021-01-01 00:15:56,1,0.1,1")
    result = place.materialize(rides(place.folder, **less), "green|2021-01-01")
    assert "The copy in DuckDB has other columns than are declared now: total" in failure(result)


def test_two_tables_may_read_the_same_files_and_two_schemas_may_have_the_same_table(place: ServedFiles) -> None:
    targets = [{"schema": "trips", "table": "rides"}, {"schema": "other", "table": "rides"}]
    made = [rides(place.folder, target=target) for target in targets]
    resources = dg.Definitions(resources={"lake": LakeResource(), "sources": SourcesResource()})
    keys = dg.Definitions.merge(*made, resources).resolve_all_asset_keys()
    assert dg.AssetKey(["other", "rides"]) in keys
    assert len([key for key in keys if key.path[0] == "nyc_tlc"]) == 1


def test_a_file_that_is_not_beside_its_declaration_is_told_with_a_sentence(place: ServedFiles, tmp_path: Path) -> None:
    declared = {
        "source": {"file": "zones.csv"},
        "target": {"schema": "trips", "table": "zones"},
        "columns": [{"from": "zone", "type": "text"}],
    }
    spec = UrlFilesSpec.model_validate(declared)
    result = place.materialize(build_url_files(spec, tmp_path, running=False), None)
    assert "There is no file zones.csv beside the declaration" in failure(result)


def failure(result: Any) -> str:
    """What the step that failed says."""
    [event] = result.filter_events(lambda event: event.is_step_failure)
    return str(event.step_failure_data.user_failure_data.description)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": {"resource": "x", "path": "/{colour}/{month:%Y}"}}, "the path asks for colour"),
        ({"source": {"resource": "x", "path": "/{color}"}}, "the path does not name month"),
        ({"source": {"resource": "x"}}, "either `resource` and `path`, or `file`"),
        ({"columns": [{"from": "line", "type": "text"}]}, "line is a column of every snapshot"),
        ({"columns": [{"from": "Total", "type": "text"}]}, "add `to`"),
        ({"columns": [{"from": "x", "type": "number"}]}, "There is no type 'number'"),
        ({"columns": [{"from": {"red": "x"}, "to": "x", "type": "text"}]}, "the kinds of files are green, yellow"),
        ({"columns": [{"from": "x", "type": "text", "requird": True}]}, "requird"),
        ({"rules": [{"name": "r", "where": "true", "do": "set"}]}, "`do: set` needs it"),
        ({"partitions": [{"name": "color"}]}, "needs either `values`"),
        ({"schedule": "sometimes"}, "is no schedule"),
        ({"source": {"resource": "x", "path": "/{color}/{month:%Y}"}}, "the same for two partitions"),
        ({"source": {"resource": "x", "path": "/{color}/{month:%m}"}}, "the same for two partitions"),
        ({"source": {"resource": "x", "path": "/{color:%Y}/{month:%Y-%m}"}}, "cannot be filled in"),
        ({"source": {"file": "../{color}_{month:%Y-%m}.csv"}}, "beside this declaration"),
        ({"partitions": [{"name": "color", "values": ["a|b"]}]}, "cannot be a value of color"),
        ({"partitions": [{"name": "color", "values": ["../a"]}]}, "cannot be a value of color"),
        ({"partitions": [{"name": "rule", "values": ["a"]}]}, "rule is a column of every snapshot"),
        ({"partitions": [{"name": "month", "start": "2021-01", "end": "2021-01"}]}, "month ends in 2021-01"),
        ({"partitions": [{"name": "color", "values": ["a"], "lag_months": 1}]}, "belong to months"),
        ({"source": {"resource": "trips", "path": RIDES["source"]["path"]}}, "both what is read and the table"),
        ({"format": {"encoding": "utf-9"}}, "no encoding 'utf-9'"),
        ({"format": {"delimiter": '"'}}, "two characters"),
        ({"columns": [{"from": "SSN", "to": "x", "type": "text"}]}, "SSN is never kept"),
        ({"columns": [{"from": "xmin", "type": "text"}]}, "of every table"),
        ({"rules": [{"name": "r", "where": "passenger = 0", "do": "drop"}]}, "no column passenger"),
        ({"rules": [{"name": "r", "where": "total >", "do": "drop"}]}, "no SQL expression"),
        ({"rules": [{"name": "r", "where": "pickup > now()", "do": "drop"}]}, "another one each time"),
        ({"owner": "bob"}, "'bob' owns nothing"),
    ],
)
def test_nonsense_in_a_declaration_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        UrlFilesSpec.model_validate({**RIDES, **changes})


def test_the_schedule_asks_for_the_latest_month_of_every_kind_once_its_file_should_be_there() -> None:
    spec = UrlFilesSpec.model_validate(RIDES)
    assert spec.latest(datetime(2021, 3, 15, tzinfo=UTC)) == ["yellow|2021-01-01", "green|2021-01-01"]
    assert spec.latest(datetime(2021, 1, 15, tzinfo=UTC)) == []
