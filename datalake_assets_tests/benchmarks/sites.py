"""Where loads are measured: a server, a folder of landed days, and lakes made on both for a while.

What is measured there is in `loads.py` and `size.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datalake_assets.entities import PERSON
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.landing import Landing, SourceAccount
from datalake_assets.lake.services import load_services
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.benchmarks.documents import day
from datalake_assets_tests.lake.lakes import CLOCK, SmallLake, small_lake
from datalake_assets_tests.servers import fresh_database, open_folder, running_server

MOST_IN_MEMORY: Final = 5_000
"""Documents of which everything that is made fits into a gigabyte."""

Work = Callable[[SmallLake], Awaitable[object]]


@dataclass(frozen=True)
class Site:
    """A server, and a folder below which snapshots are.

    Attributes:
        server: Where databases are made.
        folder: Where snapshots go, each series of days in a folder of its own.
    """

    server: PostgresAddress
    folder: Path

    def land(self, number: int, answers: Iterable[Answer], *, series: str = "days") -> str:
        """Land a numbered day, and return where the file is."""
        landing = self._landing(series)
        snapshot = landing.publish(
            LoadSlice(PERSON, day(number)), answers, complete=True, source=SourceAccount(), run_id="bench", clock=CLOCK
        )
        return landing.uri(snapshot).removeprefix("file://")

    def prove(self, number: int, *, series: str = "days") -> None:
        """Compare the file of a landed day with its manifest, as every load does before it reads."""
        landing = self._landing(series)
        for _ in landing.read(landing.require(LoadSlice(PERSON, day(number))), ()):
            break

    def _landing(self, series: str) -> Landing:
        return Landing(ParquetStore(str(self.folder / series)), PERSON)

    @contextmanager
    def lake(self) -> Iterator[PostgresAddress]:
        """A database with the project's tables and nothing in them."""
        with fresh_database(self.server) as address:
            migrate(address, project_files() / "sql" / "migrations")
            yield address

    def seconds(self, lake: PostgresAddress, work: Work, *, series: str = "days") -> float:
        """How long work on a lake of persons takes, on a connection that is there before."""

        async def measured() -> float:
            async with small_lake(lake, self.folder / series) as small:
                persons = small.of(PERSON, services=load_services(PERSON).services)
                await small.connection.execute("checkpoint")
                started = time.perf_counter()
                await work(persons)
                return time.perf_counter() - started

        return asyncio.run(measured())

    def execute(self, lake: PostgresAddress, *queries: str) -> None:
        """Run statements that belong to no measurement."""

        async def run() -> None:
            async with small_lake(lake, self.folder) as small:
                for query in queries:
                    await small.connection.execute(query)

        asyncio.run(run())


@contextmanager
def site(documents: int) -> Iterator[Site]:
    """A server and a folder for as many documents."""
    in_memory = documents <= MOST_IN_MEMORY
    with running_server(in_memory=in_memory) as server, open_folder(in_memory=in_memory) as folder:
        yield Site(server, folder)


def loading(number: int) -> Work:
    """The load of a numbered day into all layers."""

    async def load(lake: SmallLake) -> Any:
        return await lake.load(day(number))

    return load
