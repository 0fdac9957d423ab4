"""`datalake demo`: simulated days through the whole lake, each compared with what the simulator says is true.

Starts everything, loads every day as a Dagster job, shows what happened, and judges it. The loading itself is
that of production; nothing here stands in for it. The declared pipelines, which end the demo, are in
`demo_pipelines.py`.
"""

import asyncio
import sys
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table

from datalake_assets.cli.judgement import Expectation, differences, read_contents
from datalake_assets.cli.stack import DEMO_FOLDER, DemoWorld, Stack, demo_stack
from datalake_assets.entities import COURSE, PERSON, TERM, Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.slices import slice_of
from datalake_assets.lake.terms import NoActiveTermsError
from datalake_assets.settings import Settings, export, load_settings
from datalake_assets.statements import statement
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import session

FAITHFUL_PRESETS: Final = ("clean", "realistic")
"""Presets under which every day that can be obtained must be loaded; under the others a failed run may be right."""

UNTRUE_PRESETS: Final = ("hostile",)
"""Presets under which datasets and files may lack rows without a sign: what was landed of them is the standard."""

DEFAULT_DAYS: Final = 3
_MEMORY: Final = "demo.json"
_REPORT_WIDTH: Final = 120


class DemoError(DatalakeError):
    """The demo lake cannot be used as asked."""


def remembered_demo(settings: Settings) -> DemoWorld | None:
    """How the demo lake was filled last, or None if it is empty."""
    file = settings.home / DEMO_FOLDER / _MEMORY
    if not file.exists():
        return None
    known = orjson.loads(file.read_bytes())
    return DemoWorld(date.fromisoformat(known["first_day"]), known["preset"], known["flavour"], known["persons"])


def require_demo(settings: Settings) -> DemoWorld:
    """How the demo lake was filled last.

    Raises:
        DemoError: It never was.
    """
    memory = remembered_demo(settings)
    if memory is None:
        raise DemoError("The demo lake is empty.", where=str(settings.home / DEMO_FOLDER), todo="Run `datalake demo`.")
    return memory


def remember_demo(stack: Stack, world: DemoWorld) -> None:
    """Keep how the demo lake was filled."""
    (stack.home / _MEMORY).write_bytes(orjson.dumps(asdict(world)))


@dataclass(frozen=True)
class LoadReport:
    """What became of one entity on one simulated day.

    Attributes:
        entity: Which entity.
        run_ids: The runs in Dagster.
        succeeded: Whether all of them were green.
        error: Why not.
        tables: What the runs did to each table, by asset.
        contents: What the lake holds afterwards, in the form of the simulator's truth.
        differences: What is not as the truth says.
    """

    entity: Entity
    run_ids: list[str]
    succeeded: bool
    error: str
    tables: dict[str, dict[str, Any]]
    contents: dict[str, Any]
    differences: list[str]

    def as_json(self) -> dict[str, Any]:
        """Everything a program may want."""
        return {
            "run_ids": self.run_ids,
            "succeeded": self.succeeded,
            "error": self.error,
            "differences": self.differences,
            "tables": self.tables,
            **self.contents,
        }


@dataclass(frozen=True)
class DayReport:
    """What became of one simulated day.

    Attributes:
        day: Load date.
        loads: One per entity, in the order of the night.
        obtainable: Whether PeopleSoft gave a trustworthy answer that day.
    """

    day: date
    loads: list[LoadReport]
    obtainable: bool

    def verdict(self, preset: str) -> str | None:
        """What is wrong with the day, or None."""
        for load in self.loads:
            if load.differences:
                return f"the tables of {load.entity.name} differ from the truth: " + "; ".join(load.differences)
            if load.entity is TERM and load.succeeded and not self.obtainable:
                return "the run of term is green although no trustworthy answer could be had"
            if not load.succeeded and self.obtainable and preset in FAITHFUL_PRESETS:
                return f"a run of {load.entity.name} failed although its answers could be had"
        return None

    def as_json(self) -> dict[str, Any]:
        """Everything a program may want."""
        loads = {load.entity.name: load.as_json() for load in self.loads}
        return {"day": self.day, "obtainable": self.obtainable, **loads}


