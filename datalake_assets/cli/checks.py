"""`datalake checks`: every check of a load date at once, for a CI and for whoever asks whether all is well.

What must hold is said in `lake/checks.py`; Dagster runs the same checks as asset checks, and is not needed here.
"""

import sys
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg
import click

from datalake_assets.cli.access import ask_lake
from datalake_assets.cli.output import print_json, print_table, progressing
from datalake_assets.cli.stack import DEMO_FOLDER, Stack, demo_databases
from datalake_assets.entities import ENTITIES, Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.checks import Check, Lake, Verdict, checks_of
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.quarantine import entity_named
from datalake_assets.lake.services import load_services
from datalake_assets.settings import Settings, export, load_settings
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import scrubbing


class NoDemoError(DatalakeError):
    """There is no demo lake to look at."""


@dataclass(frozen=True)
class Result:
    """A check and what it found."""

    check: Check
    verdict: Verdict

    @property
    def is_error(self) -> bool:
        """Whether it must fail whoever asked."""
        return not self.verdict.passed and self.check.severity == "error"

    @property
    def state(self) -> str:
        """One word for a table."""
        return "passed" if self.verdict.passed else "FAILED" if self.is_error else "warning"

    def as_json(self) -> dict[str, Any]:
        """Everything a program may want."""
        return {
            "asset": str(self.check.table),
            "check": self.check.name,
            "severity": self.check.severity,
            "blocking": self.check.blocking,
            "passed": self.verdict.passed,
            "summary": self.verdict.summary,
            "numbers": self.verdict.numbers,
        }


@click.command("checks")
@click.option("--date", "load_date", type=click.DateTime(["%Y-%m-%d"]), help="Load date; today if left out.")
@click.option("--entity", "entity_name", metavar="ENTITY", help="Only this entity, such as term.")
@click.option("--demo", is_flag=True, help="Look at the lake of `datalake demo`, as if it were the load date.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def checks_command(load_date: datetime | None, entity_name: str | None, demo: bool, as_json: bool) -> None:
    """Run every check of a load date and exit 1 if one with severity error does not pass.

    Warnings are shown and do not change the exit code.

    Example: datalake checks --date 2026-01-31

    Example: datalake checks --entity term --json
    """
    entities = (entity_named(entity_name),) if entity_name else ENTITIES
    settings = load_settings()
    day = load_date.date() if load_date else settings.clock.today()
    if demo:
        settings = _demo_settings(settings, day)

    async def question(connection: asyncpg.Connection, stack: Stack) -> list[Result]:
        todo = [(entity, check) for entity in entities for check in checks_of(entity)]
        lakes = {entity.name: _lake(connection, stack.settings, entity) for entity in entities}
        return [
            Result(check, await _evaluate(check, lakes[entity.name], day))
            for entity, check in progressing(todo, "Running checks")
        ]

    results = ask_lake(settings, "checks", question)
    errors = sum(result.is_error for result in results)
    if as_json:
        checks = [result.as_json() for result in results]
        print_json({"load_date": day, "passed": not errors, "errors": errors, "checks": checks})
    else:
        print_table(
            ("asset", "check", "severity", "state", "summary"),
            [(r.check.table, r.check.name, r.check.severity, r.state, r.verdict.summary) for r in results],
        )
        click.echo(_closing(results, day, errors))
    sys.exit(1 if errors else 0)


def _lake(connection: asyncpg.Connection, settings: Settings, entity: Entity) -> Lake:
    return Lake(
        connection=connection,
        landing=Landing(ParquetStore(settings.lake_url), entity),
        services=load_services(entity).services,
        tolerances=settings.tolerances,
        clock=settings.clock,
    )


async def _evaluate(check: Check, lake: Lake, day: date) -> Verdict:
    """Evaluate a check; one that cannot be evaluated has not passed, and the others are still run."""
    try:
        with scrubbing(f"check {check.name} of {check.table}"):
            return await check.evaluate(lake, day)
    except DatalakeError as error:
        return Verdict(False, f"Could not be evaluated: {error}")


def _demo_settings(settings: Settings, day: date) -> Settings:
    home = settings.home / DEMO_FOLDER
    if not home.is_dir():
        raise NoDemoError("There is no demo lake.", where=str(home), todo="Run `datalake demo` first.")
    export(
        {
            "DATALAKE_HOME": str(home),
            "LAKE_URL": str(home / "lake"),
            "DATALAKE_TODAY": day.isoformat(),
            "POSTGRES_DB": demo_databases(settings).lake,
        }
    )
    return load_settings()


def _closing(results: list[Result], day: date, errors: int) -> str:
    passed = sum(result.verdict.passed for result in results)
    warnings = len(results) - passed - errors
    return f"{len(results)} checks of {day}: {passed} passed, {warnings} with a warning, {errors} with an error."
