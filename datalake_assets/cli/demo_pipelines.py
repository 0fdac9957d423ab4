"""The declared pipelines in `datalake demo`: each job is run once, and every total compared with the standard.

Jobs are run as `datalake run` does; what tables must hold is in `pipeline_judgement.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.table import Table

from datalake_assets.cli.pipeline_jobs import Asked, run_pipeline
from datalake_assets.cli.pipeline_judgement import (
    VIEWS,
    WHOLE,
    ByPartition,
    Sources,
    dataset_found,
    dataset_must,
    dataset_spec,
    differences,
    lookup_found,
    lookup_must,
    revenue_found,
    rides_found,
    taxi_must,
    view_found,
    view_must,
    view_spec,
)
from datalake_assets.cli.stack import Stack
from datalake_assets.storage.postgres import session

DATASETS: Final = ("omis_dataset", "investment_projects_dataset", "contacts")
MONTHS: Final = tuple(f"{2019 + month // 12}-{month % 12 + 1:02d}-01" for month in range(6, 18))
"""July 2019 to June 2020."""

TAXI: Final = ("green|2021-01-01", "green|2021-02-01")
LOOKUPS: Final = ("zones", "payment_types")


@dataclass(frozen=True)
class PipelineReport:
    """What became of one pipeline.

    Attributes:
        job: The job.
        run_ids: The runs in Dagster.
        succeeded: Whether all of them were green.
        error: Why not.
        seconds: How long they took.
        totals: What the table holds afterwards, by partition.
        differences: What is not as it must be.
        obtainable: Whether its source had all that was asked for.
    """

    job: str
    run_ids: list[str]
    succeeded: bool
    error: str
    seconds: float
    totals: ByPartition
    differences: list[str]
    obtainable: bool

    @property
    def rows(self) -> int:
        """Rows of all partitions."""
        return sum(int(each["rows"]) for each in self.totals.values())

    def verdict(self, *, faithful: bool) -> str | None:
        """What is wrong, or None.

        Args:
            faithful: Whether whatever can be had must be loaded.
        """
        if self.differences:
            return "the table differs from what it must hold: " + "; ".join(self.differences)
        if self.succeeded and not self.obtainable:
            return "the run is green although its source had nothing to load"
        if not self.succeeded and self.obtainable and faithful:
            return "a run failed although its source had everything"
        return None

    def as_json(self) -> dict[str, Any]:
        """Everything a program may want."""
        return {
            "job": self.job,
            "run_ids": self.run_ids,
            "succeeded": self.succeeded,
            "error": self.error,
            "rows": self.rows,
            "seconds": self.seconds,
            "totals": {
                key: {name: str(value) if isinstance(value, Decimal) else value for name, value in each.items()}
                for key, each in self.totals.items()
            },
            "differences": self.differences,
            "obtainable": self.obtainable,
        }


@dataclass(frozen=True)
class _Pipeline:
    """A job, its partitions, and both sides of the comparison."""

    job: str
    keys: tuple[str, ...]
    must: Callable[[asyncpg.Connection], Awaitable[ByPartition]]
    found: Callable[[asyncpg.Connection], Awaitable[ByPartition]]

    @property
    def asked(self) -> Asked:
        return Asked() if self.keys == (WHOLE,) else Asked(first=self.keys[0], last=self.keys[-1])


def load_pipelines(stack: Stack, console: Console, *, trusted: bool) -> list[PipelineReport]:
    """Run every declared pipeline on the demo lake, and judge and show what became of it.

    Args:
        stack: A running demo.
        console: Where to tell.
        trusted: Whether the simulator sends what there is; else what was landed is the standard.
    """
    if stack.simulator is None:
        raise ValueError("a demo needs the simulator")
    console.print("\n[bold]Declared pipelines[/bold]")
    sources = Sources(stack.simulator, stack, trusted=trusted)
    reports = [_load(stack, pipeline) for pipeline in _pipelines(sources, stack.settings.duckdb_file)]
    _print(console, reports, trusted=trusted)
    return reports


def _load(stack: Stack, pipeline: _Pipeline) -> PipelineReport:
    started = time.monotonic()
    outcome = run_pipeline(pipeline.job, pipeline.asked, quiet=True)
    seconds = time.monotonic() - started
    green = [run.partition for run in outcome.runs if run.succeeded]
    loaded = pipeline.keys if outcome.succeeded else [key for key in pipeline.keys if key in green]

    async def judged() -> tuple[ByPartition, ByPartition]:
        async with session(stack.address, application_name="datalake demo") as connection:
            return await pipeline.must(connection), await pipeline.found(connection)

    must, found = asyncio.run(judged())
    return PipelineReport(
        job=pipeline.job,
        run_ids=outcome.run_ids,
        succeeded=outcome.succeeded,
        error=" ".join(outcome.errors),
        seconds=round(seconds, 3),
        totals=found,
        differences=differences(must, found, loaded),
        obtainable=set(pipeline.keys) <= must.keys(),
    )


def _pipelines(sources: Sources, copy: Path) -> Iterator[_Pipeline]:
    yield from (_dataset(name, sources) for name in DATASETS)
    yield from (_view(name, sources) for name in VIEWS)
    yield from (_lookup(name) for name in LOOKUPS)
    yield _trips("rides", lambda connection: rides_found(connection, copy), sources)
    yield _trips("monthly_revenue", revenue_found, sources)


def _dataset(name: str, sources: Sources) -> _Pipeline:
    spec = dataset_spec(name)

    async def must(_: asyncpg.Connection) -> ByPartition:
        return dataset_must(spec, sources.documents(name))

    return _Pipeline(f"dit__{name}_load", (WHOLE,), must, lambda connection: dataset_found(connection, spec))


def _view(name: str, sources: Sources) -> _Pipeline:
    spec, truth = view_spec(name), VIEWS[name]

    async def must(_: asyncpg.Connection) -> ByPartition:
        return view_must(truth, sources.documents(truth.dataset), MONTHS)

    return _Pipeline(f"dit__{name}_views", MONTHS, must, lambda connection: view_found(connection, spec, truth))


def _lookup(name: str) -> _Pipeline:
    async def must(_: asyncpg.Connection) -> ByPartition:
        return lookup_must(name)

    return _Pipeline(f"trips__{name}_load", (WHOLE,), must, lambda connection: lookup_found(connection, name))


def _trips(table: str, found: Callable[[asyncpg.Connection], Awaitable[ByPartition]], sources: Sources) -> _Pipeline:
    return _Pipeline(f"trips__{table}_load", TAXI, lambda connection: taxi_must(connection, sources, TAXI), found)


# ---------------------------------------------------------------------------------------------------- telling


def _print(console: Console, reports: list[PipelineReport], *, trusted: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("pipeline", no_wrap=True)
    for name in ("rows", "runs", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for report in reports:
        numbers = (f"{report.rows:,}", f"{len(report.run_ids)}", f"{report.seconds:,.2f}")
        table.add_row(report.job, *numbers, _told(report, trusted=trusted))
    console.print(table)
    for report in reports:
        if report.error:
            console.print(f"  {report.job}: {report.error}", markup=False, soft_wrap=True)


def _told(report: PipelineReport, *, trusted: bool) -> str:
    if report.differences:
        return "[red]differs from the truth[/red]" if trusted else "[red]differs from what was landed[/red]"
    if not report.succeeded:
        return "[yellow]not loaded[/yellow]"
    return "[green]equals the truth[/green]" if trusted else "[green]equals what was landed[/green]"
