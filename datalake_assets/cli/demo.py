"""`datalake demo`: simulated days through the whole lake, each compared with what the simulator says is true.

Starts everything, loads every day as a Dagster job, shows what happened, and judges it. The loading itself is
that of production; nothing here stands in for it.
"""

import asyncio
import sys
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import click
import orjson
from rich.console import Console
from rich.table import Table

from datalake_assets.cli.stack import DEMO_FOLDER, Stack, demo_stack
from datalake_assets.entities import TERM, Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.settings import Settings, export, load_settings
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import session

FAITHFUL_PRESETS: Final = ("clean", "realistic")
"""Presets under which every day that can be obtained must be loaded; under the others a failed run may be right."""


DEFAULT_DAYS: Final = 5
_MEMORY: Final = "demo.json"
_REPORT_WIDTH: Final = 120


class DemoError(DatalakeError):
    """The demo lake cannot be used as asked."""


@dataclass(frozen=True)
class DemoMemory:
    """How the demo lake was filled, so that the simulator can go on from there."""

    first_day: date
    preset: str
    flavour: str


def remembered_demo(settings: Settings) -> DemoMemory | None:
    """How the demo lake was filled last, or None if it is empty."""
    file = settings.home / DEMO_FOLDER / _MEMORY
    if not file.exists():
        return None
    known = orjson.loads(file.read_bytes())
    return DemoMemory(date.fromisoformat(known["first_day"]), known["preset"], known["flavour"])


def require_demo(settings: Settings) -> DemoMemory:
    """How the demo lake was filled last.

    Raises:
        DemoError: It never was.
    """
    memory = remembered_demo(settings)
    if memory is None:
        raise DemoError("The demo lake is empty.", where=str(settings.home / DEMO_FOLDER), todo="Run `datalake demo`.")
    return memory


def remember_demo(stack: Stack, memory: DemoMemory) -> None:
    """Keep how the demo lake was filled."""
    (stack.home / _MEMORY).write_bytes(orjson.dumps(asdict(memory)))


@dataclass(frozen=True)
class DayReport:
    """What became of one simulated day.

    Attributes:
        day: Load date.
        run_id: The run in Dagster.
        succeeded: Whether the run was green.
        error: Why it was not.
        tables: Receipt of each asset by name.
        contents: What the lake holds afterwards, in the form of the simulator's truth.
        differences: What is not as the truth says.
        obtainable: Whether a trustworthy answer could be had that day.
    """

    day: date
    run_id: str
    succeeded: bool
    error: str
    tables: dict[str, dict[str, Any]]
    contents: dict[str, Any]
    differences: list[str]
    obtainable: bool

    def verdict(self, preset: str) -> str | None:
        """What is wrong with the day, or None."""
        if self.differences:
            return "the tables differ from the truth: " + "; ".join(self.differences)
        if self.succeeded and not self.obtainable:
            return "the run is green although no trustworthy answer could be had"
        if not self.succeeded and self.obtainable and preset in FAITHFUL_PRESETS:
            return "the run failed although the answer could be had"
        return None


@click.command("demo")
@click.option(
    "--days", type=click.IntRange(1, 400), default=DEFAULT_DAYS, show_default=True, help="How many days to walk."
)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The last day; today if left out.")
@click.option(
    "--preset",
    default="realistic",
    show_default=True,
    help="How the simulated sources behave: clean, realistic, hostile, outage:peoplesoft, poison-day.",
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
def demo_command(days: int, until: datetime | None, preset: str, flavour: str, json_file: Path | None) -> None:
    """Walk simulated days through the lake and compare each with the truth.

    The days hold a first load, a term roll, a changed and a removed term, a shuffled answer, and an outage.
    Exits 1 if a table differs from the truth, or a run is green that should not be.
    """
    console = report_console()
    settings = load_settings()
    last = until.date() if until else settings.clock.today()
    dates = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
    console.print(f"Starting PostgreSQL and the simulated sources (preset {preset}) …")
    with demo_stack(settings, fresh=True, preset=preset, scenario_start=dates[0], flavour=flavour) as stack:
        remember_demo(stack, DemoMemory(dates[0], preset, flavour))
        reports = walk_days(stack, dates, console)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps([_as_json(report) for report in reports], option=orjson.OPT_INDENT_2))
    wrong = {report.day: verdict for report in reports if (verdict := report.verdict(preset))}
    for day, verdict in wrong.items():
        console.print(f"[red]{day}: {verdict}[/red]")
    if not wrong:
        console.print(f"All {len(reports)} days are as they should be. `datalake dev` opens them in the Dagster UI.")
    sys.exit(1 if wrong else 0)


