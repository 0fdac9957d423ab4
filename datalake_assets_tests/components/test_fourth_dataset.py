"""The README's walk-through, by its very words: a fourth dataset with `dg scaffold`, twelve lines of YAML, no Python.

Its commands are run in a copy of the checkout, so that nothing is scaffolded into the real one.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datalake_assets.cli.demo import remember_demo
from datalake_assets.cli.stack import DEMO_FOLDER, DemoWorld
from datalake_assets.settings import project_files
from datalake_assets.simulator.client import running_simulator
from datalake_assets.storage.embedded import EmbeddedPostgres
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.browser.dev import bare_environment
from datalake_assets_tests.servers import open_folder

COPIED = ("pyproject.toml", "README.md", "sql", "datalake_assets", "dagster.yaml", "workspace.yaml", ".env.example")
WORLD = DemoWorld(date(2026, 11, 20), preset="clean", persons=1)


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout, with the virtual environment active and the memory of a demo."""

    folder: Path
    environment: dict[str, str]
    server: PostgresAddress

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a line as a user types it."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def succeeds(self, command: str) -> str:
        result = self.run(command)
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr[-3000:]}"
        return result.stdout + result.stderr

    def fetch(self, query: str) -> Any:
        async def ask() -> Any:
            async with session(self.server.with_database("datalake"), application_name="tests") as connection:
                return await connection.fetchrow(query)

        return asyncio.run(ask())


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    with open_folder() as home:
        folder = home / "checkout"
        folder.mkdir()
        for name in COPIED:
            source = project_files() / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        bin_ = Path(sys.executable).parent
        environment = {
            **bare_environment(folder / ".datalake"),
            "PATH": os.pathsep.join([str(bin_), os.environ["PATH"]]),
            "VIRTUAL_ENV": str(bin_.parent),
            "PYTHONPATH": str(folder),  # before the checkout that is installed
            "DATALAKE_TODAY": WORLD.first_day.isoformat(),
        }
        demo = folder / ".datalake" / DEMO_FOLDER
        # Held, so that the commands need not start it one by one.
        with EmbeddedPostgres(demo / "postgres") as server:
            remember_demo(SimpleNamespace(home=demo), WORLD)  # type: ignore[arg-type]
            yield Checkout(folder, environment, server)


def walk_through() -> list[tuple[str, str]]:
    """The blocks of the README's section, in order: language and text."""
    text = (project_files() / "README.md").read_text("utf-8")
    section = text.partition("## Add a pipeline without code\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_the_walk_through_of_the_readme_adds_a_fourth_dataset(checkout: Checkout) -> None:
    """Scaffolded, filled in, checked, listed and loaded; and a wrong word is told with its line."""
    (_, scaffolding), (_, declaration), (_, using) = walk_through()
    home, scaffold = commands(scaffolding)
    checkout.environment["DAGSTER_HOME"] = checkout.succeeds(f"{home}\nprintf %s $DAGSTER_HOME")
    assert "elemetry" not in checkout.succeeds(scaffold), "dg tells others what is done here"
    check, look, load = commands(using)
    written = checkout.folder / declaration.splitlines()[0].removeprefix("# ")
    assert written.exists(), "the README names another file than is scaffolded"
    assert len(commands(declaration)) == 12

    written.write_text(declaration.replace("schedule:", "shedule:"), "utf-8")
    wrong = checkout.run(check)
    assert wrong.returncode == 1
    assert f"{written.parent.name}/defs.yaml:6" in wrong.stdout + wrong.stderr
    assert "shedule" in wrong.stdout + wrong.stderr

    written.write_text(declaration, "utf-8")
    checkout.succeeds(check)
    assert "dit/advisers:enough_rows" in checkout.succeeds(look)
    assert "dit__advisers_load: succeeded" in checkout.succeeds(load)
    with running_simulator(scenario_start=WORLD.first_day, persons=1) as simulator:
        truth = simulator.truth("dataset", dataset="advisers-dataset")
    row = checkout.fetch("select count(*) as n, count(*) filter (where not active) as idle from dit.advisers")
    assert (row["n"], row["idle"]) == (truth["records"], truth["columns"]["is_active"]["false"])


def test_what_is_scaffolded_is_valid_as_it_stands(checkout: Checkout) -> None:
    names = ("ApiDataset", "DatedView", "UrlFiles")
    for name in names:
        checkout.succeeds(f"dg scaffold defs datalake_assets.components.{name} new_{name}")
    checkout.succeeds("dg check yaml " + " ".join(f"datalake_assets/defs/new_{name}" for name in names))
