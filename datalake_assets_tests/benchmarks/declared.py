"""What declared pipelines cost: a month of taxi trips into its partition, and the memory that a large file takes.

python -m datalake_assets_tests.benchmarks.declared < where_and_what.json
"""

import asyncio
import dataclasses
import gzip
import io
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv
from pydantic import SecretStr

from datalake_assets.defs.taxi.revenue import rides_spec
from datalake_assets.lake.file_landing import FileLanding, local_file
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.partition_replace import ensure_table, replace_partition
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.benchmarks import bare
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, in_turns
from datalake_assets_tests.benchmarks.sites import Site, site
from datalake_assets_tests.lake.lakes import CLOCK

MONTH: Final = "green|2021-01-01"
TRIPS: Final = 76_518
"""As many as green taxis made in January 2021."""

LARGE_TRIPS: Final = 1_400_000
LIMIT_MIB: Final = 400.0
_BATCH: Final = 65_536
_STATUS: Final = Path("/proc/self/status")


def taxi_month(plan: Plan) -> Iterator[Figure]:
    """A month of trips from memory into its partition, beside what others need for the same rows."""
    spec = rides_spec()
    piece, table = spec.piece(MONTH), spec.lake_table
    values = [dimension.value for dimension in piece.dimensions]
    rows = trips(TRIPS)
    batches = rows.to_batches(_BATCH)
    told = [pa.array([str(value)] * len(rows)) for value in values]
    whole = pa.Table.from_arrays([*told, *rows.columns], [*table.partition, *rows.column_names])
    text = io.BytesIO()
    pyarrow.csv.write_csv(whole, text, pyarrow.csv.WriteOptions(include_header=False))

    with site(TRIPS) as place, place.lake() as lake:

        async def ours() -> float:
            receipt = Receipt(asset=str(table.name), partition=piece.key, run_id="bench")
            async with session(lake, application_name="bench") as connection:
                await ensure_table(connection, table)
                await connection.execute(f"truncate {table.name}; checkpoint")
                started = time.perf_counter()
                await replace_partition(connection, Ledger(), table, values, iter(batches), receipt)
                return time.perf_counter() - started

        async def copy() -> float:
            async with session(lake, application_name="bench") as connection:
                await ensure_table(connection, table)
                await connection.execute(f"truncate {table.name}; checkpoint")
                source = io.BytesIO(text.getvalue())
                started = time.perf_counter()
                await connection.copy_to_table(
                    table.name.table, schema_name=table.name.schema, source=source, format="csv"
                )
                return time.perf_counter() - started

        works: list[Callable[[int], float]] = [lambda _: asyncio.run(ours()), lambda _: asyncio.run(copy())]
        beside = [("COPY of the same rows as CSV", 1.5)]
        if bare.is_installed("pandas", plan.say):
            works.append(lambda _: bare.load_trips_by_pandas(lake, whole))
            beside.append(("pandas to_sql", 1 / 20))
        if bare.is_installed("dlt", plan.say):
            works.append(lambda _: bare.load_trips_by_dlt(lake, whole))
            beside.append(("dlt, Arrow", 1 / 4))
        loads, *others = in_turns(plan.rounds, *works)
        for (name, limit), times in zip(beside, others, strict=True):
            note = f"{_rate(loads)} trips/s beside {_rate(times)}"
            yield Figure("a month of taxi trips", name, loads, times, limit=limit, note=note)


def taxi_memory(plan: Plan) -> Iterator[Figure]:
    """Peak of a process that lands a large gzipped month: fetched, typed, judged, written as Parquet."""
    if not _STATUS.exists():
        plan.say(f"{_STATUS} is not there: memory cannot be measured on this system.")
        return
    with site(LARGE_TRIPS) as place, place.lake() as lake:
        file = place.folder / "green.csv.gz"
        _write_csv(file, LARGE_TRIPS)
        plan.say(f"{LARGE_TRIPS:,} trips in {file.stat().st_size / 2**20:.0f} MiB")
        peaks, seconds = zip(*(_landed(place, lake, file, number) for number in range(plan.rounds)), strict=True)
        note = f"{LARGE_TRIPS:,} trips as CSV.gz, {LARGE_TRIPS / min(seconds):,.0f} trips/s"
        yield Figure("memory of landing a file", "", peaks, kind=Kind.VALUE, limit=LIMIT_MIB, unit="MiB", note=note)


def trips(count: int) -> pa.Table:
    """Invented trips in the columns of the declaration."""
    drawn = random.Random(7)  # noqa: S311 - drawn to be repeated, not to be secret
    start = datetime(2021, 1, 1)  # noqa: DTZ001 - the files tell local times without a zone
    makers: dict[str, Callable[[], Any]] = {
        "text": lambda: drawn.choice("NY"),
        "integer": lambda: drawn.randint(1, 265),
        "decimal": lambda: Decimal(drawn.randint(0, 9_999)).scaleb(-2),
        "timestamp": lambda: start + timedelta(seconds=drawn.randrange(31 * 86_400)),
    }
    columns = rides_spec().declared
    arrays = [pa.array([makers[column.type.kind]() for _ in range(count)], column.type.arrow) for column in columns]
    return pa.Table.from_arrays(arrays, [column.name for column in columns])


def _write_csv(file: Path, count: int) -> None:
    piece = trips(50_000)
    names = [column.of("green").names[0] for column in rides_spec().columns]
    text = io.BytesIO()
    pyarrow.csv.write_csv(piece.rename_columns(names), text)
    header, _, rest = text.getvalue().partition(b"\n")
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(header + b"\n")
        for _ in range(count // len(piece)):
            packed.write(rest)


def _landed(place: Site, lake: PostgresAddress, file: Path, number: int) -> tuple[float, float]:
    told = {
        "address": {**dataclasses.asdict(lake), "password": lake.password.get_secret_value()},
        "folder": str(place.folder / f"lake{number}"),
        "file": str(file),
    }
    with tempfile.TemporaryFile() as asked:
        asked.write(orjson.dumps(told))
        asked.seek(0)
        command = [sys.executable, "-m", "datalake_assets_tests.benchmarks.declared"]
        answer = subprocess.run(command, stdin=asked, stdout=subprocess.PIPE, check=True).stdout
    found = orjson.loads(answer)
    assert found["rows"] >= LARGE_TRIPS
    return found["peak_mib"], found["seconds"]


def _rate(times: tuple[float, ...]) -> str:
    return f"{TRIPS / sorted(times)[len(times) // 2]:,.0f}"


async def _land(address: PostgresAddress, folder: Path, file: Path) -> int:
    async with session(address, application_name="bench") as connection:
        landing = FileLanding(ParquetStore(str(folder)), Ledger(), CLOCK)
        landed = await landing.land(connection, rides_spec().piece(MONTH), "bench", local_file(file))
        return landed.snapshot.manifest.rows


def main() -> None:
    told = orjson.loads(sys.stdin.buffer.read())
    address = told["address"]
    lake = PostgresAddress(**{**address, "password": SecretStr(address["password"])})
    started = time.perf_counter()
    rows = asyncio.run(_land(lake, Path(told["folder"]), Path(told["file"])))
    seconds = time.perf_counter() - started
    peak = next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    print(orjson.dumps({"rows": rows, "seconds": seconds, "peak_mib": peak / 1024}).decode())


if __name__ == "__main__":
    main()
