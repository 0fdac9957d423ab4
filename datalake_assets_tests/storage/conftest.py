import pytest

from datalake_assets_tests.servers import database, postgres_server, reused_database

__all__ = ["database", "postgres_server", "reused_database"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
