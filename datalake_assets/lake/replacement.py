"""Whole tables replaced at once: all tables of a dataset change in one transaction, or none does.

A declared table is partitioned and has exactly one partition, in schema `lake_parts`. A load fills a new partition
that nobody can see, has it judged, and swaps it for the old one. Views, materialised views, grants, owners, indexes,
triggers and comments are attached to the table and are never touched; a reader waits for a moment at most. A killed
load leaves nothing, because all of it is one transaction; a partition that was filled ahead of its load, and is part of
no table, is taken or dropped by the next one. What rows hold, and what is judged, is the callers' business.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from typing import Any, Final, Literal

import asyncpg
import orjson
import pyarrow as pa

from datalake_assets.keys import TableName, quote_identifier
from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import PostgresError, copy_batches, lock_slice, scrubbing

PARTS: Final = "lake_parts"
"""The schema of partitions."""

LOAD_DATE: Final = Column("load_date", "", parse_type("date"), required=True, description="The day it was landed.")
"""What tables that keep the rows of earlier loads have besides their declared columns."""

COPY_DEADLINE_S: Final = 3600.0
LOCK_DEADLINE_S: Final = 1800.0
"""Another load of the same tables may be at work; it ends, or its session does."""

AHEAD: Final = "ahead"
"""In the name of every partition that is filled before its load."""

_SWAP_DEADLINE_S: Final = 300.0
_DROP_DEADLINE_S: Final = 5.0
_SWAP_TRY: Final = "400ms"
"""Shorter than PostgreSQL waits before it looks for deadlocks: who waits for a table keeps its readers waiting."""
_SWAP_PAUSE_S: Final = 0.1
_ROLLBACK_LOCK_TIMEOUT: Final = "30s"

Mode = Literal["replace", "append", "upsert"]


class ReplacementError(LoadError):
    """The tables cannot be made what they are declared to be; nothing was changed."""


@dataclass(frozen=True)
class DeclaredTable:
    """A table as it is declared.

    Attributes:
        name: Schema and table.
        columns: Its columns, in order.
        indexes: Columns of each further index; the key has one anyway.
        comment: What it holds; said when it is made.
        readers: Roles that may read it from the moment it is made.
    """

    name: TableName
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    comment: str = ""
    readers: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Columns of which no two rows have the same values; empty if there is no key."""
        return tuple(column.name for column in self.columns if column.key)

    @property
    def schema(self) -> pa.Schema:
        """Its columns in Arrow."""
        return pa.schema([column.field for column in self.columns])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Incoming:
    """What is to be in a table.

    Attributes:
        table: The table.
        batches: Draws the rows; called once, or not at all if they are prepared.
        prepared: Finds the partition that was filled with these very rows ahead, and how many they are; asked with the
            lock of the table, by a load that replaces it.
    """

    table: DeclaredTable
    batches: Callable[[], Iterable[pa.RecordBatch]] = field(repr=False)
    prepared: Callable[[], Awaitable[tuple[TableName, int] | None]] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Origin:
    """What rows are made from: loads of the same origin would change nothing.

    Attributes:
        load_date: The day it was landed.
        sha256: Of the snapshot.
        definition: Digest of everything else that the rows depend on.
    """

    load_date: date
    sha256: str
    definition: str


@dataclass(frozen=True)
class Counts:
    """Rows of a load, and of the table before it; None if there was no table."""

    rows: int
    before: int | None


Judge = Callable[[Mapping[TableName, Counts]], Awaitable[None]]
"""Raises if the rows must not be published; called when all of them are there and nobody has seen them. What it writes
by the same connection is published with them."""


async def _accept(counts: Mapping[TableName, Counts]) -> None:
    """Find nothing wrong."""


@dataclass(frozen=True)
class Loaded:
    """What became of a load.

    Attributes:
        changed: Whether it loaded anything; not if the tables show this very origin already.
        receipts: One for each table, in the order in which they were given; empty if nothing was loaded.
        rows: Rows of each table now.
    """

    changed: bool
    receipts: tuple[Receipt, ...]
    rows: Mapping[TableName, int]


