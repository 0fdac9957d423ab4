"""Telling people what they are owed: one message per channel, and what could not be sent stays owed.

A crash between sending and noting it sends once more; nothing is sent by two processes at once. What is said is in
`model.py`, how it is sent in `channels.py`.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from datalake_assets.clock import Clock
from datalake_assets.errors import DatalakeError
from datalake_assets.notify import store
from datalake_assets.notify.channels import send
from datalake_assets.notify.model import Message, Notification, message_of
from datalake_assets.notify.routes import Routes
from datalake_assets.statements import statement

_LOCK: Final = 0x6E6F_7469_6679
"""Key of the advisory lock: the bytes of "notify"."""


@dataclass
class Delivered:
    """What became of everything that was owed.

    Attributes:
        sent: Channels that took their message, with how many troubles it told.
        unsent: Channels that did not, with the reason.
        unrouted: Troubles whose owner has no channel; they are in the table only.
        busy: Somebody else is sending, so nothing was tried.
    """

    sent: dict[str, int] = field(default_factory=dict)
    unsent: dict[str, str] = field(default_factory=dict)
    unrouted: int = 0
    busy: bool = False

    def summary(self) -> str:
        """One sentence for a log."""
        if self.busy:
            return "Another process is sending."
        parts = [f"{channel} took {count}" for channel, count in self.sent.items()]
        parts += [f"{channel} did not take its message: {reason}" for channel, reason in self.unsent.items()]
        if self.unrouted:
            parts.append(f"{self.unrouted} have no channel and stand in ops.notification only")
        return "; ".join(parts) or "Nothing was owed."


async def deliver(connection: asyncpg.Connection, routes: Routes, clock: Clock) -> Delivered:
    """Send what is owed, each channel once, all of them at the same time.

    Args:
        connection: The lake, outside any transaction; a lock is held to the end of the session.
        routes: Channels by owner.
        clock: For the moment of sending.
    """
    done = Delivered()
    owed = await store.owed(connection)
    if not owed:
        return done
    if not await connection.fetchval(statement("notify/lock.sql"), _LOCK):
        return Delivered(busy=True)
    owed = await store.owed(connection)  # whoever held the lock may have sent it
    waiting: dict[str, list[Notification]] = defaultdict(list)
    for notification, taken in owed:
        channels = routes.of(notification.owner)
        done.unrouted += not channels
        for channel in channels:
            if channel not in taken:
                waiting[channel].append(notification)
    reasons = await asyncio.gather(
        *(try_to_send(channel, message_of(items, routes.ui_url), routes) for channel, items in waiting.items())
    )
    for (channel, items), reason in zip(waiting.items(), reasons, strict=True):
        await store.delivered(connection, items, channel, at=clock.now(), error=reason)
        if reason is None:
            done.sent[channel] = len(items)
        else:
            done.unsent[channel] = reason
    for notification, _ in owed:
        channels = routes.of(notification.owner)
        if channels and not any(channel in done.unsent for channel in channels):
            await store.told(connection, notification, at=clock.now())
    return done


async def try_to_send(channel: str, message: Message, routes: Routes) -> str | None:
    """Send a message, and say why it could not be sent; None if it was."""
    try:
        await send(channel, message, routes)
    except DatalakeError as error:
        return str(error)
    return None
