import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalake_assets.settings import project_files
from datalake_assets.storage.embedded import drop_database
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.cli.commands import Commands
from datalake_assets_tests.lake.lakes import SmallLake, small_lake
from datalake_assets_tests.servers import fresh_database


def dagster_database(address: PostgresAddress) -> str:
    return f"{address.database}_dagster"


def environment_for(address: PostgresAddress, folder: Path) -> dict[str, str]:
    """What a shell needs for a lake of its own, and nothing of the shell that runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DATALAKE_HOME": str(folder / "home"),
        "LAKE_URL": str(folder / "lake"),
        "POSTGRES_HOST": address.host,
        "POSTGRES_PORT": str(address.port),
        "POSTGRES_DB": address.database,
        "POSTGRES_USER": address.user,
        "POSTGRES_PASS": address.password.get_secret_value(),
        "DAGSTER_POSTGRES_DB": dagster_database(address),
        "DATALAKE_TODAY": "2026-01-03",
    }


@pytest.fixture(scope="session")
def cli_address(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    """One migrated lake for all commands; each test begins with empty tables."""
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address
        asyncio.run(drop_database(postgres_server, dagster_database(address)))


@pytest.fixture
def commands(cli_address: PostgresAddress, tmp_path: Path) -> Commands:
    async def empty() -> None:
        async with small_lake(cli_address, tmp_path / "unused") as lake:
            await SmallLake.empty(lake)

    asyncio.run(empty())
    return Commands(tmp_path, environment_for(cli_address, tmp_path), cli_address)
