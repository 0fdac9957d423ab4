"""The Dagster IO manager of the lake's tables: what an asset returns replaces its slice, what it asks for is read.

What belongs here: how an asset key, a partition key and a type annotation map to tables, slices and frames, and the
one transaction in which a slice changes. Work from table to table is SQL with `deps=`, not a frame through an IO
manager; connections and COPY are in `postgres.py`.

See https://docs.dagster.io/guides/build/io-managers.
"""

import asyncio
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from datetime import time as clock_time
from itertools import chain
from typing import Any, Final, Protocol, get_args, get_origin

import asyncpg
import dagster as dg
import pyarrow as pa
from pydantic import Field

from datalake_assets.errors import DatalakeError
from datalake_assets.keys import TableName, quote_identifier
from datalake_assets.storage.parquet_io_manager import stream
from datalake_assets.storage.postgres import (
    PostgresAddress,
    copy_batches,
    lock_slice,
    read_batches,
    run_to_end,
    scrubbing,
    session,
    supervised,
)
from datalake_assets.storage.postgres_types import Column, arrow_type, columns_of, declaration

WHOLE_TABLE: Final = ""
"""Partition of an asset that has none, as the ledger keeps it."""

_MIDNIGHT: Final = clock_time()
_READ_ROWS: Final = 10_000


class TableError(DatalakeError):
    """An output or an input does not fit its table; nothing was changed."""


class LoadLedger(Protocol):
    """Who may commit a slice: every load announces an attempt, and only the latest may commit."""

    async def begin(self, connection: asyncpg.Connection, asset: str, partition: str, run_id: str) -> int:
        """Announce an attempt at a slice, in a transaction of its own, and return its number."""
        ...

    async def commit(self, connection: asyncpg.Connection, asset: str, partition: str, attempt: int, rows: int) -> None:
        """Record a load in the transaction that makes it; raises if a later attempt has begun."""
        ...


class PostgresIOManager(dg.ConfigurableIOManager, ABC):
    """Keeps the outputs of assets in the tables of their names and loads them again.

    A subclass says where the lake is and who keeps its accounts, when they are needed and not when definitions load.

    **Outputs**: `pa.Table`, `pa.RecordBatchReader`, an iterator of `pa.RecordBatch`, `pl.DataFrame` or
    `pl.LazyFrame`, streamed. Dagster takes a generator for a stream of events, so return an iterator as
    `dg.Output(batches)`. The table is made from the first output if it is missing; its schema must exist. Columns
    must be those of the table, but one that the server fills may be left out.

    **Slices**: an unpartitioned asset replaces its whole table, by DELETE: TRUNCATE would show an empty table to
    readers in older snapshots. A partitioned asset replaces the rows of its partitions, which its metadata
    `partition_expr` finds: the column that holds the partition key, or for several dimensions a mapping from
    dimension to column. For a time window a date or timestamp column is compared with the window, any other column
    with the key. Rows outside the slice are refused.

    **Inputs** come as the annotation says: `pl.LazyFrame` (also without annotation), `pl.DataFrame`, `pa.Table`, or
    `pa.RecordBatchReader`, which alone does not hold the whole slice in memory; or as `dict[str, …]` from partition
    key to one of them. `columns` in the metadata of the `dg.AssetIn` limits what is read.
    """

    copy_deadline_s: float = Field(default=600.0, description="Longest time to bring an output into the staging table.")
    commit_deadline_s: float = Field(
        default=600.0, description="Longest time to replace a slice from the staging table."
    )
    lock_deadline_s: float = Field(default=300.0, description="Longest time to wait for another writer of the slice.")

    @property
    @abstractmethod
    def address(self) -> PostgresAddress:
        """The lake's database."""

    @property
    @abstractmethod
    def ledger(self) -> LoadLedger:
        """Attempts and receipts."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Replace the slice of an asset by what it returned."""
        table, address = _table(context.asset_key), self.address
        partitions = _output_partitions(context)
        load = _Load(
            table=table,
            partitions=partitions,
            run_id=context.run_id,
            address=address,
            ledger=self.ledger,
            copy_deadline_s=self.copy_deadline_s,
            commit_deadline_s=self.commit_deadline_s,
            lock_deadline_s=self.lock_deadline_s,
        )
        started = time.monotonic()
        done = run_to_end(load.run(obj))
        seconds = time.monotonic() - started
        metadata: dict[str, Any] = {
            "dagster/row_count": done.table_rows,
            "dagster/column_schema": _table_schema(done.columns),
            "dagster/table_name": f"{address.database}.{table}",
            "lake/duration_s": round(seconds, 3),
            "lake/rows_per_s": round(sum(done.slice_rows) / seconds, 1),
        }
        if context.has_asset_partitions and len(partitions) == 1:
            metadata["dagster/partition_row_count"] = done.slice_rows[0]
        elif context.has_asset_partitions:
            for partition, rows in zip(partitions, done.slice_rows, strict=True):
                context.step_context.add_asset_metadata(
                    {"dagster/partition_row_count": rows}, context.asset_key, partition.key
                )
        context.add_output_metadata(metadata)

    def load_input(self, context: dg.InputContext) -> object:
        """Load the table or the partitions of the upstream asset, as the annotation asks."""
        table = _table(context.asset_key)
        frame, by_partition = _wanted(context.dagster_type.typing_type, table)
        names = context.definition_metadata.get("columns")
        read = _Read(self.address, context.step_context.run_id, table, names)
        if not context.has_asset_partitions:
            return read.whole(frame, [])
        partitions = _input_partitions(context)
        if by_partition:
            return {partition.key: read.whole(frame, [partition]) for partition in partitions}
        if not partitions:
            raise TableError(
                "The partition mapping of this input yields no upstream partition.",
                where=str(table),
                todo="Correct the mapping, or annotate the input as a dict, which may be empty.",
            )
        return read.whole(frame, partitions)


