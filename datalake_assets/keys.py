"""Names: a dataset has one name, and every place that needs it derives it here.

The asset key in Dagster, the table in PostgreSQL, the folder under `sql/` and the path of the Parquet dataset
are the same two words. What a table holds, and which tables exist, does not belong here (see `entities.py`).
"""

from typing import NamedTuple


class TableName(NamedTuple):
    """Schema and table of one dataset, e.g. `TableName("term_raw", "term_data")`."""

    schema: str
    table: str

    @property
    def parts(self) -> list[str]:
        """The asset key: `["term_raw", "term_data"]`."""
        return [self.schema, self.table]

    @property
    def quoted(self) -> str:
        """The name as SQL text: `"term_raw"."term_data"`."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.table)}"

    @property
    def path(self) -> str:
        """The relative folder of the dataset: `term_raw/term_data`."""
        return f"{self.schema}/{self.table}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def quote_identifier(name: str) -> str:
    """Quote one SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
