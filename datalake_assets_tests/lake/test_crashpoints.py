"""The steps at which tests of recovery kill a process."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("armed", "reached", "code"),
    [("after_spool", "after_spool", -signal.SIGKILL), ("after_spool", "before_commit", 0), (None, "after_spool", 0)],
)
def test_a_process_dies_at_the_step_that_is_armed_and_at_no_other(armed: str | None, reached: str, code: int) -> None:
    """An unarmed step must never end a load, and an armed one must end it without any clean-up."""
    program = "from datalake_assets.lake.crashpoints import arm, reach\n"
    program += f"arm({armed!r})\n" if armed else ""
    program += f"try:\n    reach({reached!r})\nfinally:\n    print('went on')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert ("went on" in result.stdout) is (code == 0)
