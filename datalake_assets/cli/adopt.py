"""`datalake adopt`: the tables of an earlier system become ours, and can be given back.

What an adoption does is in `lake/adopt.py`; here it is shown, begun and undone. The lake is not migrated before:
the migrations would stumble over the old tables, and are part of the adoption.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import click

from datalake_assets.cli.access import lake_server
from datalake_assets.cli.output import PLAIN_LINE_EVERY_S, hint, print_json, print_table
from datalake_assets.entities import ENTITIES
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.adopt import ASIDE, Adopted, Adoption, OldHistory, Plan, adopted, undo
from datalake_assets.lake.services import load_services
from datalake_assets.settings import Settings, load_settings, project_files
from datalake_assets.storage.postgres import session

T = TypeVar("T")


class ZoneError(DatalakeError):
    """A time zone is not known."""


@click.command("adopt")
@click.option("--execute", "--yes", "execute", is_flag=True, help="Carry it out; without this it is only planned.")
@click.option("--undo", "go_back", is_flag=True, help="Give the old tables back as they were.")
@click.option(
    "--timestamps", "zone", metavar="ZONE", help="Time zone of the old timestamps; the database's if left out."
)
@click.option("--accept-differences", is_flag=True, help="With --execute: although readers lose the rows of the plan.")
@click.option("--discard-loads", is_flag=True, help="With --undo: although loads since then are forgotten.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def adopt_command(
    execute: bool, go_back: bool, zone: str | None, accept_differences: bool, discard_loads: bool, as_json: bool
) -> None:
    """Take over the tables that the old flows filled, with their whole history, and keep a way back.

    Alone it only reads, and shows what would be done, row counts included; it exits 1 if something stands against
    it. With --execute all of it happens in one transaction: the old tables, their triggers and the views that read
    them are set aside in schemas ..._before_adoption, the lake's tables are made and filled, readers keep their rows,
    grants and views. With --undo everything is put back as it was.

    Example: datalake adopt

    Example: datalake adopt --execute

    Example: datalake adopt --undo
    """
    if execute and go_back:
        raise click.UsageError("--execute and --undo contradict each other.")
    if accept_differences and not execute:
        raise click.UsageError("--accept-differences goes with --execute.")
    if discard_loads and not go_back:
        raise click.UsageError("--discard-loads goes with --undo.")
    settings = load_settings()
    if go_back:
        _go_back(settings, discard_loads, as_json)
        return
    adoption = Adoption(
        ENTITIES,
        project_files() / "sql" / "migrations",
        f"adoption-{uuid4()}",
        settings.clock.today(),
        services={entity.name: [s.name for s in load_services(entity).services] for entity in ENTITIES},
        zone=_zone(zone),
        progress=Narrator(),
    )

    async def work(connection: asyncpg.Connection) -> tuple[Plan | None, list[Adopted]]:
        if taken := await adopted(connection):
            return None, taken
        if execute:
            return await adoption.carry_out(connection, accept_differences=accept_differences), []
        return await adoption.plan(connection), []

    plan, taken = _in_lake(settings, work)
    if plan is None:
        _print_adopted(taken, as_json)
        return
    if as_json:
        print_json({"executed": execute, **_as_json(plan)})
    else:
        _print(plan, execute=execute)
    sys.exit(0 if execute or not plan.problems else 1)


class Narrator:
    """Says on standard error how far an adoption is: each step once, and within it a line now and then."""

    def __init__(self) -> None:
        self._doing = ""
        self._begun = self._said = 0.0

    def __call__(self, doing: str, done: int, total: int) -> None:
        """Take note of progress."""
        now = time.monotonic()
        if doing != self._doing:
            self._doing, self._begun, self._said = doing, now, now
            hint(f"{doing}: {total} rows" if total else doing)
        elif done and now - self._said >= PLAIN_LINE_EVERY_S:
            left = (now - self._begun) / done * (total - done)
            hint(f"{doing}: {done} of {total}, about {left:.0f} s left")
            self._said = now


def _in_lake(settings: Settings, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    with lake_server(settings) as address:

        async def run() -> T:
            async with session(address, application_name="datalake adopt") as connection:
                return await work(connection)

        return asyncio.run(run())


def _zone(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError):
        raise ZoneError(
            f"There is no time zone {name!r}.", where="--timestamps", todo="Name one like America/New_York or UTC."
        ) from None


def _go_back(settings: Settings, discard_loads: bool, as_json: bool) -> None:
    back = _in_lake(settings, lambda connection: undo(connection, ENTITIES, discard_loads=discard_loads))
    if as_json:
        print_json({"restored": [str(name) for name in back]})
        return
    for name in back:
        click.echo(f"restored: {name}")
    hint("Everything is as it was before the adoption. Landed snapshots were left where they are.")


def _print(plan: Plan, *, execute: bool) -> None:
    print_table(
        ("table", "rows", "MB"),
        [(table.name, table.rows, _megabytes(table.bytes)) for table in plan.tables],
        numeric=("rows", "MB"),
    )
    click.echo()
    print_table(
        ("history", "rows", "keys", "states", "change points", "within a date", "repeated", "from", "to"),
        [
            (
                h.entity,
                h.rows,
                h.keys,
                h.states,
                h.change_points,
                h.within_a_date,
                h.repeated,
                h.first_date,
                h.last_date,
            )
            for h in plan.histories
        ],
        numeric=("rows", "keys", "states", "change points", "within a date", "repeated"),
    )
    click.echo()
    click.echo(f"Old timestamps are read in the time zone {plan.zone}; --timestamps names another.")
    click.echo(f"The old tables are set aside in schemas ...{ASIDE}, whole.")
    for history in plan.histories:
        _print_history(history)
    _print_list("Triggers that no longer act:", plan.triggers)
    _print_list("Views made anew over the new tables:", plan.views)
    _print_list("Grants to read, given on the new tables too:", plan.grants)
    _print_list("Grants to write, not given on the new tables, which only loads write:", plan.writers)
    for service in plan.services:
        if not service.is_defined:
            click.echo(
                f"Service {service.service} of {service.table} is not defined in datalake_assets/services/: its "
                f"{service.rows} rows are adopted, and go with the first load."
            )
    for difference in plan.differences:
        click.echo(
            click.style("difference: ", fg="yellow")
            + f"{difference.rows} rows of {difference.table} {difference.what}."
        )
    for problem in plan.problems:
        click.echo(click.style("problem: ", fg="red") + problem)
    if execute:
        click.echo(f"Adopted in {plan.seconds:.0f} s. `datalake adopt --undo` gives everything back.")
        return
    click.echo(
        f"About {plan.seconds:.0f} s and {_megabytes(plan.extra_bytes)} MB more than now; readers wait at the end only."
    )
    hint("Nothing was changed. " + ("Mend the problems first." if plan.problems else "Carry it out with --execute."))


def _print_history(history: OldHistory) -> None:
    for count, what in (
        (history.current_only, "states that only the current table shows end the history of their key"),
        (history.removed, "keys that the current table does not show end with a removal"),
        (
            history.sensitive,
            "documents hold keys that are never kept; these stay behind in the tables set aside, and nowhere else",
        ),
    ):
        if count:
            click.echo(f"{history.entity}: {count} {what}.")


def _print_list(heading: str, items: tuple[str, ...]) -> None:
    if items:
        click.echo(heading)
    for item in items:
        click.echo(f"  {item}")


def _print_adopted(taken: list[Adopted], as_json: bool) -> None:
    if as_json:
        print_json({"executed": False, "adopted": [asdict(item) for item in taken]})
        return
    print_table(
        ("adopted", "up to", "rows", "states", "change points", "loads since"),
        [(i.raw_table, i.last_date, i.rows_taken, i.states, i.change_points, i.loads) for i in taken],
        numeric=("rows", "states", "change points", "loads since"),
    )
    hint("The old tables are adopted already. `datalake adopt --undo` gives them back.")


def _as_json(plan: Plan) -> dict[str, object]:
    return {
        **asdict(plan),
        "tables": [{**asdict(table), "name": str(table.name)} for table in plan.tables],
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
