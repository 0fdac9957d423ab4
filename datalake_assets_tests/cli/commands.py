"""The `datalake` command in tests: called like from a shell, on a real lake with a few terms in it."""

import asyncio
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner

from datalake_assets.cli.main import cli
from datalake_assets.entities import TERM
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.landing import Landing
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.lake.lakes import SmallLake, answer, small_lake, term

T = TypeVar("T")

FIRST, SECOND, THIRD = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)
DETAILS = {
    "TERM_BEGIN_DT": "20250902",
    "TERM_END_DT": "20251220",
    "BU_CUR_FUTURE_TERM": "C",
    "BU_FUTURE_TERM_1": "2261",
    "BU_PAST_TERM_1": "2255",
    "OLD_TERM": "20254",
    "ACAD_YEAR": "2026",
}
CURRENT = term("2258", "Fall 2025", CURRENT_IND="Y", **DETAILS)
PAST = term("2255", "Summer 2025")
FUTURE = term("2261", "Spring 2026")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


@dataclass
class Commands:
    """A shell with an environment and a folder of its own."""

    folder: Path
    environment: dict[str, str]
    address: PostgresAddress
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return Path(self.environment["DATALAKE_HOME"])

    @contextmanager
    def shell(self) -> Iterator[None]:
        """This shell's environment and folder, for the length of a block."""
        before, here = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update({**self.environment, **self.variables})
        os.chdir(self.folder)
        try:
            yield
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)

    def run(self, *words: object) -> Outcome:
        """Call the command inside this process."""
        with self.shell():
            result = CliRunner().invoke(cli, [str(word) for word in words], prog_name="datalake")
        error = result.exception
        if isinstance(error, DatalakeError):  # as `main` does
            return Outcome(1, result.stdout, f"{result.stderr}error: {error}")
        if error is not None and not isinstance(error, SystemExit):
            raise AssertionError("".join(traceback.format_exception(error)))
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def call(self, *words: object) -> Outcome:
        """Call the installed console script."""
        program = Path(sys.executable).with_name("datalake")
        done = subprocess.run(
            [str(program), *map(str, words)],
            cwd=self.folder,
            env={**self.environment, **self.variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def in_lake(self, story: Callable[[SmallLake], Awaitable[T]]) -> T:
        """Do something to the lake that the commands work on."""

        async def tell() -> T:
            async with small_lake(self.address, Path(self.environment["LAKE_URL"])) as lake:
                lake.landing = Landing(ParquetStore(self.environment["LAKE_URL"]), TERM)
                return await story(lake)

        return asyncio.run(tell())

    def sql(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """Rows of a query."""

        async def ask(lake: SmallLake) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await lake.connection.fetch(query, *args)]

        return self.in_lake(ask)


async def three_days(lake: SmallLake) -> None:
    """Three terms; on the second day one changes its name, on the third one is gone."""
    lake.land(FIRST, [answer(PAST), answer(CURRENT), answer(FUTURE)])
    lake.land(SECOND, [answer(PAST), answer(CURRENT), answer({**FUTURE, "DESCR": "Spring 2026 (new)"})])
    lake.land(THIRD, [answer(CURRENT), answer({**FUTURE, "DESCR": "Spring 2026 (new)"})])
    for day in (FIRST, SECOND, THIRD):
        await lake.load(day, f"run of {day}")