async def load_tables(
    connection: asyncpg.Connection,
    ledger: Ledger,
    incoming: Sequence[Incoming],
    origin: Origin,
    *,
    run_id: str,
    mode: Mode = "replace",
    judge: Judge = _accept,
) -> Loaded:
    """Bring all tables of a dataset to what a snapshot says, in one transaction.

    Of several loads at once one works and the others wait for it; who then finds the tables at its own origin
    changes nothing.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Receipts.
        incoming: Every table of the dataset.
        origin: What the rows are made from.
        run_id: Who loads.
        mode: `replace`: the rows are all there are; `append`: they are those of their load date; `upsert`: each takes
            the place of an older one with its key.
        judge: May refuse the load.

    Raises:
        ReplacementError: A table cannot be made what is declared, e.g. because a view reads a column that is to go.
        PostgresError: The server refused, e.g. because a key is not unique.
    """
    started = time.monotonic()
    tables = [each.table for each in incoming]
    where = ", ".join(str(table.name) for table in tables)
    partition = "" if mode == "replace" else origin.load_date.isoformat()
    with scrubbing(where):
        async with connection.transaction():
            for name in sorted(table.name for table in tables):
                await lock_slice(connection, str(name), deadline_s=LOCK_DEADLINE_S)
            known = [await _known(connection, table, mode) for table in tables]
            if (rows := await _shown(connection, tables, known, origin, mode)) is not None:
                return Loaded(False, (), rows)
            attempts = [await ledger.begin(connection, str(table.name), partition, run_id) for table in tables]
            load = _LOADS[mode](connection, origin, tuple(attempts))
            counts = {each.table.name: await load.fill(each, one) for each, one in zip(incoming, known, strict=True)}
            await judge(counts)
            reach("before_commit")
            await load.publish(tables, known)
            receipts = []
            for table, attempt in zip(tables, attempts, strict=True):
                total = await connection.fetchval(statement("declared/count.sql", table=table.name))
                receipt = Receipt(
                    asset=str(table.name),
                    partition=partition,
                    run_id=run_id,
                    load_date=origin.load_date,
                    rows_total=total,
                    rows_new=counts[table.name].rows,
                    snapshot_sha256=origin.sha256,
                    duration_s=round(time.monotonic() - started, 3),
                )
                await ledger.write(connection, receipt, attempt)
                await connection.execute(
                    statement("declared/record_load.sql"),
                    _slice(table, origin, mode),
                    origin.definition,
                    origin.sha256,
                    origin.load_date,
                    total,
                    run_id,
                )
                receipts.append(receipt)
        reach("after_commit")
    return Loaded(
        True, tuple(receipts), {table.name: int(r.rows_total or 0) for table, r in zip(tables, receipts, strict=True)}
    )


async def is_loaded(
    connection: asyncpg.Connection, tables: Sequence[DeclaredTable], origin: Origin, mode: Mode
) -> bool:
    """Whether the tables show an origin already, as far as can be seen without waiting for a load under way."""
    with scrubbing("ops.declared_load"):
        known = [await _known(connection, table, mode) for table in tables]
        return await _shown(connection, tables, known, origin, mode) is not None


@dataclass(frozen=True)
class _Known:
    """A table as it stands in the database; without `oid`, it does not."""

    oid: int | None = None
    part: TableName | None = None
    partitioned_by: str = ""
    columns: tuple[asyncpg.Record, ...] = ()
    indexes: tuple[asyncpg.Record, ...] = ()


async def _known(connection: asyncpg.Connection, table: DeclaredTable, mode: Mode) -> _Known:
    """What stands under a table's name.

    Raises:
        ReplacementError: It cannot be loaded, or cannot become what is declared.
    """
    state = await connection.fetchrow(statement("declared/state.sql"), *table.name)
    if state is None:
        return _Known()
    if state["kind"] != "p" or (state["part"] is not None and state["part"][0] != PARTS):
        raise ReplacementError(
            f"{table.name} exists already and was not made by a declared pipeline.",
            where=str(table.name),
            todo="Rename it, or declare another table; then materialise again.",
        )
    known = _Known(
        oid=state["oid"],
        part=None if state["part"] is None else TableName(*state["part"]),
        partitioned_by=state["partitioned_by"],
        columns=tuple(await connection.fetch(statement("declared/columns.sql"), state["oid"])),
        indexes=tuple(await connection.fetch(statement("declared/indexes.sql"), state["oid"])),
    )
    _refuse_impossible(table, known, mode)
    return known


