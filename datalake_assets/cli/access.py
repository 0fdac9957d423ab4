"""How commands that do not load reach the lake: one connection for the length of a question.

What has to run before is started by `stack.py`; what is asked is said by each command.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import asyncpg

from datalake_assets.cli.stack import Stack, lake_stack
from datalake_assets.settings import Settings
from datalake_assets.storage.embedded import EmbeddedPostgres
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, scrubbing, session

T = TypeVar("T")

_NO_SUCH_DATABASE: Final = "3D000"


def ask_lake(settings: Settings, doing: str, question: Callable[[asyncpg.Connection, Stack], Awaitable[T]]) -> T:
    """Start or find the lake and ask it something.

    Args:
        settings: The environment as the operator set it.
        doing: What is done, as the server shows it and as errors say it.
        question: Asked with an open connection.
    """
    with lake_stack(settings) as stack:

        async def ask() -> T:
            async with session(stack.address, application_name=f"datalake {doing}") as connection:
                with scrubbing(doing):
                    return await question(connection, stack)

        return asyncio.run(ask())


@contextmanager
def lake_server(settings: Settings) -> Iterator[PostgresAddress]:
    """Start or find the lake's PostgreSQL without changing anything in it.

    Yields:
        The address of the lake's database, which need not exist.
    """
    if not settings.uses_embedded_postgres:
        yield settings.postgres()
        return
    with EmbeddedPostgres(settings.home / "postgres") as server:
        yield server.with_database(settings.require("POSTGRES_DB"))


async def database_exists(address: PostgresAddress) -> bool:
    """Whether a database is there.

    Raises:
        PostgresError: The server cannot be reached, or does not let us in.
    """
    try:
        async with session(address, application_name="datalake"):
            return True
    except PostgresError as error:
        if error.sqlstate == _NO_SUCH_DATABASE:
            return False
        raise
