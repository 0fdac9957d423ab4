"""The `datalake` command: its subcommands, and how errors reach the terminal.

Each subcommand lives in a module of its own and is imported when it is called, so that `--help` is quick. Work
is done by the modules below; here it is only started.
"""

import gc
import importlib
import sys
from typing import Final

import click

from datalake_assets.errors import DatalakeError
from datalake_assets.simulator.errors import SimulatorError

COMMANDS: Final = {
    "demo": (
        "datalake_assets.cli.demo",
        "Walk simulated days through the whole lake and compare with the truth.",
    ),
    "dev": ("datalake_assets.cli.dev", "Open the lake in the Dagster UI."),
    "run": ("datalake_assets.cli.run", "Run one job for one load date or partition."),
    "exec": ("datalake_assets.cli.run", "Run a command, such as `dagster`, with the lake running."),
    "migrate": ("datalake_assets.cli.operate", "Bring the lake's tables up to date."),
    "adopt": ("datalake_assets.cli.adopt", "Take over the tables that earlier flows filled, and give them back."),
    "checks": ("datalake_assets.cli.checks", "Run every check of a load date; exit 1 on an error."),
    "quarantine": (
        "datalake_assets.cli.quarantine",
        "List, show and replay documents that could not be kept.",
    ),
    "notifications": (
        "datalake_assets.cli.notifications",
        "Show what people were told of, and try the channels.",
    ),
    "as-of": ("datalake_assets.cli.history", "Show a document as it was on a date."),
    "blame": ("datalake_assets.cli.history", "Show which field changed, when, and by which run."),
    "allow": ("datalake_assets.cli.operate", "Let one load pass a guard, with a reason."),
    "reconcile": ("datalake_assets.cli.operate", "End what dead runs left behind."),
    "doctor": ("datalake_assets.cli.doctor", "Say what is wrong with this installation and how to mend it."),
}
"""Subcommands: module and one line of help."""


_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000
"""Importing Dagster makes hundreds of thousands of objects that stay; looking for cycles among them takes 0.3 s."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name what there is when a command is unknown."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r}. Commands: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Fill and keep a university's PostgreSQL data lake.

    Without POSTGRES_HOST an embedded PostgreSQL is started in DATALAKE_HOME (.datalake); without source variables
    `demo` and `dev` use a simulator. Variables are read from the environment and .env; .env.example lists them.
    """


def main() -> None:
    """Run the command; errors of ours end it with exit code 1 and a sentence instead of a traceback."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        cli(standalone_mode=True)
    except (DatalakeError, SimulatorError) as error:
        click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
        sys.exit(1)
