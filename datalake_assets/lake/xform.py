"""The current state: for every key, the last change point of the history unless it is a removal.

The table converges on the history: a load mends every key whose last change point it does not show. Loads of the
history tell which keys they touched, and these are looked at, so a load that was missed is caught up by the next. All
keys are looked at where the table does not hold what the last load left.
"""

import time

import asyncpg

from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.statements import has_statement, statement
from datalake_assets.storage.postgres import lock_slice, scrubbing


async def load_xform(connection: asyncpg.Connection, ledger: Ledger, piece: LoadSlice, run_id: str) -> Receipt:
    """Make the current table show the history of a slice's scope.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Attempts and receipts.
        piece: The partition that asks; only its scope matters to the result.
        run_id: Who loads it.

    Returns:
        The receipt that was committed.

    Raises:
        SupersededError: Another attempt at the same partition has begun.
    """
    started = time.monotonic()
    entity = piece.entity
    names = {
        "raw": entity.raw,
        "xform": entity.xform,
        "touched": entity.touched,
        "key_names": entity.key_names,
        "columns": entity.columns,
        "document": entity.document_column,
        "dated": "modified_date",
        "scope": entity.scope,
    }
    with scrubbing(f"{entity.xform}, partition {piece.partition}"):
        attempt = await ledger.begin(connection, str(entity.xform), piece.partition, run_id)
        async with connection.transaction():
            # Change points that a load of raw mends away meanwhile could be missing when rows are written.
            await lock_slice(connection, str(entity.raw), piece.scope_text)
            await lock_slice(connection, str(entity.xform), piece.scope_text)
            holds = statement("layers/xform/fingerprint.sql", **names)
            rows = await connection.fetchrow(holds, *piece.scope)
            whole = rows["fingerprint"] != await ledger.fingerprint(connection, str(entity.xform), piece.scope_text)
            new = changed = removed = 0
            untouched = await connection.fetchval(statement("layers/is_untouched.sql", **names), "xform", *piece.scope)
            if whole or not untouched:
                await connection.execute(statement("layers/xform/stale.sql", whole=whole, **names), *piece.scope)
                new, changed, removed = await connection.fetchrow(statement("layers/xform/counts.sql"))
                await connection.execute(statement("layers/xform/remove.sql", **names))
                await connection.execute(statement("layers/xform/write.sql", **names), run_id)
                await connection.execute(statement("layers/xform/pass_on.sql", **names), *piece.scope)
                rows = await connection.fetchrow(holds, *piece.scope)
            if has_statement(after := f"{entity.xform.path}/after_write.sql"):
                await connection.execute(statement(after))
            receipt = Receipt(
                asset=str(entity.xform),
                partition=piece.partition,
                run_id=run_id,
                load_date=piece.load_date,
                scope=piece.scope_text,
                rows_total=rows["total"],
                rows_new=new,
                rows_changed=changed,
                rows_removed=removed,
                rows_unchanged=rows["in_scope"] - new - changed,
                duration_s=round(time.monotonic() - started, 3),
            )
            await ledger.write(connection, receipt, attempt)
            await ledger.remember(connection, str(entity.xform), piece.scope_text, rows["fingerprint"])
    return receipt
