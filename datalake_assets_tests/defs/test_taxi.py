"""The taxi pipeline as it is declared.

`LAKE_TEST_TAXI` names a folder with real files (two green months, a yellow sample, the zones) for those tests that
compare with their known figures.
"""

import gzip
import os
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from datalake_assets.components.url_files import UrlFilesSpec, build_url_files
from datalake_assets.defs.taxi.revenue import build_revenue, rides_spec
from datalake_assets.settings import load_settings, project_files
from datalake_assets.simulator.client import running_simulator
from datalake_assets_tests.components.served_files import ServedFiles, migrated, place

__all__ = ["migrated", "place"]

DEFS = project_files() / "datalake_assets" / "defs" / "taxi"
REAL = Path(os.environ.get("LAKE_TEST_TAXI", "/nowhere"))
PARQUET = {"resource": "nyc_tlc", "path": "/{color}_tripdata_{month:%Y-%m}.parquet"}

needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason="LAKE_TEST_TAXI names no folder with the real months of taxi trips"
)


def lookup(name: str) -> dg.Definitions:
    declared = yaml.safe_load((DEFS / name / "defs.yaml").read_text())["attributes"]
    return build_url_files(UrlFilesSpec.model_validate(declared), DEFS / name, running=False)


def rides(**changes: Any) -> dg.Definitions:
    declared = rides_spec().model_dump(by_alias=True)
    return build_url_files(UrlFilesSpec.model_validate({**declared, **changes}), DEFS, running=False)


def loaded(place: ServedFiles, definitions: dg.Definitions, partition: str | None) -> dict[str, Any]:
    """What the landing of a partition tells, once all of it is loaded."""
    result = place.materialize(definitions, partition)
    assert result.success
    [landing] = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.path[0].endswith("_landing")
    ]
    return {name: value.value for name, value in landing.metadata.items()}


def test_the_real_address_is_the_default() -> None:
    url = load_settings().named_source("nyc_tlc").url
    piece = rides_spec().piece("green|2021-01-01")
    assert f"{url}/{piece.name}" == (
        "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/green/green_tripdata_2021-01.csv.gz"
    )