def report_console() -> Console:
    """A console whose tables are not cut where the output is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_REPORT_WIDTH)


def walk_days(stack: Stack, dates: list[date], console: Console) -> list[DayReport]:
    """Load one day after the other and judge each."""
    reports: list[DayReport] = []
    landed: list[date] = []
    for day in dates:
        report = load_day(stack, day, landed)
        reports.append(report)
        _print_day(console, report)
    return reports


def load_day(stack: Stack, day: date, landed: list[date]) -> DayReport:
    """Let the simulator live a day, load it, and compare the lake with the truth.

    Args:
        stack: A running demo.
        day: The day.
        landed: Days landed so far; this one is added if it was.
    """
    from datalake_assets.cli.jobs import run_job

    if stack.simulator is None:
        raise ValueError("a demo needs the simulator")
    stack.simulator.set_day(day)
    export({"DATALAKE_TODAY": day.isoformat()})
    outcome = run_job(f"{TERM.name}_daily", day, quiet=True)
    tables, contents = asyncio.run(_read_lake(stack, TERM, outcome.run_id))
    if str(TERM.raw) in tables:
        landed.append(day)
    truth = stack.simulator.truth(kind=TERM.name, since=landed[0] if landed else day, day=day, days=landed)
    return DayReport(
        day=day,
        run_id=outcome.run_id,
        succeeded=outcome.succeeded,
        error=" ".join([*outcome.failures.values(), *outcome.failed_checks]),
        tables=tables,
        contents=contents,
        differences=_differences(contents, truth),
        obtainable=bool(
            stack.simulator.truth(kind=TERM.name, since=day, day=day)["days"][day.isoformat()]["obtainable"]
        ),
    )


async def _read_lake(stack: Stack, entity: Entity, run_id: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    async with session(stack.address, application_name="datalake demo") as connection:
        receipts = await connection.fetch(statement("demo/receipts.sql"), run_id)
        tables = {row["asset"]: {name: value for name, value in row.items() if name != "asset"} for row in receipts}
        return tables, await read_contents(connection, entity)


async def read_contents(connection: asyncpg.Connection, entity: Entity) -> dict[str, Any]:
    """What the lake holds of an entity, in the form of the simulator's truth."""
    names = {"entity": entity, "key_names": entity.key_names, "raw": entity.raw, "xform": entity.xform}
    current = await connection.fetch(statement("demo/current.sql", **names))
    history = await connection.fetch(statement("demo/history.sql", **names))
    active = await connection.fetch(statement("demo/active_terms.sql"))
    return {
        "keys": [{"key": row["key"], "digest": row["digest"]} for row in current],
        "history": [dict(row.items()) for row in history],
        "active_terms": [dict(row.items()) for row in active],
    }


def _differences(contents: dict[str, Any], truth: dict[str, Any]) -> list[str]:
    differences = []
    for name in ("keys", "history", "active_terms"):
        found = sorted(map(orjson.dumps, _normal(contents[name])))
        expected = sorted(map(orjson.dumps, _normal(truth[name] or [])))
        if found != expected:
            missing, extra = len(set(expected) - set(found)), len(set(found) - set(expected))
            differences.append(f"{name}: {missing} missing, {extra} that should not be")
    return differences


def _normal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in sorted(row)} for row in rows]


def _print_day(console: Console, report: DayReport) -> None:
    state = "[green]loaded[/green]" if report.succeeded else "[yellow]not loaded[/yellow]"
    truth = "tables equal the truth" if not report.differences else "[red]tables differ from the truth[/red]"
    console.print(f"\n[bold]{report.day}[/bold]  {state}, {truth}")
    if report.error:
        console.print(f"  {report.error}", markup=False, soft_wrap=True)
    if not report.tables:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("asset", no_wrap=True, min_width=max(map(len, report.tables)))
    for name in ("rows", "new", "changed", "removed", "unchanged", "quarantined", "seconds"):
        table.add_column(name, justify="right")
    for asset, numbers in report.tables.items():
        cells = ["" if numbers[name] is None else f"{numbers[name]:,}" for name in _COLUMNS]
        table.add_row(asset, *cells)
    console.print(table)


_COLUMNS: Final = (
    "rows_total",
    "rows_new",
    "rows_changed",
    "rows_removed",
    "rows_unchanged",
    "quarantined",
    "duration_s",
)


def _as_json(report: DayReport) -> dict[str, Any]:
    return {
        "day": report.day,
        "run_id": report.run_id,
        "succeeded": report.succeeded,
        "error": report.error,
        "obtainable": report.obtainable,
        "differences": report.differences,
        "tables": report.tables,
        **report.contents,
    }
