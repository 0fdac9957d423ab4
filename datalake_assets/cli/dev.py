"""`datalake dev`: the lake in the Dagster UI, with its daemon, until it is interrupted.

Without source variables it opens the demo: the simulator stands in, and days are walked first if there are none.
What Dagster runs is in `definitions.py`; this module only starts processes and ends them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from ipaddress import ip_address
from types import FrameType
from typing import Final

import click
from rich.console import Console

from datalake_assets.cli.demo import DEFAULT_DAYS, Walk, remember_demo, remembered_demo, report_console
from datalake_assets.cli.stack import DemoWorld, Stack, demo_stack, lake_stack
from datalake_assets.errors import DatalakeError
from datalake_assets.settings import export, load_settings, project_files

_DAGSTER_ENDS_WITHIN_S: Final = 60.0
"""Daemons finish what they are at; a run that is under way is cut off and rolled back."""

_LEFTOVERS_END_WITHIN_S: Final = 5.0


class DevError(DatalakeError):
    """The UI cannot be opened as asked."""


@click.command("dev")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the UI listens on.")
@click.option("--expose", is_flag=True, help="Allow a --host that other machines reach, although the UI has no login.")
@click.option("--empty", is_flag=True, help="Open the demo without walking days first.")
def dev_command(port: int, host: str, expose: bool, empty: bool) -> None:
    """Open the lake in the Dagster UI: graph, runs, backfills, checks, schedules.

    With source variables set it works on them; without, on simulated sources, like `datalake demo`.
    """
    console = report_console()
    _check_address(host, port, expose, console)
    settings = load_settings()
    with _ended_by_signals():
        if settings.has_sources:
            with lake_stack(settings, with_dagster=True) as stack:
                sys.exit(_serve(console, stack, host, port))
        today = settings.clock.today()
        demo = remembered_demo(settings)
        is_new = demo is None
        demo = demo or DemoWorld(today - timedelta(days=DEFAULT_DAYS - 1))
        with demo_stack(settings, demo, fresh=is_new) as stack:
            if is_new and not empty:
                remember_demo(stack, demo)
                from datalake_assets.cli.demo_pipelines import load_pipelines

                console.print("The demo lake is empty: walking simulated days first …")
                walk = Walk(stack, console)
                for day in _days(demo.first_day, today):
                    walk.load_day(day)
                load_pipelines(stack, console, trusted=True)
            if stack.simulator is not None:
                stack.simulator.set_day(settings.clock.rehearsed)
            export({"DATALAKE_TODAY": settings.get("DATALAKE_TODAY") or ""})
            sys.exit(_serve(console, stack, host, port))


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def _check_address(host: str, port: int, expose: bool, console: Console) -> None:
    """Refuse an address that would open the lake to others, or is taken, before anything is started.

    Raises:
        DevError: The address cannot be used, or not without `--expose`.
    """
    if not _is_loopback(host):
        danger = f"Whoever reaches {host} can start, end and delete runs: the Dagster UI has no login."
        if not expose:
            raise DevError(
                danger,
                where=f"--host {host}",
                todo=f"Leave --host out and come through `ssh -L {port}:127.0.0.1:{port} ...`, or through a proxy with "
                "a login (docs/operations.md, Security); --expose opens it as it is.",
            )
        console.print(f"[bold red]WARNING[/bold red] {danger}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise DevError(
            f"The UI cannot listen there: {error.strerror or error}.",
            where=f"{host}, port {port}",
            todo="Choose another --port, or end what listens there.",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and a terminal that goes away, end the block like Ctrl-C: everything started in it is ended."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        names.append(signal.SIGHUP)
    before = {name: signal.signal(name, end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _serve(console: Console, stack: Stack, host: str, port: int) -> int:
    """Run webserver, daemon and code server until they end or we are told to end them."""
    # `dg dev`, which the warning advises, is the same behind a package for developers.
    command = [sys.executable, "-W", "ignore:Function `dev_command` is superseded", "-m", "dagster", "dev"]
    command += ["-w", str(project_files() / "workspace.yaml"), "-h", host, "-p", str(port)]
    # A group of its own: Ctrl-C reaches only us, we pass it on once, and nothing that it starts can be lost.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own interpreter's dagster
    shown = f"[{host}]" if ":" in host else host
    console.print(
        f"The UI opens at http://{shown}:{port}; PostgreSQL and files are in {stack.home}. Ctrl-C ends it.",
        markup=False,
        soft_wrap=True,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DAGSTER_ENDS_WITHIN_S)
        return 0
    finally:
        _end_group(process)


def _end_group(leader: "subprocess.Popen[bytes]") -> None:
    """End what is left of a process group, as after its leader was killed."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _LEFTOVERS_END_WITHIN_S
        try:
            os.killpg(leader.pid, how)
            while time.monotonic() < deadline:
                time.sleep(0.05)
                leader.poll()  # takes it off the group if it has ended
                os.killpg(leader.pid, 0)
        except ProcessLookupError:
            return
