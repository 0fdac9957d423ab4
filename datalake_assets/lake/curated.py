"""What each service may see: the filter of the current state, service by service.

A row follows from the document at the key's last change point and from the service's definition, and from
nothing else. A changed definition rebuilds that service. Definitions and the filter are in `services.py`.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson

from datalake_assets import exact_json
from datalake_assets.entities import Entity
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.services import Service
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.statements import has_statement, statement
from datalake_assets.storage.postgres import copy_records, lock_slice, scrubbing

COPY_DEADLINE_S = 600.0
_CHUNK_ROWS = 2_000


class NoSelectionError(LoadError):
    """A selection never named any key, so there is nothing to show."""


async def load_curated(
    connection: asyncpg.Connection,
    ledger: Ledger,
    piece: LoadSlice,
    services: tuple[Service, ...],
    run_id: str,
) -> Receipt:
    """Make the curated table show the current state to every service.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Attempts and receipts.
        piece: The partition that asks.
        services: All services of the entity; rows of others are removed.
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
    new = changed = removed = 0
    with scrubbing(f"{asset}, partition {piece.partition}"):
        attempt = await ledger.begin(connection, asset, piece.partition, run_id)
        async with connection.transaction():
            await lock_slice(connection, asset, piece.scope_text)
            names = [service.name for service in services]
            removed += await connection.fetchval(
                statement("layers/curated/drop_services.sql", curated=entity.curated), names
            )
            for service in services:
                counts = await _load_service(connection, entity, service, run_id)
                new, changed, removed = new + counts[0], changed + counts[1], removed + counts[2]
            if has_statement(after := f"{entity.curated.path}/after_write.sql"):
                await connection.execute(statement(after))
            total = await connection.fetchval(statement("layers/count.sql", table=entity.curated))
            receipt = Receipt(
                asset=asset,
                partition=piece.partition,
                run_id=run_id,
                load_date=piece.load_date,
                scope=piece.scope_text,
                rows_total=total,
                rows_new=new,
                rows_changed=changed,
                rows_removed=removed,
                rows_unchanged=total - new - changed,
                duration_s=round(time.monotonic() - started, 3),
            )
            await ledger.write(connection, receipt, attempt)
    return receipt


async def _load_service(
    connection: asyncpg.Connection, entity: Entity, service: Service, run_id: str
) -> tuple[int, int, int]:
    names: dict[str, Any] = {
        "curated": entity.curated,
        "key_names": entity.key_names,
        "key": entity.key,
        "columns": entity.columns,
        "dated": "modified_date",
    }
    key_paths = [column.path for column in entity.key]
    await connection.execute(statement("layers/curated/stage.sql", **names))
    async for rows in _documents(connection, entity, service):
        records = [
            (*key, load_date, digest, exact_json.dumps(seen))
            for key, load_date, digest, document in rows
            if (seen := service.view(exact_json.loads(document), key_paths)) is not None
        ]
        await copy_records(
            connection,
            "filtered",
            (*entity.key_names, "load_date", "digest", "document"),
            records,
            schema="pg_temp",
            deadline_s=COPY_DEADLINE_S,
        )
    version = await connection.fetchval(statement("layers/curated/version.sql"), entity.name, service.name)
    gone = await connection.fetchrow(
        statement("layers/curated/remove.sql", **names), service.name, version != service.version
    )
    written = await connection.execute(statement("layers/curated/write.sql", **names), service.name, run_id)
    inserted = int(written.split()[-1])
    await connection.execute(
        statement("layers/curated/write_version.sql"),
        entity.name,
        service.name,
        service.version,
        orjson.dumps(service.model_dump()),
        run_id,
    )
    await connection.execute(statement("layers/curated/unstage.sql"))
    return inserted - gone["replaced"], gone["replaced"], gone["removed"]


Row = tuple[tuple[Any, ...], Any, bytes, bytes]


async def _documents(connection: asyncpg.Connection, entity: Entity, service: Service) -> AsyncIterator[list[Row]]:
    """Documents that a service is about, in chunks: (key, load date of the change point, digest, document)."""
    names = {
        "raw": entity.raw,
        "xform": entity.xform,
        "key_names": entity.key_names,
        "key": entity.key,
        "document": entity.document_column,
    }
    if service.select is None:
        cursor = await connection.cursor(statement("layers/curated/documents.sql", **names))
    else:
        selected = await _select(connection, entity, service)
        columns = [[row[name] for row in selected] for name in (*entity.key_names, "load_date")]
        cursor = await connection.cursor(statement("layers/curated/selected_documents.sql", **names), *columns)
    while rows := await cursor.fetch(_CHUNK_ROWS):
        yield [
            (tuple(row[name] for name in entity.key_names), row["load_date"], row["digest"], row["document"])
            for row in rows
        ]


async def _select(connection: asyncpg.Connection, entity: Entity, service: Service) -> list[asyncpg.Record]:
    """The keys of a selection on the last date on which it named any: a date without keeps the last good one."""
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