@click.command("demo")
@click.option(
    "--days", type=click.IntRange(1, 400), default=DEFAULT_DAYS, show_default=True, help="How many days to walk."
)
@click.option(
    "--persons",
    type=click.IntRange(1, 1_000_000),
    default=DemoWorld.persons,
    show_default=True,
    help="How many people the simulated university has.",
)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The last day; today if left out.")
@click.option(
    "--preset",
    default="realistic",
    show_default=True,
    help="How the simulated sources behave: clean, realistic, hostile, poison-day, or outage: and a source such as "
    "peoplesoft, sap, vds.",
)
@click.option(
    "--flavour",
    type=click.Choice(["cstools", "qas"]),
    default="cstools",
    show_default=True,
    help="The way to PeopleSoft.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write what happened here.",
)
def demo_command(
    days: int, persons: int, until: datetime | None, preset: str, flavour: str, json_file: Path | None
) -> None:
    """Walk simulated days through the lake and compare each with the truth.

    Terms, courses and people are loaded every day. The days hold a first load, a term roll, a changed and a removed
    term, and, from the fourth on, a shuffled answer and an outage of PeopleSoft. After the last day the declared
    pipelines are loaded: three API datasets, their views of twelve months, and two months of taxi trips. Exits 1 if
    a table differs from the truth, or a run is green that should not be.
    """
    console = report_console()
    settings = load_settings()
    last = until.date() if until else settings.clock.today()
    dates = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
    console.print(f"Starting PostgreSQL and the simulated sources (preset {preset}, {persons:,} people) …")
    world = DemoWorld(dates[0], preset, flavour, persons)
    with demo_stack(settings, world, fresh=True) as stack:
        from datalake_assets.cli.demo_pipelines import load_pipelines

        remember_demo(stack, world)
        walk = Walk(stack, console, service_documents=json_file is not None)
        reports = [walk.load_day(day) for day in dates]
        _print_services(console, reports[-1])
        pipelines = load_pipelines(stack, console, trusted=preset not in UNTRUE_PRESETS)
    if json_file is not None:
        told = {
            "days": [report.as_json() for report in reports],
            "pipelines": [report.as_json() for report in pipelines],
        }
        json_file.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    wrong = [f"{report.day}: {verdict}" for report in reports if (verdict := report.verdict(preset))]
    faithful = preset in FAITHFUL_PRESETS
    wrong += [f"{each.job}: {verdict}" for each in pipelines if (verdict := each.verdict(faithful=faithful))]
    for verdict in wrong:
        console.print(verdict, style="red", markup=False, soft_wrap=True)
    if not wrong:
        console.print(
            f"All {len(reports)} days and {len(pipelines)} declared pipelines are as they should be. "
            "`datalake dev` opens them in the Dagster UI.",
            soft_wrap=True,
        )
    sys.exit(1 if wrong else 0)


