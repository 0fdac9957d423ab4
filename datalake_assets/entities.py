"""What a term, a course and a person are: key, columns, sensitive keys and the tables they live in.

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
        pattern: Regular expression that the whole text must match; None: any text.
    """

    name: str
    path: tuple[str, ...]
    type: Literal["varchar", "integer", "jsonb"]
    max_length: int | None = None
    description: str = ""
    personal: bool = False
    pattern: str | None = None

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
    def touched(self) -> TableName:
        """Keys that a layer above the history has to look at, by layer."""
        return TableName("ops", f"{self.name}_touched")

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

COURSE: Final = Entity(
    name="course",
    table="course_data",
    document_column="course_data",
    dated_column="dl_insert_date",
    key=(
        Column("academic_career", ("termDetails", "academicCareer"), "varchar", 4, "Academic career that offers it."),
        Column("term_code", ("termDetails", "term", "code"), "integer", None, "Term in which it is offered."),
        Column("course_id", ("v2", "courseId"), "integer", None, "Number of the course."),
        Column("session_code", ("v2", "sessionCode"), "varchar", 3, "Session of the term."),
    ),
    columns=(Column("course_data", (), "jsonb", None, "The course with its sections, and the term it belongs to."),),
    scope=("term_code",),
    load_hour=2,
    description="Courses of the active terms with their sections, from SnapLogic.",
)

PERSON: Final = Entity(
    name="person",
    table="person_data",
    document_column="person_data",
    dated_column="dl_insert_date",
    key=(Column("bu_uid", ("personid",), "varchar", None, "University id of the person.", personal=True),),
    columns=(Column("person_data", (), "jsonb", None, "What the university knows of the person.", personal=True),),
    load_hour=3,
    description="Students, employees and affiliates, from the person API.",
)


def _id_list(table: str, description: str) -> Entity:
    """A list of people's ids: it is landed, and nothing but the population is made of it."""
    return Entity(
        name="person",
        table=table,
        document_column="document",
        dated_column="load_date",
        key=(Column("bu_uid", ("buid",), "varchar", None, "University id.", personal=True, pattern=r"U\d{8}"),),
        columns=(),
        load_hour=PERSON.load_hour,
        description=description,
    )


PEOPLESOFT_IDS: Final = _id_list("peoplesoft_ids", "Students, from the id queries of PeopleSoft Campus Solutions.")
SAP_IDS: Final = _id_list("sap_ids", "Active employees, from SAP.")
VDS_IDS: Final = _id_list("vds_ids", "Faculty and staff, from the virtual directory (VDS).")
POPULATION: Final = _id_list("population", "Everybody whom PeopleSoft, SAP or VDS name, and who names them.")
ID_SOURCES: Final = (PEOPLESOFT_IDS, SAP_IDS, VDS_IDS)
"""What the population is joined from."""

ENTITIES: Final[tuple[Entity, ...]] = (TERM, COURSE, PERSON)
"""What has a history, a current state and services."""

LANDED: Final[tuple[Entity, ...]] = (*ENTITIES, *ID_SOURCES, POPULATION)
"""What has snapshots."""