# ------------------------------------------------------------------------------------------- partitions


@dataclass(frozen=True)
class _Bound:
    """What one dimension of a partition says of its column: a key, and a time window where there is one."""

    column: str
    key: str
    window: tuple[datetime, datetime] | None


@dataclass(frozen=True)
class _Partition:
    """One partition of a table; no bounds mean the whole table."""

    key: str
    bounds: tuple[_Bound, ...] = ()

    def condition(self, columns: Sequence[Column], first: int = 1) -> tuple[str, list[str]]:
        """The rows of the partition, as a SQL condition and its parameters from number `first` on.

        Raises:
            TableError: A column is missing, or cannot tell one partition from the next.
        """
        types = {column.name: column for column in columns}
        terms: list[str] = ["true"]
        values: list[str] = []
        for bound in self.bounds:
            if (column := types.get(bound.column)) is None:
                raise TableError(
                    f'The table has no column "{bound.column}" to find partition {self.key} by.',
                    todo="Correct partition_expr in the metadata of the asset, or add the column in a migration.",
                )
            name = quote_identifier(bound.column)
            edges = _edges(bound, column)
            operators = ["="] if len(edges) == 1 else [">=", "<"]
            for operator, edge in zip(operators, edges, strict=True):
                terms.append(f"{name} {operator} ${first + len(values)}::text::{column.declared}")
                values.append(edge)
        return " and ".join(terms), values


def _edges(bound: _Bound, column: Column) -> list[str]:
    """The value that a column has in a partition, or where its values begin and where they end."""
    if bound.window is None or column.type not in ("date", "timestamp", "timestamptz"):
        return [bound.key]
    if column.type == "timestamptz":  # UTC, in which the two hours from one to two of a night in autumn differ
        edges = [edge.astimezone(UTC) for edge in bound.window]
    else:
        edges = [edge.replace(tzinfo=None) for edge in bound.window]
    if edges[0] >= edges[1] or (column.type == "date" and any(edge.time() != _MIDNIGHT for edge in edges)):
        raise TableError(
            f'Column "{column.name}" is {column.declared}, which cannot tell partition {bound.key} from the next.',
            todo="Use a column with time zone in partition_expr, or one that holds the partition key.",
        )
    return [edge.isoformat() for edge in edges]


def _output_partitions(context: dg.OutputContext) -> list[_Partition]:
    if not context.has_asset_partitions:
        return [_Partition(WHOLE_TABLE)]
    return _partitions(
        context.asset_key, context.asset_partition_keys, context.asset_partitions_def, context.definition_metadata
    )


