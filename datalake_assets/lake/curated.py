"""What each service may see: the filter of the current state, for all services in one pass.

A row follows from the document at the key's last change point and from the service's definition, and from
nothing else. For every key `ops.<entity>_filtered` remembers the state that its rows were filtered from, and
`ops.service_version` the definitions, both written in the transaction that writes the rows. Loads of the current table
tell which keys they touched, and those of them whose state differs are read; where the table does not hold as many rows
as the last load left, all keys are compared. A changed definition rebuilds that service. Definitions are in
`services.py`, the filter is in `views.py`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from datalake_assets.entities import Entity
from datalake_assets.keys import TableName
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.services import Service
from datalake_assets.lake.slices import LoadError, LoadSlice, midnight
from datalake_assets.lake.views import seen_by
from datalake_assets.statements import has_statement, statement
from datalake_assets.storage.postgres import copy_records, lock_slice, scrubbing
from datalake_assets.worker import Worker

COPY_DEADLINE_S = 600.0
_PORTION_ROWS: Final = 500
"""Keys handled at once: about 5 MB of documents, and what all services see of them in a temporary table."""

_LONGEST_NAME: Final = 63
"""Characters of an identifier that PostgreSQL tells apart."""


class NoSelectionError(LoadError):
    """A selection never named any key, so there is nothing to show."""


async def load_curated(
    connection: asyncpg.Connection,
    ledger: Ledger,
    piece: LoadSlice,
    services: tuple[Service, ...],
    run_id: str,
) -> Receipt:
    """Make the curated table show the current state of a slice's scope to every service.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Attempts and receipts.
        piece: The partition that asks; only its scope matters to the result.
        services: All services of the entity; rows of others are removed, whatever their scope.
        run_id: Who loads it.

    Returns:
        The receipt that was committed, with counts over all services.

    Raises:
        NoSelectionError: A service's selection never named any key.
        SupersededError: Another attempt at the same partition has begun.
    """
    started = time.monotonic()
    entity = piece.entity
    asset = str(entity.curated)
    with scrubbing(f"{asset}, partition {piece.partition}"):
        attempt = await ledger.begin(connection, asset, piece.partition, run_id)
        partitions = ServicePartitions(connection, entity.curated, [service.name for service in services])
        await partitions.add_missing()
        async with connection.transaction():
            await partitions.announce_removal()
            # Keys that a load of the current table touched meanwhile would be forgotten with those that are done.
            await lock_slice(connection, str(entity.xform), piece.scope_text)
            await lock_slice(connection, asset, piece.scope_text)
            count = statement("layers/count_with_scope.sql", table=entity.curated, scope=entity.scope)
            rows = await connection.fetchrow(count, *piece.scope)
            whole = rows["in_scope"] != await ledger.fingerprint(connection, asset, piece.scope_text)
            counts = await _CuratedLoad(connection, piece, services, run_id, whole=whole).load()
            counts.removed += await partitions.remove_unknown()
            if has_statement(after := f"{entity.curated.path}/after_write.sql"):
                await connection.execute(statement(after))
            if counts.new or counts.changed or counts.removed:
                rows = await connection.fetchrow(count, *piece.scope)
            receipt = Receipt(
                asset=asset,
                partition=piece.partition,
                run_id=run_id,
                load_date=piece.load_date,
                scope=piece.scope_text,
                rows_total=rows["total"],
                rows_new=counts.new,
                rows_changed=counts.changed,
                rows_removed=counts.removed,
                rows_unchanged=rows["in_scope"] - counts.new - counts.changed,
                duration_s=round(time.monotonic() - started, 3),
            )
            await ledger.write(connection, receipt, attempt)
            await ledger.remember(connection, asset, piece.scope_text, rows["in_scope"])
    return receipt


@dataclass
class _Counts:
    """What became of rows."""

    new: int = 0
    changed: int = 0
    removed: int = 0

    def add_gone(self, gone: asyncpg.Record) -> None:
        """Add rows that were taken out; what is written after counts as new, less what it replaces."""
        self.new -= gone["replaced"]
        self.changed += gone["replaced"]
        self.removed += gone["removed"]


class _State(NamedTuple):
    """What a key is now.

    Attributes:
        key: Values of the key columns.
        load_date: Of its last change point; None if the key is gone.
        digest: Of its document.
        stale: Its rows were filtered from another state.
        document: The document; None if the key is gone, or the history has moved on since.
    """

    key: tuple[Any, ...]
    load_date: date | None
    digest: bytes | None
    stale: bool
    document: bytes | None


_Row = tuple[Any, ...]
"""What a service sees of a key: service, key, load date, digest, and JSON; None for the whole document."""


class _CuratedLoad:
    """One load of one scope, inside its transaction."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        piece: LoadSlice,
        services: Sequence[Service],
        run_id: str,
        *,
        whole: bool,
    ) -> None:
        entity = piece.entity
        self._whole = whole
        self._connection = connection
        self._piece = piece
        self._services = services
        self._run_id = run_id
        self._key_paths = frozenset(column.path for column in entity.key)
        self._names: dict[str, Any] = {
            "raw": entity.raw,
            "xform": entity.xform,
            "curated": entity.curated,
            "marks": filtered_marks(entity),
            "touched": entity.touched,
            "key_names": entity.key_names,
            "key": entity.key,
            "columns": entity.columns,
            "document": entity.document_column,
            "dated": "modified_date",
            "scope": entity.scope,
        }
        self._row_names = ("service", *entity.key_names, "load_date", "digest", "document")
        self._counts = _Counts()

    async def load(self) -> _Counts:
        """Make the rows of every service right, and remember what they were made from."""
        piece = self._piece
        versions = {
            row["service"]: row["version"]
            for row in await self._connection.fetch(self._sql("versions"), piece.entity.name, piece.scope_text)
        }
        changed = [service for service in self._services if versions.get(service.name) != service.version]
        plain = [service for service in self._services if service.select is None]
        selected = [service for service in self._services if service.select is not None]
        untouched = await self._connection.fetchval(
            statement("layers/is_untouched.sql", **self._names), "curated", *piece.scope
        )
        look = self._whole or not untouched or any(service in changed for service in plain)
        if look or selected:
            await self._execute("stage")
        if look:
            await self._load_plain(plain, [service for service in plain if service in changed])
            await self._execute("forget_touched", *piece.scope)
        for service in selected:
            await self._load_selected(service, rebuild=service in changed)
        for service in changed:
            await self._execute(
                "write_version",
                piece.entity.name,
                service.name,
                piece.scope_text,
                service.version,
                orjson.dumps(service.model_dump()),
                self._run_id,
            )
        await self._execute("forget_versions", piece.entity.name, [service.name for service in self._services])
        return self._counts

    async def _load_plain(self, services: list[Service], rebuilt: list[Service]) -> None:
        scope = self._piece.scope
        rebuilt_names = [service.name for service in rebuilt]
        kept_names = [service.name for service in services if service not in rebuilt]
        if rebuilt:
            self._counts.removed += await self._connection.fetchval(self._sql("remove_unknown"), rebuilt_names, *scope)
        # Whatever is seen is new then, and a column that is worked out of documents is left to the server.
        is_new = all(not column.path for column in self._piece.entity.columns) and await self._connection.fetchval(
            self._sql("is_empty"), *scope
        )
        documents = self._sql("documents", whole=self._whole or bool(rebuilt))
        cursor = await self._connection.cursor(documents, bool(rebuilt), *scope)
        filtered = self._filtered(cursor, tuple(services), tuple(rebuilt))
        async with contextlib.aclosing(filtered) as portions:
            async for portion, rows in portions:
                await self._stage(portion)
                if is_new:
                    self._counts.new += await self._copy_new(rows)
                else:
                    await self._copy_filtered(rows)
                    await self._execute("analyze_stage")
                    for rebuild, names in ((True, rebuilt_names), (False, kept_names)):
                        if names:
                            remove = self._sql("remove", rebuild=rebuild)
                            self._counts.add_gone(await self._connection.fetchrow(remove, names))
                self._counts.new += await self._write()
                await self._execute("lose")
                await self._execute("mark")
                await self._execute("unmark")

    async def _load_selected(self, service: Service, *, rebuild: bool) -> None:
        entity = self._piece.entity
        selected = await _select(self._connection, self._piece, service)
        columns = [[row[name] for row in selected] for name in (*entity.key_names, "load_date")]
        cursor = await self._connection.cursor(self._sql("selected_documents"), *columns)
        await self._execute("clear_stage")
        async with contextlib.aclosing(self._filtered(cursor, (service,), (service,))) as portions:
            async for _, rows in portions:
                await self._copy_filtered(rows)
        self._counts.add_gone(await self._connection.fetchrow(self._sql("remove_selected"), service.name, rebuild))
        self._counts.new += await self._write()

    async def _filtered(
        self, cursor: Any, every: tuple[Service, ...], some: tuple[Service, ...]
    ) -> AsyncGenerator[tuple[list[_State], list[_Row]]]:
        """Portions of keys and what is seen of them, by some services only if the state was filtered before.

        One portion is filtered while another is written, by a second process from the second portion on.
        """
        with contextlib.ExitStack() as stack:
            worker: Worker | None = None

            async def rows_of(portion: list[_State], worker: Worker | None) -> list[_Row]:
                rows: list[_Row] = []
                for services, is_stale in ((every, True), (some, False)):
                    found = [(state, state.document) for state in portion if state.stale == is_stale and state.document]
                    if services and found:
                        work = services, self._key_paths, [document for _, document in found]
                        seen = await (worker.run(seen_by, *work) if worker else asyncio.to_thread(seen_by, *work))
                        rows += (
                            (name, *state.key, state.load_date, state.digest, document)
                            for (state, _), documents in zip(found, seen, strict=True)
                            for name, document in documents
                        )
                return rows

            ahead: deque[tuple[list[_State], asyncio.Task[list[_Row]]]] = deque()
            try:
                async for portion in _portions(cursor, self._piece.entity.key_names):
                    ahead.append((portion, asyncio.create_task(rows_of(portion, worker))))
                    if worker is None and len(portion) == _PORTION_ROWS:
                        worker = stack.enter_context(Worker())
                    if len(ahead) > 1:
                        done, rows = ahead.popleft()
                        yield done, await rows
                while ahead:
                    done, rows = ahead.popleft()
                    yield done, await rows
            finally:
                for _, rows in ahead:
                    rows.cancel()
                await asyncio.gather(*(rows for _, rows in ahead), return_exceptions=True)

    async def _stage(self, portion: list[_State]) -> None:
        await self._execute("clear_stage")
        await copy_records(
            self._connection,
            "portion",
            (*self._piece.entity.key_names, "load_date", "digest", "stale", "found"),
            [(*state.key, state.load_date, state.digest, state.stale, state.document is not None) for state in portion],
            schema="pg_temp",
            deadline_s=COPY_DEADLINE_S,
        )

    async def _copy_filtered(self, rows: Iterable[_Row]) -> None:
        await copy_records(
            self._connection, "filtered", self._row_names, rows, schema="pg_temp", deadline_s=COPY_DEADLINE_S
        )

    async def _copy_new(self, rows: Sequence[_Row]) -> int:
        """Write rows of which none stands there yet; whole documents are left for the server to copy."""
        entity = self._piece.entity
        loaded_at = await self._connection.fetchval(statement("layers/now.sql"))
        await self._copy_filtered(row for row in rows if row[-1] is None)
        documents = [column.name for column in entity.columns]
        return await copy_records(
            self._connection,
            entity.curated.table,
            (*self._row_names[:-1], *documents, self._names["dated"], "run_id", "loaded_at"),
            (
                (*row[:-1], *(row[-1] for _ in documents), midnight(row[-3]), self._run_id, loaded_at)
                for row in rows
                if row[-1] is not None
            ),
            schema=entity.curated.schema,
            deadline_s=COPY_DEADLINE_S,
        )

    async def _write(self) -> int:
        """Write what was filtered and does not stand there yet; returns the number of rows."""
        written = await self._connection.execute(self._sql("write"), self._run_id)
        return int(written.split()[-1])

    async def _execute(self, name: str, *args: Any) -> None:
        await self._connection.execute(self._sql(name), *args)

    def _sql(self, name: str, **flags: Any) -> str:
        return statement(f"layers/curated/{name}.sql", **self._names, **flags)