def _refuse_impossible(table: DeclaredTable, known: _Known, mode: Mode) -> None:
    """Find what PostgreSQL would refuse at the very end, before anything is copied."""
    declared = {column.name: column for column in _columns(table, mode)}
    going = [row for row in known.columns if row["name"] not in declared]
    retyped = [row for row in known.columns if row["name"] in declared and declared[row["name"]].sql != row["type"]]
    if mode != "replace" and (going or retyped):
        raise ReplacementError(
            f"The declaration changes columns of a table that keeps its rows: "
            f"{', '.join(row['name'] for row in (*going, *retyped))}.",
            where=str(table.name),
            todo="Declare another table, or drop this one and materialise every landed date again.",
        )
    for row in (*going, *retyped):
        change = "is no longer declared" if row in going else "is declared with another type"
        if row["views"]:
            raise ReplacementError(
                f'Column "{row["name"]}" {change}, but views read it: {", ".join(row["views"])}.',
                where=str(table.name),
                todo="Change or drop those views first, then materialise again. Nothing was changed.",
            )
    fixed = known.partitioned_by
    if fixed in {row["name"] for row in (*going, *retyped)} or (table.key and fixed not in table.key):
        raise ReplacementError(
            f'The table is organised by column "{fixed}", which the declaration removes, changes, or leaves out of the '
            "key.",
            where=str(table.name),
            todo="Drop the table with the views that read it, then materialise again.",
        )


async def _shown(
    connection: asyncpg.Connection,
    tables: Sequence[DeclaredTable],
    known: Sequence[_Known],
    origin: Origin,
    mode: Mode,
) -> dict[TableName, int] | None:
    """Rows of the tables if they all show the origin; None if one does not."""
    rows = {}
    for table, one in zip(tables, known, strict=True):
        last = await connection.fetchrow(statement("declared/last_load.sql"), _slice(table, origin, mode))
        if last is None or one.part is None:
            return None
        if (last["snapshot_sha256"], last["definition"]) != (origin.sha256, origin.definition):
            return None
        count = await connection.fetchval(statement("declared/count.sql", table=table.name))
        # Rows of other dates may have come and gone since; rows of a table that is replaced may not.
        if count != last["rows_total"] if mode == "replace" else last["rows_total"] and not count:
            return None
        rows[table.name] = int(count)
    return rows


def _slice(table: DeclaredTable, origin: Origin, mode: Mode) -> str:
    """What is loaded at once: the table, or its rows of one date."""
    return str(table.name) if mode == "replace" else f"{table.name} {origin.load_date}"


def _columns(table: DeclaredTable, mode: Mode) -> tuple[Column, ...]:
    return table.columns if mode == "replace" else (*table.columns, LOAD_DATE)


# ------------------------------------------------------------------------------------------------- partitions


def part_of(table: TableName, *words: str | int) -> TableName:
    """The name of a partition.

    Args:
        table: The table.
        words: What tells it from others of the table.
    """
    digest = blake2b(str(table).encode(), digest_size=4).hexdigest()
    return TableName(PARTS, "_".join((table.table[:36], digest, *map(str, words))))


async def create_part(connection: asyncpg.Connection, part: TableName, columns: Sequence[Column]) -> None:
    """Make a partition that belongs to no table yet, so that nobody sees it."""
    await connection.execute(statement("declared/create_part.sql", part=part, columns=columns))


async def copy_into_part(
    connection: asyncpg.Connection, part: TableName, table: DeclaredTable, batches: Iterable[pa.RecordBatch]
) -> int:
    """Copy rows of a table into a partition that this very transaction has made; returns how many."""
    return await copy_batches(
        connection, part.table, table.names, batches, deadline_s=COPY_DEADLINE_S, schema=part.schema, freeze=True
    )


@dataclass(frozen=True)
class PreparedPart:
    """A partition that was filled ahead, and is not part of its table yet.

    Attributes:
        name: Its name.
        told: What was told of it when it was filled; empty if that is not to be understood.
    """

    name: TableName
    told: Mapping[str, Any]

    def is_of(self, origin: Origin) -> bool:
        """Whether it was filled with what a load of this origin would copy."""
        return self.told.get("origin") == _told_origin(origin)


