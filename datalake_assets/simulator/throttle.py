"""Throttling: how many requests a system takes at a time, and how many on a day.

Whoever is turned away here was not asked: it counts as no attempt, so that concurrency cannot change which
faults are met. Throttling that is drawn is a fault (`status_429`).
"""

from collections import Counter
from datetime import date
from typing import Final

from datalake_assets.simulator.config import Config

THROTTLED: Final = ("personapi", "snaplogic")
"""Names of the systems that throttle."""


class Throttle:
    """The requests that each system works on, and those it took in on a day.

    Args:
        config: The knobs, of which the two limits matter.
    """

    def __init__(self, config: Config) -> None:
        self._at_a_time = config.concurrency_limit
        self._on_a_day = config.daily_quota
        self._working: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        """Forget what was taken in; what is worked on stays."""
        self._taken: Counter[tuple[str, date]] = Counter()

    def refuses(self, source: str, day: date) -> str:
        """Why a system takes no further request; empty if it does."""
        if source not in THROTTLED:
            return ""
        if self._taken[source, day] >= self._on_a_day:
            return "daily_quota"
        return "concurrency_limit" if self._working[source] >= self._at_a_time else ""

    def begin(self, source: str, day: date) -> None:
        """Note that a system works on a request."""
        self._working[source] += 1
        self._taken[source, day] += 1

    def end(self, source: str) -> None:
        """Note that it is done."""
        self._working[source] -= 1
