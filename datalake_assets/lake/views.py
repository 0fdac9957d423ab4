"""Documents filtered for many services at once: parsed once, walked once, one JSON text for each service's row.

What a service sees is defined by `Service.view`; this is the same for all of them together, several times
as fast, because what services share is visited once. It may be done in another process. Which documents are filtered,
and where the rows go, is in `curated.py`.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

from datalake_assets import exact_json
from datalake_assets.exact_json import JsonValue
from datalake_assets.lake.services import CONTAINERS, WHOLE_DOCUMENT, AllowTree, Service, filtered, holds_data

Path = tuple[str, ...]

Seen = list[tuple[str, bytes | None]]
"""The rows of one document: name of the service, and what it sees as JSON; None: all of it, as it stands."""

_DECODER: Final = json.JSONDecoder(parse_float=orjson.Fragment)
"""Documents come out of the lake, where duplicate keys and NaN never got in; fractions keep their digits as text."""


@dataclass(frozen=True)
class _Plan:
    """What is kept below one place of a document, for several different allow-trees (variants) at once.

    Attributes:
        trees: The variants.
        whole: The variant that keeps everything here, if there is one.
        leaves: Members that are kept whole by all who see them: name, and the variants that see it.
        branches: Other members: name, plan below it, and for each variant there the variants here that it belongs to.
    """

    trees: tuple[AllowTree, ...]
    whole: int | None
    leaves: tuple[tuple[str, tuple[int, ...]], ...]
    branches: tuple[tuple[str, "_Plan", tuple[tuple[int, ...], ...]], ...]


class Views:
    """What each of several services may see of a document.

    Args:
        services: The services.
        key: Paths of the parts of a document's key, which every document holds.
    """

    def __init__(self, services: Sequence[Service], key: Collection[Path]) -> None:
        self._services = tuple(services)
        self._key = frozenset(key)
        self._requirements = _Requirements(services)
        self._plans: dict[tuple[int, ...], tuple[_Plan, list[list[int]]]] = {}
        self._sees_key = [
            any(holds_data(filtered(_nested(path), service.tree)) for path in self._key) for service in services
        ]

    def of(self, document: bytes) -> Seen:
        """The rows of one document.

        Args:
            document: JSON as PostgreSQL writes it.
        """
        try:
            return self._rows(parsed(document))
        except (TypeError, ValueError):  # an integer beyond 64 bits, or of thousands of digits
            return self._rows(exact_json.loads(document))

    def _rows(self, value: JsonValue) -> Seen:
        admitted = self._requirements.met_by(value)
        if not admitted:
            return []
        known = self._plans.get(admitted)
        if known is None:
            trees, users = _distinct([self._services[number].tree for number in admitted])
            known = self._plans[admitted] = _compiled(trees), users
        plan, users = known
        rows: Seen = []
        for seen, places in zip(_kept(value, plan), users, strict=True):
            numbers = [number for number in (admitted[place] for place in places) if self._is_row(number, seen)]
            if numbers:
                text = None if seen is value else exact_json.dumps(seen)
                rows += [(self._services[number].name, text) for number in numbers]
        return rows

    def _is_row(self, number: int, seen: JsonValue) -> bool:
        if not self._services[number].requires:
            return holds_data(seen, apart_from=self._key)
        return self._sees_key[number] or holds_data(seen)


def seen_by(services: tuple[Service, ...], key: frozenset[Path], documents: Sequence[bytes]) -> list[Seen]:
    """What services may see of some documents; see `Views`."""
    views = _views_for(services, key)
    return [views.of(document) for document in documents]


@lru_cache(maxsize=4)
def _views_for(services: tuple[Service, ...], key: frozenset[Path]) -> Views:
    return Views(services, key)


def parsed(document: bytes) -> JsonValue:
    """A document of the lake for looking at: fractions are kept as their text, so its numbers cannot be compared."""
    return _DECODER.decode(document.decode())


class _Requirements:
    """Which services a document meets the requirements of; what several require is looked at once."""

    def __init__(self, services: Sequence[Service]) -> None:
        required = [[(each,) if isinstance(each, str) else each for each in service.requires] for service in services]
        distinct = list(dict.fromkeys(alternatives for each in required for alternatives in each))
        self._distinct = [[_names(path) for path in alternatives] for alternatives in distinct]
        self._services = [[distinct.index(alternatives) for alternatives in each] for each in required]
        self._admitted: dict[tuple[bool, ...], tuple[int, ...]] = {}

    def met_by(self, document: JsonValue) -> tuple[int, ...]:
        met = tuple([any(_holds_below(document, names, 0) for names in paths) for paths in self._distinct])
        admitted = self._admitted.get(met)
        if admitted is None:
            admitted = tuple(
                number for number, required in enumerate(self._services) if all(met[each] for each in required)
            )
            self._admitted[met] = admitted
        return admitted


def holds_data_at(document: JsonValue, path: str) -> bool:
    """Whether a path, as services write them, leads to data in a document."""
    return _holds_below(document, _names(path), 0)


def _names(path: str) -> Sequence[str]:
    """The member names of a path; none for the whole document."""
    return () if path == WHOLE_DOCUMENT else path.split("/")[1:]


def _holds_below(value: JsonValue, names: Sequence[str], depth: int) -> bool:
    """Whether member names lead to data; arrays on the way add nothing to a path."""
    while depth < len(names):
        if isinstance(value, list):
            return any(_holds_below(item, names, depth) for item in value)
        if not isinstance(value, dict):
            return False
        value = value.get(names[depth])
        depth += 1
    return holds_data(value)


def _nested(path: Path) -> JsonValue:
    value: JsonValue = ""
    for name in reversed(path):
        value = {name: value}
    return value


def _distinct(trees: Sequence[AllowTree]) -> tuple[list[AllowTree], list[list[int]]]:
    """The different ones among allow-trees, and where each of them stands."""
    found: list[AllowTree] = []
    places: list[list[int]] = []
    for place, tree in enumerate(trees):
        if tree in found:
            places[found.index(tree)].append(place)
        else:
            found.append(tree)
            places.append([place])
    return found, places


def _compiled(trees: Sequence[AllowTree]) -> _Plan:
    leaves: list[tuple[str, tuple[int, ...]]] = []
    branches: list[tuple[str, _Plan, tuple[tuple[int, ...], ...]]] = []
    for name in sorted({name for tree in trees for name in tree}):
        seeing = [variant for variant, tree in enumerate(trees) if name in tree]
        below, places = _distinct([trees[variant][name] for variant in seeing])
        users = tuple(tuple(seeing[place] for place in some) for some in places)
        if below == [{}]:
            leaves.append((name, users[0]))
        else:
            branches.append((name, _compiled(below), users))
    return _Plan(tuple(trees), trees.index({}) if {} in trees else None, tuple(leaves), tuple(branches))


def _kept(value: JsonValue, plan: _Plan) -> list[JsonValue]:
    """What each variant keeps of a value, as `filtered` says; None: nothing."""
    if len(plan.trees) == 1:
        return [filtered(value, plan.trees[0])]
    kept: list[JsonValue]
    if isinstance(value, dict):
        kept = [{} for _ in plan.trees]
        for name, users in plan.leaves:
            if (member := value.get(name)) is not None:
                for variant in users:
                    kept[variant][name] = member
        for name, below, places in plan.branches:
            if (member := value.get(name)) is not None:
                for part, users in zip(_kept(member, below), places, strict=True):
                    if part is not None:
                        for variant in users:
                            kept[variant][name] = part
    elif isinstance(value, list):
        kept = [[] for _ in plan.trees]
        for item in value:
            if isinstance(item, CONTAINERS):
                for elements, part in zip(kept, _kept(item, plan), strict=True):
                    elements.append(part)
    else:
        kept = [None for _ in plan.trees]
    if plan.whole is not None:
        kept[plan.whole] = value
    return kept
