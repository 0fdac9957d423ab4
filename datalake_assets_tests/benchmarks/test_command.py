"""`make bench` starts; what it measures is not a matter of tests."""

import subprocess
import sys


def test_the_command_lists_its_cases() -> None:
    command = [sys.executable, "-m", "datalake_assets_tests.benchmarks", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "first_load" in result.stdout
