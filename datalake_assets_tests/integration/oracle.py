"""What each service must see of a document, worked out path by path from the words of the definition.

Written without a look at the engine's allow-trees, so that both cannot be wrong in the same way: one path is followed
at a time, what several paths keep is laid over each other.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

import datalake_assets

MISSING = object()


def services_of(entity: str) -> dict[str, dict[str, Any]]:
    """The reviewed definitions, as they stand in the file."""
    file = Path(datalake_assets.__file__).parent / "services" / f"{entity}.yaml"
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text("utf-8"))["services"]
    return services


def view(service: Mapping[str, Any], document: Any, key: Iterable[str]) -> Any:
    """What a service sees of a document, or None if it gets no row."""
    seen = keep(document, service["paths"])
    required = service.get("requires", [])
    for one in required:
        alternatives = [one] if isinstance(one, str) else one
        if not any(has_scalar(keep(document, [path])) for path in alternatives):
            return None
    counted = seen if required else without(seen, key)
    return seen if has_scalar(counted) else None


def keep(document: Any, paths: Iterable[str]) -> Any:
    """Lay over each other what every path keeps."""
    if "/" in paths:
        return document
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for name in path.strip("/").split("/"):
            node = node.setdefault(name, {})
        node[None] = {}  # type: ignore[index]
    kept = _walk(document, tree)
    return {} if kept is MISSING else kept


def _walk(value: Any, tree: Mapping[Any, Any]) -> Any:
    if None in tree:
        return MISSING if value is None else value
    if isinstance(value, dict):
        members = {name: _walk(value[name], below) for name, below in tree.items() if name in value}
        return {name: member for name, member in members.items() if member is not MISSING}
    if isinstance(value, list):
        items = [_walk(item, tree) for item in value if isinstance(item, dict | list)]
        return [item for item in items if item is not MISSING]
    return MISSING


def has_scalar(value: Any) -> bool:
    """Whether a value holds a text, number or truth value at any depth."""
    if isinstance(value, dict):
        return any(map(has_scalar, value.values()))
    if isinstance(value, list):
        return any(map(has_scalar, value))
    return value is not None


def without(value: Any, paths: Iterable[str]) -> Any:
    """A copy without what stands at some paths."""
    for path in paths:
        value = _dropped(value, path.strip("/").split("/"))
    return value


def _dropped(value: Any, names: list[str]) -> Any:
    if not isinstance(value, dict) or names[0] not in value:
        return value
    if len(names) == 1:
        return {name: member for name, member in value.items() if name != names[0]}
    return {**value, names[0]: _dropped(value[names[0]], names[1:])}
