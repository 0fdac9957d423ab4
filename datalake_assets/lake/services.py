"""Services: named consumers, each with an allow-list of paths into a document.

Reads and checks the definitions in `datalake_assets/services/`, compiles a path list into an allow-tree and
filters documents with it. Which rows a service's selection names, and how they are written, is in `curated.py`.
"""

import difflib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Self

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datalake_assets.entities import SENSITIVE_KEYS, Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.exact_json import JsonValue
from datalake_assets.statements import has_statement

WHOLE_DOCUMENT = "/"
"""The path of a service that sees everything (sensitive keys are gone long before)."""

AllowTree = Mapping[str, "AllowTree"]
"""Member name to what is allowed below it; an empty mapping allows the whole subtree."""

CONTAINERS: Final = (dict, list)

Pointer = Annotated[str, Field(pattern=r"^/([^/]+(/[^/]+)*)?$")]


class ServiceError(DatalakeError):
    """A service definition cannot be used."""


class Service(BaseModel):
    """One consumer of an entity.

    Attributes:
        name: Value of the `service` column.
        description: What the service does with the data.
        owner: Who answers for its definition.
        paths: What it may see, as slash-separated member names; arrays add no element to a path.
        requires: Paths that must hold data for a row to exist; any one of a nested list is enough.
        select: Name of a statement beside the curated table's that picks the keys; None: every key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    description: str = Field(min_length=10)
    owner: str = Field(pattern=r"^(team:\S+|\S+@\S+)$")
    paths: tuple[Pointer, ...] = Field(min_length=1)
    requires: tuple[Pointer | tuple[Pointer, ...], ...] = ()
    select: str | None = Field(default=None, pattern=r"^[a-z_]+$")

    @model_validator(mode="after")
    def _nothing_sensitive(self) -> Self:
        for path in (*self.paths, *self.required_paths):
            for name in path.split("/"):
                if name.lower() in SENSITIVE_KEYS:
                    raise ValueError(f"path {path} names {name}, which is never kept")
        return self

    @property
    def required_paths(self) -> Iterator[str]:
        """Every path of `requires`, alternatives included."""
        for required in self.requires:
            yield from (required,) if isinstance(required, str) else required

    @cached_property
    def tree(self) -> AllowTree:
        """The paths as an allow-tree."""
        return compile_paths(self.paths)

    @cached_property
    def required_trees(self) -> tuple[tuple[AllowTree, ...], ...]:
        """The paths of `requires` as allow-trees: of each inner tuple any one must hold data."""
        return tuple(
            tuple(compile_paths((path,)) for path in ((required,) if isinstance(required, str) else required))
            for required in self.requires
        )

    @cached_property
    def version(self) -> str:
        """Identity of the definition as far as rows depend on it."""
        text = orjson.dumps([sorted(self.paths), sorted(map(str, self.requires)), self.select])
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def view(self, document: JsonValue, key: Collection[tuple[str, ...]] = ()) -> JsonValue | None:
        """What the service may see of a document, or None if it gets no row.

        A row exists if what it sees holds a value, and so does every required path. Where nothing is required, a
        value of the key is not enough: there would be a row of every document.

        Args:
            document: A whole document.
            key: Paths of the parts of its key.
        """
        for alternatives in self.required_trees:
            if not any(holds_data(filtered(document, tree)) for tree in alternatives):
                return None
        seen = filtered(document, self.tree)
        return seen if holds_data(seen, apart_from=() if self.requires else key) else None


def compile_paths(paths: tuple[str, ...]) -> AllowTree:
    """Compile paths into an allow-tree; a path above another allows what is below it."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        if path == WHOLE_DOCUMENT:
            return {}
        names = path.strip("/").split("/")
        node = root
        for name in names[:-1]:
            if name in node and not node[name]:
                break
            node = node.setdefault(name, {})
        else:
            node[names[-1]] = {}
    return root


def filtered(value: JsonValue, tree: AllowTree) -> JsonValue | None:
    """Keep what an allow-tree allows.

    At a leaf the whole subtree is kept unless it is null; an object keeps the allowed members it has; an array is
    filtered element by element; a scalar where the tree goes deeper is dropped.
    """
    if not tree:
        return value
    if isinstance(value, dict):
        kept = {}
        for name, below in tree.items():
            if name in value:
                member = filtered(value[name], below)
                if member is not None:
                    kept[name] = member
        return kept
    if isinstance(value, list):
        return [filtered(item, tree) for item in value if isinstance(item, CONTAINERS)]
    return None


