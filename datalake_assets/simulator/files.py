"""Monthly files of taxi trips: `GET /files/{colour}/{colour}_tripdata_{YYYY-MM}.csv`, `.csv.gz` or `.parquet`.

A file server without a logon: ETag, Last-Modified, conditions and ranges. Rows follow from seed, colour and month, in
the columns that each colour really has: some passengers are missing, some are none, some totals negative. A month is
there when it is `_LAG_DAYS` past, and `misc/taxi_zone_lookup.csv` always. What the rows come to is told by `FileTruth`.
"""

import gzip
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import Strike, strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Question, Received, Reply, Verdict, page
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.presets import FaultPlan

if TYPE_CHECKING:
    import polars as pl

COLOURS: Final = ("green", "yellow")
_FIRST_MONTH: Final = date(2019, 1, 1)
_LAG_DAYS: Final = 60
_NAME: Final = re.compile(r"(green|yellow)_tripdata_(\d{4})-(\d{2})\.(csv|csv\.gz|parquet)")
_ZONES: Final = "misc/taxi_zone_lookup.csv"
_TYPES: Final = {"csv": "text/csv", "csv.gz": "application/gzip", "parquet": "application/octet-stream"}
_BOROUGHS: Final = ("Bronx", "Brooklyn", "EWR", "Manhattan", "Queens", "Staten Island")
_COLUMNS: Final = {
    "green": (
        "VendorID lpep_pickup_datetime lpep_dropoff_datetime store_and_fwd_flag RatecodeID PULocationID DOLocationID "
        "passenger_count trip_distance fare_amount extra mta_tax tip_amount tolls_amount ehail_fee "
        "improvement_surcharge total_amount payment_type trip_type congestion_surcharge"
    ),
    "yellow": (
        "VendorID tpep_pickup_datetime tpep_dropoff_datetime passenger_count trip_distance RatecodeID "
        "store_and_fwd_flag PULocationID DOLocationID payment_type fare_amount extra mta_tax tip_amount tolls_amount "
        "improvement_surcharge total_amount congestion_surcharge"
    ),
}
_FLOATS: Final = ("VendorID", "RatecodeID", "passenger_count", "payment_type", "trip_type")
_SPOILS: Final = ("other_month", "na_text", "na_number", "other_colour")


