"""A first load as a picture: which process was busy when, layer by layer.

The share of a core that the server, this process and the second process take is read from the kernel's accounts some
times a second. What a load costs is measured in `loads.py`.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datalake_assets.entities import PERSON
from datalake_assets_tests.benchmarks.documents import Documents, day
from datalake_assets_tests.benchmarks.measure import Plan
from datalake_assets_tests.benchmarks.sites import site
from datalake_assets_tests.lake.lakes import SmallLake

EVERY_S: Final = 0.1
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")

LANES: Final = ("server", "this process", "second process")
_COLOURS: Final = ("#336791", "#d9822b", "#4f9d69")
_WIDTH, _LANE, _LEFT, _TOP = 900, 70, 120, 30


@dataclass
class Timeline:
    """What was seen of a load.

    Attributes:
        layers: Names of the layers, and when each began, in seconds.
        moments: When it was looked, in seconds.
        busy: For each moment and lane, the share of a core since the moment before.
    """

    layers: list[tuple[str, float]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    busy: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.moments[-1]


def draw(plan: Plan, file: Path) -> Timeline:
    """Load documents for the first time, and draw what was busy meanwhile.

    Args:
        plan: How many documents.
        file: The picture, SVG.
    """
    timeline = Timeline()

    async def load(persons: SmallLake) -> None:
        backend = persons.connection.get_server_pid()
        with _watched(timeline, backend):
            for name in ("raw", "xform", "curated"):
                timeline.layers.append((name, time.perf_counter()))
                await getattr(persons, f"load_{name}")(day(0))

    with site(plan.documents) as place, place.lake() as lake:
        place.land(0, Documents(plan.documents).answers(0))
        place.seconds(lake, load)
    start = timeline.layers[0][1]
    timeline.layers = [(name, at - start) for name, at in timeline.layers]
    timeline.moments = [at - start for at in timeline.moments]
    file.write_text(_svg(timeline, plan.documents), "utf-8")
    return timeline


@contextmanager
def _watched(timeline: Timeline, backend: int) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        before, since = _spent(backend), time.perf_counter()
        while not ended.wait(EVERY_S):
            now, at = _spent(backend), time.perf_counter()
            timeline.moments.append(at)
            timeline.busy.append(tuple((new - old) / (at - since) for new, old in zip(now, before, strict=True)))
            before, since = now, at

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _spent(backend: int) -> tuple[float, float, float]:
    """Seconds of CPU that the server's process, this process and its child have had."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    workers = [int(child) for child in children if b"datalake_assets.worker" in _command(int(child))]
    return _cpu_s(backend), _cpu_s(os.getpid()), sum(map(_cpu_s, workers))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def _svg(timeline: Timeline, documents: int) -> str:
    scale = (_WIDTH - _LEFT - 20) / timeline.seconds
    height = _TOP + len(LANES) * _LANE + 64
    title = f"First load of {documents:,} persons: share of a core, {timeline.seconds:.1f} s"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="18">{title}</text>',
    ]
    for lane, (name, colour) in enumerate(zip(LANES, _COLOURS, strict=True)):
        bottom = _TOP + (lane + 1) * _LANE
        parts.append(f'<text x="{_LEFT - 10}" y="{bottom - _LANE / 2 + 5}" text-anchor="end">{name}</text>')
        points = [f"{_LEFT},{bottom}"]
        for at, busy in zip(timeline.moments, timeline.busy, strict=True):
            points.append(f"{_LEFT + at * scale:.1f},{bottom - min(1.0, max(0.0, busy[lane])) * (_LANE - 10):.1f}")
        points.append(f"{_LEFT + timeline.seconds * scale:.1f},{bottom}")
        parts.append(f'<polygon points="{" ".join(points)}" fill="{colour}"/>')
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{bottom}" y2="{bottom}" stroke="#999"/>')
    bottom = _TOP + len(LANES) * _LANE
    for row, (name, at) in enumerate(timeline.layers):
        x = _LEFT + at * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom + 8 + 14 * (row % 2)}" stroke="#333"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{bottom + 18 + 14 * (row % 2)}">{PERSON.name} {name}</text>')
    for second in range(0, int(timeline.seconds) + 1, max(1, int(timeline.seconds) // 10)):
        parts.append(f'<text x="{_LEFT + second * scale:.1f}" y="{bottom + 52}" fill="#666">{second} s</text>')
    return "\n".join([*parts, "</svg>", ""])
