"""`datalake as-of` and `datalake blame`: the history of one document, as it was and as it changed.

The questions are answered by `lake/history.py`; here words become keys and answers become text.
"""

from dataclasses import asdict
from datetime import date, datetime

import asyncpg
import click

from datalake_assets.cli.access import ask_lake
from datalake_assets.cli.output import as_text, indented, one_line, print_json, print_table
from datalake_assets.cli.stack import Stack
from datalake_assets.entities import Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.history import Change, State, as_of, blame, parse_key
from datalake_assets.lake.quarantine import entity_named
from datalake_assets.settings import load_settings


class UnknownDocumentError(DatalakeError):
    """The lake has no document, or no field, of that name."""


@click.command("as-of")
@click.argument("entity_name", metavar="ENTITY")
@click.argument("words", metavar="KEY...", nargs=-1, required=True)
@click.option("--at", type=click.DateTime(["%Y-%m-%d"]), help="The date; today if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def as_of_command(entity_name: str, words: tuple[str, ...], at: datetime | None, as_json: bool) -> None:
    """Show the document of KEY as it was at the end of a date.

    KEY is one word for each key column of ENTITY.

    Example: datalake as-of term UGRD 2258 --at 2026-01-31
    """
    settings = load_settings()
    entity = entity_named(entity_name)
    key = parse_key(entity, words)
    day = at.date() if at else settings.clock.today()

    async def question(connection: asyncpg.Connection, _: Stack) -> State:
        state = await as_of(connection, entity, key, day)
        if state is None:
            known = await as_of(connection, entity, key, date.max) is not None
            raise _unknown(entity, words, f" up to {day}; it came later" if known else "")
        return state

    state = ask_lake(settings, "as-of", question)
    if as_json:
        print_json({"entity": entity.name, "key": list(key), "at": day, **asdict(state)})
        return
    story = "gone since" if state.document is None else "unchanged since"
    click.echo(f"{entity.name} {as_text(key)} on {day}: {story} {state.since} (run {state.run_id})")
    if state.document is not None:
        click.echo(indented(state.document))


@click.command("blame")
@click.argument("entity_name", metavar="ENTITY")
@click.argument("words", metavar="KEY... [PATH]", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def blame_command(entity_name: str, words: tuple[str, ...], as_json: bool) -> None:
    """Show which field of KEY changed, from what to what, on which date, and by which run.

    KEY is one word for each key column of ENTITY; a last word that begins with / names one field and what lies
    below it.

    Example: datalake blame term UGRD 2258

    Example: datalake blame term UGRD 2258 /DESCR
    """
    entity = entity_named(entity_name)
    path = words[-1].rstrip("/") if words[-1].startswith("/") else None
    words = words if path is None else words[:-1]
    key = parse_key(entity, words)

    async def question(connection: asyncpg.Connection, _: Stack) -> list[Change]:
        changes = await blame(connection, entity, key, path)
        if changes:
            return changes
        if path is None or await as_of(connection, entity, key, date.max) is None:
            raise _unknown(entity, words)
        raise UnknownDocumentError(
            f"No document of {entity.name} {as_text(words)} ever had a field {path}.",
            where=str(entity.raw),
            todo=f"`datalake blame {entity.name} {as_text(words)}` shows all fields; letter case matters.",
        )

    changes = ask_lake(load_settings(), "blame", question)
    if as_json:
        fields = [asdict(change) for change in changes]
        print_json({"entity": entity.name, "key": list(key), "path": path, "changes": fields})
        return
    print_table(("date", "field", "before", "after", "run"), map(_row, changes))


def _row(change: Change) -> tuple[object, ...]:
    before = None if change.appeared else one_line(change.before)
    after = None if change.vanished else one_line(change.after)
    return change.load_date, change.path, before, after, change.run_id


def _unknown(entity: Entity, words: tuple[str, ...], when: str = "") -> UnknownDocumentError:
    return UnknownDocumentError(
        f"The lake holds no {entity.name} {as_text(words)}{when}.",
        where=str(entity.raw),
        todo=f"Look the key ({', '.join(entity.key_names)}) up in {entity.xform}; letter case matters.",
    )
