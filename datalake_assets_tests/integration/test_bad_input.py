"""What operators get wrong: each input with the sentence it is answered with, and no traceback."""

import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal

DAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
def lake(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with rehearsal(postgres_server, f"bad_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("bad"), DAY) as lake:
        yield lake


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (
            ["run", "term_nightly"],
            {},
            "There is no job 'term_nightly'. What to do: By day: course_daily, person_daily, term_daily. Declared ",
        ),
        (["run", "term_daily", "--date", "2019-01-01"], {}, "2019-01-01 is no partition of term_daily"),
        (["run", "term_daily", "--date", "tomorrow"], {}, "does not match the format"),
        (["run", "term_daily"], {"DATALAKE_TODAY": "soon"}, "DATALAKE_TODAY is 'soon'; it must be a date"),
        (["run", "term_daily"], {"POSTGRES_PASS": "not-the-password"}, "password"),
        (["run", "term_daily"], {"POSTGRES_HOST": "/nowhere"}, "/nowhere"),
        (["run", "term_daily"], {"POSTGRES_USER": ""}, "POSTGRES_USER is not set: role that loads the lake."),
        (["run", "term_daily"], {"POSTGRES_SSLMODE": "maybe"}, "must be one of disable, prefer, require, verify-full"),
        (["run", "term_daily"], {"DATALAKE_SCHEDULES": "on"}, "it must be one of running, stopped"),
        (["demo", "--preset", "chaos"], {}, "chaos"),
        (["demo", "--days", "0"], {}, "0 is not in the range"),
        (["frobnicate"], {}, "There is no command 'frobnicate'"),
        (["exec", "--demo", "true"], {}, "The demo lake is empty"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(
    lake: Rehearsal, arguments: list[str], variables: dict[str, str], sentence: str
):
    result = lake.command(*arguments, **variables)
    assert result.returncode != 0
    assert sentence in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    assert "not-the-password" not in result.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DE_CSTOOLS_KEY": ""}, "DE_CSTOOLS_KEY is not set: API key of CS Tools."),
        ({"DE_CSTOOLS_ENDPOINT": "", "DE_CSTOOLS_KEY": ""}, "Neither DE_CSTOOLS_ENDPOINT nor PEOPLE_SOFT_URL is set"),
        ({"DE_CSTOOLS_ENDPOINT": "ftp://example.org/x"}, "DE_CSTOOLS_ENDPOINT is not a usable address"),
        ({"DE_CSTOOLS_KEY": "wrong-key"}, "status 403"),
        ({"LAKE_MAX_FAILED_SHARE": "110%"}, "LAKE_MAX_FAILED_SHARE is '110%'; it must be a share from 0 to 1"),
        ({"LAKE_URL": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_a_run_that_lacks_something_is_red_and_says_what(lake: Rehearsal, variables: dict[str, str], sentence: str):
    """Definitions load without the variable; the run that needs it names it and what it is for.

    Whatever had gone wrong, the run was once green (faults P7, D1).
    """
    result = lake.load(DAY, **variables)
    assert result.returncode == 1
    assert sentence in result.stderr, result.stderr
    assert "wrong-key" not in result.stderr


def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing(lake: Rehearsal, tmp_path: Path, request):
    """No half snapshot, and the next run on a disk with space is green."""
    import os
    import subprocess

    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
    (disk / "filler").write_bytes(b"x" * 60_000)
    result = lake.load(DAY, LAKE_URL=str(disk / "lake"))
    assert result.returncode == 1
    assert "full" in result.stderr or "space" in result.stderr, result.stderr
    (disk / "filler").unlink()
    assert lake.load(DAY, LAKE_URL=str(disk / "lake")).returncode == 0