def holds_data(
    value: JsonValue | None, *, apart_from: Collection[tuple[str, ...]] = (), path: tuple[str, ...] = ()
) -> bool:
    """Whether a value holds a scalar at any depth; null is none.

    Args:
        value: Any value.
        apart_from: Paths of members that do not count.
        path: Where the value stands.
    """
    if path in apart_from:
        return False
    if isinstance(value, dict):
        return any(holds_data(member, apart_from=apart_from, path=(*path, name)) for name, member in value.items())
    if isinstance(value, list):
        return any(holds_data(item, apart_from=apart_from, path=path) for item in value)
    return value is not None


@dataclass(frozen=True)
class ServiceFile:
    """The services of one entity and the lines on which they are defined."""

    path: Path
    services: tuple[Service, ...]
    lines: Mapping[str, int]


def load_services(entity: Entity, folder: Path | None = None) -> ServiceFile:
    """Read the services of an entity.

    Args:
        entity: Whose services.
        folder: Where `<entity>.yaml` is; by default the folder in this package.

    Raises:
        ServiceError: The file is missing or wrong; the message names file, line and what is allowed.
    """
    path = (folder or Path(__file__).parent.parent / "services") / f"{entity.name}.yaml"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ServiceError(
            f"The services of {entity.name} cannot be read: {reason}.",
            where=path.name,
            todo="Every entity needs a file of services; CONTRIBUTING.md shows one.",
        ) from None
    return _read(entity, path, text)


@lru_cache(maxsize=16)  # hundreds of lines each, and every step of a run looks at one
def _read(entity: Entity, path: Path, text: str) -> ServiceFile:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicate_keys(node, path)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ServiceError(f"The file is not YAML: {error.problem}.", where=f"{path.name} line {line}") from None
    except (yaml.reader.ReaderError, ValueError) as error:
        problem = error.reason if isinstance(error, yaml.reader.ReaderError) else error
        raise ServiceError(f"The file is not YAML: {problem}.", where=path.name) from None
    lines = _lines(node)
    if not isinstance(content, dict) or set(content) != {"entity", "services"} or content["entity"] != entity.name:
        raise ServiceError(
            f"The file must hold exactly `entity: {entity.name}` and `services:`.",
            where=f"{path.name} line 1",
        )
    if not isinstance(content["services"], dict) or not content["services"]:
        raise ServiceError("`services:` must name at least one service.", where=f"{path.name} line 1")
    services = tuple(
        _service(entity, name, fields, f"{path.name} line {lines.get(str(name), 0)}")
        for name, fields in content["services"].items()
    )
    return ServiceFile(path=path, services=services, lines=lines)


_FIELDS: Final = f"Fields of a service: {', '.join(field for field in Service.model_fields if field != 'name')}."


def _service(entity: Entity, name: Any, fields: Any, where: str) -> Service:
    if not isinstance(fields, dict) or "name" in fields:
        raise ServiceError(f"Service {name} must hold fields, and `name` is none of them.", where=where, todo=_FIELDS)
    try:
        service = Service.model_validate({"name": name, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "definition"
        raise ServiceError(f"Service {name}: {field}: {first['msg']}.", where=where, todo=_FIELDS) from None
    if service.select and not has_statement(f"{entity.curated.path}/{service.select}.sql"):
        raise ServiceError(
            f"Service {name}: there is no selection {service.select}.",
            where=where,
            todo=f"Write it as sql/{entity.curated.path}/{service.select}.sql, or leave `select` out.",
        )
    key = {"/" + "/".join(column.path) for column in entity.key}
    if key.issuperset(service.paths) and not service.requires:
        raise ServiceError(
            f"Service {name} sees nothing beyond the key and requires nothing, so it would never have a row.",
            where=where,
            todo="Add the paths that it is for, or what it requires of a document.",
        )
    known_paths = entity.known_paths
    for path in (*service.paths, *service.required_paths):
        if path == WHOLE_DOCUMENT or not known_paths or path in known_paths:
            continue
        close = difflib.get_close_matches(path, known_paths, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known_paths))}."
        raise ServiceError(f"Service {name}: no document of {entity.name} has a path {path}.", where=where, todo=hint)
    return service


def _lines(node: yaml.Node | None) -> dict[str, int]:
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "services" and isinstance(value, yaml.MappingNode):
                lines = {service.value: service.start_mark.line + 1 for service, _ in value.value}
    return lines


def _refuse_duplicate_keys(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ServiceError(
                        f"The key {key.value!r} stands twice.",
                        where=f"{path.name} line {key.start_mark.line + 1}",
                    )
                seen.add(key.value)
            _refuse_duplicate_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicate_keys(item, path)
