"""What sqlfluff renders the templates in `sql/` with: the project's filters and one example of every name.

A name that a template asks for and that is missing here is a lint error, so a misspelt one is found before
anything runs. Values never appear: they are bound parameters.
"""

from typing import Self

from datalake_assets.keys import TableName
from datalake_assets.statements import _environment


class Column(str):
    """A column: just its name to some templates, with type and path to others."""

    name: str
    type: str
    sql_type: str
    path: tuple[str, ...]
    max_length = 4

    def __new__(cls, name: str, type_name: str, path: tuple[str, ...] = ()) -> Self:
        """Make one from its name, its PostgreSQL type and its path in the document."""
        column = super().__new__(cls, name)
        column.name = name
        column.type = column.sql_type = type_name
        column.path = path
        return column


# The name that sqlfluff looks for.
SQLFLUFF_JINJA_FILTERS = _environment().filters

raw = TableName("term_raw", "term_data")
xform = TableName("term_xform", "current_term_data")
curated = TableName("term_curated", "term_data_by_service")
marks = TableName("ops", "term_filtered")
touched = TableName("ops", "term_touched")
whole = True
of_answers = True
partition = TableName("term_curated", "term_data_by_service__advising")
table = raw
key = (Column("acad_career", "varchar", ("ACAD_CAREER",)), Column("strm", "varchar", ("STRM",)))
key_names = ("acad_career", "strm")
scope = ("strm",)
columns = (*key, Column("document", "jsonb"))
document = "document"
dated = "load_date"
into = "loaded"
service = "advising"
query = "select 1"
sensitive = ("national_id",)
names = key_names
tables = (raw, xform)
old_raw, old_xform, old_curated = raw, xform, curated
prepared, state = "prepared", "state"
shows_documents = True
kind = "table"
zone = "UTC"
