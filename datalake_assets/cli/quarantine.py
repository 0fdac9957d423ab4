"""`datalake quarantine`: documents that could not be kept, listed, shown and replayed.

What a replay does is in `lake/replay.py`; why a document is quarantined, in `lake/documents.py`.
"""

import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
import click

from datalake_assets import exact_json
from datalake_assets.cli.access import ask_lake
from datalake_assets.cli.output import as_text, hint, indented, print_json, print_table
from datalake_assets.cli.stack import Stack
from datalake_assets.entities import ENTITIES
from datalake_assets.errors import DatalakeError
from datalake_assets.lake import quarantine
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.quarantine import Quarantined
from datalake_assets.lake.rebuild import Rebuild
from datalake_assets.lake.replay import ChangePoint, Replay, Replayed, ReplayReport
from datalake_assets.lake.services import load_services
from datalake_assets.settings import Settings, load_settings
from datalake_assets.storage.parquet import ParquetStore

STATES: Final = ("open", "replayed", "superseded", "all")
_COUNTS: Final = ("rows_total", "rows_new", "rows_changed", "rows_removed", "rows_unchanged")


class MendedDocumentError(DatalakeError):
    """A file given as a mended document cannot be used."""


@click.group("quarantine")
def quarantine_command() -> None:
    """List, show and replay documents, and rows of declared tables, that could not be kept.

    Example: datalake quarantine list

    Example: datalake quarantine show 12 > document.json

    Example: datalake quarantine replay 12 --document mended.json
    """


@quarantine_command.command("list")
@click.option(
    "--entity", "entity_name", metavar="ENTITY", help="Only this entity or declared table, such as term or trips.rides."
)
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True, help="Only in this state.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(entity_name: str | None, state: str, as_json: bool) -> None:
    """List quarantined documents, newest load date first.

    Example: datalake quarantine list --entity term --state all

    Example: datalake quarantine list --entity trips.rides
    """
    entity = _named(entity_name)

    async def question(connection: asyncpg.Connection, _: Stack) -> list[Quarantined]:
        return await quarantine.listing(connection, entity=entity, state=None if state == "all" else state)

    found = ask_lake(load_settings(), "quarantine list", question)
    if as_json:
        print_json([_described(item) for item in found])
    elif not found:
        click.echo("Nothing is in quarantine." if state == "open" else "There is no such document.")
    else:
        print_table(
            ("number", "entity", "load date", "key", "state", "rule", "source"),
            [(i.quarantine_id, i.entity, i.load_date, as_text(i.key), i.state, i.rule, i.source) for i in found],
            numeric=("number",),
        )
        hint("`datalake quarantine show NUMBER` shows one with its reason.")


@quarantine_command.command("show")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_command(number: int, as_json: bool) -> None:
    """Show one document: why it is in quarantine, and what could be kept of it.

    Without --json the document alone goes to standard output, ready to be mended and replayed.

    Example: datalake quarantine show 12 > document.json
    """

    async def question(connection: asyncpg.Connection, _: Stack) -> Quarantined:
        return await quarantine.show(connection, number)

    item = ask_lake(load_settings(), "quarantine show", question)
    document = None if item.document is None else exact_json.loads(item.document)
    if as_json:
        print_json({**_described(item), "document": document})
        return
    for name, value in _described(item).items():
        hint(f"{name:14} {as_text(value) if isinstance(value, list) else value}")
    if document is None:
        hint("Nothing of the document could be kept.")
    else:
        click.echo(indented(document))


