"""A lake and a folder that is served over HTTP, for declared files; a test module takes over its fixtures by name."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.servers import fresh_database


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder with Last-Modified, and answers 304 to who has that version."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        self.server.seen.append((self.path, code))  # type: ignore[attr-defined]
        super().send_response(code, message)


@dataclass
class ServedFiles:
    """A folder that is served, and a lake."""

    folder: Path
    address: PostgresAddress
    seen: list[tuple[str, int]]
    home: Path

    def materialize(self, definitions: dg.Definitions, partition: str | None, **more: Any) -> Any:
        resources = {"lake": LakeResource(), "sources": SourcesResource()}
        return dg.materialize(
            list(definitions.assets or ()), partition_key=partition, resources=resources, raise_on_error=False, **more
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        address = self.address
        with (
            psycopg2.connect(
                host=address.host,
                port=address.port,
                dbname=address.database,
                user=address.user,
                password=address.password.get_secret_value(),
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            return cursor.fetchall()

    def copied(self, query: str) -> list[tuple[Any, ...]]:
        import duckdb

        with duckdb.connect(self.home / "analysis.duckdb", read_only=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address


@pytest.fixture
def place(migrated: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedFiles]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        variables = {
            "DATALAKE_HOME": str(tmp_path / "home"),
            "POSTGRES_HOST": migrated.host,
            "POSTGRES_PORT": str(migrated.port),
            "POSTGRES_DB": migrated.database,
            "POSTGRES_USER": migrated.user,
            "POSTGRES_PASS": migrated.password.get_secret_value(),
            "SOURCE_NYC_TLC_URL": f"http://127.0.0.1:{server.server_port}",
            "SOURCE_NYC_TLC_AUTH": "none",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        place = ServedFiles(folder, migrated, server.seen, tmp_path / "home")  # type: ignore[attr-defined]
        emptied = "; ".join(f"delete from ops.{table}" for table in ("receipt", "quarantine", "guard_override"))
        place.rows(f"drop schema if exists trips cascade; {emptied}; select 1")
        yield place
        server.shutdown()
        thread.join()
