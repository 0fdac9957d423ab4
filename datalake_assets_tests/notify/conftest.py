from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.servers import fresh_database


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def notify_address(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    """A database with the project's tables, for all tests of notifications."""
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address


@pytest.fixture
async def connection(anyio_backend: str, notify_address: PostgresAddress) -> AsyncIterator[asyncpg.Connection]:
    """The lake without a notification, a quarantined document or a receipt."""
    async with session(notify_address, application_name="test") as lake:
        await lake.execute("delete from ops.notification; delete from ops.quarantine; delete from ops.receipt")
        yield lake
