"""Figures of the benchmarks: how they are taken and what they are held against.

Times on one machine are no times on another, so a figure is one thing beside another, both measured in the same run
and in turns, so that a machine whose speed drifts does not decide. What is measured is in a module per subject beside
this one.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

_PAUSE_S: Final = 0.02
_STATUS: Final = Path("/proc/self/status")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What the caller wants measured.

    Attributes:
        documents: How many documents a load has.
        rounds: How often each side of a comparison is measured.
        say: Where progress goes.
    """

    documents: int
    rounds: int
    say: Say


class Kind(Enum):
    """What a figure is, and so what its limit holds for."""

    RATIO = "x"
    """Median of the one over the median of the other."""

    DIFFERENCE = "s over"
    """Median of the one less the median of the other."""

    VALUE = ""
    """The median of the one; what it is beside is told, not judged."""


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        case: What was measured.
        beside: What it was measured beside; empty if it stands alone.
        ours: A value of each round.
        other: The same of what it stands beside.
        kind: How the two become one number.
        limit: The most that number may be; None: it is only told.
        unit: Of the values: s, ms or MiB.
        note: What a reader should know, e.g. documents a second.
    """

    case: str
    beside: str
    ours: tuple[float, ...]
    other: tuple[float, ...] = ()
    kind: Kind = Kind.RATIO
    limit: float | None = None
    unit: str = "s"
    note: str = ""

    @property
    def number(self) -> float:
        """What the limit holds for."""
        ours = statistics.median(self.ours)
        if self.kind is Kind.VALUE:
            return ours
        other = statistics.median(self.other)
        return ours / other if self.kind is Kind.RATIO else ours - other

    @property
    def is_met(self) -> bool:
        """Whether the number is within its limit."""
        return self.limit is None or self.number <= self.limit

    def as_json(self) -> dict[str, Any]:
        """The figure with every value behind it."""
        return {
            "case": self.case,
            "beside": self.beside,
            "number": self.number,
            "kind": self.kind.name.lower(),
            "limit": self.limit,
            "met": self.is_met,
            "unit": self.unit,
            "ours": self.ours,
            "other": self.other,
            "note": self.note,
        }


def timed(work: Callable[[], object]) -> float:
    """Seconds by the clock on the wall that a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(rounds: int, *works: Callable[[int], float]) -> list[tuple[float, ...]]:
    """The values of several measurements, taken in turns.

    Args:
        rounds: How often each is taken.
        works: Measurements, each given the number of the round, from 0.
    """
    taken = [[work(index) for work in works] for index in range(rounds)]
    return [tuple(column) for column in zip(*taken, strict=True)]


def missed(figures: Iterable[Figure]) -> list[Figure]:
    """Those that are beyond their limits."""
    return [figure for figure in figures if not figure.is_met]


def can_watch_memory(say: Say) -> bool:
    """Whether the system tells the memory of processes; says so if it does not."""
    if not _STATUS.exists():
        say(f"{_STATUS} is not there: memory cannot be measured on this system.")
    return _STATUS.exists()


def watched_peak_mib(process: "subprocess.Popen[Any]") -> float:
    """Most memory that a process has had when it ended, and those that it started: the sum of their peaks."""
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in _family(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))
        time.sleep(_PAUSE_S)
    return sum(peaks.values()) / 1024


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # it has just ended
            continue
        for child in found:
            yield from _family(int(child))


def _peak_kib(pid: int) -> int:
    """What the kernel notes of a process: unlike `ru_maxrss`, without what its parent had before it started it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
