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
    sql: str
    nullable = False
    path: tuple[str, ...]
    max_length = 4

    def __new__(cls, name: str, type_name: str, path: tuple[str, ...] = ()) -> Self:
        """Make one from its name, its PostgreSQL type and its path in the document."""
        column = super().__new__(cls, name)
        column.name = name
        column.type = column.sql_type = column.sql = type_name
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
part = TableName("lake_parts", "omis_dataset_1")
index = TableName("dit", "omis_dataset_key")
column = columns[0]
name, by, schema, role, stage = "acad_career", "acad_career", "dit", "reader", "stage_1"
is_unique = True
method = 'btree ("acad_career")'
definition = "check (strm > '2')"
text = "'words'"


class Step:
    """A rule for rows."""

    where = "strm is null"
    set = {"strm": "'0000'"}  # noqa: RUF012


rules = (Step(), Step())
types = {"strm": "text"}
view = TableName("dit", "completed_omis_orders")
fields = ({"expression": "strm", "name": "Term"}, {"expression": "net_price / 100", "name": "Net Price"})
condition = "net_price > 0"
periods = ({"start": "date '2019-07-01'", "view": view, "missing": {}},)
