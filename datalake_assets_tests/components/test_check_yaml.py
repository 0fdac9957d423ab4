"""What somebody hears who makes a mistake in a `defs.yaml`: from `dg check yaml`, and when definitions are loaded."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from jsonschema import Draft202012Validator

from datalake_assets.code_links import unfinished_features
from datalake_assets.components import ApiDataset, DatedView, UrlFiles

DG = str(Path(sys.executable).with_name("dg"))
PROJECT = """\
[project]
name = "flawed"
version = "1"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "flawed"
registry_modules = ["datalake_assets.components"]
"""

DATASET = """\
type: datalake_assets.components.ApiDataset
attributes:
  source: {resource: datahub, path: /x, paging: {type: next_link}}
  target: {schema: dit, table: x, load: replace}
  columns:
    - {from: id, type: "varchar(20)", key: true}
    - from: [a, b]
      type: decimal(12, 2)
  children:
    - {array: c, table: xc, columns: [{from: d, type: text}]}
  checks: {min_rows: 1, min_rows_ratio: 0.9}
  unknown_fields: warn
  schedule: "@daily"
  owner: team:data
"""
VIEW = """\
type: datalake_assets.components.DatedView
attributes:
  view: x_by_month
  table: dit.x
  columns: [{expr: a, as: A}]
  where: at >= {{ period_start }}
  partition: {every: month, start: 2019-07-01}
  catchup: true
  schedule: {cron: "0 5 1 * *", timezone: Europe/London}
"""
FILES = """\
type: datalake_assets.components.UrlFiles
attributes:
  source: {resource: depot, path: "/{month:%Y-%m}.csv"}
  target: {schema: files, table: y, duckdb: true}
  partitions:
    - {name: month, start: 2024-01}
  format: {type: csv, delimiter: ";"}
  columns:
    - {from: id, type: timestamp with time zone, required: true}
  rules:
    - {name: r, where: id is null, do: drop}
  checks: {max_quarantined_share: 0.1}
"""
MISTAKES = [
    *(
        (DATASET, *each)
        for each in (
            ("ApiDataset", "ApiDatasets", 1),
            ("resource:", "resorce:", 3),
            ("path: /x", "path: x", 3),
            ("next_link", "next_lnik", 3),
            ("load: replace", "load: replce", 4),
            ("schema: dit", "schema: Dit", 4),
            ('"varchar(20)"', "varchar", 6),
            ("key: true", "key: maybe", 6),
            ("decimal(12, 2)", "decimal(12; 2)", 8),
            ("array:", "aray:", 10),
            ("min_rows: 1", "min_rows: many", 11),
            ("min_rows_ratio: 0.9", "min_rows_ratio: 90", 11),
            ("warn", "wran", 12),
            ("unknown_fields", "unknown_field", 12),
            ("@daily", "@dayly", 13),
        )
    ),
    *(
        (VIEW, *each)
        for each in (
            ("view: x", "veiw: x", 3),
            ("dit.x", "x", 4),
            ("as: A", "name: A", 5),
            ("every: month", "every: moon", 7),
            ("start: 2019-07-01", "strat: 2019-07-01", 7),
            ("catchup: true", "catchup: sometimes", 8),
            ("cron:", "corn:", 9),
        )
    ),
    *(
        (FILES, *each)
        for each in (
            ("path: ", "pth: ", 3),
            ("duckdb: true", "duckdb: perhaps", 4),
            ("start: 2024-01", "start: 2024-13", 6),
            ("type: csv", "type: tsv", 7),
            ('";"', '";;"', 7),
            ("timestamp with", "timestmap with", 9),
            ("required", "requird", 9),
            ("do: drop", "do: delete", 11),
            ("max_quarantined_share: 0.1", "max_quarantined_share: 1", 12),
        )
    ),
]


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """What is said when a project with this one declaration is loaded, as the code server does."""
    name = f"flawed_{uuid4().hex}"
    defs = tmp_path / name / "defs"
    (defs / "pipeline").mkdir(parents=True)
    for package in (tmp_path / name, defs):
        (package / "__init__.py").write_text("")
    (defs / "pipeline" / "defs.yaml").write_text(text)
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace("flawed", name))
    monkeypatch.syspath_prepend(tmp_path)
    tree = dg.ComponentTree.from_module(defs_module=import_module(f"{name}.defs"), project_root=tmp_path)
    with unfinished_features():
        try:
            tree.build_defs()
        except Exception as error:
            return f"{error} {error.__cause__}"
    return ""


@pytest.mark.parametrize("text", [DATASET, VIEW, FILES])
def test_the_sound_ones_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert load(tmp_path, monkeypatch, text) == ""


@pytest.mark.parametrize(("text", "right", "wrong", "line"), MISTAKES[1:], ids=[each[2] for each in MISTAKES[1:]])
def test_a_mistake_is_told_with_its_file_and_line_when_definitions_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, right: str, wrong: str, line: int
) -> None:
    assert right in text
    told = load(tmp_path, monkeypatch, text.replace(right, wrong, 1))
    assert f"pipeline/defs.yaml:{line}`" in told


def test_a_word_that_stands_twice_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML takes the last one and forgets the first: what it said would be lost without a word."""
    told = load(tmp_path, monkeypatch, DATASET + '  schedule: "@hourly"\n')
    assert "`schedule` stands twice" in told
    assert "pipeline/defs.yaml:15" in told


@pytest.mark.parametrize(
    ("text", "right", "wrong"), [each[:3] for each in MISTAKES[1:]], ids=[each[2] for each in MISTAKES[1:]]
)
def test_the_schema_that_dg_check_yaml_compares_with_refuses_a_mistake(text: str, right: str, wrong: str) -> None:
    component = {"ApiDataset": ApiDataset, "DatedView": DatedView, "UrlFiles": UrlFiles}[
        text.splitlines()[0].rpartition(".")[2]
    ]
    validator = Draft202012Validator(component.get_model_cls().model_json_schema())
    assert not validator.is_valid(parse(text.replace(right, wrong, 1)))
    assert validator.is_valid(parse(text))


def parse(text: str) -> Any:
    """The attributes as `dg` reads them."""
    (found,) = parse_yamls_with_source_position(text, "defs.yaml")
    return found.value["attributes"]


def test_dg_check_yaml_names_file_and_line(tmp_path: Path) -> None:
    """Of each component one is looked at (the last that it finds), so a path is given where there are several."""
    defs = tmp_path / "flawed" / "defs"
    places = []
    for text, right, wrong, line in (MISTAKES[2], MISTAKES[16], MISTAKES[-1]):
        name = f"mistake_{len(places)}"
        (defs / name).mkdir(parents=True)
        (defs / name / "defs.yaml").write_text(text.replace(right, wrong, 1))
        places.append(f"{name}/defs.yaml:{line} ")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for package in (tmp_path / "flawed", defs):
        (package / "__init__.py").write_text("")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(tmp_path),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
    }
    result = subprocess.run(
        [DG, "check", "yaml"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    told = result.stdout + result.stderr
    assert result.returncode == 1
    assert [place for place in places if place not in told] == []
