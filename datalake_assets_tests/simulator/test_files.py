"""Monthly files as a file server serves them: the same bytes each time, with versions, ranges and faults."""

import csv
import gzip
import io
from typing import Any

import polars as pl
import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.simulator.callers import Heard
from datalake_assets_tests.simulator.test_datasets import ask, header

GREEN = "/files/green/green_tripdata_2021-01.csv"
YELLOW = "/files/yellow/yellow_tripdata_2021-01.csv"


def get(simulator: SimulatorControl, path: str = GREEN, *headers: tuple[str, str]) -> Heard:
    return ask(simulator, "GET", path, *headers)


def rows(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode())))


def strike(simulator: SimulatorControl, how: str, **more: Any) -> None:
    simulator.set_faults([{"fault": "file", "how": how, "scope": "files/green/*", **more}])


@pytest.mark.parametrize(("path", "colour", "columns"), [(GREEN, "green", 20), (YELLOW, "yellow", 18)])
def test_a_month_holds_what_the_truth_says(simulator: SimulatorControl, path: str, colour: str, columns: int) -> None:
    trips = rows(get(simulator, path).body)
    truth = simulator.truth("taxi", colour=colour, month="2021-01")
    assert {len(trip) for trip in trips} == {columns}
    assert len(trips) == truth["rows"]
    assert sum(trip["passenger_count"] == "0" for trip in trips) == truth["no_passengers"] > 0
    assert sum(trip["passenger_count"] == "" for trip in trips) == truth["null_passengers"] > 0
    cents = sum(round(float(trip["total_amount"]) * 100) for trip in trips)
    assert f"{cents / 100:.2f}" == truth["total_amount"]
    assert truth["kept_rows"] == truth["rows"] - truth["no_passengers"]
    assert any(float(trip["total_amount"]) < 0 for trip in trips)


def test_every_form_holds_the_same_trips(simulator: SimulatorControl) -> None:
    plain = get(simulator).body
    packed = get(simulator, f"{GREEN}.gz")
    assert gzip.decompress(packed.body) == plain
    parquet = pl.read_parquet(get(simulator, GREEN.replace(".csv", ".parquet")).body)
    assert parquet.height == len(rows(plain))
    assert parquet.schema["passenger_count"] == pl.Float64
    assert parquet.columns == list(rows(plain)[0])


def test_another_month_another_file_and_the_same_one_again_the_same_bytes(simulator: SimulatorControl) -> None:
    assert get(simulator).body != get(simulator, GREEN.replace("-01", "-02")).body
    with running_simulator(scenario_start="2026-11-20") as other:
        assert get(other).body == get(simulator).body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (GREEN.replace("2021-01", "2018-12"), 404),
        (GREEN.replace("2021-01", "2026-10"), 404),
        (GREEN.replace("2021-01", "2026-09"), 200),
        (GREEN.replace("2021-01", "2021-13"), 404),
        ("/files/yellow/green_tripdata_2021-01.csv", 404),
        ("/files/green/other.csv", 404),
        ("/files/nowhere", 404),
        ("/files/misc/taxi_zone_lookup.csv", 200),
    ],
)
def test_only_what_is_published_is_there(simulator: SimulatorControl, path: str, status: int) -> None:
    assert get(simulator, path).status == status


def test_a_zone_is_called_na(simulator: SimulatorControl) -> None:
    zones = rows(get(simulator, "/files/misc/taxi_zone_lookup.csv").body)
    assert len(zones) == 265
    assert zones[-1]["Zone"] == "NA"


def test_a_known_version_is_not_sent_again(simulator: SimulatorControl) -> None:
    heard = get(simulator)
    tag, changed = header(heard, "etag"), header(heard, "last-modified")
    assert tag is not None
    assert changed is not None
    assert get(simulator, GREEN, ("if-none-match", tag)).status == 304
    assert get(simulator, GREEN, ("if-none-match", '"other"'), ("if-modified-since", changed)).status == 200
    assert get(simulator, GREEN, ("if-modified-since", changed)).status == 304
    assert get(simulator, GREEN, ("if-modified-since", "no date")).status == 200
    assert ask(simulator, "POST", GREEN).status == 405


def test_a_file_goes_on_where_it_broke(simulator: SimulatorControl) -> None:
    heard = get(simulator)
    tag = header(heard, "etag") or ""
    rest = get(simulator, GREEN, ("range", "bytes=1000-"), ("if-range", tag))
    assert (rest.status, rest.body) == (206, heard.body[1000:])
    assert header(rest, "content-range") == f"bytes 1000-{len(heard.body) - 1}/{len(heard.body)}"
    assert get(simulator, GREEN, ("range", "bytes=1000-"), ("if-range", '"other"')).body == heard.body
    assert get(simulator, GREEN, ("range", f"bytes={len(heard.body)}-")).status == 416


def test_trips_of_another_month_are_told_with_their_lines(simulator: SimulatorControl) -> None:
    strike(simulator, "other_month", rows=2)
    trips = rows(get(simulator).body)
    assert [trip["lpep_pickup_datetime"][:7] for trip in trips[:3]] == ["2009-01", "2009-01", "2021-01"]
    truth = simulator.truth("taxi", colour="green", month="2021-01")
    assert (truth["outside_month"], truth["lines_outside_month"]) == (2, [2, 3])
    assert truth["kept_rows"] <= truth["rows"] - 2


def test_na_stands_in_a_text_or_in_a_number(simulator: SimulatorControl) -> None:
    before = header(get(simulator), "etag")
    strike(simulator, "na_text", rows=2)
    heard = get(simulator)
    assert [trip["store_and_fwd_flag"] for trip in rows(heard.body)[:3]][:2] == ["NA", "NA"]
    assert header(heard, "etag") != before
    strike(simulator, "na_number", rows=1)
    assert rows(get(simulator).body)[0]["passenger_count"] == "NA"
    assert get(simulator, GREEN.replace(".csv", ".parquet")).status == 200


def test_a_file_of_another_colour_lies_at_its_address(simulator: SimulatorControl) -> None:
    strike(simulator, "other_colour")
    assert "tpep_pickup_datetime" in rows(get(simulator).body)[0]


def test_a_gzip_stream_is_cut_behind_a_right_length(simulator: SimulatorControl) -> None:
    strike(simulator, "cut_gzip")
    heard = get(simulator, f"{GREEN}.gz")
    assert header(heard, "content-length") == str(len(heard.body))
    with pytest.raises(EOFError):
        gzip.decompress(heard.body)


@pytest.mark.parametrize(
    "asked",
    [{"kind": "taxi", "month": "2021-13"}, {"kind": "taxi", "month": "2021-01", "colour": "blue"}, {"kind": "dataset"}],
)
def test_a_truth_about_nothing_is_refused(simulator: SimulatorControl, asked: dict[str, str]) -> None:
    with pytest.raises(Exception, match="422"):
        simulator.truth(**asked)