def _input_partitions(context: dg.InputContext) -> list[_Partition]:
    upstream = context.upstream_output
    metadata = upstream.definition_metadata if upstream is not None else {}
    return _partitions(context.asset_key, context.asset_partition_keys, context.asset_partitions_def, metadata)


def _partitions(
    asset: dg.AssetKey, keys: Iterable[str], definition: dg.PartitionsDefinition[Any], metadata: Mapping[str, Any]
) -> list[_Partition]:
    """The partitions in order of their keys, so that two runs lock them in the same order."""
    expression = metadata.get("partition_expr")
    expression = getattr(expression, "value", expression)
    many = isinstance(definition, dg.MultiPartitionsDefinition)
    dimensions = {one.name: one.partitions_def for one in definition.partitions_defs} if many else {"": definition}  # type: ignore[attr-defined]
    given = expression if isinstance(expression, Mapping) else {"": expression}
    columns = {str(name): column for name, column in given.items() if isinstance(column, str) and column}
    if set(columns) != set(dimensions):
        raise TableError(
            f"The asset does not say which column holds its {'partition dimensions' if many else 'partition key'}.",
            where=asset.to_user_string(),
            todo=f'Set "partition_expr" in its metadata: {_example(sorted(dimensions)) if many else "a column name"}.',
        )
    found = []
    for key in sorted(keys):
        parts = key.keys_by_dimension if isinstance(key, dg.MultiPartitionKey) else {"": key}
        bounds = [_Bound(columns[name], part, _window(dimensions[name], part)) for name, part in sorted(parts.items())]
        found.append(_Partition(str(key), tuple(bounds)))
    return found


def _example(dimensions: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{name}": "<column>"' for name in dimensions) + "}"


def _window(definition: dg.PartitionsDefinition[Any], key: str) -> tuple[datetime, datetime] | None:
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return None
    window = definition.time_window_for_partition_key(key)
    return window.start, window.end


def _table(key: dg.AssetKey) -> TableName:
    if len(key.path) != 2:
        raise TableError(
            f"The asset {key.to_user_string()} cannot be kept in PostgreSQL.",
            todo="Give it a key of two parts, schema and table.",
        )
    return TableName(*key.path)


# ---------------------------------------------------------------------------------------------- outputs


@dataclass(frozen=True)
class _Done:
    """What a load left: rows of each slice, rows of the table, and its columns."""

    slice_rows: Sequence[int]
    table_rows: int
    columns: Sequence[Column]


