"""`datalake migrate`, `allow` and `reconcile`: what an operator does by hand, seldom, and with care.

How migrations are applied is in `storage/migrations.py`, what guards watch in `lake/guards.py`, and what a
reconciliation clears away in `recovery/sweep.py`.
"""

import asyncio
import os
import pwd
import sys
from typing import TYPE_CHECKING, Final

import asyncpg
import click

from datalake_assets.cli.access import ask_lake, database_exists, lake_server
from datalake_assets.cli.guarded import NotAllowedError, guarded
from datalake_assets.cli.output import print_json
from datalake_assets.cli.stack import Stack, lake_stack
from datalake_assets.lake.reconcile import SILENT_FOR_S
from datalake_assets.settings import Settings, load_settings, project_files
from datalake_assets.statements import statement
from datalake_assets.storage.embedded import ensure_database
from datalake_assets.storage.migrations import migrate, pending
from datalake_assets.storage.parquet import SUPERSEDED_FOR_S
from datalake_assets.storage.postgres import PostgresAddress, scrubbing, session

if TYPE_CHECKING:
    from datalake_assets.recovery.sweep import Reconciled

GUARDS: Final = ("volume",)
"""Guards that a load can be allowed to pass."""

SHORTEST_REASON: Final = 10


# -------------------------------------------------------------------------------------------------- migrate


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only say what is pending.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def migrate_command(dry_run: bool, as_json: bool) -> None:
    """Bring the lake's tables up to date; every other command does so before it starts.

    Migrations are the files in sql/migrations/, applied in order and each in a transaction of its own. One that
    was edited after it had been applied is refused.

    Example: datalake migrate --dry-run
    """
    settings = load_settings()
    with lake_server(settings) as address:
        folder = project_files() / "sql" / "migrations"
        exists = asyncio.run(database_exists(address))
        if dry_run:
            names = pending(address, folder) if exists else [path.name for path in sorted(folder.glob("*.sql"))]
        else:
            asyncio.run(ensure_database(address, address.database))
            names = migrate(address, folder)
    if as_json:
        print_json({"dry_run": dry_run, "database_exists": exists, "pending" if dry_run else "applied": names})
        return
    if dry_run and not exists:
        click.echo(f"would create database {address.database}")
    for name in names:
        click.echo(f"{'pending' if dry_run else 'applied'}: {name}")
    if not names:
        click.echo("The tables are up to date.")


# ---------------------------------------------------------------------------------------------------- allow


@click.command("allow")
@click.argument("asset")
@click.argument("partition")
@click.argument("guard", required=False)
@click.option("--reason", required=True, help=f"Why; at least {SHORTEST_REASON} characters, kept with your name.")
def allow_command(asset: str, partition: str, guard: str | None, reason: str) -> None:
    """Let one load of ASSET and PARTITION pass GUARD, with a reason that is kept.

    Use it once you know from the source that so many keys are really gone; then materialise the partition again.
    Of an API dataset, PARTITION is the date on which it was landed; of a table that one file fills, leave it out.

    Example: datalake allow term_raw.term_data 2026-01-31 volume --reason "Registrar closed the old careers"

    Example: datalake allow dit.contacts 2026-01-31 volume --reason "Old contacts were removed for good"

    Example: datalake allow trips.rides "green|2021-01-01" volume --reason "A holiday, says the commission"

    Example: datalake allow trips.zones volume --reason "The airports were merged"
    """
    if guard is None:
        partition, guard = "", partition
    if guard not in GUARDS:
        raise NotAllowedError(f"There is no guard {guard!r}.", todo=f"Guards: {', '.join(GUARDS)}.")
    watched = guarded(asset)
    piece = watched.partition(partition)
    text = reason.strip()
    if len(text) < SHORTEST_REASON:
        raise NotAllowedError(
            f"The reason has {len(text)} characters; it needs at least {SHORTEST_REASON}.",
            todo="Say what you know of the source that makes this load right.",
        )
    who = _operator()

    async def question(connection: asyncpg.Connection, _: Stack) -> None:
        await connection.execute(statement("operate/allow.sql"), watched.asset, piece, guard, text, who)

    ask_lake(load_settings(), "allow", question)
    click.echo(f"{' '.join(filter(None, (watched.asset, piece)))} may pass guard {guard}, said {who}. ", nl=False)
    click.echo("Materialise it again.")


