"""A copy of a table's partitions in DuckDB, for analysis: each partition replaced in one transaction.

It is made of the same snapshots as the table, so it needs nothing from the table. Who opens the file, which one process
at a time may write, does not belong here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from datalake_assets.lake.partition_replace import PartitionedTable, PartitionError, with_constants
from datalake_assets.lake.row_rules import duckdb_type
from datalake_assets.statements import statement

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Copied:
    """How many rows a copy has now, in the partition and in all."""

    partition_rows: int
    table_rows: int


def replace_copy(
    connection: "DuckDBPyConnection",
    table: PartitionedTable,
    values: Sequence[str | date],
    batches: Iterable[pa.RecordBatch],
) -> Copied:
    """Replace a partition of the copy.

    Args:
        connection: DuckDB, open for writing.
        table: The table that is copied; schema and name are the same in DuckDB.
        values: Of the columns that tell the partition.
        batches: The rows, without those columns.

    Raises:
        PartitionError: The copy has other columns than the table, or DuckDB refuses the rows.
    """
    import duckdb  # takes a tenth of a second, which definitions need not wait for

    names = [column.name for column in table.columns]
    constants = dict(zip(table.partition, values, strict=True))
    rows = with_constants(batches, constants, names)
    connection.begin()
    try:
        _ensure_table(connection, table)
        connection.execute(
            statement("files/delete_partition.sql", table=table.name, key_names=table.partition), [*values]
        )
        if (stream := _stream(rows)) is not None:
            connection.register("row_batches", stream)
            connection.execute(statement("files/insert_batches.sql", table=table.name, names=names))
            connection.unregister("row_batches")
        of_partition = statement("files/count.sql", table=table.name, key_names=table.partition)
        in_all = statement("files/count.sql", table=table.name, key_names=())
        counts = [_one(connection, of_partition, values), _one(connection, in_all, ())]
        connection.commit()
    except duckdb.Error as error:
        connection.rollback()
        # What DuckDB says holds values of the rows.
        raise PartitionError(
            f"DuckDB could not take the rows ({type(error).__name__}); the copy is as it was.",
            where=str(table.name),
            todo="Materialise the copy again; if it repeats, drop the table in DuckDB and materialise all partitions.",
        ) from None
    except BaseException:
        connection.rollback()
        raise
    return Copied(*counts)


def _ensure_table(connection: "DuckDBPyConnection", table: PartitionedTable) -> None:
    """Make the copy if it is missing; columns that were declared since are added, as in the table."""
    columns = [replace(each, sql=duckdb_type(each.sql)) for each in table.columns]
    there = dict(connection.execute(statement("files/columns.sql"), list(table.name)).fetchall())
    if not there:
        connection.execute(statement("files/create_schema.sql", table=table.name))
        connection.execute(statement("files/create_table.sql", table=table.name, columns=columns))
        return
    types = {}
    for each in columns:
        described = connection.execute(statement("files/typed_null.sql", column=each)).description
        types[each.name] = str(described[0][1]) if described else ""
    flaws = []
    for each in columns:
        if each.name not in there:
            if not each.nullable:
                flaws.append(each.name)
            else:
                connection.execute(statement("files/add_column.sql", table=table.name, column=each))
        elif there[each.name] != types[each.name]:
            flaws.append(each.name)
    if flaws or there.keys() - types.keys():
        flaws += sorted(there.keys() - types.keys())
        raise PartitionError(
            f"The copy in DuckDB has other columns than are declared now: {', '.join(flaws)}.",
            where=str(table.name),
            todo="Drop the table in DuckDB, or remove the file, and materialise all partitions of the copy again.",
        )


def _stream(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader | None:
    first = next(batches, None)
    return None if first is None else pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _one(connection: "DuckDBPyConnection", query: str, values: Sequence[str | date]) -> int:
    row = connection.execute(query, [*values]).fetchone()
    return int(row[0]) if row else 0
