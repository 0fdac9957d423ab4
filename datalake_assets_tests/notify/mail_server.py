"""A real mail server on loopback: takes letters over SMTP, with STARTTLS and logon where a test wants them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from datalake_assets.notify.routes import MailServer

USER, PASSWORD = "lake", "canary-7c1d-secret"


@dataclass
class Mailbox:
    """What arrived, and what the server says to a recipient; aiosmtpd finds its handlers by their names."""

    says: str = "250 OK"
    letters: list[EmailMessage] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(self, _: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.says.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.says

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:
        content = cast(bytes, envelope.content)
        self.letters.append(cast(EmailMessage, message_from_bytes(content, policy=policy.default)))
        self.encrypted.append(session.ssl is not None)
        return "250 OK"

    def server(self, **changes: Any) -> MailServer:
        return MailServer(**{"host": "localhost", "port": self.port, "sender": "lake@example.edu", **changes})


@asynccontextmanager
async def mailbox(tls: ssl.SSLContext | None = None, *, logon: bool = False) -> AsyncIterator[Mailbox]:
    """A running server; with a TLS context it refuses everything before STARTTLS."""

    def judge(_: SMTP, __: Session, ___: Envelope, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)  # the server says so, not this function

    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            box,
            hostname="mail.example.edu",
            tls_context=tls,
            require_starttls=tls is not None,
            authenticator=judge if logon else None,
            auth_required=logon,
        ),
        "127.0.0.1",
        0,
    )
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()
