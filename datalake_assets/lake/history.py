"""Questions to the history of one key: what it was on a date, and which field changed when, by which run.

Reads the raw table only; nothing is written here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg

from datalake_assets import exact_json
from datalake_assets.entities import Entity
from datalake_assets.exact_json import JsonValue
from datalake_assets.lake.canonical import canonical
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement


@dataclass(frozen=True)
class State:
    """A document as it was on a date.

    Attributes:
        since: The change point that it goes back to.
        operation: I, U, or D where the key is gone.
        document: None where it is gone.
        run_id: The run that wrote the change point.
    """

    since: date
    operation: str
    document: JsonValue | None
    run_id: str


@dataclass(frozen=True)
class Change:
    """One field that changed.

    Attributes:
        load_date: On which date.
        path: Which field, as slash-separated member names; `[]` stands for the elements of an array.
        before: The value, or None where there was none (see `appeared`).
        after: The value, or None where there is none.
        appeared: There was no value before.
        vanished: There is no value after.
        run_id: By which run.
    """

    load_date: date
    path: str
    before: JsonValue
    after: JsonValue
    appeared: bool
    vanished: bool
    run_id: str


def parse_key(entity: Entity, parts: tuple[str, ...]) -> tuple[Any, ...]:
    """Turn words of a command line into a key.

    Raises:
        LoadError: There are too few or too many, or a number is none.
    """
    if len(parts) != len(entity.key):
        names = " ".join(name.upper() for name in entity.key_names)
        raise LoadError(f"A key of {entity.name} is {names}; got {len(parts)} words.")
    values: list[str | int] = []
    for column, part in zip(entity.key, parts, strict=True):
        if column.type == "integer" and not part.isdecimal():
            raise LoadError(f"{column.name} is a number; {part!r} is none.")
        values.append(int(part) if column.type == "integer" else part)
    return tuple(values)


async def as_of(connection: asyncpg.Connection, entity: Entity, key: tuple[Any, ...], at: date) -> State | None:
    """The state of a key at the end of a date, or None if it had not been seen yet."""
    row = await connection.fetchrow(statement("history/as_of.sql", **_names(entity)), *key, at)
    if row is None:
        return None
    operation = row["operation"]
    return State(
        since=row["load_date"],
        operation=operation.decode() if isinstance(operation, bytes) else operation,
        document=None if row["document"] is None else exact_json.loads_sound(row["document"]),
        run_id=row["run_id"],
    )


async def blame(
    connection: asyncpg.Connection, entity: Entity, key: tuple[Any, ...], path: str | None = None
) -> list[Change]:
    """Every field of a key that changed, oldest first.

    Args:
        connection: The lake.
        entity: Kind of document.
        key: Which one.
        path: Only this field and what lies below it.
    """
    query = statement("history/changes.sql", **_names(entity))
    rows = await connection.fetch(query, *key, entity.name, list(map(str, key)), path)
    changes: list[Change] = []
    texts: dict[str, bytes] = {}
    document: dict[str, JsonValue] = {}
    for (load_date, _, run_id), members in groupby(rows, itemgetter("load_date", "place", "run_id")):
        texts_before, before = texts, document
        texts = {member["name"]: member["value"] for member in members if member["name"] is not None}
        # What is written as it was is not parsed again, and known to be the same without a look at it.
        document = {
            name: before[name] if text == texts_before.get(name) else exact_json.loads_sound(text)
            for name, text in texts.items()
        }
        differences = _differences(before, document, "")
        for name, old, new in differences if path is None else _concerning(path, differences):
            changes.append(
                Change(
                    load_date=load_date,
                    path=name,
                    before=None if old is _NOTHING else old,
                    after=None if new is _NOTHING else new,
                    appeared=old is _NOTHING,
                    vanished=new is _NOTHING,
                    run_id=run_id,
                )
            )
    return changes


_NOTHING: Any = object()
_Difference = tuple[str, JsonValue, JsonValue]


def _concerning(path: str, differences: Iterable[_Difference]) -> Iterator[_Difference]:
    """What differs at a path or below it; of what came, went or changed above it, the part at the path."""
    gone: Counter[bytes] = Counter()
    come: Counter[bytes] = Counter()
    for name, old, new in differences:
        if name == path or name.startswith((path + "/", path + "[]")):
            yield name, old, new
        elif path.startswith((name + "/", name + "[]")):
            for found, value in ((gone, old), (come, new)):
                found.update(map(canonical, _at(value, path.removeprefix(name))))
    for text in (gone - come).elements():
        yield path, exact_json.loads_sound(text), _NOTHING
    for text in (come - gone).elements():
        yield path, _NOTHING, exact_json.loads_sound(text)


def _at(value: JsonValue, path: str) -> Iterator[JsonValue]:
    """Every value at a path in a value."""
    if not path:
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            rest = path.removeprefix(f"/{name}")
            if rest != path and (not rest or rest.startswith(("/", "[]"))):
                yield from _at(member, rest)
    elif isinstance(value, list) and path.startswith("[]"):
        for item in value:
            yield from _at(item, path.removeprefix("[]"))


def _differences(old: JsonValue, new: JsonValue, path: str) -> Iterator[_Difference]:
    if old is new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            below = f"{path}/{name}"
            if name not in old:
                yield below, _NOTHING, new[name]
            elif name not in new:
                yield below, old[name], _NOTHING
            else:
                yield from _differences(old[name], new[name], below)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _element_differences(old, new, f"{path}[]")
    elif (type(old) is not type(new) or old != new) and canonical(old) != canonical(new):
        yield path, old, new


def _element_differences(old: list[JsonValue], new: list[JsonValue], path: str) -> Iterator[_Difference]:
    # Most stays as it is, letter by letter, which is seen sooner than what it means.
    if exact_json.dumps(old) == exact_json.dumps(new):
        return
    same = Counter(map(exact_json.dumps, old)) & Counter(map(exact_json.dumps, new))
    before, after = _meanings(old, same), _meanings(new, same)
    for text in (before - after).elements():
        yield path, exact_json.loads_sound(text), _NOTHING
    for text in (after - before).elements():
        yield path, _NOTHING, exact_json.loads_sound(text)


def _meanings(items: list[JsonValue], same: Counter[bytes]) -> Counter[bytes]:
    """What elements mean, in their order, but for those that are the same; of equal ones the last are left out."""
    left = same.copy()
    meanings: list[bytes] = []
    for item in reversed(items):
        text = exact_json.dumps(item)
        if left[text]:
            left[text] -= 1
        else:
            meanings.append(canonical(item))
    return Counter(reversed(meanings))


def _names(entity: Entity) -> dict[str, Any]:
    return {"raw": entity.raw, "key_names": entity.key_names, "document": entity.document_column}