def _operator() -> str:
    """Who is asking, as the system knows; a name in the environment could be anybody's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


# ------------------------------------------------------------------------------------------------ reconcile


@click.command("reconcile")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--older-than",
    "silent_for_s",
    type=click.FloatRange(min=0),
    default=SILENT_FOR_S,
    show_default=True,
    metavar="SECONDS",
    help="A run must have been silent, or ended, for so long.",
)
@click.option(
    "--superseded-for",
    "superseded_for_s",
    type=click.FloatRange(min=0),
    default=SUPERSEDED_FOR_S,
    show_default=True,
    metavar="SECONDS",
    help="A snapshot must have been superseded for so long: readers of it may still be at work.",
)
@click.option(
    "--single-host",
    is_flag=True,
    help="All runs work on this machine. Known where PostgreSQL is on it too; else say so, if it is so.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def reconcile_command(
    dry_run: bool, silent_for_s: float, superseded_for_s: float, single_host: bool, as_json: bool
) -> None:
    """End what dead runs left behind, and say what was done.

    A run is dead if it has been silent for a while, no process that it ever named lives on this machine, and it
    has no session in the lake; it is recorded as failed, or as canceled if that was asked for. Sessions and pool
    slots of ended runs are ended and freed. Temporary files, spooled answers of committed loads, and superseded
    snapshots that no receipt names are removed; current snapshots never are. No process is ever killed.

    Exits 1 if something could not be done.

    Example: datalake reconcile --dry-run
    """
    with lake_stack(load_settings(), with_dagster=True) as stack:
        done = asyncio.run(
            _reconcile(
                stack.settings,
                stack.address,
                dry_run=dry_run,
                silent_for_s=silent_for_s,
                superseded_for_s=superseded_for_s,
                single_host=single_host,
            )
        )
    if as_json:
        print_json(done.as_json())
    else:
        _print(done)
    sys.exit(1 if done.problems else 0)


async def _reconcile(
    settings: Settings,
    address: PostgresAddress,
    *,
    dry_run: bool,
    silent_for_s: float,
    superseded_for_s: float,
    single_host: bool,
) -> "Reconciled":
    import dagster as dg

    from datalake_assets.recovery.sweep import reconcile

    with dg.DagsterInstance.get() as instance:
        async with session(address, application_name="datalake reconcile") as connection:
            with scrubbing("reconciling"):
                return await reconcile(
                    connection,
                    instance,
                    lake_url=settings.lake_url,
                    spool_folder=str(settings.spool_folder),
                    runs_are_here=single_host or address.is_local,
                    silent_for_s=silent_for_s,
                    superseded_for_s=superseded_for_s,
                    dry_run=dry_run,
                )


def _print(done: "Reconciled") -> None:
    would = "would be " if done.dry_run else ""
    for judged in done.ended:
        facts = judged.facts
        click.echo(f"run {facts.run_id} ({facts.job}, {facts.status}) {would}ended: {judged.verdict.why}")
    for judged in done.left:
        facts = judged.facts
        click.echo(f"run {facts.run_id} ({facts.job}, {facts.status}) left alone: {judged.verdict.why}")
    for backend in done.backends:
        click.echo(f"server process {backend.pid} of ended run {backend.run_id} {would}ended ({backend.state})")
    for held in done.slots:
        click.echo(f"{held.slots} slot(s) of pool {held.pool} {would}freed, held by ended run {held.run_id}")
    for spool in done.spools:
        click.echo(f"spooled answers of {spool} {would}removed: their load is committed")
    for file in done.files:
        click.echo(f"{would}removed: {file}")
    for problem in done.problems:
        click.echo(click.style("problem: ", fg="red") + problem, err=True)
    if not (done.ended or done.backends or done.slots or done.spools or done.files or done.problems):
        click.echo("Nothing was left behind.")
