"""The channels: a webhook that takes JSON, as Slack and Teams do, and mail over SMTP with TLS.

One attempt per call, within seconds; whoever calls keeps what could not be sent. Who is told on which channel is
in `routes.py`.
"""

import asyncio
import contextlib
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from datalake_assets.errors import DatalakeError
from datalake_assets.notify.model import Message
from datalake_assets.notify.routes import MAIL, TLS_FROM_THE_START, WEBHOOK, MailServer, Routes
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.policies import NOTIFICATION
from datalake_assets.sources.redaction import Redactor

MAIL_S: Final = 10.0
"""Longest silence of a mail server."""


class UnsentError(DatalakeError):
    """A channel did not take a message."""


async def send(channel: str, message: Message, routes: Routes) -> None:
    """Send a message on a channel, once.

    Args:
        channel: `webhook:<name>` or `mail:<address>`.
        message: What to say.
        routes: Addresses and servers.

    Raises:
        DatalakeError: The channel did not take it; the text holds no address of a webhook and no password.
    """
    if channel.startswith(WEBHOOK):
        await _post(channel, routes.webhooks[channel.removeprefix(WEBHOOK)], message)
    elif routes.mail is None:
        raise UnsentError("There is no mail server.", where=channel, todo="Set NOTIFY_SMTP_HOST and NOTIFY_SMTP_FROM.")
    else:
        await asyncio.to_thread(_mail, channel.removeprefix(MAIL), routes.mail, message)


async def _post(channel: str, address: SecretStr, message: Message) -> None:
    parts = urlsplit(address.get_secret_value())
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    # Slack reads these three as markup, and shows their entities as what they are.
    text = f"*{message.title}*\n{message.text}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    async with HttpSource(channel, f"{parts.scheme}://{parts.netloc}", policy=NOTIFICATION) as hook:
        # Whoever knows the path may post: it is the secret of a webhook.
        secrets = [path, parts.path, *parts.path.split("/")]
        await hook.deliver(path, json={"text": text}, key="notification", personal=secrets)


def _mail(recipient: str, server: MailServer, message: Message) -> None:
    letter = EmailMessage()
    letter["From"] = server.sender
    letter["To"] = recipient
    letter["Subject"] = " ".join(message.title.split())
    letter["Date"] = formatdate()
    letter["Message-ID"] = make_msgid(domain=server.sender.rpartition("@")[2])
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: out-of-office replies stay away
    letter.set_content(message.text)
    where = f"{server.host}:{server.port}"
    failure: UnsentError
    try:
        with contextlib.closing(_connected(server)) as connection:
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password.get_secret_value())
            connection.send_message(letter)
            with contextlib.suppress(smtplib.SMTPException, OSError):
                connection.quit()  # it was taken; how the server says good-bye does not matter
        return
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or "unknown reason"
        failure = UnsentError(
            f"The TLS connection to the mail server was refused: {reason}.",
            where=where,
            todo="Check its certificate and name; a private authority belongs in NOTIFY_SMTP_CA_BUNDLE.",
        )
    except smtplib.SMTPServerDisconnected:
        failure = UnsentError(
            "The mail server broke off, or did not answer in time.",
            where=where,
            todo="Check NOTIFY_SMTP_HOST and NOTIFY_SMTP_PORT, and the server's log.",
        )
    except smtplib.SMTPException as error:
        failure = UnsentError(
            f"The mail server refused: {_refusal(error, server)}.",
            where=where,
            todo="Check NOTIFY_SMTP_USER, NOTIFY_SMTP_PASS, NOTIFY_SMTP_FROM and the address.",
        )
    except OSError as error:
        failure = UnsentError(
            f"The mail server could not be reached ({type(error).__name__}).",
            where=where,
            todo="Check NOTIFY_SMTP_HOST and NOTIFY_SMTP_PORT.",
        )
    # Raised outside the handlers: errors of smtplib quote what was sent.
    raise failure


def _connected(server: MailServer) -> smtplib.SMTP:
    """A connection that is encrypted, or goes to this machine itself and carries no password."""
    context = ssl.create_default_context(cafile=server.ca_bundle)
    if server.port == TLS_FROM_THE_START:
        return smtplib.SMTP_SSL(server.host, server.port, timeout=MAIL_S, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=MAIL_S)
    try:
        connection.ehlo()
        if connection.has_extn("starttls") or server.password is not None or not _is_loopback(server.host):
            connection.starttls(context=context)
    except BaseException:
        connection.close()
        raise
    return connection


def _refusal(error: smtplib.SMTPException, server: MailServer) -> str:
    """Code and words of a server, without what it may repeat."""
    code, words = getattr(error, "smtp_code", None), getattr(error, "smtp_error", b"")
    if isinstance(error, smtplib.SMTPRecipientsRefused) and error.recipients:
        code, words = next(iter(error.recipients.values()))
    if isinstance(error, smtplib.SMTPNotSupportedError):
        words = str(error).encode()
    redactor = Redactor([] if server.password is None else [server.password])
    said = redactor.excerpt(words if isinstance(words, bytes) else str(words).encode(), 200).rstrip(".")
    return " ".join(filter(None, [str(code or ""), said])) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
