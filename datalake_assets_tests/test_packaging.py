"""The wheel works away from the checkout, and the lock is one that anybody can install.

The wheel is installed, without its dependencies, into a venv that borrows those of this test run: nothing is
downloaded, and nothing of the checkout can be imported. What the installed parts do is tested elsewhere.
"""

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# Kept at the top level of the checkout, and needed by the installed package.
TOP_LEVEL = ("dagster.yaml", "workspace.yaml", ".env.example")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel in it."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site_packages = Path(output(python, folder, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    # Paths in a .pth come last and are not searched for further .pth files, so that of the checkout is not followed.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed))
    return folder


def output(python: Path, folder: Path, code: str) -> str:
    return subprocess.run(
        [str(python), "-c", code], cwd=folder, env={}, check=True, capture_output=True, text=True
    ).stdout.strip()


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_sql_and_configuration_are_found_from_the_wheel(installed: Path) -> None:
    found = Path(
        output(
            installed / "bin" / "python",
            installed,
            "from datalake_assets.settings import project_files; print(project_files())",
        )
    )
    assert found.is_relative_to(installed)
    assert files_below(found / "sql") == files_below(ROOT / "sql")
    for name in TOP_LEVEL:
        assert (found / name).read_bytes() == (ROOT / name).read_bytes()


def test_statements_and_services_load_from_the_wheel(installed: Path) -> None:
    """Found is not yet loaded: the code that uses them must look in the right place."""
    services = output(
        installed / "bin" / "python",
        installed,
        "import datalake_assets\n"
        "from datalake_assets.entities import TERM\n"
        "from datalake_assets.lake.services import load_services\n"
        "from datalake_assets.statements import statement\n"
        "assert 'ops.receipt' in statement('ledger/receipt.sql')\n"
        "print(datalake_assets.__file__, *(service.name for service in load_services(TERM).services))",
    ).split()
    assert Path(services[0]).is_relative_to(installed)
    assert services[1:]


def test_the_installed_command_answers(installed: Path) -> None:
    result = subprocess.run(
        [str(installed / "bin" / "datalake"), "--help"],
        cwd=installed,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {re.sub(r"-.*\.dist-info", ".dist-info", top) for top in tops} == {
        "datalake_assets",
        "datalake_assets.dist-info",
    }
    strays = [
        name
        for name in names
        if re.search(
            r"ruff\.toml|__pycache__|_cache/|\.env$|_project/(?!sql/|dagster\.yaml|workspace\.yaml|\.env\.example)",
            name,
        )
    ]
    assert strays == []


def test_the_lock_holds_every_direct_dependency_at_a_version_that_is_allowed() -> None:
    """pip installs the lock without looking at pyproject.toml, so a forgotten `make lock` would show only at import."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = [
        Requirement(text) for text in (*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["dev"])
    ]
    locked = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", lock(), re.MULTILINE))
    missing = [
        str(requirement) for requirement in wanted if locked.get(requirement.name, "0") not in requirement.specifier
    ]
    assert missing == []


def test_every_import_of_the_package_is_a_declared_dependency() -> None:
    """What comes along with another package today may not come with its next version."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared = {Requirement(text).name for text in pyproject["project"]["dependencies"]}
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for path in (ROOT / "datalake_assets").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"datalake_assets"}
    distributions = packages_distributions()
    undeclared = {
        name for name in foreign if not declared.intersection(map(canonicalize_name, distributions.get(name, [])))
    }
    assert undeclared == set()


def test_the_lock_has_hashes_and_no_address() -> None:
    """An address would tie everybody to one index; a package without a hash could be any package."""
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ ", lock())
    entries = re.split(r"^(?=[a-z0-9])", lock(), flags=re.MULTILINE)[1:]
    assert len(entries) > 50
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def lock() -> str:
    return (ROOT / "requirements.lock").read_text("utf-8")