async def tell_prepared(connection: asyncpg.Connection, part: TableName, origin: Origin, **told: Any) -> None:
    """Say of a partition what it holds, so that a load finds it.

    Args:
        connection: In the transaction that has made it.
        part: The partition.
        origin: What its rows were made from.
        told: What the load must know besides; plain JSON.
    """
    text = orjson.dumps({"origin": _told_origin(origin), **told}).decode()
    literal = await connection.fetchval(statement("declared/literal.sql"), text)
    await connection.execute(statement("declared/comment_table.sql", table=part, text=literal))


async def prepared_parts(connection: asyncpg.Connection, table: TableName) -> list[PreparedPart]:
    """Partitions that were filled ahead for a table and are not part of it."""
    found = []
    for row in await connection.fetch(statement("declared/prepared.sql"), PARTS, part_of(table, AHEAD, "").table):
        try:
            told = orjson.loads(row["told"] or "{}")
        except orjson.JSONDecodeError:
            told = {}
        found.append(PreparedPart(TableName(PARTS, row["name"]), told))
    return found


async def drop_prepared(
    connection: asyncpg.Connection, tables: Sequence[DeclaredTable], keep: Origin | None = None
) -> None:
    """Drop partitions that were filled for loads that did not come to need them; leave it to the next who can.

    Args:
        connection: A connection outside any transaction.
        tables: Whose they are.
        keep: What the next load will be made from.
    """

    async def stale(name: TableName) -> list[PreparedPart]:
        found = await prepared_parts(connection, name)
        return [part for part in found if keep is None or not part.is_of(keep)]

    for name in sorted(table.name for table in tables):
        with contextlib.suppress(PostgresError), scrubbing(str(name)):
            if not await stale(name):
                continue
            async with connection.transaction():
                # Who holds the lock may be about to make one of them part of the table.
                await lock_slice(connection, str(name), deadline_s=_DROP_DEADLINE_S)
                for part in await stale(name):
                    await connection.execute(statement("declared/drop_part.sql", part=part.name))


def _told_origin(origin: Origin) -> list[str]:
    return [origin.load_date.isoformat(), origin.sha256, origin.definition]


# ---------------------------------------------------------------------------------------------------- replace


@dataclass(frozen=True)
class _Replace:
    """New partitions take the place of the old ones."""

    connection: asyncpg.Connection
    origin: Origin
    attempts: tuple[int, ...]
    parts: dict[TableName, TableName] = field(default_factory=dict)

    async def fill(self, incoming: Incoming, known: _Known) -> Counts:
        table = incoming.table
        before = None
        if known.oid is not None:
            before = await self.connection.fetchval(statement("declared/count.sql", table=table.name))
        prepared = None if incoming.prepared is None else await incoming.prepared()
        if prepared is not None:
            part, rows = prepared
            await self.connection.execute(statement("declared/comment_table.sql", table=part, text="null"))
        else:
            part = part_of(table.name, max(self.attempts))
            await create_part(self.connection, part, table.columns)
            rows = await copy_into_part(self.connection, part, table, _watched(incoming.batches()))
        self.parts[table.name] = part
        if known.oid is not None:
            for row in await self.connection.fetch(statement("declared/constraints.sql"), known.oid):
                await self.connection.execute(statement("declared/add_constraint.sql", part=part, **row))
        for index in _indexes(table, known):
            await self.connection.execute(statement("declared/create_index.sql", table=part, **{**index, "name": ""}))
        await self.connection.execute(statement("declared/analyze.sql", table=part))
        return Counts(rows, before)

    async def publish(self, tables: Sequence[DeclaredTable], known: Sequence[_Known]) -> None:
        standing = sorted(table.name for table, one in zip(tables, known, strict=True) if one.oid is not None)
        if standing:
            await _lock_out_readers(self.connection, standing)
        for table, one in zip(tables, known, strict=True):
            await self._swap(table, one)

    async def _swap(self, table: DeclaredTable, known: _Known) -> None:
        part = self.parts[table.name]
        if known.oid is None:
            await create_table(self.connection, table, table.columns)
        else:
            if known.part is not None:
                await self.connection.execute(statement("declared/detach.sql", table=table.name, part=known.part))
            await self._align(table, known)
        await self.connection.execute(statement("declared/attach.sql", table=table.name, part=part))
        if known.part is not None:
            await self.connection.execute(statement("declared/drop_part.sql", part=known.part))

    async def _align(self, table: DeclaredTable, known: _Known) -> None:
        """Give a table without rows the declared columns and indexes."""
        execute, name = self.connection.execute, table.name
        present = {row["name"]: row for row in known.columns}
        if (outdated := _outdated_key(table, known)) is not None:
            await execute(statement("declared/drop_index.sql", index=TableName(name.schema, outdated)))
        for gone in present.keys() - set(table.names):
            await execute(statement("declared/drop_column.sql", table=name, name=gone))
        for column in table.columns:
            if (row := present.get(column.name)) is None:
                await execute(statement("declared/add_column.sql", table=name, column=column))
                await _comment_columns(self.connection, name, [column])
            elif row["type"] != column.sql:
                await execute(statement("declared/change_type.sql", table=name, column=column))
            if row is None or row["nullable"] != column.nullable:
                await execute(statement("declared/change_null.sql", table=name, column=column))
        standing = {row["name"] for row in known.indexes} - {outdated}
        for index in _indexes(table, known):
            if index["name"] not in standing:
                await execute(statement("declared/create_index.sql", table=name, **index))


