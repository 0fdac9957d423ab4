from collections.abc import AsyncIterator, Iterator

import pytest

from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.lake.lakes import SmallLake, small_lake
from datalake_assets_tests.servers import fresh_database


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def lake_address(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    """A database with the project's tables, for all tests of the lake; who uses it empties it first."""
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address


@pytest.fixture(scope="module")
async def module_lake(
    anyio_backend: str, lake_address: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SmallLake]:
    """One connection for a module; properties empty the lake before each example themselves."""
    async with small_lake(lake_address, tmp_path_factory.mktemp("lakes") / "lake") as lake:
        yield lake


@pytest.fixture
async def lake(anyio_backend: str, module_lake: SmallLake) -> SmallLake:
    """An empty lake."""
    await module_lake.empty()
    return SmallLake(module_lake.connection, module_lake.landing, module_lake.folder)
