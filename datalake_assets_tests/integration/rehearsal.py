"""A rehearsal of production: real commands in processes of their own, on a real server and simulated sources."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from datalake_assets.cli.judgement import read_contents
from datalake_assets.entities import ENTITIES, TERM, Entity
from datalake_assets.settings import project_files
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.storage.embedded import ensure_database
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, session

DATALAKE = str(Path(sys.executable).with_name("datalake"))

TABLES = tuple(str(table) for entity in ENTITIES for table in (entity.raw, entity.xform, entity.curated))
CLOCKS = ("run_id", "loaded_at")
"""Columns that tell which run wrote a row, and when: the only ones that may differ between equal tables."""


@dataclass(frozen=True)
class Rehearsal:
    """One lake, one simulator, and commands that run on them."""

    server: PostgresAddress
    database: str
    folder: Path
    simulator: SimulatorControl

    @property
    def lake(self) -> PostgresAddress:
        return self.server.with_database(self.database)

    def environment(self, **additions: str) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DATALAKE_", "POSTGRES_"))},
            **self.simulator.environment(),
            "DATALAKE_HOME": str(self.folder),
            "POSTGRES_HOST": self.server.host,
            "POSTGRES_PORT": str(self.server.port),
            "POSTGRES_USER": self.server.user,
            "POSTGRES_PASS": self.server.password.get_secret_value(),
            "POSTGRES_DB": self.database,
            "DAGSTER_POSTGRES_DB": "rehearsal_dagster",
            "HTTP_BACKOFF_FACTOR": "0.1",
            **additions,
        }

    def command(self, *arguments: str, **additions: str) -> "subprocess.CompletedProcess[str]":
        """Run `datalake …` to its end."""
        return subprocess.run(
            [DATALAKE, *arguments],
            env=self.environment(**additions),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def start(self, *arguments: str, **additions: str) -> "subprocess.Popen[str]":
        """Start `datalake …` and go on; who calls it waits for its end, or kills it."""
        return subprocess.Popen(
            [DATALAKE, *arguments],
            env=self.environment(**additions),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def load(self, day: date, entity: Entity = TERM, **additions: str) -> "subprocess.CompletedProcess[str]":
        """Load one day of an entity as its daily job does."""
        self.simulator.set_day(day)
        job = f"{entity.name}_daily"
        return self.command(
            "run", job, "--date", day.isoformat(), "--quiet", DATALAKE_TODAY=day.isoformat(), **additions
        )

    def migrated(self) -> "Rehearsal":
        asyncio.run(ensure_database(self.server, self.database))
        migrate(self.lake, project_files() / "sql" / "migrations")
        return self

    def copy(self, name: str, folder: Path) -> "Rehearsal":
        """The same lake again, under another name: what happens to the copy leaves this one alone."""

        async def clone() -> None:
            async with session(self.server, application_name="test") as connection:
                await connection.execute(f'create database "{name}" template "{self.database}"')

        asyncio.run(clone())
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return replace(self, database=name, folder=folder)

    def contents(self, entity: Entity = TERM) -> dict[str, Any]:
        async def read() -> dict[str, Any]:
            async with session(self.lake, application_name="test") as connection:
                return await read_contents(connection, entity)

        return asyncio.run(read())

    def receipts(self, asset: str) -> list[dict[str, Any]]:
        """Committed loads of a table, oldest first."""

        async def read() -> list[dict[str, Any]]:
            async with session(self.lake, application_name="test") as connection:
                rows = await connection.fetch("select * from ops.receipt where asset = $1 order by committed_at", asset)
                return [dict(row.items()) for row in rows]

        return asyncio.run(read())

    def dump(self, *, without: Collection[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, without the columns that hold runs and clocks.

        Args:
            without: Columns that are left out besides, such as `source`, which may name a request of one run.
        """

        async def read() -> dict[str, list[tuple[Any, ...]]]:
            async with session(self.lake, application_name="test") as connection:
                return {table: await _rows(connection, table, {*CLOCKS, *without}) for table in TABLES}

        return asyncio.run(read())

    def leftovers(self) -> list[str]:
        """What a killed load may have left: backends, advisory locks, staging tables, temporary files."""

        async def look() -> list[str]:
            async with session(self.lake, application_name="test") as connection:
                rows = await connection.fetch(
                    """
                    select 'backend ' || application_name as what from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()
                    union all
                    select 'advisory lock' from pg_locks
                    where locktype = 'advisory'
                        and database = (select oid from pg_database where datname = current_database())
                    union all
                    select 'table ' || relname from pg_class
                    where relkind = 'r' and relname in ('answer_row', 'answer_document', 'filtered', 'stale', 'touched')
                    """
                )
                return [row["what"] for row in rows]

        files = [str(path) for path in self.folder.rglob("*") if path.suffix == ".part"]
        spooled = [str(path) for path in (self.folder / "spool").rglob("*.parquet")]
        return asyncio.run(look()) + files + spooled


def differing(found: dict[str, list[tuple[Any, ...]]], expected: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """What differs between two dumps, a line per row: short enough to be read when a test fails."""
    lines = []
    for table in expected:
        # Rows are told by their beginnings, which hold the keys.
        mine, theirs = Counter(map(repr, found[table])), Counter(map(repr, expected[table]))
        lines += [f"{table}: lacks {row[:100]}" for row in (theirs - mine).elements()]
        lines += [f"{table}: has {row[:100]}" for row in (mine - theirs).elements()]
    return lines


async def _rows(connection: asyncpg.Connection, table: str, without: Collection[str]) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(f"select * from {table}")
    return sorted((tuple(value for name, value in row.items() if name not in without) for row in rows), key=repr)


@contextmanager
def rehearsal(
    server: PostgresAddress, name: str, folder: Path, scenario_start: date, *, preset: str = "clean", **knobs: Any
) -> Iterator[Rehearsal]:
    """A migrated, empty lake with a simulator."""
    with running_simulator(preset=preset, scenario_start=scenario_start, **knobs) as simulator:
        yield Rehearsal(server, name, folder, simulator).migrated()


def same(contents: dict[str, Any], truth: dict[str, Any]) -> bool:
    """Whether a lake holds exactly what the simulator says it must."""
    return all(
        sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in contents[part])
        == sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in truth[part] or [])
        for part in ("keys", "history", "active_terms")
    )
