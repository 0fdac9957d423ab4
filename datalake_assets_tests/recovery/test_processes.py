import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datalake_assets.recovery import processes
from datalake_assets.recovery.processes import SLACK_S, is_alive


@pytest.fixture(params=["proc", "ps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to ask the system, where it has both."""
    if request.param == "proc" and not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    if request.param == "ps" and not Path("/bin/ps").exists():
        pytest.skip("this system has no ps")
    if request.param == "ps":
        monkeypatch.setattr(processes, "_from_proc", processes._from_ps)
    return str(request.param)


def test_a_living_process_is_alive(way: str) -> None:
    assert is_alive(os.getpid(), time.time())


def test_a_process_that_was_killed_is_dead_even_before_anybody_asked_how_it_ended(way: str) -> None:
    """A killed child that its parent has not waited for still has a number."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(child.pid, time.time())
    child.kill()
    deadline = time.monotonic() + 10
    while is_alive(child.pid, time.time()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child.pid, time.time())
    child.communicate()
    assert not is_alive(child.pid, time.time())


def test_a_number_that_was_given_out_again_is_another_process(way: str) -> None:
    """After a reboot the run's number belongs to whoever came first; the run would seem alive for ever."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert is_alive(child.pid, time.time())
        assert not is_alive(child.pid, time.time() - SLACK_S - 60)
    finally:
        child.communicate()
