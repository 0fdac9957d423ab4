"""`datalake dev` as a user starts it, on a lake of a few days, with sources that can be told to fail."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from datalake_assets.cli.judgement import read_contents
from datalake_assets.clock import Clock
from datalake_assets.entities import TERM, Entity
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.storage.embedded import EmbeddedPostgres
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.servers import open_folder

T = TypeVar("T")

Upstream = dict[tuple[str, ...], list[tuple[str, ...]]]
"""Assets, and what each is made from."""

CAMPUS = "datalake_assets"
"""The code location of Term, Course and Person."""

PIPELINES = "pipelines"
"""That of declared pipelines."""

DATALAKE = str(Path(sys.executable).with_name("datalake"))
PATIENCE_S = 120.0
"""Machines that run tests do other things too; what is waited for comes in seconds on a quiet one."""


@dataclass(frozen=True)
class Dev:
    """A running `datalake dev`; the last of its days is today and not loaded yet."""

    url: str
    home: Path
    days: tuple[date, ...]
    simulator: SimulatorControl
    server: PostgresAddress
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str]

    @property
    def today(self) -> date:
        return self.days[-1]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read in the UI."""
        keys = [value for name, value in self.simulator.environment().items() if re.search("KEY|PASS|SECRET", name)]
        return (*keys, self.server.password.get_secret_value())

    def truth(self) -> dict[str, Any]:
        """What the lake must hold when every day is loaded."""
        return self.simulator.truth(kind="term", since=self.days[0], day=self.today)

    def contents(self) -> dict[str, Any]:
        """What the lake holds."""

        async def read() -> dict[str, Any]:
            async with session(self.server.with_database("datalake"), application_name="test") as connection:
                return await read_contents(connection, TERM)

        return apart(read)

    def load(self, day: date, *entities: Entity) -> "list[subprocess.CompletedProcess[str]]":
        """Load a day as the schedules do, by commands: of one entity, or of several at the same time."""
        return load(day, entities, self.home, self.environment)

    def rows(self, database: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        async def fetch() -> list[tuple[Any, ...]]:
            async with session(self.server.with_database(database), application_name="test") as connection:
                return [tuple(row) for row in await connection.fetch(query, *arguments)]

        return apart(fetch)

    def graphql(self, query: str) -> Any:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query}, timeout=PATIENCE_S, trust_env=False).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def upstream(self, location: str = CAMPUS) -> Upstream:
        """The lineage of a code location as the webserver tells it."""
        nodes = self.graphql("{assetNodes {assetKey {path} dependencyKeys {path} repository {location {name}}}}")
        return {
            tuple(node["assetKey"]["path"]): [tuple(key["path"]) for key in node["dependencyKeys"]]
            for node in nodes["assetNodes"]
            if node["repository"]["location"]["name"] == location
        }

    def run(self, *arguments: str) -> None:
        """Run a job by a command, which must succeed."""
        done = subprocess.run(
            [DATALAKE, "run", *arguments, "--quiet"],
            env={**self.environment, "DATALAKE_TODAY": self.today.isoformat()},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread of its own: Playwright keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


@contextmanager
def running_dev(days: int = 3, *, entities: Sequence[Entity] = (TERM,), **knobs: object) -> Iterator[Dev]:
    """Load all days but the last, each by a `datalake run` per entity, then start `datalake dev`.

    Args:
        days: How many days there are; the last is today.
        entities: What is loaded. The first is loaded before the others, which do not wait for each other.
        **knobs: Knobs of the simulator.
    """
    today = Clock().today()
    dates = tuple(today - timedelta(days=back) for back in range(days - 1, -1, -1))
    with open_folder() as home, running_simulator(scenario_start=dates[0], **knobs) as simulator:
        environment = {
            **bare_environment(home),
            **simulator.environment(),
            "LAKE_START_DATE": dates[0].isoformat(),
        }
        # Held, so that the commands need not start it one by one.
        with EmbeddedPostgres(home / "postgres") as server:
            for day in dates[:-1]:
                simulator.set_day(day)
                for group in (entities[:1], entities[1:]):
                    for done in load(day, group, home, environment):
                        assert done.returncode == 0, done.stdout + done.stderr
        simulator.set_day(today)
        with started_dev(home, {**environment, "DATALAKE_TODAY": today.isoformat()}) as (process, url):
            wait_until_served(process, url, home)
            yield Dev(url, home, dates, simulator, server, process, environment)


def bare_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has set nothing but the folder."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "DATALAKE_HOME": str(home)}


@contextmanager
def started_dev(
    home: Path, environment: dict[str, str], *arguments: str
) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """`datalake dev` on a free port; what is left of it at the end of the block is killed."""
    port = free_port()
    with (home / "dev.log").open("wb") as output:
        process = subprocess.Popen(
            [DATALAKE, "dev", "--port", str(port), *arguments],
            env=environment,
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        for pid in processes_of(home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_until_served(process: "subprocess.Popen[bytes]", url: str, home: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(httpx.TransportError):
            httpx.get(f"{url}/server_info", timeout=5, trust_env=False).raise_for_status()
            return
        output = (home / "dev.log").read_text()
        assert process.poll() is None, output
        assert time.monotonic() < deadline, output
        time.sleep(0.1)


def processes_of(home: Path) -> dict[int, str]:
    """Command lines of the processes that work for a folder: it stands in their environment or their arguments."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            command = (entry / "cmdline").read_bytes()
            if os.fsencode(home) in command + (entry / "environ").read_bytes():
                found[int(entry.name)] = os.fsdecode(command.replace(b"\0", b" "))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(
    day: date, entities: Sequence[Entity], home: Path, environment: dict[str, str]
) -> "list[subprocess.CompletedProcess[str]]":
    """Run the daily jobs of entities at the same time, on the day itself."""

    def run(entity: Entity) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [DATALAKE, "run", f"{entity.name}_daily", "--date", day.isoformat(), "--quiet"],
            env={**environment, "DATALAKE_TODAY": day.isoformat()},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    with ThreadPoolExecutor() as threads:
        return list(threads.map(run, entities))
