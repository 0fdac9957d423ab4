"""Rules of the house that no linter can hold: borders of packages, SQL in its place, names that must agree.

What a linter can hold is configured in pyproject.toml; what a module does is tested beside that module.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalake_assets.settings import VARIABLES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "datalake_assets"
TESTS = ROOT / "datalake_assets_tests"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
# `dg` finds components by the names in their package, so that is where they are written in every defs.yaml.
EXPORTING = {PACKAGE / "components" / "__init__.py"}
INIT_FILES = sorted({*PACKAGE.rglob("__init__.py"), *TESTS.rglob("__init__.py")} - EXPORTING)

# Folders that know nothing of orchestration, and what of the package each may import besides itself.
APART_FROM_DAGSTER = ("lake", "notify", "simulator", "sources")
BORDERS = {
    "simulator": set(),
    "sources": {"errors", "exact_json", "worker"},
}

FAULTS = {"P": 22, "C": 8, "T": 6, "X": 5, "D": 7}
"""The faults of what this project replaces, by kind and how many there are: of people, courses, terms, transport, and
of the first Dagster code. `Fault P3` in the docstring of a test says that it shows the effect prevented."""

FAULT_CODES = [f"{kind}{number}" for kind, count in FAULTS.items() for number in range(1, count + 1)]

SQL = re.compile(
    r"""^\s*(
        with\s+\w+\s+as\s*(not\s+materialized\s*|materialized\s*)?\(
        | select\b.*\bfrom\b
        | insert\s+into\s | update\s+\S+\s+(as\s+\w+\s+)?set\s | delete\s+from\s | merge\s+into\s | truncate\s
        | (create|alter|drop)\s+(or\s+replace\s+)?((un)?logged\s+|temp(orary)?\s+)?
          (table|view|index|schema|function|trigger|type|role)\s
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is not a docstring; of an f-string, its fixed parts with `x` between."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            yield (
                node.lineno,
                "".join(
                    str(getattr(part, "value", "x")) if isinstance(part, ast.Constant) else "x" for part in node.values
                ),
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def run_python(code: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, in a folder from which it does not import."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    command = [sys.executable, "-P", "-c", start + code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def cited_faults(docstring: str) -> set[str]:
    """Codes in "Fault P3", "faults C1, C2 and D4" or "Faults P1 to P3"."""
    code = r"[PCTXD]\d+"
    cited: set[str] = set()
    for codes in re.findall(rf"\b[Ff]aults?\s+({code}(?:(?:,\s+|\s+and\s+|\s+to\s+){code})*)", docstring):
        cited.update(re.findall(code, codes))
        for first, last in re.findall(rf"({code})\s+to\s+({code})", codes):
            cited.update(f"{first[0]}{number}" for number in range(int(first[1:]), int(last[1:]) + 1))
    return cited


def faults_cited_by_tests() -> set[str]:
    return {
        code
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for code in cited_faults(ast.get_docstring(node) or "")
    }


@pytest.mark.parametrize(
    ("docstring", "codes"),
    [
        ("Fault P3: one null lost everybody.", {"P3"}),
        ("Rows vanished (faults C1, C2 and D4). Fault X1 besides.", {"C1", "C2", "D4", "X1"}),
        ("Invariant 3, faults\nP9 to P11, T1: a sentence.", {"P9", "P10", "P11", "T1"}),
        ("A killed process (D1).", set()),
    ],
)
def test_a_cited_fault_is_recognised(docstring: str, codes: set[str]) -> None:
    assert cited_faults(docstring) == codes


def test_every_fault_of_what_is_replaced_is_shown_to_be_prevented() -> None:
    """A fault that no test names comes back unnoticed."""
    cited = faults_cited_by_tests()
    assert [code for code in FAULT_CODES if code not in cited] == []
    assert sorted(cited - set(FAULT_CODES)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_belongs_in_it(path: Path) -> None:
    assert (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").strip()


def test_init_files_are_empty() -> None:
    """A name has one import path: nothing is exported a second time from a package."""
    assert [name_of(path) for path in INIT_FILES if path.read_text("utf-8").strip()] == []


@pytest.mark.parametrize(
    ("text", "is_sql"),
    [
        ("select a from b", True),
        ("\n  WITH x AS (select 1) select * from x", True),
        ("insert into x.y values ($1)", True),
        ("update x.y as t set a = 1", True),
        ("create temporary table x (a int)", True),
        ("select the term that is active", False),
        ("Selected rows come from landing.", False),
        ("update the settings", False),
        ("with care", False),
    ],
)
def test_sql_is_told_from_prose(text: str, is_sql: bool) -> None:
    assert bool(SQL.search(text)) is is_sql


def test_no_sql_hides_in_assets_or_lake() -> None:
    """SQL has one home, `sql/`, where sqlfluff, code versions and readers find it."""
    searched = [path for path in MODULES if path.parent.name in ("assets", "lake", "components")]
    assert searched
    assert [f"{name_of(path)}:{line}" for path in searched for line, text in texts(path) if SQL.search(text)] == []


@pytest.mark.parametrize("folder", BORDERS)
def test_a_package_imports_only_what_its_border_allows(folder: str) -> None:
    """The simulator must not share the mistakes of what it judges; a client must work without the lake."""
    allowed = tuple(f"datalake_assets.{name}" for name in {folder, *BORDERS[folder]})
    found = [
        f"{name_of(path)} imports {name}"
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for name in imported_names(path)
        if name.split(".")[0] == "datalake_assets"
        and not any(name == module or name.startswith(f"{module}.") for module in allowed)
        and name != "datalake_assets"
    ]
    assert found == []


def test_private_modules_of_dagster_are_not_imported() -> None:
    found = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported_names(path)
        if re.match(r"dagster(_\w+)?\._|dagster_shared\b", name)
    ]
    assert found == []


@pytest.mark.parametrize("folder", APART_FROM_DAGSTER)
def test_dagster_cannot_be_reached_from(folder: str, tmp_path: Path) -> None:
    """Directly or through anything imported: what is kept apart can be used, and tested, without Dagster."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.is_relative_to(PACKAGE / folder)
    ]
    assert names
    # With None in its place, importing dagster fails, and the traceback shows who did.
    code = "import importlib, sys; sys.modules['dagster'] = None\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in names
    )
    result = run_python(code, tmp_path, {})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("location", ["definitions", "pipelines"])
def test_definitions_load_with_an_empty_environment_and_no_network(tmp_path: Path, location: str) -> None:
    """Invariant 10. What needs a server or a variable to load cannot show what is wrong with either."""
    code = f"""
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        raise RuntimeError(f"{{event}} {{arguments[1:]}} while definitions load")

sys.addaudithook(refuse)
import dagster as dg
from datalake_assets.{location} import defs

loaded = defs() if callable(defs) else defs
dg.Definitions.validate_loadable(loaded)
print(len(list(loaded.resolve_all_asset_specs())))
"""
    result = run_python(code, tmp_path, {})
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 0
    assert list(tmp_path.iterdir()) == []


def test_no_variable_is_read_when_definitions_are_imported(tmp_path: Path) -> None:
    """Invariant 10. Read at import, a value would be frozen before a test or an operator can set it."""
    code = f"""
import os

read = []

class Watched(type(os.environ)):
    def __getitem__(self, name):
        frame = sys._getframe(1)
        while frame.f_code.co_filename in (os.__file__, Watched.get.__code__.co_filename):
            frame = frame.f_back
        if frame.f_code.co_filename.startswith({str(PACKAGE)!r}):
            read.append(f"{{frame.f_code.co_filename}}:{{frame.f_lineno}} reads {{name}}")
        return super().__getitem__(name)

os.environ.__class__ = Watched
import datalake_assets.definitions, datalake_assets.pipelines
print(*read, sep="\\n", end="")
"""
    result = run_python(code, tmp_path, {"LAKE_START_DATE": "2026-01-15"})
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_env_example_lists_exactly_the_variables_that_are_read() -> None:
    text = (ROOT / ".env.example").read_text("utf-8")
    listed = re.findall(r"^#? ?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    assert sorted(listed) == sorted(variable.name for variable in VARIABLES)


def test_ruff_files_of_folders_repeat_the_bans_of_the_root() -> None:
    """Ruff replaces the root's table with that of the folder, so a ban that is not repeated is lifted."""
    bans = set(banned(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]))
    files = sorted(PACKAGE.rglob("ruff.toml"))
    assert [path.parent.name for path in files] == sorted(APART_FROM_DAGSTER)
    for path in files:
        repeated = set(banned(tomllib.loads(path.read_text("utf-8"))))
        lifted = {name for name in bans if not any(name == ban or name.startswith(f"{ban}.") for ban in repeated)}
        assert lifted == set(), name_of(path)


def banned(ruff: dict[str, dict[str, dict[str, dict[str, object]]]]) -> Iterator[str]:
    yield from ruff["lint"]["flake8-tidy-imports"]["banned-api"]


def test_make_targets_named_in_text_exist() -> None:
    """A command in the README that does not run is the first thing a new user meets."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    named = {
        target
        for path in [
            ROOT / "README.md",
            *ROOT.glob("CONTRIBUTING.md"),
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob(".github/**/*.yml"),
        ]
        for target in re.findall(r"(?:`|^\s*(?:\$ |- run: )?)make ([a-z]+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert {"demo", "dev", "test"} <= named
    assert named - targets == set()
