"""Work in a second process: it is done there, its failures come back without words, and it outlives nobody."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalake_assets.worker import Worker, WorkerError

pytestmark = pytest.mark.anyio

PARENT = """
import asyncio, os, sys, time
from datalake_assets.worker import Worker
with Worker() as worker:
    print(asyncio.run(worker.run(os.getpid)), flush=True)
    asyncio.run(worker.run(time.sleep, {seconds}))
    time.sleep(60)
"""


def nap(seconds: float, answer: str) -> str:
    time.sleep(seconds)
    return answer


def fail(words: str) -> None:
    raise KeyError(words)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as started:
        yield started


async def test_work_is_done_in_one_other_process(worker: Worker) -> None:
    pids = [await worker.run(os.getpid) for _ in range(2)]
    assert len(set(pids)) == 1
    assert os.getpid() not in pids
    assert await worker.run(bytes.join, b",", [b"x" * 3_000_000, b"y"]) == b"x" * 3_000_000 + b",y"


async def test_the_loop_goes_on_meanwhile(worker: Worker) -> None:
    await worker.run(os.getpid)
    started = time.monotonic()
    working = asyncio.create_task(worker.run(nap, 0.3, "done"))
    await asyncio.sleep(0.01)
    assert time.monotonic() - started < 0.2
    assert await working == "done"


async def test_a_failure_tells_its_kind_and_place_and_none_of_its_words(worker: Worker) -> None:
    """A document may be quoted in them."""
    with pytest.raises(WorkerError, match=r"failed: KeyError at .*test_worker\.py:\d+") as caught:
        await worker.run(fail, "canary-word")
    assert "canary-word" not in str(caught.value)
    assert await worker.run(nap, 0, "and goes on") == "and goes on"


async def test_whoever_gives_up_waiting_leaves_no_answer_to_the_next_one(worker: Worker) -> None:
    """A deadline may end the reading of an answer; the next batch must not be given that one's documents."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await worker.run(nap, 0.2, "too late")
    assert await worker.run(nap, 0, "mine") == "mine"


async def test_a_process_that_is_killed_ends_the_work_with_an_error(worker: Worker) -> None:
    pid = await worker.run(os.getpid)
    working = asyncio.create_task(worker.run(nap, 60, "never"))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended before its work was done"):
        await asyncio.wait_for(working, 5)
    with pytest.raises(WorkerError, match="ended before its work was done"):
        await worker.run(nap, 0, "never")


async def test_leaving_does_not_wait_for_work_that_nobody_wants_any_more() -> None:
    started = time.monotonic()
    with Worker() as worker:
        working = asyncio.create_task(worker.run(nap, 60, "never"))
        await asyncio.sleep(0.05)
        working.cancel()
    assert time.monotonic() - started < 5


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("seconds", [0, 1], ids=["idle", "at work"])
def test_it_does_not_outlive_a_parent_that_is_killed(seconds: int) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(seconds=seconds)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline, "the second process is still there"
        time.sleep(0.01)
