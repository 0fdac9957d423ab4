"""Who is told, on which channel, how often: the table against real webhooks and a real mail server."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from datalake_assets.clock import Clock
from datalake_assets.notify import store
from datalake_assets.notify.delivery import deliver
from datalake_assets.notify.model import Delivery
from datalake_assets.notify.routes import Routes
from datalake_assets.notify.store import REMIND_AFTER
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.notify.mail_server import mailbox
from datalake_assets_tests.notify.troubles import NOW, trouble
from datalake_assets_tests.sources.fault_server import FaultServer, Request, Wire, answer, serving

pytestmark = pytest.mark.anyio

CLOCK = Clock()
OK = answer(b"ok", content_type="text/plain")


def hook(server: FaultServer) -> SecretStr:
    return SecretStr(f"{server.url}/hook")


def texts(server: FaultServer) -> list[str]:
    return [json.loads(request.body)["text"] for request in server.requests]


async def deliveries(connection: asyncpg.Connection) -> dict[str, list[Delivery]]:
    return {kept.subject: list(tried) for kept, tried in await store.listing(connection)}


async def test_a_trouble_is_told_once(connection: asyncpg.Connection) -> None:
    async with serving(OK) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))
        await store.record(connection, trouble(), NOW)
        done = await deliver(connection, routes, CLOCK)
        assert (done.sent, done.unsent) == ({"webhook:default": 1}, {})
        assert done.summary() == "webhook:default took 1"
        assert (await deliver(connection, routes, CLOCK)).summary() == "Nothing was owed."
        await store.record(connection, trouble(run_id="run-2"), NOW + timedelta(hours=3))
        await deliver(connection, routes, CLOCK)
    (text,) = texts(server)
    assert "*[error] Run failed: term_raw.term_data*" in text


async def test_each_owner_is_told_on_channels_of_its_own(connection: asyncpg.Connection) -> None:
    async with serving(OK) as everybody, serving(OK) as registrar, mailbox() as box:
        routes = Routes(
            webhooks={"default": hook(everybody), "registrar": hook(registrar)},
            mail=box.server(),
            default=("webhook:default",),
            by_owner={"team:registrar": ("webhook:registrar", "mail:terms@example.edu")},
        )
        await store.record(connection, trouble(subject="term_raw.term_data", owner="team:registrar"), NOW)
        await store.record(connection, trouble(subject="person_raw.person_data", owner="team:people"), NOW)
        await deliver(connection, routes, CLOCK)
    assert ["person_raw" in text for text in texts(everybody)] == [True]
    assert ["term_raw" in text and "person_raw" not in text for text in texts(registrar)] == [True]
    assert [(letter["To"], letter["Subject"]) for letter in box.letters] == [
        ("terms@example.edu", "[error] Run failed: term_raw.term_data")
    ]


async def test_what_could_not_be_sent_stays_unsent_with_its_reason_and_is_sent_later(
    connection: asyncpg.Connection,
) -> None:
    """And the channel that did take it is not told twice."""
    async with serving(answer(b"", 503), OK) as broken, serving(OK) as sound:
        routes = Routes(
            webhooks={"broken": hook(broken), "sound": hook(sound)}, default=("webhook:broken", "webhook:sound")
        )
        await store.record(connection, trouble(), NOW)
        done = await deliver(connection, routes, CLOCK)
        assert (list(done.sent), list(done.unsent)) == (["webhook:sound"], ["webhook:broken"])
        bad, good = (await deliveries(connection))["term_raw.term_data"]
        assert (bad.channel, bad.sent_at, bad.attempts) == ("webhook:broken", None, 1)
        assert "status 503" in (bad.error or "")
        assert (good.channel, good.error) == ("webhook:sound", None)
        assert good.sent_at is not None
        assert [kept.state for kept, _ in await store.listing(connection)] == ["unsent"]
        done = await deliver(connection, routes, CLOCK)
        assert (done.sent, done.unsent) == ({"webhook:broken": 1}, {})
    assert (len(broken.requests), len(sound.requests)) == (2, 1)
    bad, _ = (await deliveries(connection))["term_raw.term_data"]
    assert (bad.attempts, bad.error) == (2, None)
    assert [kept.state for kept, _ in await store.listing(connection)] == ["told"]


async def test_all_that_a_channel_is_owed_is_one_message(connection: asyncpg.Connection) -> None:
    async with serving(OK) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))
        for number in range(30):
            await store.record(connection, trouble(subject=f"table {number}"), NOW)
        assert (await deliver(connection, routes, CLOCK)).sent == {"webhook:default": 30}
    assert len(server.requests) == 1
    assert await store.owed(connection) == []


async def test_without_a_channel_the_table_has_it_and_a_later_channel_is_told(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    done = await deliver(connection, Routes(), CLOCK)
    assert done.summary() == "1 have no channel and stand in ops.notification only"
    assert [kept.state for kept, _ in await store.listing(connection)] == ["unsent"]
    async with serving(OK) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))
        await deliver(connection, routes, CLOCK)
    assert len(server.requests) == 1


async def test_a_reminder_is_sent_to_channels_that_had_taken_the_first_message(connection: asyncpg.Connection) -> None:
    async with serving(OK) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))
        await store.record(connection, trouble(), NOW)
        await deliver(connection, routes, CLOCK)
        # Later than the clock by which it was sent, as the next sighting is.
        await store.record(connection, trouble(run_id="run-2"), CLOCK.now() + REMIND_AFTER)
        assert len(await store.owed(connection)) == 1
        await deliver(connection, routes, CLOCK)
    assert [text.count("Seen 2 times") for text in texts(server)] == [0, 1]


async def test_what_is_over_before_it_could_be_sent_is_not_sent(connection: asyncpg.Connection) -> None:
    await store.record(connection, trouble(), NOW)
    over = {"at": NOW + timedelta(hours=1), "by": "run-2"}
    await store.resolve(connection, ["run_failed"], "term_raw.term_data", "2026-01-02", **over)
    async with serving(OK) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))
        await deliver(connection, routes, CLOCK)
    assert server.requests == []


async def test_two_senders_at_once_send_once(connection: asyncpg.Connection, notify_address: PostgresAddress) -> None:
    """Two sensors tick at the same moment."""
    await store.record(connection, trouble(), NOW)
    arrived, second_is_done = asyncio.Event(), asyncio.Event()

    async def held(request: Request, wire: Wire) -> None:
        arrived.set()
        await second_is_done.wait()
        await OK(request, wire)

    async with serving(held) as server:
        routes = Routes(webhooks={"default": hook(server)}, default=("webhook:default",))

        async def second() -> bool:
            await arrived.wait()
            async with session(notify_address, application_name="test") as lake:
                done = await deliver(lake, routes, CLOCK)
            second_is_done.set()
            return done.busy

        first, busy = await asyncio.gather(deliver(connection, routes, CLOCK), second())
    assert (len(server.requests), first.busy, busy) == (1, False, True)
