"""The walk-through of the README: a fourth dataset by `dg scaffold` and twelve lines of YAML, without any Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datalake_assets.settings import project_files
from datalake_assets_tests.components.pipelines import Pipelines

DG = str(Path(sys.executable).with_name("dg"))
COPIED = ("pyproject.toml", "README.md", "sql", "datalake_assets", "dagster.yaml", "workspace.yaml", ".env.example")

YAML = """\
type: datalake_assets.components.ApiDataset
attributes:
  source: {resource: datahub, path: /v4/dataset/advisers-dataset}
  target: {schema: dit, table: advisers}
  schedule: "@daily"
  columns:
    - {from: id, type: text, key: true}
    - {from: first_name, type: varchar(255), personal: true}
    - {from: last_name, type: varchar(255), personal: true}
    - {from: dit_team__name, to: team, type: text}
    - {from: is_active, to: active, type: boolean}
    - {from: created_on, to: created_at, type: timestamptz}
"""
"""The seventh field, an address, is left out: a check warns of it."""

LOAD = """
import sys
import dagster as dg
from datalake_assets.pipelines import defs
with dg.DagsterInstance.ephemeral() as instance:
    result = defs().resolve_job_def("dit__advisers_load").execute_in_process(instance=instance)
print([each.check_name for each in result.get_asset_check_evaluations() if not each.passed])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the checkout, so that nothing is scaffolded into the real one."""
    folder = tmp_path / "project"
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "taxi")
    for name in COPIED:
        source = project_files() / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def run(project: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    home = project / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "DAGSTER_HOME": str(home),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
    }
    return subprocess.run(
        list(command), cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def succeeded(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    return result.stdout


def test_a_fourth_dataset_takes_one_command_and_twelve_lines(pipelines: Pipelines, project: Path) -> None:
    """And what is scaffolded, a view too, is valid as it stands."""
    assert len(YAML.splitlines()) == 12
    for component, name in (("ApiDataset", "advisers"), ("DatedView", "fresh")):
        succeeded(run(project, DG, "scaffold", "defs", f"datalake_assets.components.{component}", name))
    written = project / "datalake_assets" / "defs" / "advisers" / "defs.yaml"
    assert "table: advisers" in written.read_text("utf-8")
    succeeded(run(project, DG, "check", "yaml"))
    written.write_text(YAML.replace("schedule", "shedule"), "utf-8")
    wrong = run(project, DG, "check", "yaml")
    assert wrong.returncode == 1
    assert "advisers/defs.yaml:5" in wrong.stdout + wrong.stderr
    assert "shedule" in wrong.stdout + wrong.stderr
    written.write_text(YAML, "utf-8")
    listed = succeeded(run(project, DG, "list", "defs", "--json"))
    assert "dit/advisers" in listed
    assert "dit/fresh" in listed
    loaded = succeeded(run(project, sys.executable, "-c", LOAD))
    assert loaded.splitlines()[-1] == "['no_field_is_unknown']"
    truth = pipelines.simulator.truth("dataset", dataset="advisers-dataset")
    (row,) = pipelines.fetch("select count(*) as n, count(*) filter (where not active) as idle from dit.advisers")
    assert (row["n"], row["idle"]) == (truth["records"], truth["columns"]["is_active"]["false"])
