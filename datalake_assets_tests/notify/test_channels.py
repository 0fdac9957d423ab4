"""Channels against real servers: a webhook and a mail server that take messages, refuse them, or never answer."""

import asyncio
import json
import logging
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from datalake_assets.errors import DatalakeError
from datalake_assets.notify import channels
from datalake_assets.notify.channels import send
from datalake_assets.notify.model import Message
from datalake_assets.notify.routes import MailServer, Routes
from datalake_assets.sources.policies import NOTIFICATION
from datalake_assets_tests.notify.mail_server import PASSWORD, USER, Mailbox, mailbox
from datalake_assets_tests.sources.fault_server import FaultServer, answer, hang_up, serving, silence

pytestmark = pytest.mark.anyio

TOKEN = "canary5f2aXyZ0123456789"
PATH = f"/services/T0000/B0000/{TOKEN}?sig={TOKEN}"
MESSAGE = Message("[error] Run failed: term_raw.term_data", "3 < 4 & so on.\nWhat to do: look.")


def hook(server: FaultServer) -> Routes:
    return Routes(webhooks={"ops": SecretStr(server.url + PATH)}, default=("webhook:ops",))


async def refused(server: FaultServer) -> str:
    async with server:
        with pytest.raises(DatalakeError) as caught:
            await send("webhook:ops", MESSAGE, hook(server))
    return str(caught.value)


# --------------------------------------------------------------------------------------------------- webhooks


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"ok", id="Slack"),
        pytest.param(202, b"", id="a Teams workflow"),
        pytest.param(204, b"", id="204"),
    ],
)
async def test_a_webhook_takes_json_with_the_text(status: int, body: bytes) -> None:
    async with serving(answer(body, status, content_type="text/html")) as server:
        await send("webhook:ops", MESSAGE, hook(server))
    (request,) = server.requests
    assert (request.method, request.target, request.headers["content-type"]) == ("POST", PATH, "application/json")
    assert json.loads(request.body) == {
        "text": "*[error] Run failed: term_raw.term_data*\n3 &lt; 4 &amp; so on.\nWhat to do: look."
    }


async def test_a_webhook_that_fails_is_asked_once() -> None:
    """A message whose answer was lost may have arrived: to send it again at once would say it twice."""
    server = serving(answer(b"try later", 500, content_type="text/plain"))
    assert "webhook:ops answered with status 500. It said: try later" in await refused(server)
    assert len(server.requests) == 1


async def test_a_webhook_that_closes_the_connection_is_asked_once() -> None:
    server = serving(hang_up)
    assert "before the whole answer had arrived" in await refused(server)
    assert len(server.requests) == 1


async def test_a_webhook_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor's tick has a minute for everything."""
    monkeypatch.setattr(channels, "NOTIFICATION", replace(NOTIFICATION, read_s=0.2, total_s=0.4))
    assert NOTIFICATION.total_s < 30
    async with asyncio.timeout(5):
        assert "webhook:ops was silent for too long" in await refused(serving(silence))


async def test_a_redirect_is_not_followed() -> None:
    """It would carry the message, and the secret of the webhook, to a place that nobody configured."""
    async with serving(answer(b"ok")) as elsewhere:
        server = serving(answer(b"", 302, headers={"Location": f"{elsewhere.url}/taken"}))
        assert "webhook:ops redirects to 127.0.0.1; redirects are not followed" in await refused(server)
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_the_address_of_a_webhook_is_in_no_error_and_no_log(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever knows it may post; Slack revokes the ones it finds published."""
    caplog.set_level(logging.DEBUG)
    body = f"no service {PATH} token {TOKEN}".encode()
    said = await refused(serving(answer(body, status, content_type="text/plain")))
    assert TOKEN not in said
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(Routes(webhooks={"ops": SecretStr(f"https://hooks.example.edu{PATH}")}))


# ------------------------------------------------------------------------------------------------------- mail


def mail_routes(server: MailServer) -> Routes:
    return Routes(mail=server, default=("mail:ops@example.edu",))


async def mail(server: MailServer) -> None:
    await send("mail:ops@example.edu", MESSAGE, mail_routes(server))


async def unsent(server: MailServer) -> str:
    with pytest.raises(DatalakeError) as caught:
        await mail(server)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def known(box: Mailbox, ca: str, password: str = PASSWORD) -> MailServer:
    return box.server(user=USER, password=SecretStr(password), ca_bundle=ca)


async def test_mail_goes_encrypted_and_logged_on(tls: ssl.SSLContext, ca: str) -> None:
    async with mailbox(tls, logon=True) as box:
        await mail(known(box, ca))
    (letter,) = box.letters
    assert box.encrypted == [True]
    assert (letter["From"], letter["To"]) == ("lake@example.edu", "ops@example.edu")
    assert letter["Subject"] == MESSAGE.title
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content().splitlines() == MESSAGE.text.splitlines()


async def test_a_password_never_goes_to_a_server_without_tls() -> None:
    """Not even on this machine: who takes the STARTTLS offer out of an answer would read it."""
    async with mailbox(logon=True) as box:
        said = await unsent(box.server(user=USER, password=SecretStr(PASSWORD)))
    assert "STARTTLS" in said
    assert box.letters == []


async def test_a_relay_on_this_machine_needs_no_tls() -> None:
    async with mailbox() as box:
        await mail(box.server())
    assert box.encrypted == [False]


async def test_a_certificate_of_an_unknown_authority_is_refused(tls: ssl.SSLContext) -> None:
    async with mailbox(tls, logon=True) as box:
        said = await unsent(box.server(user=USER, password=SecretStr(PASSWORD)))
    assert "The TLS connection to the mail server was refused" in said
    assert "NOTIFY_SMTP_CA_BUNDLE" in said


async def test_a_wrong_password_is_told_without_it(tls: ssl.SSLContext, ca: str) -> None:
    async with mailbox(tls, logon=True) as box:
        assert "The mail server refused: 535" in await unsent(known(box, ca, f"{PASSWORD}-old"))


async def test_a_refused_recipient_is_told() -> None:
    async with mailbox() as box:
        box.says = "550 no such mailbox"
        assert "The mail server refused: 550 no such mailbox." in await unsent(box.server())


async def test_a_mail_server_that_is_not_there_is_told() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        said = await unsent(Mailbox(port=nobody.getsockname()[1]).server())
    assert "could not be reached" in said


async def test_a_mail_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAIL_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = await unsent(Mailbox(port=silent.getsockname()[1]).server())
    assert "did not answer in time" in said


async def test_a_title_cannot_add_headers() -> None:
    async with mailbox() as box:
        message = Message("Run failed: x\r\nBcc: somebody@example.edu", "text")
        await send("mail:ops@example.edu", message, mail_routes(box.server()))
    assert box.letters[0]["Bcc"] is None