async def _portions(cursor: Any, key_names: Sequence[str]) -> AsyncIterator[list[_State]]:
    while rows := await cursor.fetch(_PORTION_ROWS):
        yield [
            _State(
                key=tuple(row[name] for name in key_names),
                load_date=row["load_date"],
                digest=row["digest"],
                stale=row["stale"],
                document=row["document"],
            )
            for row in rows
        ]


class ServicePartitions:
    """Physical partitions of a curated table by service; a table without them is left as it is."""

    def __init__(self, connection: asyncpg.Connection, table: TableName, services: Sequence[str]) -> None:
        self._connection = connection
        self._table = table
        self._services = services
        self._expected = {partition_of(table, service).table: service for service in services}

    async def add_missing(self) -> None:
        """Make partitions of new services, in a transaction of its own: loads of other scopes may need them too."""
        if not await self._missing():
            return
        async with self._connection.transaction():
            await self._lock()
            for name in await self._missing():
                await self._connection.execute(
                    statement(
                        "layers/curated/add_partition.sql",
                        curated=self._table,
                        partition=TableName(self._table.schema, name),
                        service=self._expected[name],
                    )
                )

    async def announce_removal(self) -> None:
        """Let no other load remove partitions meanwhile; to be called before anything of the table is locked."""
        if await self._unknown():
            await self._lock()

    async def remove_unknown(self) -> int:
        """Take out the rows of services that are not defined, and return their number."""
        partitioned, _ = await self._found()
        if not partitioned:
            query = statement("layers/curated/delete_services.sql", curated=self._table)
            return int(await self._connection.fetchval(query, list(self._services)))
        removed = 0
        for name in await self._unknown():
            partition = TableName(self._table.schema, name)
            removed += await self._connection.fetchval(statement("layers/count.sql", table=partition))
            await self._connection.execute(statement("layers/curated/drop_partition.sql", partition=partition))
        return removed

    async def _missing(self) -> list[str]:
        partitioned, found = await self._found()
        return sorted(self._expected.keys() - found) if partitioned else []

    async def _unknown(self) -> list[str]:
        _, found = await self._found()
        return sorted(found - self._expected.keys())

    async def _found(self) -> tuple[bool, set[str]]:
        row = await self._connection.fetchrow(statement("layers/curated/partitions.sql"), *self._table)
        return (row["partitioned"], set(row["partitions"])) if row else (False, set())

    async def _lock(self) -> None:
        await lock_slice(self._connection, str(self._table), "partitions", deadline_s=COPY_DEADLINE_S)


def filtered_marks(entity: Entity) -> TableName:
    """The table that remembers what state of each key its curated rows were filtered from."""
    return TableName("ops", f"{entity.name}_filtered")


def partition_of(table: TableName, service: str) -> TableName:
    """The partition of a curated table that holds the rows of one service."""
    name = f"{table.table}__{service}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 17]}_{blake2b(service.encode(), digest_size=8).hexdigest()}"
    return TableName(table.schema, name)


async def _select(connection: asyncpg.Connection, piece: LoadSlice, service: Service) -> list[asyncpg.Record]:
    """The keys of a selection on the last date on which it named any: a date without keeps the last good one."""
    entity = piece.entity
    select = statement(f"{entity.curated.path}/{service.select}.sql")
    dates = await connection.fetch(statement("layers/curated/state_dates.sql", raw=entity.raw))
    for row in dates:
        if selected := await connection.fetch(select, row["load_date"]):
            return list(selected)
    raise NoSelectionError(
        f"The selection {service.select} of service {service.name} names no key on any of {len(dates)} dates.",
        where=f"{entity.curated}",
        todo="Look at the checks of the current table: they say what the documents lack.",
    )
