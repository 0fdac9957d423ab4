"""Who is told where: channels by owner, and what a channel needs. Plain values, read by `settings.py`.

A channel is a text: `webhook:<name>` or `mail:<address>`. Sending is in `channels.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

WEBHOOK: Final = "webhook:"
MAIL: Final = "mail:"

TLS_FROM_THE_START: Final = 465
"""Port on which a mail server speaks TLS at once; on every other one it is asked for STARTTLS."""


@dataclass(frozen=True)
class MailServer:
    """The server that takes our mail.

    Attributes:
        host: Its name.
        port: Its port.
        sender: What stands in From.
        user: As whom to log on; None: not at all.
        password: Of the user.
        ca_bundle: File with the only authorities trusted; None: those that this machine trusts.
    """

    host: str
    port: int
    sender: str
    user: str | None = None
    password: SecretStr | None = None
    ca_bundle: str | None = None


@dataclass(frozen=True)
class Routes:
    """Channels of every owner.

    Attributes:
        webhooks: Addresses by name; they are secrets, because who knows one may post.
        mail: The mail server, if any channel is one of mail.
        default: Channels of owners that have none of their own.
        by_owner: Channels of the others.
        ui_url: Address of the Dagster UI, for links.
    """

    webhooks: Mapping[str, SecretStr] = field(default_factory=dict)
    mail: MailServer | None = None
    default: tuple[str, ...] = ()
    by_owner: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ui_url: str | None = None

    def of(self, owner: str) -> tuple[str, ...]:
        """Channels of an owner."""
        return self.by_owner.get(owner, self.default)

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that anybody is told on, once."""
        return tuple(dict.fromkeys([*self.default, *(channel for many in self.by_owner.values() for channel in many)]))