async def create_table(connection: asyncpg.Connection, table: DeclaredTable, columns: Sequence[Column]) -> None:
    """Make a declared table without any rows, inside the transaction that gives it some.

    Args:
        connection: A connection inside a transaction.
        table: The table.
        columns: Its columns, and those that come with the way it is loaded.
    """
    schema = table.name.schema
    await lock_slice(connection, "schema", schema)
    await connection.execute(statement("declared/create_schema.sql", schema=schema))
    by = table.key[0] if table.key else columns[0].name
    await connection.execute(statement("declared/create_table.sql", table=table.name, columns=columns, by=by))
    for index in _indexes(table, _Known()):
        await connection.execute(statement("declared/create_index.sql", table=table.name, **index))
    if table.comment:
        text = await connection.fetchval(statement("declared/literal.sql"), table.comment)
        await connection.execute(statement("declared/comment_table.sql", table=table.name, text=text))
    await _comment_columns(connection, table.name, columns)
    for role in table.readers:
        await connection.execute(statement("declared/grant_schema.sql", schema=schema, role=role))
        await connection.execute(statement("declared/grant.sql", table=table.name, role=role))


async def _comment_columns(connection: asyncpg.Connection, table: TableName, columns: Iterable[Column]) -> None:
    for column in columns:
        if column.description:
            text = await connection.fetchval(statement("declared/literal.sql"), column.description)
            query = statement("declared/comment_column.sql", table=table, name=column.name, text=text)
            await connection.execute(query)


def _indexes(table: DeclaredTable, known: _Known) -> list[dict[str, Any]]:
    """Every index that the table is to have: those that somebody made, and those that are declared."""
    outdated = _outdated_key(table, known)
    kept = [dict(row) for row in known.indexes if row["name"] != outdated and _is_possible(row, table)]
    wanted = [(_index_name(table, "key"), True, table.key)] if table.key else []
    wanted += [(_index_name(table, *columns), False, columns) for columns in table.indexes]
    present = {index["name"] for index in kept}
    for name, is_unique, columns in wanted:
        if name not in present:
            method = f"btree ({', '.join(map(quote_identifier, columns))})"
            kept.append({"name": name, "is_unique": is_unique, "method": method})
    return [{"name": index["name"], "is_unique": index["is_unique"], "method": index["method"]} for index in kept]


def _is_possible(index: Mapping[str, Any], table: DeclaredTable) -> bool:
    """Whether the columns of an index are still there; it goes with them."""
    return set(index["columns"]) - {""} <= set(table.names) | {LOAD_DATE.name}


def _outdated_key(table: DeclaredTable, known: _Known) -> str | None:
    name = _index_name(table, "key")
    for row in known.indexes:
        if row["name"] == name and tuple(row["columns"]) != table.key:
            return name
    return None


