"""One partition of a table replaced by other rows: deleted and written in one transaction, with fence and receipt.

The rows are copied straight into the table, which halves the work of a staging table: they come from a snapshot on a
disk or from tables beside it, never from a source that could keep the table locked. What the rows are, and whether
there are enough of them, does not belong here.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import asyncpg
import pyarrow as pa

from datalake_assets.keys import TableName
from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.declared import Column
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import copy_batches, lock_slice, scrubbing, supervised
from datalake_assets.storage.postgres_types import Column as Found
from datalake_assets.storage.postgres_types import columns_of

DEADLINE_S: Final = 1800.0
"""Longest time for one partition: the largest month of taxi trips has sixteen million rows."""


class PartitionError(LoadError):
    """A table is not what was declared, or a partition's rows do not add up."""


@dataclass(frozen=True)
class TableColumn:
    """One column as it must be in the table; `sql` as `format_type` writes it."""

    name: str
    sql: str
    nullable: bool = True


@dataclass(frozen=True)
class PartitionedTable:
    """A table whose partitions are told apart by columns.

    Attributes:
        name: Schema and table.
        columns: All of them, those of the partition first.
        partition: Names of those that tell a partition; empty for a table that is replaced as a whole.
    """

    name: TableName
    columns: tuple[TableColumn, ...]
    partition: tuple[str, ...]


def declared_table(
    name: TableName, dimensions: Iterable[tuple[str, str]], columns: Sequence[Column]
) -> PartitionedTable:
    """The table of declared columns.

    Args:
        name: Schema and table.
        dimensions: Names and types of the columns that tell a partition.
        columns: The declared ones.
    """
    told = tuple(TableColumn(dimension, sql, nullable=False) for dimension, sql in dimensions)
    rest = tuple(TableColumn(column.name, column.type.sql, column.nullable) for column in columns)
    return PartitionedTable(name, told + rest, tuple(column.name for column in told))


async def ensure_table(connection: asyncpg.Connection, table: PartitionedTable) -> None:
    """Make the table if it is missing; columns that were declared since are added.

    Raises:
        PartitionError: It has a column of another type, or one that nobody declares and that must not be empty.
    """
    with scrubbing(str(table.name)):
        async with connection.transaction():
            await lock_slice(connection, str(table.name), "create")
            there = await columns_of(connection, table.name.table, table.name.schema)
            if there:
                await _extend(connection, table, there)
                return
            await lock_slice(connection, "schema", table.name.schema)
            await connection.execute(statement("files/create_schema.sql", table=table.name))
            await connection.execute(statement("files/create_table.sql", table=table.name, columns=table.columns))
            if table.partition:
                index = statement("files/create_index.sql", table=table.name, key_names=table.partition)
                await connection.execute(index)


async def _extend(connection: asyncpg.Connection, table: PartitionedTable, there: Sequence[Found]) -> None:
    declared = {column.name: column for column in table.columns}
    found = {column.name: column for column in there}
    new = [column for column in table.columns if column.name not in found]
    flaws = [f"{each.name} is missing" for each in new if not each.nullable]
    for name, column in found.items():
        if name not in declared:
            flaws += [f"{name} is not declared but must not be empty"] * (not (column.nullable or column.filled))
        elif column.declared != declared[name].sql:
            flaws.append(f"{name} is {column.declared}, not {declared[name].sql}")
    if flaws:
        raise PartitionError(
            f"The table is not what is declared: {'; '.join(flaws)}.",
            where=str(table.name),
            todo="Change the table to fit (alter table), or set it aside and load all partitions again.",
        )
    for each in new:
        await connection.execute(statement("files/add_column.sql", table=table.name, column=each))


Guard = Callable[[int], Awaitable[None]]
"""Refuses a load by raising, given how many rows the partition had."""


