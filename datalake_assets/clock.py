"""The one clock: what "today" and "now" are, for everything that may ask.

A landing partition can be fetched only on its own day, so the day is an input like any other: rehearsals, the
demo and tests set it. Transformations never ask; their dates come from the partition.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

CAMPUS_ZONE = ZoneInfo("America/New_York")
"""The university's time zone: it decides which load date it is, and when schedules tick."""


@dataclass(frozen=True)
class Clock:
    """The present, or a rehearsed day.

    Args:
        rehearsed: The day to take for today; None follows the system clock.
    """

    rehearsed: date | None = None

    def today(self) -> date:
        """The current load date in `CAMPUS_ZONE`."""
        return self.rehearsed or datetime.now(CAMPUS_ZONE).date()

    def now(self) -> datetime:
        """The present moment in UTC, for columns that record when something was done."""
        return datetime.now(UTC)