@dataclass(frozen=True)
class _Load:
    """One output on its way into its slice."""

    table: TableName
    partitions: Sequence[_Partition]
    run_id: str
    address: PostgresAddress
    ledger: LoadLedger
    copy_deadline_s: float
    commit_deadline_s: float
    lock_deadline_s: float

    @property
    def where(self) -> str:
        keys = [partition.key for partition in self.partitions]
        if keys == [WHOLE_TABLE]:
            return str(self.table)
        return f"{self.table}, partition{'s' if len(keys) > 1 else ''} {', '.join(keys[:5])}{', …' * (len(keys) > 5)}"

    @property
    def staging(self) -> str:
        """A temporary table: it goes with its session, so that a killed run leaves none behind."""
        return f"stage_{self.run_id}"[:63]

    async def run(self, obj: object) -> _Done:
        async with session(self.address, application_name=self.run_id) as connection:
            with scrubbing(self.where):
                attempts = [
                    await self.ledger.begin(connection, str(self.table), partition.key, self.run_id)
                    for partition in self.partitions
                ]
                columns = await self._columns(connection)
                schema, batches = _opened(obj, columns)
                if not columns:
                    columns = await self._create(connection, schema)
                names = self._checked(schema, columns)
                await connection.execute(
                    f"create temporary table {quote_identifier(self.staging)} as"  # noqa: S608 - quoted names
                    f" select {_listed(names)} from {self.table.quoted} with no data"
                )
            await copy_batches(connection, self.staging, names, batches, deadline_s=self.copy_deadline_s)
            replacing = self._replace(connection, columns, names, attempts)
            with scrubbing(self.where):
                return await supervised(
                    connection, replacing, deadline_s=self.commit_deadline_s, doing=f"replacing {self.where}"
                )

    async def _columns(self, connection: asyncpg.Connection) -> list[Column]:
        kind = await connection.fetchrow(
            "select n.oid, c.relkind::text from pg_catalog.pg_namespace as n"
            " left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = $2 where n.nspname = $1",
            *self.table,
        )
        if kind is None:
            raise TableError(
                f"Schema {self.table.schema} does not exist.",
                where=str(self.table),
                todo="Create it in a migration, with the grants that its readers need.",
            )
        if kind["relkind"] not in (None, "r", "p"):
            raise TableError(
                f"{self.table} is not a table, so nothing can be loaded into it.",
                where=str(self.table),
                todo="Give the asset another key, or remove what has the name in a migration.",
            )
        return await columns_of(connection, self.table.table, self.table.schema)

    async def _create(self, connection: asyncpg.Connection, schema: pa.Schema) -> list[Column]:
        declared = [
            f"{quote_identifier(field.name)} {declaration(field)}{'' if field.nullable else ' not null'}"
            for field in schema
        ]
        by = list(dict.fromkeys(bound.column for partition in self.partitions for bound in partition.bounds))
        self._refuse_missing([name for name in by if name not in schema.names])
        async with connection.transaction():
            await lock_slice(connection, str(self.table), "create", deadline_s=self.lock_deadline_s)
            if not await self._columns(connection):  # otherwise another run was faster
                await connection.execute(f"create table {self.table.quoted} ({', '.join(declared)})")
                if by:
                    await connection.execute(f"create index on {self.table.quoted} ({_listed(by)})")
        return await self._columns(connection)

    def _checked(self, schema: pa.Schema, columns: Sequence[Column]) -> list[str]:
        """The columns to write.

        Raises:
            TableError: They are not those of the table.
        """
        known = {column.name for column in columns}
        unknown = [name for name in schema.names if name not in known]
        missing = [column.name for column in columns if column.name not in schema.names and not column.filled]
        if unknown:
            raise TableError(
                f"The table has no column {', '.join(unknown)}, which the asset returned.",
                where=self.where,
                todo="Add it in a migration, or leave it out of the output.",
            )
        self._refuse_missing(missing)
        return list(schema.names)

    def _refuse_missing(self, names: Sequence[str]) -> None:
        if names:
            raise TableError(
                f"The asset did not return column {', '.join(names)}.",
                where=self.where,
                todo="Return all columns of the table; only those that the server fills may be left out.",
            )

    async def _replace(
        self, connection: asyncpg.Connection, columns: Sequence[Column], names: Sequence[str], attempts: Sequence[int]
    ) -> _Done:
        """The one transaction: until it commits readers see the old slice, from then on the new one."""
        stage = f"pg_temp.{quote_identifier(self.staging)}"
        counts = []
        async with connection.transaction():
            for partition in self.partitions:
                await lock_slice(connection, str(self.table), partition.key, deadline_s=self.lock_deadline_s)
            for partition in self.partitions:
                condition, values = partition.condition(columns)
                await connection.execute(f"delete from {self.table.quoted} where {condition}", *values)  # noqa: S608
                counts.append(
                    await connection.fetchval(f"select count(*) from {stage} where {condition}", *values)  # noqa: S608
                )
            staged = await connection.fetchval(f"select count(*) from {stage}")  # noqa: S608
            if staged != sum(counts):
                raise TableError(
                    f"{staged - sum(counts)} of {staged} rows do not belong to the partition that was asked for.",
                    where=self.where,
                    todo="Return only rows of the partition; another run would double the others.",
                )
            await connection.execute(
                f"insert into {self.table.quoted} ({_listed(names)}) select {_listed(names)} from {stage}"  # noqa: S608
            )
            total = await connection.fetchval(f"select count(*) from {self.table.quoted}")  # noqa: S608
            for partition, attempt, rows in zip(self.partitions, attempts, counts, strict=True):
                await self.ledger.commit(connection, str(self.table), partition.key, attempt, rows)
        return _Done(counts, total, columns)


