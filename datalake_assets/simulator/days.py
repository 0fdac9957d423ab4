"""Days: parsing, windows of days, and the present day on campus.

Which day a simulator shows is the control's business (`control.py`), what happens on it the population's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from datalake_assets.simulator.errors import SimulatorError

_CAMPUS = ZoneInfo("America/New_York")


def campus_today() -> date:
    """The day it is now where the sources stand."""
    return datetime.now(_CAMPUS).date()


def parse_day(text: object, what: str = "A day") -> date:
    """Read a day in the form YYYY-MM-DD.

    Raises:
        SimulatorError: It has another form.
    """
    try:
        day = date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        day = None
    # Other ISO forms, such as 20261120, are read as well; but a day is compared as text, so it has one form.
    if day is not None and day.isoformat() == text:
        return day
    raise SimulatorError(f"{what} is {text!r}.", allowed=["a day such as 2026-11-20"])


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


@dataclass(frozen=True)
class Days:
    """A set of days, given as days and windows that may be open at one end.

    Attributes:
        windows: Pairs of first and last day, both included.
    """

    windows: tuple[tuple[date, date], ...] = ()

    def __contains__(self, day: date) -> bool:
        return any(first <= day <= last for first, last in self.windows)

    def __bool__(self) -> bool:
        return bool(self.windows)

    @classmethod
    def parse(cls, items: object) -> "Days":
        """Read a list of `2026-11-20`, `2026-11-20..2026-11-24`, `2026-11-20..` or `..2026-11-24`.

        Raises:
            SimulatorError: An item has another form.
        """
        if not isinstance(items, list | tuple):
            raise SimulatorError(f"days is {items!r}.", allowed=["a list of days and windows such as 2026-11-20.."])
        return cls(tuple(_window(item) for item in items))

    @classmethod
    def starting(cls, first: date) -> "Days":
        """Every day from `first` on."""
        return cls(((first, date.max),))

    @classmethod
    def on(cls, days: Iterable[date]) -> "Days":
        """Exactly these days."""
        return cls(tuple((day, day) for day in days))

    def texts(self) -> list[str]:
        """The windows in the form that `parse` reads."""
        return [_window_text(first, last) for first, last in self.windows]


def _window(item: object) -> tuple[date, date]:
    if not isinstance(item, str) or ".." not in item:
        day = parse_day(item)
        return day, day
    first, _, last = item.partition("..")
    window = (parse_day(first) if first else date.min, parse_day(last) if last else date.max)
    if window[0] > window[1] or not (first or last):
        raise SimulatorError(f"The window of days {item!r} holds no day or every day.", allowed=["FIRST..LAST"])
    return window


def _window_text(first: date, last: date) -> str:
    if first == last:
        return first.isoformat()
    start = "" if first == date.min else first.isoformat()
    end = "" if last == date.max else last.isoformat()
    return f"{start}..{end}"
