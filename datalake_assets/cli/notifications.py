"""`datalake notifications`: what people were told of, and whether the channels work.

How troubles are kept and sent is in `notify/`; what finds them, in `datalake_assets/notifications.py`.
"""

import asyncio
import sys
from dataclasses import asdict
from typing import Any

import asyncpg
import click

from datalake_assets.cli.access import ask_lake
from datalake_assets.cli.output import hint, print_json, print_table
from datalake_assets.cli.stack import Stack
from datalake_assets.notify import store
from datalake_assets.notify.delivery import try_to_send
from datalake_assets.notify.model import TEST_MESSAGE, Delivery, Notification
from datalake_assets.settings import load_settings


@click.group("notifications", invoke_without_command=True)
@click.option("--open/--all", "open_only", default=True, show_default=True, help="Only troubles that are not over.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def notifications_command(context: click.Context, open_only: bool, as_json: bool) -> None:
    """Show what people were told of, latest first, and try the channels.

    Example: datalake notifications --all

    Example: datalake notifications test

    Example: datalake notifications resolve 12
    """
    if context.invoked_subcommand is not None:
        return

    async def question(connection: asyncpg.Connection, _: Stack) -> list[tuple[Notification, tuple[Delivery, ...]]]:
        return await store.listing(connection, open_only=open_only)

    found = ask_lake(load_settings(), "notifications", question)
    if as_json:
        print_json([_described(*item) for item in found])
    elif not found:
        click.echo("There is no open trouble." if open_only else "There was never a trouble.")
    else:
        print_table(
            ("number", "severity", "title", "partition", "seen", "last seen", "owner", "state"),
            [
                (
                    n.number,
                    n.severity,
                    n.title,
                    n.partition,
                    n.times_seen,
                    f"{n.last_seen_at:%Y-%m-%d %H:%M}",
                    n.owner,
                    n.state,
                )
                for n, _ in found
            ],
            numeric=("number", "seen"),
        )
        for notification, deliveries in found:
            for delivery in deliveries:
                if delivery.error and notification.state == "unsent":
                    hint(f"{notification.number} is unsent on {delivery.channel}: {delivery.error}")
        hint("`datalake notifications --json` shows each with its text. Times are in UTC.")


@notifications_command.command("test")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def test_command(as_json: bool) -> None:
    """Send a test message on every channel that is configured; exit 1 if one did not take it, or there is none.

    Example: datalake notifications test
    """
    routes = load_settings().notify()

    async def send_all() -> list[str | None]:
        return await asyncio.gather(*(try_to_send(channel, TEST_MESSAGE, routes) for channel in routes.channels))

    results = dict(zip(routes.channels, asyncio.run(send_all()), strict=True))
    if as_json:
        print_json([{"channel": channel, "sent": error is None, "error": error} for channel, error in results.items()])
    elif not results:
        hint("No channel is configured: troubles stand in table ops.notification only.")
        hint("Set NOTIFY_WEBHOOK_URLS, or NOTIFY_EMAIL_TO with NOTIFY_SMTP_HOST and NOTIFY_SMTP_FROM.")
    for channel, error in () if as_json else results.items():
        click.echo(f"{channel}: {'sent' if error is None else f'not sent. {error}'}")
    sys.exit(0 if results and not any(results.values()) else 1)


@notifications_command.command("resolve")
@click.argument("number", type=click.IntRange(min=1))
def resolve_command(number: int) -> None:
    """Say that a trouble is over that no later run will end, such as a day that was never landed.

    Example: datalake notifications resolve 12
    """

    async def question(connection: asyncpg.Connection, stack: Stack) -> None:
        await store.close(connection, number, at=stack.settings.clock.now(), by="datalake notifications resolve")

    ask_lake(load_settings(), "notifications resolve", question)
    click.echo(f"Notification {number} is resolved.")


def _described(notification: Notification, deliveries: tuple[Delivery, ...]) -> dict[str, Any]:
    return {
        **asdict(notification),
        "state": notification.state,
        "deliveries": [asdict(delivery) for delivery in deliveries],
    }