def _opened(obj: object, columns: Sequence[Column]) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Schema and batches of an output; an iterator without a batch empties a slice of a table that is there."""
    if isinstance(obj, Iterator) and not isinstance(obj, pa.RecordBatchReader) and columns:
        first = next(obj, None)
        if first is None:
            return pa.schema([(column.name, arrow_type(column)) for column in columns]), []
        return first.schema, chain([first], obj)
    return stream(obj, None)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(quote_identifier, names))


def _table_schema(columns: Sequence[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.declared,
                description=column.comment or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in columns
        ]
    )


# ----------------------------------------------------------------------------------------------- inputs


def _wanted(annotation: Any, table: TableName) -> tuple[type, bool]:
    """The kind of frame that an input asks for, and whether it wants one for each partition."""
    import polars as pl

    by_partition = get_origin(annotation) is dict
    frame = get_args(annotation)[1] if by_partition else annotation
    if frame in (Any, None):
        frame = pl.LazyFrame
    if frame not in (pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader):
        raise TableError(
            f"{table} cannot be handed out as {annotation}.",
            todo="Annotate the input as pl.LazyFrame, pl.DataFrame, pa.Table or pa.RecordBatchReader, or as "
            "dict[str, …] of one of them.",
        )
    return frame, by_partition


@dataclass(frozen=True)
class _Read:
    """Reads rows of one table for an input."""

    address: PostgresAddress
    run_id: str
    table: TableName
    names: Sequence[str] | None

    def whole(self, frame: type, partitions: Sequence[_Partition]) -> object:
        """The rows of some partitions, or of the whole table if there is none, in the shape that is wanted."""
        import polars as pl

        batches = self._batches(partitions)
        first = next(batches)
        reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        if frame is pa.RecordBatchReader:
            return reader
        table = reader.read_all()
        if frame is pa.Table:
            return table
        data = pl.from_arrow(table)
        return data.lazy() if frame is pl.LazyFrame and isinstance(data, pl.DataFrame) else data

    def _batches(self, partitions: Sequence[_Partition]) -> Iterator[pa.RecordBatch]:
        """Batches from a thread with an event loop of its own, for code that has none or is called by one."""
        ready: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(2)
        given_up = threading.Event()

        def hand_over(item: pa.RecordBatch | BaseException | None) -> bool:
            while not given_up.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        async def produce() -> None:
            async with session(self.address, application_name=self.run_id) as connection:
                query, values, schema = await self._query(connection, partitions)
                rows = read_batches(connection, query, *values, batch_rows=_READ_ROWS, schema=schema)
                async with aclosing(rows):
                    async for batch in rows:
                        if not hand_over(batch):
                            return

        def work() -> None:
            try:
                asyncio.run(produce())
            except BaseException as error:
                hand_over(error)
            else:
                hand_over(None)

        thread = threading.Thread(target=work, name=f"read-{self.table}", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            given_up.set()
            thread.join()

    async def _query(
        self, connection: asyncpg.Connection, partitions: Sequence[_Partition]
    ) -> tuple[str, list[str], pa.Schema]:
        with scrubbing(f"reading {self.table}"):
            columns = await columns_of(connection, self.table.table, self.table.schema)
        if not columns:
            raise TableError(
                f"Table {self.table} does not exist.",
                where=str(self.table),
                todo=f"Materialise {self.table.path} first.",
            )
        wanted = {column.name: column for column in columns}
        names = list(wanted) if self.names is None else list(self.names)
        if unknown := [name for name in names if name not in wanted]:
            raise TableError(
                f"The table has no column {', '.join(unknown)}.",
                where=str(self.table),
                todo='Correct "columns" in the metadata of the input.',
            )
        conditions: list[str] = []
        values: list[str] = []
        for partition in partitions:
            condition, more = partition.condition(columns, first=len(values) + 1)
            conditions.append(f"({condition})")
            values += more
        where = f" where {' or '.join(conditions)}" if conditions else ""
        query = f"select {_listed(names)} from {self.table.quoted}{where}"  # noqa: S608 - quoted names, bound values
        return query, values, pa.schema([(name, arrow_type(wanted[name])) for name in names])
