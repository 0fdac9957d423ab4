"""What ratios usually are at a small size, and when one has become worse: beyond what it differs by from run to run.

The file `usual.json` is written by `--record`, on a machine with nothing else to do, and read by `--regressions`, for
a CI. Only ratios are in it: times of one machine are none of another. Limits that a figure should meet at full size
are with its case; here it is held against itself.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from datalake_assets_tests.benchmarks.measure import Figure, Kind

FILE: Final = Path(__file__).with_name("usual.json")

CASES: Final = ("first_load", "reloads", "backfill")
DOCUMENTS: Final = 2_000
ROUNDS: Final = 3
RECORDED: Final = 3
"""Runs of all cases from which the usual ratios, and what they differ by, are taken."""

_LEAST_NOISE: Final = 0.3
"""Machines that others share are no quieter."""


@dataclass(frozen=True)
class Usual:
    """A ratio as it usually is.

    Attributes:
        ratio: The median of some runs.
        noise: Share of it by which a run may be worse.
    """

    ratio: float
    noise: float

    @property
    def most(self) -> float:
        """The ratio from which on it is worse than usual."""
        return self.ratio * (1 + self.noise)


_BY_HAND: Final = ("dlt", "DeepDiff")
"""What is installed by hand, and not where a CI measures."""


def name_of(figure: Figure) -> str:
    """How a figure is called in the file."""
    return f"{figure.case}, beside {figure.beside}"


def taken(runs: Sequence[Iterable[Figure]]) -> dict[str, Usual]:
    """The usual ratios of some runs; ratios that not every run has are left out."""
    ratios: dict[str, list[float]] = {}
    for figures in runs:
        for figure in figures:
            if figure.kind is Kind.RATIO and figure.limit is not None and not figure.beside.startswith(_BY_HAND):
                ratios.setdefault(name_of(figure), []).append(figure.number)
    return {
        name: Usual(median := statistics.median(found), max(_LEAST_NOISE, 2 * (max(found) - min(found)) / median))
        for name, found in ratios.items()
        if len(found) == len(runs)
    }


def worse(figures: Iterable[Figure], usual: Mapping[str, Usual]) -> list[str]:
    """What has become worse than usual, a sentence each, and what is no longer measured at all."""
    found = {name_of(figure): figure.number for figure in figures}
    missing = [f"{name} was not measured." for name in usual if name not in found]
    return missing + [
        f"{name}: {found[name]:.2f} x; usual is {each.ratio:.2f}, and up to {each.most:.2f} is noise."
        for name, each in usual.items()
        if name in found and found[name] > each.most
    ]


def write(usual: Mapping[str, Usual], file: Path = FILE) -> None:
    """Keep usual ratios."""
    content = {name: {"ratio": round(each.ratio, 3), "noise": round(each.noise, 2)} for name, each in usual.items()}
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read(file: Path = FILE) -> dict[str, Usual]:
    """The usual ratios that were kept."""
    return {name: Usual(**each) for name, each in orjson.loads(file.read_bytes()).items()}