class Files:
    """The endpoint that serves files.

    Args:
        config: The knobs.
    """

    name = "files"
    source = "files"
    prefix = "/files"
    route = "/files/{folder}/{file}"
    knobs = frozenset({"file"})

    def __init__(self, config: Config) -> None:
        self._rows = config.taxi_rows
        self._dice = Dice(config.seed)
        self._written = lru_cache(maxsize=4)(self._write)

    def read(self, received: Received) -> Question | Reply:
        """Find the file that is asked for."""
        if received.method != "GET":
            return self.failure(405).with_headers(("allow", "GET"))
        path = f"{received.places['folder']}/{received.places['file']}"
        found = _NAME.fullmatch(received.places["file"])
        is_month = found is not None and found[1] == received.places["folder"] and 1 <= int(found[3]) <= 12
        if path != _ZONES and not is_month:
            return self.failure(404)
        names = ("if-none-match", "if-modified-since", "range", "if-range")
        return Question(path, {name: received.header(name) for name in names})

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """The file, a part of it, or that it is still the same."""
        hows = tuple((fault.word("how"), int(fault.number("rows"))) for fault in strike.of("body"))
        month = _month_of(question.key)
        if month is not None and not _is_there(month, day):
            return Answer(self.failure(404), verdict=Verdict("final", "status 404"))
        body = self._written(question.key, hows)
        changed = format_datetime(_changed(month), usegmt=True)
        tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
        headers = (("etag", tag), ("last-modified", changed), ("accept-ranges", "bytes"))
        kind = _TYPES[question.key.partition(".")[2]]
        asked: Mapping[str, Any] = question.details
        if _is_known(asked, tag, changed):
            return Answer(Reply(304, b"", kind, headers))
        reply = Reply(200, body, kind, headers)
        start = re.fullmatch(r"bytes=(\d+)-", asked["range"] or "")
        if start is not None and asked["if-range"] in (None, tag):
            reply = _rest(body, int(start[1]), kind, headers)
        return Answer(reply, verdict=Verdict("final", hows[0][0]) if hows else TRUSTED)

    def failure(self, status: int) -> Reply:
        """The file server's error pages."""
        return page(status, f"{status} {_REASONS.get(status, 'Error')}")

    def lost(self, received: Received) -> Reply:
        """An address that leads nowhere."""
        return self.failure(404)

    def question_about(self, kind: str) -> Question | None:
        """Nothing: the truth about files is told by `FileTruth`."""
        return None

    def _write(self, path: str, hows: tuple[tuple[str, int], ...]) -> bytes:
        if path == _ZONES:
            return _zones()
        month = _month_of(path)
        assert month is not None  # noqa: S101 - `read` lets nothing else through
        form = path.partition(".")[2]
        frame = self.table(path.partition("/")[0], month, hows)
        if form == "parquet":
            import polars as pl

            target = io.BytesIO()
            # As published: whole numbers that may be missing are floats.
            counts = [name for name in _FLOATS if frame.schema.get(name) == pl.Int64]
            frame = frame.with_columns(pl.col(counts).cast(pl.Float64))
            frame.write_parquet(target)
            return target.getvalue()
        body = frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S", float_precision=2).encode()
        if form == "csv.gz":
            body = gzip.compress(body, 6, mtime=0)
            if "cut_gzip" in dict(hows):
                body = body[: len(body) // 2]
        return body

    def table(self, colour: str, month: date, hows: Sequence[tuple[str, int]] = ()) -> "pl.DataFrame":
        """The rows of a month, spoilt by faults."""
        import polars as pl  # here, because most simulators are never asked for a file

        spoilt = dict(hows)
        if "other_colour" in spoilt:
            colour = next(other for other in COLOURS if other != colour)
        frame = self._sound(colour, month)
        number, pickup = pl.int_range(pl.len()), pl.col("pickup")
        if "other_month" in spoilt:
            elsewhere = pl.datetime(2009, 1, 1, 0, 30)
            frame = frame.with_columns(
                pl.when(number < spoilt["other_month"]).then(elsewhere).otherwise(pickup).alias("pickup")
            )
        if "na_text" in spoilt:
            flag = pl.col("store_and_fwd_flag")
            frame = frame.with_columns(
                pl.when(number < spoilt["na_text"]).then(pl.lit("NA")).otherwise(flag).alias("store_and_fwd_flag")
            )
        if "na_number" in spoilt:
            count = pl.col("passenger_count").cast(pl.String)
            frame = frame.with_columns(
                pl.when(number < spoilt["na_number"]).then(pl.lit("NA")).otherwise(count).alias("passenger_count")
            )
        prefix = "lpep" if colour == "green" else "tpep"
        frame = frame.rename({"pickup": f"{prefix}_pickup_datetime", "dropoff": f"{prefix}_dropoff_datetime"})
        return frame.select(_COLUMNS[colour].split())

    def _sound(self, colour: str, month: date) -> "pl.DataFrame":
        import polars as pl

        salt = self._dice.below(100_003, colour, month)
        count = self._rows * (1 if colour == "green" else 3)
        seconds = (_next(month) - month).days * 86_400
        number = pl.int_range(count, dtype=pl.Int64)

        def drawn(prime: int, bound: int) -> pl.Expr:
            return ((number + salt) * prime % 1_000_003) % bound

        def money(prime: int, bound: int, step: int = 25) -> pl.Expr:
            return drawn(prime, bound) * step

        def of(values: Sequence[int], prime: int) -> pl.Expr:
            return drawn(prime, len(values)).replace_strict(list(range(len(values))), list(values))

        recorded = drawn(7919, 100) < 53
        cents = {
            "fare_amount": pl.when(drawn(104_729, 500) == 0).then(-250).otherwise(money(15_485, 240) + 250),
            "extra": money(611_953, 3, 50),
            "mta_tax": of([50, 50, 50, 0], 32_452),
            "tip_amount": money(49_979, 40, 7),
            "tolls_amount": of([0, 0, 0, 0, 0, 0, 612], 86_028),
            "improvement_surcharge": pl.lit(30, dtype=pl.Int64),
            "congestion_surcharge": of([0, 275], 12_582),
        }
        start = datetime(month.year, month.month, 1)  # noqa: DTZ001 - the files have local times without a zone
        pickup = pl.lit(start) + pl.duration(seconds=number * seconds // count)
        frame = pl.select(
            pickup.dt.cast_time_unit("us").alias("pickup"),
            (pickup + pl.duration(seconds=60 + drawn(27_644, 3600))).dt.cast_time_unit("us").alias("dropoff"),
            *[amount.cast(pl.Int64).alias(name) for name, amount in cents.items()],
            pl.when(recorded).then(of([1, 2, 2], 17)).alias("VendorID"),
            pl.when(recorded)
            .then(drawn(982_451, 20).replace_strict(0, None, default=pl.lit("N"), return_dtype=pl.String))
            .alias("store_and_fwd_flag"),
            pl.when(recorded).then(of([1, 1, 1, 5], 31)).alias("RatecodeID"),
            (drawn(6131, 265) + 1).alias("PULocationID"),
            (drawn(7307, 265) + 1).alias("DOLocationID"),
            pl.when(recorded).then(of([1, 1, 1, 2, 0, 6], 8011)).alias("passenger_count"),
            (drawn(9377, 2000) / 100).alias("trip_distance"),
            pl.when(recorded).then(of([1, 1, 2, 2, 3, 4], 4637)).alias("payment_type"),
            pl.lit(None, dtype=pl.Float64).alias("ehail_fee"),
            pl.when(recorded).then(of([1, 1, 2], 5557)).alias("trip_type"),
        )
        total = pl.sum_horizontal(list(cents)).alias("total_amount")
        return frame.with_columns(total).with_columns(pl.col(*cents, "total_amount") / 100)


_REASONS: Final = {404: "Not Found", 405: "Method Not Allowed"}


def _month_of(path: str) -> date | None:
    found = _NAME.fullmatch(path.partition("/")[2])
    return date(int(found[2]), int(found[3]), 1) if found else None


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _is_there(month: date, day: date) -> bool:
    return month >= _FIRST_MONTH and month + timedelta(days=_LAG_DAYS) <= day


def _changed(month: date | None) -> datetime:
    since = _FIRST_MONTH if month is None else month + timedelta(days=_LAG_DAYS)
    return datetime(since.year, since.month, since.day, tzinfo=UTC)


def _is_known(asked: Mapping[str, Any], tag: str, changed: str) -> bool:
    if asked["if-none-match"] is not None:
        return tag in [part.strip().removeprefix("W/") for part in str(asked["if-none-match"]).split(",")]
    try:
        since = asked["if-modified-since"]
        return since is not None and parsedate_to_datetime(since) >= parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return False


def _rest(body: bytes, start: int, kind: str, headers: tuple[tuple[str, str], ...]) -> Reply:
    if start >= len(body):
        return Reply(416, b"", kind, (*headers, ("content-range", f"bytes */{len(body)}")))
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Reply(206, body[start:], kind, (*headers, ("content-range", span)))


def _zones() -> bytes:
    """Zone 265 is called NA, which is a text and no missing value."""
    lines = ['"LocationID","Borough","Zone","service_zone"']
    for number in range(1, 264):
        borough = _BOROUGHS[number % len(_BOROUGHS)]
        lines.append(f'{number},"{borough}","Zone {number} of {borough}","Boro Zone"')
    lines += ['264,"Unknown","NV","N/A"', '265,"Unknown","NA","N/A"']
    return ("\n".join(lines) + "\n").encode()


class FileTruth:
    """What the rows of a month come to, with the faults that change what they say.

    Args:
        endpoint: The endpoint that serves it.
    """

    kind = "taxi"
    parameters = ("colour", "month")

    def __init__(self, endpoint: Files) -> None:
        self._endpoint = endpoint

    def told(self, day: date, asked: Mapping[str, str], plan: FaultPlan) -> dict[str, Any]:
        """Rows and sums; `kept` is what is left without rows of other months and trips without passengers.

        Raises:
            SimulatorError: There is no such month.
        """
        import polars as pl

        colour, month = asked.get("colour", "green"), asked.get("month", "")
        found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month)
        if found is None or colour not in COLOURS:
            raise SimulatorError(f"colour is {colour!r}, month is {month!r}.", allowed=[*COLOURS, "2021-01"])
        start = date(int(found[1]), int(found[2]), 1)
        key = f"{colour}/{colour}_tripdata_{month}.csv"
        struck = strike(plan.on(day), plan.fault_seed, self._endpoint, key, day, 1)
        hows = [(fault.word("how"), int(fault.number("rows"))) for fault in struck.of("body") if fault.knob == "file"]
        frame = self._endpoint.table(colour, start, [how for how in hows if how[0] in _SPOILS])
        pickup = frame.columns[1]
        frame = frame.with_columns(
            inside=pl.col(pickup).dt.truncate("1mo") == start,
            passengers=pl.col("passenger_count").cast(pl.Int64, strict=False),
            cents=(pl.col("total_amount") * 100).round().cast(pl.Int64),
        )
        kept = frame.filter(pl.col("inside") & (pl.col("passengers").fill_null(-1) != 0))
        outside = frame.with_row_index("line", offset=2).filter(~pl.col("inside"))
        return {
            "kind": self.kind,
            "colour": colour,
            "month": month,
            "is_there": _is_there(start, day),
            "rows": frame.height,
            "outside_month": outside.height,
            "lines_outside_month": outside["line"].to_list()[:100],
            "no_passengers": frame.filter(pl.col("passengers") == 0).height,
            "null_passengers": frame.filter(pl.col("passengers").is_null()).height,
            "total_amount": _money(frame),
            "kept_rows": kept.height,
            "kept_total_amount": _money(kept),
            "zone_265": frame.filter(pl.col("PULocationID") == 265).height,
        }


def _money(trips: "pl.DataFrame") -> str:
    cents = int(trips["cents"].sum())
    return f"{cents // 100}.{cents % 100:02d}" if cents >= 0 else f"-{-cents // 100}.{-cents % 100:02d}"