def report_console() -> Console:
    """A console whose tables are not cut where the output is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_REPORT_WIDTH)


class Walk:
    """Loads one simulated day after the other, and judges each.

    Args:
        stack: A running demo.
        console: Where to tell.
        service_documents: Also report the digest of every document that a service sees.
    """

    def __init__(self, stack: Stack, console: Console, *, service_documents: bool = False) -> None:
        if stack.simulator is None:
            raise ValueError("a demo needs the simulator")
        self._stack = stack
        self._simulator = stack.simulator
        self._console = console
        self._service_documents = service_documents
        self._landed: list[date] = []
        self._expected = {entity.name: Expectation(entity) for entity in (COURSE, PERSON)}

    def load_day(self, day: date) -> DayReport:
        """Let the simulator live a day, load it, and compare the lake with the truth."""
        self._simulator.set_day(day)
        export({"DATALAKE_TODAY": day.isoformat()})
        self._console.print(f"\n[bold]{day}[/bold]")
        loads = []
        for entity in (TERM, COURSE, PERSON):
            loads.append(self._load(entity, day))
            _print_load(self._console, loads[-1])
        truth = self._simulator.truth(kind=TERM.name, since=day, day=day)
        return DayReport(day, loads, bool(truth["days"][day.isoformat()]["obtainable"]))

    def _load(self, entity: Entity, day: date) -> LoadReport:
        from datalake_assets.cli.jobs import JobOutcome, run_job

        try:
            outcome = run_job(f"{entity.name}_daily", day, quiet=True)
            error = " ".join(outcome.errors)
        except NoActiveTermsError as refusal:
            outcome, error = JobOutcome(()), str(refusal)
        tables, contents = asyncio.run(self._read(entity, outcome.run_ids))
        loaded = tables.get(str(entity.raw), {}).get("partitions", [])
        if entity is TERM:
            wrong = differences(contents, self._term_truth(day, loaded=bool(loaded)))
        else:
            wrong = self._compare(entity, contents, loaded)
        return LoadReport(
            entity=entity,
            run_ids=outcome.run_ids,
            succeeded=outcome.succeeded and not error,
            error=error,
            tables=tables,
            contents=contents,
            differences=wrong,
        )

    async def _read(self, entity: Entity, run_ids: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        async with session(self._stack.address, application_name="datalake demo") as connection:
            receipts = await connection.fetch(statement("demo/receipts.sql"), run_ids)
            tables = {row["asset"]: {name: value for name, value in row.items() if name != "asset"} for row in receipts}
            return tables, await read_contents(connection, entity, service_documents=self._service_documents)

    def _term_truth(self, day: date, *, loaded: bool) -> dict[str, Any]:
        if loaded:
            self._landed.append(day)
        since = self._landed[0] if self._landed else day
        return self._simulator.truth(kind=TERM.name, since=since, day=day, days=self._landed)

    def _compare(self, entity: Entity, contents: dict[str, Any], loaded: list[str]) -> list[str]:
        expected = self._expected[entity.name]
        landing = Landing(ParquetStore(self._stack.settings.lake_url), entity)
        wrong = []
        for key in loaded:
            piece = slice_of(entity, key)
            truth = self._simulator.truth(kind=entity.name, day=piece.load_date, term=piece.scope_text or None)
            wrong += expected.take(truth["keys"], landing, landing.require(piece))
        keys = [{"key": list(key), "digest": digest} for key, digest in expected.digests.items()]
        return wrong + differences(contents, {"keys": keys})


def _print_load(console: Console, load: LoadReport) -> None:
    state = "[green]loaded[/green]" if load.succeeded else "[yellow]not loaded[/yellow]"
    truth = "tables equal the truth" if not load.differences else "[red]tables differ from the truth[/red]"
    console.print(f"  [bold]{load.entity.name}[/bold]  {state}, {truth}")
    if load.error:
        console.print(f"    {load.error}", markup=False, soft_wrap=True)
    if not load.tables:
        return
    table = Table(box=None, padding=(0, 1))
    table.add_column("asset", no_wrap=True, min_width=_ASSET_WIDTH)
    for name in _COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for asset, numbers in load.tables.items():
        cells = ["" if numbers[name] is None else _cell(numbers[name]) for name in _COLUMNS]
        table.add_row(asset, *cells)
    console.print(table)


def _cell(number: Any) -> str:
    return f"{number:,.2f}" if isinstance(number, float) else f"{number:,}"


def _print_services(console: Console, report: DayReport) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("table")
    table.add_column("service")
    table.add_column("rows", justify="right")
    for load in report.loads:
        for service, rows in load.contents["services"].items():
            table.add_row(str(load.entity.curated), service, f"{rows:,}")
    console.print("\n[bold]What each service sees[/bold]")
    console.print(table)


_ASSET_WIDTH: Final = 38
_COLUMNS: Final = {
    "rows_total": "rows",
    "rows_new": "new",
    "rows_changed": "changed",
    "rows_removed": "removed",
    "rows_unchanged": "unchanged",
    "failed": "failed",
    "quarantined": "quarantined",
    "duration_s": "seconds",
}
