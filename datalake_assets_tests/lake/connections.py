"""Real connections that let a test act between the statements of a load."""

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

CALLS: Final = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table", "copy_to_table"}

Action = Callable[[int], Awaitable[None]]


class Watched:
    """A connection that acts before every call to the server, commits included.

    Args:
        connection: The connection that does the work.
        before: Called with the number of the call, from 1.
    """

    def __init__(self, connection: asyncpg.Connection, before: Action) -> None:
        self._connection = connection
        self._before = before
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._connection, name)
        if name not in CALLS:
            return attribute

        async def call(*args: Any, **options: Any) -> Any:
            await self._count()
            return await attribute(*args, **options)

        return call

    @asynccontextmanager
    async def transaction(self, **options: Any) -> Any:
        async with self._connection.transaction(**options):
            yield
            await self._count()

    async def _count(self) -> None:
        self.calls += 1
        await self._before(self.calls)
