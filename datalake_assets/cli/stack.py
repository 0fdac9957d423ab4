"""What has to run before anything else can: PostgreSQL, migrations, Dagster's home, and, if wanted, the simulator.

The `datalake` command starts these once, as the parent; run workers find them through the environment and never
start anything themselves. What is done with the stack is in the module of each command.
"""

import asyncio
import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from datalake_assets.errors import DatalakeError
from datalake_assets.settings import Settings, export, load_settings, project_files
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.storage.embedded import EmbeddedPostgres, drop_database, ensure_database
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress

DEMO_FOLDER: Final = "demo"
"""Folder below DATALAKE_HOME for everything that works on simulated sources, apart from a real lake."""

ANALYSIS: Final = "analysis.duckdb"
"""The demo's copy for analysis, in that folder."""

_BACKOFF_FACTOR: Final = "0.05"
"""A simulator recovers when it is told to: nothing is gained by waiting as long as for a real source."""

_WAIT_S: Final = 120.0
"""Longer than a demo takes, so that two at once both end well."""


@dataclass(frozen=True)
class Stack:
    """A running lake.

    Attributes:
        settings: The environment as run workers see it.
        address: The lake's database.
        home: Where this stack keeps its files.
        simulator: Control of the simulator, if it stands in for the sources.
    """

    settings: Settings
    address: PostgresAddress
    home: Path
    simulator: SimulatorControl | None = None


@dataclass(frozen=True)
class DemoWorld:
    """What the simulator of a demo shows.

    Attributes:
        first_day: First day of the simulated events.
        preset: How the sources behave.
        flavour: `cstools` or `qas`, the way to PeopleSoft.
        persons: How many people the university has.
    """

    first_day: date
    preset: str = "realistic"
    flavour: str = "cstools"
    persons: int = 2_000


class Databases(NamedTuple):
    """Names of the two databases of a stack."""

    lake: str
    dagster: str


class BusyError(DatalakeError):
    """Another command uses the same files in a way that cannot be shared."""


@contextmanager
def lake_stack(settings: Settings, *, with_dagster: bool = False) -> Iterator[Stack]:
    """Start or find the lake's PostgreSQL, migrate it, and export where it is.

    Args:
        settings: The environment as the operator set it.
        with_dagster: Also provide Dagster's home and its storage.
    """
    names = Databases(settings.require("POSTGRES_DB"), settings.require("DAGSTER_POSTGRES_DB"))
    with _postgres(settings, settings.home) as server:
        _prepare(server, names, settings.home, settings.home / "dagster" if with_dagster else None)
        yield Stack(load_settings(), server.with_database(names.lake), settings.home)


@contextmanager
def demo_stack(settings: Settings, world: DemoWorld, *, fresh: bool) -> Iterator[Stack]:
    """Like `lake_stack` with Dagster, on simulated sources and in a folder of its own, which is used alone.

    Args:
        settings: The environment as the operator set it.
        world: What the simulator shows.
        fresh: Forget what earlier demos left.

    Raises:
        BusyError: Another demo did not end in time.
    """
    home = settings.home / DEMO_FOLDER
    names = demo_databases(settings)
    with ExitStack() as stack:
        stack.enter_context(_alone(home))
        server = stack.enter_context(_postgres(settings, home))
        if fresh:
            for name in (names.lake, names.dagster):
                asyncio.run(drop_database(server, name))
            for folder in ("lake", "spool", "dagster"):
                shutil.rmtree(home / folder, ignore_errors=True)
            (home / ANALYSIS).unlink(missing_ok=True)
        control = stack.enter_context(
            running_simulator(
                preset=world.preset, scenario_start=world.first_day, flavour=world.flavour, persons=world.persons
            )
        )
        _prepare(server, names, home, home / "dagster")
        # Partitions are the days of the demo, so that the UI shows which of them are filled.
        days = {"LAKE_START_DATE": world.first_day.isoformat(), "HTTP_BACKOFF_FACTOR": _BACKOFF_FACTOR}
        files = {"LAKE_URL": str(home / "lake"), "DUCKDB_FILE": str(home / ANALYSIS)}
        export({**control.environment(), **days, **files})
        yield Stack(load_settings(), server.with_database(names.lake), home, control)


def demo_databases(settings: Settings) -> Databases:
    """The databases of the demo; on a server that the operator named they are not those of the real lake."""
    suffix = "" if settings.uses_embedded_postgres else "_demo"
    lake, dagster = settings.require("POSTGRES_DB"), settings.require("DAGSTER_POSTGRES_DB")
    return Databases(lake + suffix, dagster + suffix)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    home.mkdir(mode=0o750, parents=True, exist_ok=True)
    with (home / "in-use.lock").open("w") as lock:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(
                        "Another `datalake demo` or `datalake dev` uses the demo lake.",
                        where=str(home),
                        todo="End it, or give this one a DATALAKE_HOME of its own.",
                    ) from None
                time.sleep(0.2)
        yield


@contextmanager
def _postgres(settings: Settings, home: Path) -> Iterator[PostgresAddress]:
    if not settings.uses_embedded_postgres:
        yield settings.postgres()
        return
    with EmbeddedPostgres(home / "postgres") as server:
        yield server


def _prepare(server: PostgresAddress, names: Databases, home: Path, dagster_home: Path | None) -> None:
    """Make databases, tables and Dagster's home, and tell this process and its children where they are."""
    asyncio.run(ensure_database(server, names.lake))
    migrate(server.with_database(names.lake), project_files() / "sql" / "migrations")
    environment = {
        "POSTGRES_HOST": server.host,
        "POSTGRES_PORT": str(server.port),
        "POSTGRES_DB": names.lake,
        "POSTGRES_USER": server.user,
        "POSTGRES_PASS": server.password.get_secret_value(),
        "DATALAKE_HOME": str(home),
    }
    if dagster_home is not None:
        asyncio.run(ensure_database(server, names.dagster))
        environment |= _dagster_home(server.with_database(names.dagster), dagster_home)
    export(environment)


def _dagster_home(storage: PostgresAddress, folder: Path) -> dict[str, str]:
    for part in (folder, folder / "logs", folder / "artifacts"):
        part.mkdir(mode=0o750, parents=True, exist_ok=True)
    shutil.copyfile(project_files() / "dagster.yaml", folder / "dagster.yaml")
    return {
        "DAGSTER_HOME": str(folder),
        "DATALAKE_DAGSTER_PG_URL": storage.url(),
        "DATALAKE_COMPUTE_LOGS": str(folder / "logs"),
        "DATALAKE_ARTIFACTS": str(folder / "artifacts"),
    }
