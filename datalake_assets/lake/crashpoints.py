"""Named steps at which a process can be made to die, so that recovery is tested at exactly these.

Nothing happens unless a test armed a step. What a step means is told by the code that calls `reach`.
"""

import os
import signal
from typing import Final, Literal

Step = Literal["mid_request", "after_spool", "after_landing", "mid_copy", "before_commit", "after_commit"]

_armed: Final[set[str]] = set()


def arm(step: str) -> None:
    """Let the process kill itself (SIGKILL) when it reaches a step."""
    _armed.add(step)


def reach(step: Step) -> None:
    """Die here if the step is armed."""
    if step in _armed:
        os.kill(os.getpid(), signal.SIGKILL)
