"""`datalake notifications` from a shell: what is open, what is over, and whether the channels work."""

from datetime import timedelta

import pytest

from datalake_assets.notify import store
from datalake_assets_tests.cli.commands import Commands
from datalake_assets_tests.lake.lakes import SmallLake
from datalake_assets_tests.notify.troubles import NOW, trouble
from datalake_assets_tests.notify.webhook_server import webhook
from datalake_assets_tests.sources.fault_server import answer


@pytest.fixture
def troubled(commands: Commands) -> Commands:
    """A lake with one trouble that is over and one that is not."""

    async def story(lake: SmallLake) -> None:
        await lake.connection.execute("delete from ops.notification")
        await store.record(lake.connection, trouble(kind="check_failed", subject="term_raw.term_data keys"), NOW)
        over = {"at": NOW + timedelta(hours=1), "by": "run-2"}
        await store.resolve(lake.connection, ["check_failed"], "term_raw.term_data keys", "2026-01-02", **over)
        await store.record(lake.connection, trouble(), NOW)

    commands.in_lake(story)
    return commands


def test_open_troubles_are_listed_and_all_on_request(troubled: Commands) -> None:
    shown = troubled.run("notifications")
    assert shown.out.splitlines()[1].split()[1:] == [
        *("error", "Run", "failed:", "term_raw.term_data", "2026-01-02", "1", "2026-01-02", "07:30"),
        *("team:data-engineering", "unsent"),
    ]
    assert len(shown.out.splitlines()) == 2
    everything = troubled.run("notifications", "--all").out
    assert len(everything.splitlines()) == 3
    assert "resolved" in everything


def test_a_program_gets_every_detail(troubled: Commands) -> None:
    (item,) = troubled.run("notifications", "--json").json()
    assert (item["title"], item["state"], item["deliveries"]) == ("Run failed: term_raw.term_data", "unsent", [])
    assert item["text"] == trouble().text
    assert len(troubled.run("notifications", "--all", "--json").json()) == 2


def test_what_could_not_be_sent_is_shown_with_its_reason(troubled: Commands) -> None:
    async def story(lake: SmallLake) -> None:
        ((kept, _),) = await store.owed(lake.connection)
        await store.delivered(lake.connection, [kept], "webhook:ops", at=NOW, error="It answered with status 500.")

    troubled.in_lake(story)
    shown = troubled.run("notifications").err
    assert "is unsent on webhook:ops: It answered with status 500." in shown


def test_a_trouble_that_no_run_will_end_is_resolved_by_hand(troubled: Commands) -> None:
    (item,) = troubled.run("notifications", "--json").json()
    done = troubled.run("notifications", "resolve", item["number"])
    assert (done.code, done.out) == (0, f"Notification {item['number']} is resolved.\n")
    assert troubled.run("notifications").out == "There is no open trouble.\n"
    again = troubled.run("notifications", "resolve", item["number"])
    assert (again.code, again.out) == (1, "")
    assert "There is no open notification" in again.err


def test_the_test_message_goes_through_every_channel_and_says_what_happened(commands: Commands) -> None:
    with webhook(answer(b"ok", content_type="text/plain")) as good, webhook(answer(b"no", 404)) as bad:
        commands.variables["NOTIFY_WEBHOOK_URLS"] = f"default={good.url}/hook ops={bad.url}/secret-path-1"
        commands.variables["NOTIFY_ROUTES"] = "team:ops=ops"
        done = commands.run("notifications", "test")
        as_json = commands.run("notifications", "test", "--json")
    assert done.code == as_json.code == 1
    first, second = done.out.splitlines()
    assert first == "webhook:default: sent"
    assert second.startswith("webhook:ops: not sent. webhook:ops answered with status 404.")
    assert [(item["channel"], item["sent"]) for item in as_json.json()] == [
        ("webhook:default", True),
        ("webhook:ops", False),
    ]
    assert "secret-path-1" not in done.out + done.err + as_json.out
    assert len(good.requests) == 2
    assert b"datalake notifications test" in good.requests[0].body


def test_all_channels_that_work_are_a_success(commands: Commands) -> None:
    with webhook(answer(b"ok", content_type="text/plain")) as good:
        commands.variables["NOTIFY_WEBHOOK_URLS"] = f"{good.url}/hook"
        assert commands.run("notifications", "test").code == 0


def test_without_a_channel_the_test_fails_and_says_what_to_set(commands: Commands) -> None:
    """Silence would look like success to whoever sets notifications up."""
    done = commands.run("notifications", "test")
    assert (done.code, done.out) == (1, "")
    assert "Set NOTIFY_WEBHOOK_URLS" in done.err
