"""`make bench`: what the project costs, each figure beside another measured in the same run.

Without names every case is measured. Figures of one machine are no figures of another; ratios and differences are
what to look at. Ends with 1 if a figure is beyond its limit.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from datalake_assets_tests.benchmarks import usual
from datalake_assets_tests.benchmarks.datasets import api_dataset
from datalake_assets_tests.benchmarks.declared import taxi_memory, taxi_month
from datalake_assets_tests.benchmarks.extraction import extraction, extraction_memory
from datalake_assets_tests.benchmarks.history import history
from datalake_assets_tests.benchmarks.loads import backfill, first_load, reloads
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, Say, missed
from datalake_assets_tests.benchmarks.orchestration import orchestration
from datalake_assets_tests.benchmarks.picture import draw
from datalake_assets_tests.benchmarks.size import size

CASES: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "first_load": first_load,
    "reloads": reloads,
    "backfill": backfill,
    "size": size,
    "extraction": extraction,
    "extraction_memory": extraction_memory,
    "orchestration": orchestration,
    "history": history,
    "taxi_month": taxi_month,
    "taxi_memory": taxi_memory,
    "api_dataset": api_dataset,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which to measure: {', '.join(CASES)} (default all)")
    parser.add_argument("--documents", type=int, default=20_000, help="documents of a load (default 20,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (default 5)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    small = parser.add_mutually_exclusive_group()
    small.add_argument(
        "--regressions", action="store_true", help="measure at a small size; end with 1 if a ratio is worse than usual"
    )
    small.add_argument("--record", action="store_true", help="measure at a small size, and keep that as usual")
    small.add_argument("--picture", type=Path, metavar="SVG", help="draw what is busy during a first load, no more")
    arguments = parser.parse_args()
    if (arguments.regressions or arguments.record) and arguments.cases:
        parser.error("what is usual is known of certain cases; name none")
    if unknown := [name for name in arguments.cases if name not in CASES]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    console = Console(highlight=False)
    if arguments.regressions or arguments.record:
        sys.exit(_small(console, record=arguments.record))
    machine = f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, Python {sys.version.split()[0]}"
    console.print(machine)
    plan = Plan(arguments.documents, arguments.rounds, _teller(console))
    if arguments.picture is not None:
        timeline = draw(plan, arguments.picture)
        console.print(f"{arguments.picture}: {plan.documents:,} documents in {timeline.seconds:.1f} s.")
        return
    figures = _measured(plan, arguments.cases or CASES)
    console.print(_table(figures))
    if arguments.json is not None:
        content = {"machine": machine, "documents": plan.documents, "figures": [each.as_json() for each in figures]}
        arguments.json.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    for figure in (beyond := missed(figures)):
        console.print(f"Beyond its limit: {figure.case}, {_number(figure)}; at most {figure.limit:g} is wanted.")
    sys.exit(1 if beyond else 0)


def _measured(plan: Plan, cases: Iterable[str]) -> list[Figure]:
    figures: list[Figure] = []
    for name in cases:
        plan.say(f"{name} …")
        figures.extend(CASES[name](plan))
    return figures


def _small(console: Console, *, record: bool) -> int:
    """Hold small cases against what is usual, or keep what they are as that; returns the exit code."""
    plan = Plan(usual.DOCUMENTS, usual.ROUNDS, _teller(console))
    runs = [_measured(plan, usual.CASES) for _ in range(usual.RECORDED if record else 1)]
    console.print(_table(runs[-1]))
    if record:
        usual.write(usual.taken(runs))
        return 0
    for sentence in (found := usual.worse(runs[0], usual.read())):
        console.print(f"Worse than usual: {sentence}")
    return 1 if found else 0


def _teller(console: Console) -> Say:
    return lambda text: console.print(f"[dim]{text}[/dim]")


def _table(figures: list[Figure]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("case", "beside", "ours", "other", "figure", "limit", "note"):
        table.add_column(name, justify="right" if name in {"ours", "other", "figure", "limit"} else "left")
    for figure in figures:
        table.add_row(
            figure.case,
            figure.beside,
            _spread(figure.ours, figure.unit),
            _spread(figure.other, figure.unit),
            _number(figure),
            "" if figure.limit is None else f"{figure.limit:g}",
            figure.note if figure.is_met else f"BEYOND {figure.note}".rstrip(),
        )
    return table


def _spread(values: tuple[float, ...], unit: str) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g}-{max(values):.3g})"


def _number(figure: Figure) -> str:
    suffix = {Kind.RATIO: " x", Kind.DIFFERENCE: f" {figure.unit} more", Kind.VALUE: f" {figure.unit}"}[figure.kind]
    return f"{figure.number:.2f}{suffix}"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()
