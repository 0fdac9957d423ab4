"""Memory does not grow with the number of documents."""

import asyncio
import dataclasses
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from datalake_assets.lake.documents import Answer
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.lake.lakes import SmallLake, answer, small_lake, term

DAY, NEXT_DAY = date(2026, 1, 1), date(2026, 1, 2)
CHILD = "import datalake_assets_tests.lake.test_memory as test; test.child()"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def documents(count: int, descr: str) -> Iterator[Answer]:
    """As many terms as are asked for, one after the other; a few thousand fill a row group of landing."""
    for number in range(count):
        digits = [ALPHABET[number // 36**place % 36] for place in range(8)]
        yield answer(term("".join(digits[:4]), descr, career="".join(digits[4:]), FILLER=f"{number:04000}"))


def child() -> None:
    """Land and load twice, so that rows are inserted, changed and left alone; print the peak in KiB."""
    told = json.loads(sys.stdin.read())
    address = PostgresAddress(**{**told["address"], "password": SecretStr(told["password"])})
    count: int = told["count"]

    async def load() -> None:
        async with small_lake(address, Path(told["folder"])) as lake:
            await SmallLake.empty(lake)
            for day, descr, changed in ((DAY, "Fall", count), (NEXT_DAY, "Fall", 0)):
                lake.land(day, documents(count, descr))
                receipt = await lake.load_raw(day)
                assert (receipt.rows_new, receipt.rows_unchanged) == (changed, count - changed)

    asyncio.run(load())
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def peak_mib(address: PostgresAddress, folder: Path, count: int) -> float:
    told = {
        "address": {**dataclasses.asdict(address), "password": ""},
        "password": address.password.get_secret_value(),
        "folder": str(folder / str(count)),
        "count": count,
    }
    result = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(told), capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout) / 1024


@pytest.mark.parametrize(("few", "many"), [(3_000, 30_000), pytest.param(20_000, 200_000, marks=pytest.mark.campaign)])
def test_ten_times_the_documents_take_no_more_memory(
    lake_address: PostgresAddress, tmp_path: Path, few: int, many: int
) -> None:
    """Invariant 8: from an answer to the history, landing and loading work in batches."""
    small, large = peak_mib(lake_address, tmp_path, few), peak_mib(lake_address, tmp_path, many)
    assert large < 1.25 * small, f"{few} documents took {small:.0f} MiB, {many} took {large:.0f} MiB"