def _index_name(table: DeclaredTable, *words: str) -> str:
    name = "_".join((table.name.table, *words))
    if words != ("key",):
        name += "_idx"
    if len(name.encode()) <= 63:
        return name
    return f"{name[:46]}_{blake2b(name.encode(), digest_size=8).hexdigest()}"


async def _lock_out_readers(connection: asyncpg.Connection, tables: Sequence[TableName]) -> None:
    """Lock tables against everybody, all at once or not at all, without making readers wait for long.

    Raises:
        ReplacementError: Somebody held one of them all the time.
    """
    query = statement("declared/lock_tables.sql", tables=tables)
    timeout = statement("declared/lock_timeout.sql")
    deadline = time.monotonic() + _SWAP_DEADLINE_S
    while True:
        try:
            async with connection.transaction():  # a savepoint: a try that fails lets go of what it has locked
                await connection.execute(timeout, _SWAP_TRY)
                await connection.execute(query)
                await connection.execute(timeout, _ROLLBACK_LOCK_TIMEOUT)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > deadline:
                raise ReplacementError(
                    f"Readers held the tables for {_SWAP_DEADLINE_S:g} s, so that the new rows could not be shown.",
                    where=", ".join(map(str, tables)),
                    todo="Look for long transactions in pg_stat_activity, end them, and materialise again.",
                ) from None
            await asyncio.sleep(_SWAP_PAUSE_S)
        else:
            return


def _watched(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    for batch in batches:
        yield batch
        reach("mid_copy")


# ------------------------------------------------------------------------------------------- append and upsert


@dataclass(frozen=True)
class _Keep:
    """Rows are added to those that are there, each with the date that it was landed on."""

    connection: asyncpg.Connection
    origin: Origin
    attempts: tuple[int, ...]

    async def _prepare(self, table: DeclaredTable, known: _Known) -> int | None:
        if known.oid is None:
            columns = _columns(table, "append")
            await create_table(self.connection, table, columns)
            part = part_of(table.name)
            await create_part(self.connection, part, columns)
            await self.connection.execute(statement("declared/attach.sql", table=table.name, part=part))
            return None
        count = await self.connection.fetchval(statement("declared/count.sql", table=table.name))
        return int(count)

    async def _copy(self, incoming: Incoming, table: TableName | None, stage: str) -> int:
        load_date = pa.scalar(self.origin.load_date, pa.date32())

        def dated() -> Iterable[pa.RecordBatch]:
            for batch in incoming.batches():
                yield batch.append_column(LOAD_DATE.name, pa.repeat(load_date, batch.num_rows))

        return await copy_batches(
            self.connection,
            stage if table is None else table.table,
            (*incoming.table.names, LOAD_DATE.name),
            _watched(dated()),
            deadline_s=COPY_DEADLINE_S,
            schema=None if table is None else table.schema,
        )

    async def publish(self, tables: Sequence[DeclaredTable], known: Sequence[_Known]) -> None:
        """Nothing is left to be done: readers see it when the transaction commits."""


class _Append(_Keep):
    """The rows of a date take the place of those that an earlier load of that date left."""

    async def fill(self, incoming: Incoming, known: _Known) -> Counts:
        before = await self._prepare(incoming.table, known)
        query = statement("declared/delete_date.sql", table=incoming.table.name)
        await self.connection.execute(query, self.origin.load_date)
        return Counts(await self._copy(incoming, incoming.table.name, ""), before)


class _Upsert(_Keep):
    """Each row takes the place of an older one with its key."""

    async def fill(self, incoming: Incoming, known: _Known) -> Counts:
        table = incoming.table
        before = await self._prepare(table, known)
        stage = f"stage_{self.attempts[0]}"
        await self.connection.execute(statement("declared/create_stage.sql", stage=stage, table=table.name))
        rows = await self._copy(incoming, None, stage)
        names = (*table.names, LOAD_DATE.name)
        query = statement("declared/upsert.sql", table=table.name, stage=stage, names=names, key=table.key)
        await self.connection.execute(query)
        return Counts(rows, before)


_LOADS: Final[dict[Mode, Callable[..., Any]]] = {"replace": _Replace, "append": _Append, "upsert": _Upsert}
