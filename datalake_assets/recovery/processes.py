"""Whether a process of this machine still lives, told from one that merely has its number now.

Nothing is ended here.
"""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Final

SLACK_S: Final = 60.0
"""How far clocks may have moved between the start of a process and what it said of itself."""

_ELAPSED: Final = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")


def is_alive(pid: int, known_at: float) -> bool:
    """Whether the process that had a number at some moment lives; where that cannot be told, it does.

    Args:
        pid: Its number.
        known_at: A moment at which it lived, in seconds since 1970. A process that began later is another one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    state, started_at = _from_proc(pid) if Path("/proc/self/stat").exists() else _from_ps(pid)
    if state.startswith("Z"):
        return False  # it has ended, and only waits to be asked how
    return started_at is None or started_at <= known_at + SLACK_S


def _from_proc(pid: int) -> tuple[str, float | None]:
    try:
        # The name, in parentheses, may hold blanks.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        booted = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text("utf-8"), re.MULTILINE)
    except OSError:
        return "", None
    if len(fields) < 20 or booted is None:
        return "", None
    return fields[0], int(booted[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _from_ps(pid: int) -> tuple[str, float | None]:
    listed = subprocess.run(  # noqa: S603 - the system's own ps
        ["/bin/ps", "-o", "stat=,etime=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    words = listed.stdout.split()
    elapsed = _ELAPSED.fullmatch(words[1]) if len(words) == 2 else None
    if elapsed is None:
        return words[0] if words else "", None
    days, hours, minutes, seconds = (int(part or 0) for part in elapsed.groups())
    return words[0], time.time() - (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