async def replace_partition(
    connection: asyncpg.Connection,
    ledger: Ledger,
    table: PartitionedTable,
    values: Sequence[str | date],
    batches: Iterable[pa.RecordBatch],
    receipt: Receipt,
    *,
    guard: Guard | None = None,
    deadline_s: float = DEADLINE_S,
) -> Receipt:
    """Replace a partition by Arrow batches.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Attempts and receipts.
        table: The table, which is there.
        values: Of the columns that tell the partition.
        batches: The rows, without those columns; from memory or a local file.
        receipt: Asset, partition, run, and outcomes: as many rows as their `data` must come.
        guard: Asked before anything is changed.
        deadline_s: Longest time by the clock on the wall.

    Returns:
        The receipt as it was written.

    Raises:
        PartitionError: Another number of rows came than the receipt says.
        SupersededError: Another attempt at the partition has begun.
        PostgresError: The server refused or went away.
    """
    constants = dict(zip(table.partition, values, strict=True))

    async def copy() -> int:
        names = [column.name for column in table.columns]
        return await copy_batches(
            connection,
            table.name.table,
            names,
            with_constants(batches, constants, names),
            schema=table.name.schema,
            deadline_s=deadline_s,
        )

    return await _replaced(connection, ledger, table, values, copy, receipt, guard, deadline_s)


async def replace_partition_by_query(
    connection: asyncpg.Connection,
    ledger: Ledger,
    table: PartitionedTable,
    values: Sequence[str | date],
    query: str,
    receipt: Receipt,
    *,
    deadline_s: float = DEADLINE_S,
) -> Receipt:
    """Replace a partition by what a statement inserts, which takes the partition's values as its parameters.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Attempts and receipts.
        table: The table, which is there.
        values: Of the columns that tell the partition.
        query: An `insert into … select …` of this partition alone.
        receipt: Asset, partition, run, and outcomes if it is known how many rows must come: as many as their `data`.
        deadline_s: Longest time by the clock on the wall.

    Raises:
        SupersededError: Another attempt at the partition has begun.
        PostgresError: The server refused or went away.
    """

    async def insert() -> int:
        return int((await connection.execute(query, *values)).rpartition(" ")[2])

    return await _replaced(connection, ledger, table, values, insert, receipt, None, deadline_s)


async def _replaced(
    connection: asyncpg.Connection,
    ledger: Ledger,
    table: PartitionedTable,
    values: Sequence[str | date],
    write: Callable[[], Awaitable[int]],
    receipt: Receipt,
    guard: Guard | None,
    deadline_s: float,
) -> Receipt:
    where = f"{receipt.asset}, partition {receipt.partition}"
    started = time.monotonic()

    async def work() -> Receipt:
        async with connection.transaction():
            await lock_slice(connection, receipt.asset, receipt.partition, deadline_s=deadline_s)
            delete = statement("files/delete_partition.sql", table=table.name, key_names=table.partition)
            removed = int((await connection.execute(delete, *values)).rpartition(" ")[2])
            if guard is not None:
                await guard(removed)
            reach("mid_copy")
            rows = await write()
            if receipt.outcomes is not None and rows != receipt.outcomes.data:
                raise PartitionError(
                    f"{receipt.outcomes.data:,} rows were to come, but {rows:,} were written.",
                    where=where,
                    todo="Nothing was changed. See whether a lookup holds a key twice, or land the file again.",
                )
            done = replace(
                receipt, rows_new=rows, rows_removed=removed, duration_s=round(time.monotonic() - started, 3)
            )
            reach("before_commit")
            await ledger.write(connection, done, attempt)
        reach("after_commit")
        return done

    with scrubbing(where):
        attempt = await ledger.begin(connection, receipt.asset, receipt.partition, receipt.run_id)
        return await supervised(connection, work(), deadline_s=deadline_s, doing=f"replacing {where}")


def with_constants(
    batches: Iterable[pa.RecordBatch], constants: Mapping[str, str | date], names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of a table: some of them with one value in all rows, the others as they come."""
    for batch in batches:
        arrays: list[Any] = [
            pa.repeat(pa.scalar(constants[name]), batch.num_rows) if name in constants else batch.column(name)
            for name in names
        ]
        yield pa.RecordBatch.from_arrays(arrays, list(names))
