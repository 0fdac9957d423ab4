"""Declared files end to end: real HTTP, real PostgreSQL, real DuckDB."""

import gzip
import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from datalake_assets.components.url_files import UrlFilesSpec, build_url_files
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
    ],
)
def test_nonsense_in_a_declaration_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        UrlFilesSpec.model_validate({**RIDES, **changes})


def test_the_schedule_asks_for_the_latest_month_of_every_kind_once_its_file_should_be_there() -> None:
    spec = UrlFilesSpec.model_validate(RIDES)
    assert spec.latest(datetime(2021, 3, 15, tzinfo=UTC)) == ["yellow|2021-01-01", "green|2021-01-01"]
    assert spec.latest(datetime(2021, 1, 15, tzinfo=UTC)) == []
