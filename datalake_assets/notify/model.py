"""What people are told of: a trouble, as it is seen, and a message, as it is read.

Two sightings are the same trouble if kind, subject and cause agree: partition and run are not part of it, so that a
source that is down for a week, or a backfill of a hundred days, is one row and one message. What is kept of it is
in `store.py`, how it reaches people in `delivery.py` and `channels.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal
from urllib.parse import quote

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.sources.redaction import Redactor

Kind = Literal["run_failed", "run_canceled", "check_failed", "stale", "quarantine"]
Severity = Literal["error", "warn"]

KIND_NAMES: Final[dict[str, str]] = {
    "run_failed": "Run failed",
    "run_canceled": "Run canceled",
    "check_failed": "Check failed",
    "stale": "Data is stale",
    "quarantine": "Quarantine grew",
}

DEFAULT_OWNER: Final = "team:data-engineering"
"""Who is told of what nobody owns."""

MOST_IN_A_MESSAGE: Final = 20
"""How many troubles one message tells in full; of the others it gives the number."""

_LONGEST_PART: Final = 1000

_CLEAN: Final = Redactor()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One sighting of something that somebody should know.

    Attributes:
        kind: What sort of trouble.
        severity: error or warn.
        owner: Who answers for the asset, as Dagster shows it.
        subject: What is in trouble: an asset, a job, an asset with its check, or an entity.
        what: What happened, as a full sentence; never personal data.
        where: Asset, partition, step, as far as known.
        todo: What to do next.
        cause: What else tells this trouble from another one of the subject, such as the class of an error.
        asset: The table, if it is about one.
        partition: The partition, if it is about one.
        run_id: The run in which it was seen.
    """

    kind: Kind
    severity: Severity
    subject: str
    what: str
    owner: str = DEFAULT_OWNER
    where: str = ""
    todo: str = ""
    cause: str = ""
    asset: str = ""
    partition: str = ""
    run_id: str = ""

    @property
    def fingerprint(self) -> bytes:
        """Identity of the trouble, whatever the partition and the run."""
        return blake2b("\0".join((self.kind, self.subject, self.cause)).encode(), digest_size=16).digest()

    @property
    def title(self) -> str:
        """The headline."""
        return f"{KIND_NAMES[self.kind]}: {self.subject}"

    @property
    def text(self) -> str:
        """What, where, what to do; cleaned once more, because some of it was written by others."""
        parts = [_clean(self.what)]
        if self.where:
            parts.append(f"Where: {_clean(self.where)}.")
        if self.todo:
            parts.append(f"What to do: {_clean(self.todo)}")
        return " ".join(parts)


@dataclass(frozen=True)
class Delivery:
    """What became of a message on one channel; `sent_at` is None while it is unsent."""

    channel: str
    sent_at: str | None
    attempts: int
    error: str | None


@dataclass(frozen=True)
class Notification:
    """A trouble as it is kept; see the comments of table `ops.notification`."""

    number: int
    kind: str
    severity: str
    owner: str
    subject: str
    asset: str
    partition: str
    run_id: str
    title: str
    text: str
    open_partitions: tuple[str, ...]
    times_seen: int
    first_seen_at: datetime
    last_seen_at: datetime
    due_at: datetime
    told_at: datetime | None
    resolved_at: datetime | None
    resolved_by: str | None

    @property
    def state(self) -> str:
        """Resolved, told, or unsent: open and owed to somebody."""
        if self.resolved_at is not None:
            return "resolved"
        return "unsent" if self.told_at is None else "told"


@dataclass(frozen=True)
class Message:
    """What is sent."""

    title: str
    text: str


TEST_MESSAGE: Final = Message(
    "Test message of the data lake",
    "Somebody called `datalake notifications test`. There is nothing to do; this channel works.",
)


def message_of(notifications: Sequence[Notification], ui_url: str | None) -> Message:
    """One message about all that a channel is owed, the oldest trouble first.

    Args:
        notifications: At least one.
        ui_url: Address of the Dagster UI, for links to runs.
    """
    if len(notifications) == 1:
        return Message(_headline(notifications[0]), _told(notifications[0], ui_url))
    told = [f"{_headline(one)}\n{_told(one, ui_url)}" for one in notifications[:MOST_IN_A_MESSAGE]]
    if left := len(notifications) - len(told):
        told.append(f"{left} more: `datalake notifications` lists them.")
    errors = sum(notification.severity == "error" for notification in notifications)
    title = f"{len(notifications)} troubles in the data lake, {errors} of them errors"
    return Message(title, "\n\n".join(told))


def _headline(notification: Notification) -> str:
    return f"[{notification.severity}] {notification.title}"


def _told(notification: Notification, ui_url: str | None) -> str:
    lines = [notification.text]
    if notification.partition:
        lines.append(f"Partition: {notification.partition}.")
    if notification.times_seen > 1:
        since = notification.first_seen_at.astimezone(CAMPUS_ZONE)
        lines.append(f"Seen {notification.times_seen} times since {since:%Y-%m-%d %H:%M %Z}.")
    if ui_url and notification.run_id:
        lines.append(f"{ui_url.rstrip('/')}/runs/{quote(notification.run_id)}")
    return "\n".join(lines)


def _clean(text: str) -> str:
    line = " ".join(_CLEAN.text(text).split())
    return line if len(line) <= _LONGEST_PART else line[: _LONGEST_PART - 1] + "…"
