"""The table that always has every trouble: recorded, resolved, listed, and what became of telling it.

Recording repeats itself safely: the same sighting again changes nothing. Sending does not belong here.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from datalake_assets.errors import DatalakeError
from datalake_assets.notify.model import Delivery, Kind, Notification, Trouble
from datalake_assets.statements import statement

REMIND_AFTER: Final = timedelta(days=3)
"""How long a message silences the repetitions of its trouble: a weekend is quiet, a week is not."""


class NotificationError(DatalakeError):
    """A notification cannot be resolved."""


async def record(connection: asyncpg.Connection, trouble: Trouble, seen_at: datetime) -> bool:
    """Keep one sighting of a trouble.

    Args:
        connection: The lake.
        trouble: What was seen.
        seen_at: When, by the clock of whoever saw it.

    Returns:
        Whether it was new to the table: neither this very sighting nor a later end of the trouble was known.
    """
    number = await connection.fetchval(
        statement("notify/record.sql"),
        trouble.fingerprint,
        trouble.kind,
        trouble.severity,
        trouble.owner,
        trouble.subject,
        trouble.asset,
        trouble.partition,
        trouble.run_id,
        trouble.title,
        trouble.text,
        seen_at,
        REMIND_AFTER,
    )
    return number is not None


async def resolve(
    connection: asyncpg.Connection, kinds: Sequence[Kind], subject: str, partition: str, *, at: datetime, by: str
) -> bool:
    """A subject is good again in one partition; a trouble is over when it is in all that it was seen in.

    Args:
        connection: The lake.
        kinds: Kinds of trouble that this ends.
        subject: What is good again.
        partition: Where; empty for none.
        at: When.
        by: The run that showed it.

    Returns:
        Whether there was such a trouble.
    """
    rows = await connection.fetch(statement("notify/resolve.sql"), list(kinds), subject, partition, at, by)
    return bool(rows)


async def resolve_all(connection: asyncpg.Connection, kind: Kind, subject: str, *, at: datetime, by: str) -> bool:
    """A subject is good again in every partition.

    Returns:
        Whether there was such a trouble.
    """
    return bool(await connection.fetch(statement("notify/resolve_all.sql"), kind, subject, at, by))


async def close(connection: asyncpg.Connection, number: int, *, at: datetime, by: str) -> None:
    """Somebody says that a trouble is over, such as a day that was never landed and never will be.

    Raises:
        NotificationError: There is no open notification of that number.
    """
    if await connection.fetchval(statement("notify/close.sql"), number, at, by) is None:
        raise NotificationError(
            f"There is no open notification {number}.", todo="`datalake notifications` shows the numbers."
        )


async def listing(
    connection: asyncpg.Connection, *, open_only: bool = True
) -> list[tuple[Notification, tuple[Delivery, ...]]]:
    """Notifications, latest first, each with what became of it on its channels."""
    rows = await connection.fetch(statement("notify/list.sql"), open_only)
    return [
        (_notification(row), tuple(Delivery(**delivery) for delivery in orjson.loads(row["deliveries"])))
        for row in rows
    ]


async def owed(connection: asyncpg.Connection) -> list[tuple[Notification, frozenset[str]]]:
    """Open notifications whose message is owed, oldest first, each with the channels that have taken it."""
    rows = await connection.fetch(statement("notify/owed.sql"))
    return [(_notification(row), frozenset(row["taken"])) for row in rows]


async def delivered(
    connection: asyncpg.Connection,
    notifications: Sequence[Notification],
    channel: str,
    *,
    at: datetime,
    error: str | None,
) -> None:
    """Keep what became of a message on a channel."""
    numbers = [notification.number for notification in notifications]
    await connection.execute(statement("notify/delivered.sql"), numbers, channel, at, error)


async def told(connection: asyncpg.Connection, notification: Notification, *, at: datetime) -> None:
    """Every channel has taken the message; unless another one became due meanwhile, nothing is owed."""
    await connection.execute(statement("notify/told.sql"), notification.number, notification.due_at, at)


def _notification(row: asyncpg.Record) -> Notification:
    values: dict[str, Any] = dict(row.items())
    return Notification(
        number=values["notification_id"],
        open_partitions=tuple(values["open_partitions"]),
        **{
            name: values[name]
            for name in Notification.__dataclass_fields__
            if name not in ("number", "open_partitions")
        },
    )