@quarantine_command.command("replay")
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option(
    "--document",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The mended document; without it, what was kept is judged by the rules of today.",
)
@click.option("--all", "every", is_flag=True, help="Replay every open document that passes today.")
@click.option("--entity", "entity_name", metavar="ENTITY", help="With --all: only this entity.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay_command(number: int | None, file: Path | None, every: bool, entity_name: str | None, as_json: bool) -> None:
    """Judge a document again, and if it passes, bring every table to where a first good load would have.

    The snapshot of its day is amended, then raw, xform and curated are loaded; later change points are mended.
    Rows of declared tables are not replayed: correct them at their source, or the declaration, and run the job of the
    table again; they then leave quarantine.
    Exits 1 if a document stays in quarantine or a table cannot be loaded.

    Example: datalake quarantine replay 12 --document mended.json

    Example: datalake quarantine replay --all
    """
    if every == (number is not None):
        raise click.UsageError("Give either the NUMBER of a document or --all.")
    if every and file is not None:
        raise click.UsageError("--document mends one document; give its NUMBER instead of --all.")
    if entity_name and not every:
        raise click.UsageError("--entity goes with --all; a NUMBER is of one entity.")
    entity = _named(entity_name)
    document = None if file is None else _document(file)

    async def question(connection: asyncpg.Connection, stack: Stack) -> ReplayReport:
        replay = Replay(_rebuilds(stack.settings), f"replay-{uuid4()}", stack.settings.clock)
        if number is None:
            return await replay.every_open(connection, entity)
        return await replay.one(connection, number, document)

    report = ask_lake(load_settings(), "quarantine replay", question)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    sys.exit(1 if report.refused or report.problems else 0)


def _named(name: str | None) -> str | None:
    """What quarantine calls an entity, or a declared table, whose name has a schema.

    Raises:
        LoadError: It is neither.
    """
    if name is None:
        return None
    table = name.replace("/", ".")
    return table if "." in table else quarantine.entity_named(name).name


def _rebuilds(settings: Settings) -> dict[str, Rebuild]:
    store = ParquetStore(settings.lake_url)
    return {
        entity.name: Rebuild(
            landing=Landing(store, entity),
            ledger=Ledger(),
            tolerances=settings.tolerances,
            services=load_services(entity).services,
        )
        for entity in ENTITIES
    }


def _document(file: Path) -> bytes:
    content = file.read_bytes()
    try:
        exact_json.loads(content)
    except exact_json.JsonError as error:
        raise MendedDocumentError(
            f"The mended document cannot be read: {error}", where=str(file), todo="Give one JSON object in UTF-8."
        ) from None
    return content


def _print(report: ReplayReport) -> None:
    for done in report.replayed:
        item = done.document
        click.echo(f"{item.quarantine_id}: {item.entity} {as_text(done.key)} of {item.load_date} is replayed.")
        for sign, points in (("+", done.added), ("-", done.removed)):
            for point in points:
                click.echo(f"  {sign} change point {point.load_date} {point.operation}")
        if not done.added and not done.removed:
            click.echo("  Its history is what it was: the document says nothing new.")
    for refused in report.refused:
        click.echo(f"{refused.document.quarantine_id}: stays in quarantine. {refused.reason}")
    if report.receipts:
        print_table(
            ("table", "partition", *(name.removeprefix("rows_") for name in _COUNTS)),
            [(r.asset, r.partition, *(getattr(r, name) for name in _COUNTS)) for r in report.receipts],
            numeric=[name.removeprefix("rows_") for name in _COUNTS],
        )
    for problem in report.problems:
        hint(click.style("not loaded: ", fg="red") + problem)
    if not report.replayed:
        click.echo("An earlier replay is finished." if report.receipts else "No document was replayed.")


def _as_json(report: ReplayReport) -> dict[str, Any]:
    return {
        "replayed": [_replayed(done) for done in report.replayed],
        "refused": [{**_described(item.document), "refusal": item.reason} for item in report.refused],
        "tables": [_counts(receipt) for receipt in report.receipts],
        "problems": report.problems,
    }


def _replayed(done: Replayed) -> dict[str, Any]:
    return {
        **_described(done.document),
        "key": list(done.key),
        "state": "replayed",
        "change_points_added": [_point(point) for point in done.added],
        "change_points_removed": [_point(point) for point in done.removed],
    }


def _point(point: ChangePoint) -> dict[str, Any]:
    digest = None if point.digest is None else point.digest.hex()
    return {"load_date": point.load_date, "operation": point.operation, "digest": digest}


def _counts(receipt: Receipt) -> dict[str, Any]:
    return {
        "asset": receipt.asset,
        "partition": receipt.partition,
        **{name: getattr(receipt, name) for name in _COUNTS},
    }


def _described(item: Quarantined) -> dict[str, Any]:
    return {
        "number": item.quarantine_id,
        "entity": item.entity,
        "load_date": item.load_date,
        "scope": item.scope,
        "key": list(item.key),
        "rule": item.rule,
        "reason": item.reason,
        "source": item.source,
        "state": item.state,
    }