def test_the_tables_hold_what_the_simulated_source_has(place: ServedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green and yellow months, as the declaration has them fetched, from a server that knows what must come of them."""
    with running_simulator(day=date(2021, 6, 1)) as simulator:
        monkeypatch.setenv("SOURCE_NYC_TLC_URL", simulator.environment()["SOURCE_NYC_TLC_URL"])
        for name in ("zones", "payment_types"):
            loaded(place, lookup(name), None)
        months = [(color, month) for color in ("yellow", "green") for month in ("2021-02", "2021-01")]
        truths = {each: simulator.truth("taxi", colour=each[0], month=each[1]) for each in months}
        for color, month in months:
            loaded(place, rides(), f"{color}|{month}-01")
            assert place.materialize(build_revenue(rides_spec()), f"{color}|{month}-01").success
    query = "select color, to_char(month, 'YYYY-MM'), {}, {} from trips.{} group by 1, 2 order by 1, 2"
    expected = [
        (color, month, truth["kept_rows"], Decimal(truth["kept_total_amount"]))
        for (color, month), truth in sorted(truths.items())
    ]
    assert place.rows(query.format("count(*)", "sum(total_amount)", "rides")) == expected
    assert place.rows(query.format("sum(trips)::bigint", "sum(revenue)", "monthly_revenue")) == expected
    assert place.rows("select zone from trips.zones where zone_id = 265") == [("NA",)]


@needs_real_files
def test_the_real_green_months_come_to_their_known_figures(place: ServedFiles) -> None:
    """Whatever the order and however often: the figures of the published files."""
    for path in REAL.glob("*.parquet"):
        shutil.copy(path, place.folder)
    definitions = rides(source=PARQUET, format={"type": "parquet"})
    told = {}
    for month in ("2021-02-01", "2021-01-01", "2021-02-01"):
        told[month] = loaded(place, definitions, f"green|{month}")
    figures = place.rows(
        "select month::text, count(*), count(*) filter (where passenger_count is null), sum(total_amount)"
        " from trips.rides group by month order by month"
    )
    assert [(row[0], row[1]) for row in figures] == [("2021-01-01", 76_371 - 3), ("2021-02-01", 64_541 - 2)]
    assert [row[3] for row in figures] == [Decimal("1802019.17"), Decimal("1513142.02")]
    assert [row[2] for row in figures] == [36_047, 29_109]
    assert [told[month]["dagster/partition_row_count"] for month in sorted(told)] == [76_518, 64_572]
    assert [told[month]["lake/rows_dropped"] for month in sorted(told)] == [147, 31]
    assert [told[month]["lake/rows_quarantined"] for month in sorted(told)] == [3, 2]
    landed = place.copied(
        "select sum(total_amount), count(*) from read_parquet("
        f"'{place.home}/lake/trips_landing/rides/color=green/month=2021-01-01/*.parquet')"
    )
    assert landed == [(Decimal("1803898.05"), 76_518)]


@needs_real_files
def test_the_real_yellow_sample_and_what_is_made_of_it(place: ServedFiles) -> None:
    """Two hundred and sixty-six trips, five of them of the month before and one without passengers."""
    yellow = place.folder / "yellow"
    yellow.mkdir()
    (yellow / "yellow_tripdata_2020-07.csv.gz").write_bytes(gzip.compress((REAL / "rides.csv").read_bytes()))
    (place.folder / "misc").mkdir()
    shutil.copy(REAL / "taxi_zone_lookup.csv", place.folder / "misc")
    for name in ("zones", "payment_types"):
        loaded(place, lookup(name), None)
    told = loaded(place, rides(), "yellow|2020-07-01")
    assert told["lake/rules"] == {"no_passengers": 1, "outside_month": 5}
    assert place.rows("select count(*), sum(total_amount) from trips.rides") == [(260, Decimal("5572.50"))]
    assert place.rows("select zone from trips.zones where zone_id = 265") == [("NA",)]
    for _ in range(2):
        assert place.materialize(build_revenue(rides_spec()), "yellow|2020-07-01").success
    [(trips, revenue, zones)] = place.rows("select sum(trips), sum(revenue), count(*) from trips.monthly_revenue")
    assert (trips, revenue) == (260, Decimal("5572.50"))
    assert zones == place.rows("select count(distinct pickup_zone_id) from trips.rides")[0][0]
    assert place.rows(
        "select count(*) from trips.named_rides where payment is null or pickup_zone is null or dropoff_zone is null"
    ) == [(0,)]


def test_a_zone_that_the_lookup_holds_twice_stops_what_lies_below(place: ServedFiles) -> None:
    """Fault of the originals: a join that doubles rows went unnoticed. Here nobody gets to see them."""
    (place.folder / "misc").mkdir()
    lines = ["LocationID,Borough,Zone,service_zone", "1,EWR,Newark,EWR", "1,EWR,Newark again,EWR"]
    (place.folder / "misc" / "taxi_zone_lookup.csv").write_text("\n".join(lines) + "\n")
    header = [name for column in rides_spec().columns if (names := column.of("yellow").names) for name in names]
    row = {"tpep_pickup_datetime": "2020-07-01 00:00:00", "PULocationID": "1", "DOLocationID": "2", "total_amount": "5"}
    (place.folder / "yellow").mkdir()
    text = "\n".join([",".join(header), ",".join(row.get(name, "") for name in header)]) + "\n"
    (place.folder / "yellow" / "yellow_tripdata_2020-07.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("zones", "payment_types"):
        loaded(place, lookup(name), None)
    loaded(place, rides(), "yellow|2020-07-01")
    result = place.materialize(build_revenue(rides_spec()), "yellow|2020-07-01")
    assert not result.success
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert "1 rows were to come, but 2 were written" in event.step_failure_data.user_failure_data.description
    assert place.rows("select count(*) from trips.named_rides") == [(0,)]
