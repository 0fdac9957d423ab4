"""Columns of every table of an entity, derived from the entity: what checks compare with and the UI shows.

The tables themselves are made by the migrations in `sql/migrations/`; that both agree is a check.
"""

from dataclasses import dataclass
from typing import Final, Literal

from datalake_assets.entities import Entity
from datalake_assets.keys import TableName

Layer = Literal["landing", "raw", "xform", "curated"]
LAYERS: Final[tuple[Layer, ...]] = ("landing", "raw", "xform", "curated")


@dataclass(frozen=True)
class TableColumn:
    """One column as it must be.

    Attributes:
        name: Its name.
        type: PostgreSQL type as `format_type` writes it; for landing, the Arrow type.
        nullable: Whether it may be empty.
        description: What it holds.
        personal: Previews mask it.
    """

    name: str
    type: str
    nullable: bool = True
    description: str = ""
    personal: bool = False


@dataclass(frozen=True)
class Table:
    """One table of an entity.

    Attributes:
        name: Schema and table.
        layer: Which layer it is.
        key: Columns of which no two rows have the same values.
        columns: All columns.
    """

    name: TableName
    layer: Layer
    key: tuple[str, ...]
    columns: tuple[TableColumn, ...]


_FORMAT_TYPE: Final = {"varchar": "character varying", "integer": "integer", "jsonb": "jsonb"}

_BOOKKEEPING: Final = (
    TableColumn("run_id", "text", False, "The run that wrote the row."),
    TableColumn("loaded_at", "timestamp with time zone", False, "When the row was written."),
)


def table_of(entity: Entity, layer: Layer) -> Table:
    """The table of an entity in a layer."""
    return {"landing": _landing, "raw": _raw, "xform": _xform, "curated": _curated}[layer](entity)


def _key(entity: Entity) -> tuple[TableColumn, ...]:
    return tuple(
        TableColumn(c.name, _sql_type(c.type, c.max_length), False, c.description, c.personal) for c in entity.key
    )


def _shown(entity: Entity) -> tuple[TableColumn, ...]:
    columns = tuple(
        TableColumn(c.name, _sql_type(c.type, c.max_length), True, c.description, c.personal) for c in entity.columns
    )
    return columns + tuple(
        TableColumn(name, type_, True, description) for name, type_, description in entity.derived_columns
    )


def _landing(entity: Entity) -> Table:
    key = tuple(
        TableColumn(c.name, "int32" if c.type == "integer" else "string", True, c.description, c.personal)
        for c in entity.key
    )
    return Table(
        name=entity.landing,
        layer="landing",
        key=(),
        columns=(
            *key,
            TableColumn("outcome", "string", False, "data, absent, failed or quarantined."),
            TableColumn("digest", "fixed_size_binary[16]", True, "BLAKE2b of the document's canonical form."),
            TableColumn("document", "large_binary", True, "The cleaned document as UTF-8 JSON.", True),
            TableColumn("rule", "string", True, "The rule that a quarantined document breaks."),
            TableColumn("reason", "string", True, "The same as a sentence."),
            TableColumn("source", "string", False, "Where the answer came from."),
        ),
    )


def _raw(entity: Entity) -> Table:
    return Table(
        name=entity.raw,
        layer="raw",
        key=(*entity.key_names, "load_date"),
        columns=(
            *_key(entity),
            TableColumn(entity.document_column, "jsonb", True, "The document; null where the key is gone.", True),
            TableColumn(entity.dated_column, "timestamp without time zone", False, "The load date, as a timestamp."),
            TableColumn("load_date", "date", False, "The day on which the source answered differently."),
            TableColumn("operation", '"char"', False, "I: insert, U: update, D: delete."),
            TableColumn("digest", "bytea", True, "BLAKE2b of the document's canonical form."),
            TableColumn("source", "text", False, "Where the answer came from."),
            *_BOOKKEEPING,
        ),
    )


def _xform(entity: Entity) -> Table:
    return Table(
        name=entity.xform,
        layer="xform",
        key=entity.key_names,
        columns=(*_key(entity), *_shown(entity), *_state_columns()),
    )


def _curated(entity: Entity) -> Table:
    return Table(
        name=entity.curated,
        layer="curated",
        key=("service", *entity.key_names),
        columns=(
            TableColumn("service", "character varying(64)", False, "The consumer that the row is for."),
            *_key(entity),
            *_shown(entity),
            *_state_columns(),
        ),
    )


def _state_columns() -> tuple[TableColumn, ...]:
    return (
        TableColumn("modified_date", "timestamp without time zone", False, "When the document last changed."),
        TableColumn("load_date", "date", False, "Load date of the change point that is shown."),
        TableColumn("digest", "bytea", False, "BLAKE2b of the whole document's canonical form."),
        *_BOOKKEEPING,
    )


def _sql_type(type_: str, max_length: int | None) -> str:
    name = _FORMAT_TYPE[type_]
    return f"{name}({max_length})" if max_length else name
