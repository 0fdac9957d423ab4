"""How assets report: failures as Dagster shows them best, receipts as metadata, previews without personal data.

Names of metadata are stable because Dagster plots them over time. What is loaded does not belong here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
import dagster as dg

from datalake_assets.errors import DatalakeError
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.tables import Table, TableColumn
from datalake_assets.sources.errors import TransientSourceError
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import PostgresError

PREVIEW_ROWS: Final = 10
_PREVIEW_TEXT: Final = 60
MASK: Final = "•••"
_UNREAD: Final = frozenset({"modified_date", "source", "run_id", "loaded_at"})
"""Columns that a preview leaves out: they say the same in every row, or what the run says better."""


@contextmanager
def reported_failures(*, last_attempt: bool = True) -> Iterator[None]:
    """Turn our errors into `dg.Failure`: the sentence as description, and a retry only where one can help.

    Args:
        last_attempt: Whether the step will not be tried again: Dagster would put "Exceeded max_retries" before the
            sentence if a retry were allowed once more.
    """
    try:
        yield
    except DatalakeError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"what": error.what, "where": error.where, "what_to_do": error.todo},
            allow_retries=is_transient(error) and not last_attempt,
        ) from error


def is_transient(error: DatalakeError) -> bool:
    """Whether the same step may succeed if it is tried once more."""
    return isinstance(error, TransientSourceError) or (isinstance(error, PostgresError) and error.transient)


def receipt_metadata(receipt: Receipt) -> dict[str, Any]:
    """The numbers of a receipt, and how many rows of the table belong to its partition."""
    metadata: dict[str, Any] = dict(receipt.metadata())
    written = (receipt.rows_new or 0) + (receipt.rows_changed or 0) + (receipt.rows_removed or 0)
    metadata["dagster/partition_row_count"] = written
    if receipt.snapshot_sha256:
        metadata["lake/snapshot_sha256"] = receipt.snapshot_sha256
    return metadata


def account(receipt: Receipt) -> str:
    """A receipt as one line for the log of a run."""
    outcomes = receipt.outcomes
    counts = {
        "new": receipt.rows_new,
        "changed": receipt.rows_changed,
        "removed": receipt.rows_removed,
        "unchanged": receipt.rows_unchanged,
    }
    if outcomes is not None and receipt.rows_new is None:
        counts = {"asked": outcomes.asked, "data": outcomes.data, "absent": outcomes.absent, "failed": outcomes.failed}
    if outcomes is not None:
        counts["quarantined"] = outcomes.quarantined
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count is not None)
    seconds = "" if receipt.duration_s is None else f" in {receipt.duration_s:.2f} s"
    return f"{receipt.asset}, partition {receipt.partition}: {told}{seconds}."


def column_schema(table: Table, observed: Iterable[tuple[str, str]] | None = None) -> dg.TableSchema:
    """Columns of a table as Dagster shows them.

    Args:
        table: What is declared.
        observed: Name and type of the columns that are there; None: those declared.
    """
    declared = {column.name: column for column in table.columns}
    columns = [(column.name, column.type) for column in table.columns] if observed is None else observed
    return dg.TableSchema(columns=[_column(name, type_, declared.get(name)) for name, type_ in columns])


def _column(name: str, type_: str, declared: TableColumn | None) -> dg.TableColumn:
    if declared is None:
        return dg.TableColumn(name=name, type=type_, description="Not declared.")
    return dg.TableColumn(
        name=name,
        type=type_,
        description=declared.description,
        constraints=dg.TableColumnConstraints(nullable=declared.nullable),
        tags={"lake/personal": "true"} if declared.personal else None,
    )


async def observed_schema(connection: asyncpg.Connection, table: Table) -> dg.TableSchema:
    """The columns that a table in PostgreSQL has at this moment."""
    rows = await connection.fetch(statement("layers/checks/columns.sql"), *table.name)
    return column_schema(table, [(row["name"], row["type"]) for row in rows])


async def preview(
    connection: asyncpg.Connection, table: Table, query: str = "layers/preview.sql"
) -> dg.MarkdownMetadataValue:
    """At most ten rows of a table as Markdown; documents and personal columns are masked.

    Args:
        connection: The lake.
        table: The table.
        query: The statement that chooses the rows.
    """
    columns = [column for column in table.columns if column.name not in _UNREAD]
    read = [column.name for column in columns if not column.personal]
    rows = await connection.fetch(statement(query, table=table.name, names=read, key=table.key), PREVIEW_ROWS)
    lines = ["| " + " | ".join(column.name for column in columns) + " |", "|" + "---|" * len(columns)]
    lines.extend(
        "| " + " | ".join(MASK if column.personal else _cell(row[column.name]) for column in columns) + " |"
        for row in rows
    )
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        # PostgreSQL's "char" arrives as a byte, a digest as sixteen.
        text = value.decode("ascii") if len(value) == 1 else value.hex()[:12]
    else:
        text = "" if value is None else str(value)
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return escaped if len(escaped) <= _PREVIEW_TEXT else escaped[: _PREVIEW_TEXT - 1] + "…"
