"""The one exception of the simulator: what it refuses, and what would be accepted instead.

It is the simulator's own, because the simulator imports nothing of the rest of the package. What it answers
to clients that ask wrongly is no exception: that belongs to the endpoints.
"""

from collections.abc import Iterable


class SimulatorError(Exception):
    """The simulator was configured or asked in a way it does not know.

    Args:
        what: What is wrong, as a full sentence.
        allowed: What would be accepted in its place.
    """

    def __init__(self, what: str, *, allowed: Iterable[object] = ()) -> None:
        self.what = what
        self.allowed = [str(item) for item in allowed]
        hint = f" Allowed: {', '.join(self.allowed)}." if self.allowed else ""
        super().__init__(what + hint)
