"""What a term is: key, columns, sensitive keys and the tables it lives in. Later entities are added here.

An entity is plain data. How documents are fetched (`sources/`), kept (`lake/`) and shown as assets (`assets/`)
follows from it and does not belong here.
"""

from dataclasses import dataclass
from typing import Final, Literal

from datalake_assets.keys import TableName

SENSITIVE_KEYS: Final = frozenset({"ssn", "socialsecuritynumber", "sexualorientation", "finaid", "finaidreceived"})
"""Keys removed at any depth and in any letter case before anything is written or logged (lower case here)."""


@dataclass(frozen=True)
class Column:
    """One column that is read out of a document.

    Attributes:
        name: Column name in the tables.
        path: Members to follow from the top of the document; empty: the whole document.
        type: PostgreSQL type, as it appears in the table.
        max_length: Longest text that fits, in characters; None: no limit.
        description: What the column holds.
        personal: The value identifies or describes a person, and previews mask it.
    """

    name: str
    path: tuple[str, ...]
    type: Literal["varchar", "integer", "jsonb"]
    max_length: int | None = None
    description: str = ""
    personal: bool = False

    @property
    def sql_type(self) -> str:
        """The type with its length, e.g. `varchar(4)`."""
        return f"{self.type}({self.max_length})" if self.max_length else self.type


@dataclass(frozen=True)
class Entity:
    """One kind of document with a key.

    Attributes:
        name: Singular noun; prefix of the schemas.
        table: Table of the raw history, e.g. `term_data`.
        document_column: Column that holds the document in raw.
        dated_column: Column by which readers of raw know when a row was loaded.
        key: Columns that identify a document.
        derived_columns: Columns of current and curated tables that are worked out from the whole table:
            name, type as PostgreSQL writes it, description.
        scope: Key columns by which an entity is loaded in independent slices (courses: by term).
        columns: What current and curated tables show beside the key.
        ordered: Paths of arrays whose order carries meaning; all other arrays are compared as multisets.
        load_hour: Hour of the day, in the university's time zone, at which the daily load starts.
        owner: Who answers for the tables, as Dagster shows it.
        description: One sentence for readers.
    """

    name: str
    table: str
    document_column: str
    dated_column: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    load_hour: int
    derived_columns: tuple[tuple[str, str, str], ...] = ()
    scope: tuple[str, ...] = ()
    ordered: frozenset[tuple[str, ...]] = frozenset()
    owner: str = "team:data-engineering"
    description: str = ""

    @property
    def landing(self) -> TableName:
        """The Parquet snapshots."""
        return TableName(f"{self.name}_landing", self.table)

    @property
    def raw(self) -> TableName:
        """The history of changes."""
        return TableName(f"{self.name}_raw", self.table)

    @property
    def xform(self) -> TableName:
        """The current state."""
        return TableName(f"{self.name}_xform", f"current_{self.table}")

    @property
    def curated(self) -> TableName:
        """What each service may see."""
        return TableName(f"{self.name}_curated", f"{self.table}_by_service")

    @property
    def known_paths(self) -> frozenset[str]:
        """Paths that documents are known to have, as services write them; empty where any path may occur."""
        columns = (*self.key, *self.columns)
        if not all(column.path for column in columns):
            return frozenset()
        return frozenset("/" + "/".join(column.path) for column in columns)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key columns, in order."""
        return tuple(column.name for column in self.key)


TERM: Final = Entity(
    name="term",
    table="term_data",
    document_column="term_data",
    dated_column="modified_date",
    key=(
        Column("acad_career", ("ACAD_CAREER",), "varchar", 4, "Academic career, e.g. UGRD."),
        Column("strm", ("STRM",), "varchar", 4, "Term code; within a career it orders the terms in time."),
    ),
    columns=(
        Column("descr", ("DESCR",), "varchar", 20, "Name of the term, e.g. Fall 2025."),
        Column("term_begin_dt", ("TERM_BEGIN_DT",), "varchar", 8, "First day, as the source writes it."),
        Column("term_end_dt", ("TERM_END_DT",), "varchar", 8, "Last day, as the source writes it."),
        Column("current_ind", ("CURRENT_IND",), "varchar", 1, "Y on the current term of the career."),
        Column("bu_cur_future_term", ("BU_CUR_FUTURE_TERM",), "varchar", 1, "C or F on current and future terms."),
        Column("bu_future_term_1", ("BU_FUTURE_TERM_1",), "varchar", 4, "Code of the next term."),
        Column("bu_past_term_1", ("BU_PAST_TERM_1",), "varchar", 4, "Code of the term before."),
        Column("old_term", ("OLD_TERM",), "varchar", 5, "Code of the term in the system before PeopleSoft."),
        Column("acad_year", ("ACAD_YEAR",), "varchar", 4, "Academic year."),
    ),
    derived_columns=(("rownumber", "integer", "Place of the term by career and code."),),
    load_hour=1,
    description="Academic terms of every career, from PeopleSoft Campus Solutions (query BU_TERM_QRY).",
)

ENTITIES: Final[tuple[Entity, ...]] = (TERM,)
