"""What every declared pipeline's component is: a model read from `defs.yaml`, and a builder that knows nothing of YAML.

Attributes are taken as they stand: Dagster's own templates (`{{ env.X }}`) are not rendered, because a variable that
is not set would stop the whole code location; credentials are named by resource. What a pipeline does belongs to its
component.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import dagster as dg
import yaml
from pydantic import AfterValidator, BaseModel, Field

from datalake_assets.keys import TableName
from datalake_assets.lake.declared import DeclarationError, parse_type
from datalake_assets.settings import load_settings

_FILE = "defs.yaml"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OWNER = re.compile(r"team:[A-Za-z0-9_.-]+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_LONGEST_IDENTIFIER = 63
_SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


def _is_owner(owner: str) -> str:
    if not _OWNER.fullmatch(owner):
        raise ValueError(f"{owner!r} owns nothing: write `team:name` or an e-mail address")
    return owner


Owner = Annotated[
    str, AfterValidator(_is_owner), Field(description="Who answers for it: `team:name` or an e-mail address.")
]


def _is_type(words: str) -> str:
    try:
        parse_type(words)
    except DeclarationError as error:
        raise ValueError(str(error)) from None
    return words


TypeWords = Annotated[
    str,
    AfterValidator(_is_type),
    Field(
        description="`varchar(n)`, `text`, `smallint`, `integer`, `bigint`, `decimal`, `decimal(p,s)`, `double`, "
        "`boolean`, `date`, `timestamp`, `timestamptz` or `jsonb`.",
        # For `dg check yaml`, which knows the schema alone.
        json_schema_extra={
            "pattern": r"^((varchar|character varying) ?\( ?\d+ ?\)|(decimal|numeric)( ?\( ?\d+ ?(, ?\d+ ?)?\))?|text|"
            r"smallint|int2|integer|int|int4|bigint|int8|double( precision)?|float8|bool(ean)?|date|timestamptz|"
            r"timestamp( with(out)? time zone)?|jsonb)$"
        },
    ),
]


def _refuse_repeated_words(file: Path) -> None:
    """Refuse a mapping that says the same word twice: YAML would take the last and forget the first.

    Raises:
        DeclarationError: There is one.
    """

    def look(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for word, value in node.value:
                if word.value in seen:
                    raise DeclarationError(
                        f"`{word.value}` stands twice, so that the first would be forgotten.",
                        where=f"{file}:{word.start_mark.line + 1}",
                        todo="Make one of both.",
                    )
                seen.add(str(word.value))
                look(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                look(item)

    for document in yaml.compose_all(file.read_text("utf-8"), Loader=yaml.SafeLoader):
        look(document)


def source_spec(key: Sequence[str]) -> dg.AssetSpec:
    """What is outside and read, as an asset; alike in every pipeline that reads it, or Dagster refuses them all.

    Args:
        key: Name of the source, and what is read of it.
    """
    return dg.AssetSpec(
        key=key,
        group_name=key[0],
        kinds={"source"},
        tags={"lake/layer": "source"},
        owners=["team:data-engineering"],
        description=f"One row per record or row of {key[-1]}, as {key[0]} has it.",
    )


def refuse_source_key(source: Sequence[str], tables: Sequence[TableName]) -> None:
    """Refuse a source that Dagster could not tell from a table.

    Raises:
        ValueError: It is called as one of them.
    """
    if tuple(source) in {tuple(table) for table in tables}:
        raise ValueError(
            f"{'/'.join(source)} would be both what is read and the table: give schema, table or resource another name"
        )


def refuse_column_name(name: str) -> None:
    """Refuse a name that PostgreSQL would cut off without a word, or has given away.

    Raises:
        ValueError: It is one.
    """
    if len(name.encode()) > _LONGEST_IDENTIFIER or "\0" in name:
        raise ValueError(f"{name!r} is longer than the {_LONGEST_IDENTIFIER} bytes of a name: give another one by `to`")
    if name in _SYSTEM_COLUMNS:
        raise ValueError(f"{name} is a column of every table in PostgreSQL: give another name by `to`")


class YamlComponent(dg.Component):
    """A component whose attributes are a frozen model.

    Args:
        spec: The attributes.
    """

    model: ClassVar[type[BaseModel]]

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel] | None:
        """The model that `dg check yaml` compares with."""
        return cls.model

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """The component of a `defs.yaml`."""
        if (file := context.path / _FILE).is_file():
            _refuse_repeated_words(file)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Everything that the pipeline consists of."""
        return self.build(running=load_settings().schedules_run)

    @abstractmethod
    def build(self, *, running: bool) -> dg.Definitions:
        """Build from the attributes alone.

        Args:
            running: Whether schedules start running.
        """


class YamlScaffolder(dg.Scaffolder):
    """Writes a `defs.yaml` that loads as it stands."""

    stub: ClassVar[str]

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the stub.

        Args:
            request: Where, and for which component.
        """
        name = request.target_path.name.lower().replace("-", "_")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{request.target_path.name!r} cannot name a table: use small letters, digits and _.")
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = f"type: {request.type_name}\n\nattributes:\n" + self.stub.replace("NAME", name)
        yaml.safe_load(text)
        (request.target_path / _FILE).write_text(text, "utf-8")
