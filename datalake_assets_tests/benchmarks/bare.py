"""What loads are held against: the least that a server, a file or another tool needs for the same documents.

Nothing here is a load of the lake. dlt and DeepDiff are no dependencies of the project: a comparison with one that is
not installed is left out. Cases and limits are in `loads.py`.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from datalake_assets import exact_json
from datalake_assets.entities import PERSON
from datalake_assets.exact_json import JsonValue
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.documents import without_sensitive_keys
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.benchmarks.measure import Say
from datalake_assets_tests.lake.lakes import tables_of

_TABLES: Final = dict(zip(("raw", "xform", "curated"), tables_of(PERSON), strict=True))


def is_installed(module: str, say: Say) -> bool:
    """Whether a tool to compare with is there; says so if it is not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        say(f"{module} is not installed: its comparison is left out. The group `bench` of pyproject.toml has it.")
    return found


class BareCopy:
    """The rows of a loaded lake, copied as they are into plain tables: no index, no constraint, nothing looked at.

    They are copied out of the lake in the server's own binary format once, so that copying them in costs this process
    nothing but passing them on.

    Args:
        address: A database with the lake's tables, where the plain ones are made beside them.
        folder: Where the rows are kept.
    """

    def __init__(self, address: PostgresAddress, folder: Path) -> None:
        self._address = address
        self._files = {name: folder / name for name in _TABLES}
        self.rows = 0

    async def take(self, lake: PostgresAddress) -> None:
        """Keep the rows of a lake, and make the plain tables for them."""
        async with session(lake, application_name="bench") as connection:
            for name, file in self._files.items():
                query = f"select * from {_TABLES[name]}"
                copied = await connection.copy_from_query(query, output=file, format="binary")
                self.rows += int(copied.removeprefix("COPY "))
        async with session(self._address, application_name="bench") as connection:
            await connection.execute("create schema bare")
            for name, table in _TABLES.items():
                await connection.execute(
                    f"create table bare.{name} (like {table} including compression including storage)"
                )

    async def seconds(self) -> float:
        """How long copying all of them over one connection takes."""
        async with session(self._address, application_name="bench") as connection:
            for name in _TABLES:
                await connection.execute(f"truncate bare.{name}")
            await connection.execute("checkpoint")
            started = time.perf_counter()
            for name, file in self._files.items():
                await connection.copy_to_table(name, schema_name="bare", source=file, format="binary")
            return time.perf_counter() - started


def read_keys_and_digests(file: str) -> None:
    """Read what tells whether anything has changed from a snapshot, and nothing else."""
    pq.read_table(file, columns=[*PERSON.key_names, "digest"])


def digest_all(texts: Iterable[bytes]) -> None:
    """Parse documents and digest what is kept of them."""
    for text in texts:
        digest(without_sensitive_keys(exact_json.loads(text)), PERSON.ordered)


def compare_by_deepdiff(pairs: Iterable[tuple[JsonValue, JsonValue]]) -> None:
    """Look for differences between parsed documents, whatever the order of their arrays."""
    from deepdiff import DeepDiff

    for before, after in pairs:
        assert DeepDiff(before, after, ignore_order=True) == {}


def load_raw_by_dlt(address: PostgresAddress, file: str) -> float:
    """Seconds that dlt takes to load the documents of a snapshot into one table with a jsonb column.

    It is given Arrow batches and loads by CSV: of all its ways into a jsonb column the fastest.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": folder}
        import dlt
        from dlt.destinations import postgres

        started = time.perf_counter()
        pipeline = dlt.pipeline(
            "bench", pipelines_dir=folder, destination=postgres(_credentials(address)), dataset_name="by_dlt"
        )
        columns: Any = {PERSON.document_column: {"data_type": "json"}}
        rows = dlt.resource(
            _documents(file), name="person", columns=columns, max_table_nesting=0, write_disposition="append"
        )
        pipeline.run(rows, loader_file_format="csv").raise_on_failed_jobs()
        return time.perf_counter() - started


def load_trips_by_pandas(address: PostgresAddress, rows: pa.Table) -> float:
    """Seconds that `DataFrame.to_sql` takes to write rows into a table of their own, as its documentation shows it."""
    import pandas as pd
    from sqlalchemy import URL, create_engine

    frame = rows.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    url = URL.create(
        "postgresql+psycopg2",
        address.user,
        address.password.get_secret_value(),
        None if address.is_socket else address.host,
        address.port,
        address.database,
        {"host": address.host} if address.is_socket else {},
    )
    engine = create_engine(url)
    started = time.perf_counter()
    frame.to_sql("by_pandas", engine, schema="ops", if_exists="replace", index=False)
    seconds = time.perf_counter() - started
    engine.dispose()
    return seconds


def load_trips_by_dlt(address: PostgresAddress, rows: pa.Table) -> float:
    """Seconds that dlt takes to load an Arrow table into a table of its own, by CSV: the fastest of its ways."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": folder}
        import dlt
        from dlt.destinations import postgres

        started = time.perf_counter()
        pipeline = dlt.pipeline(
            "bench", pipelines_dir=folder, destination=postgres(_credentials(address)), dataset_name="trips_by_dlt"
        )
        pipeline.run(
            rows, table_name="rides", write_disposition="replace", loader_file_format="csv"
        ).raise_on_failed_jobs()
        return time.perf_counter() - started


def _credentials(address: PostgresAddress) -> Any:
    from dlt.destinations.impl.postgres.configuration import PostgresCredentials

    credentials = PostgresCredentials(
        {
            "database": address.database,
            "username": address.user,
            "password": address.password.get_secret_value(),
            "host": "localhost" if address.is_socket else address.host,
            "port": address.port,
        }
    )
    credentials.query = {"host": address.host} if address.is_socket else {"sslmode": str(address.sslmode)}
    return credentials


def _documents(file: str) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(columns=[*PERSON.key_names, "document"]):
            names = [*PERSON.key_names, PERSON.document_column]
            columns = [*batch.columns[:-1], batch.column("document").cast(pa.large_string())]
            yield pa.Table.from_arrays(columns, names)
