"""`datalake run` and `datalake exec`: one job, or any command, with the lake running.

Nothing is decided here; the stack is in `stack.py`, running a job in `jobs.py`.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import click

from datalake_assets.cli.stack import Stack, demo_stack, lake_stack
from datalake_assets.settings import load_settings


@contextmanager
def chosen_stack(*, demo: bool) -> Iterator[Stack]:
    """The operator's lake, or the demo lake as it was filled last."""
    settings = load_settings()
    if not demo:
        with lake_stack(settings, with_dagster=True) as stack:
            yield stack
        return
    from datalake_assets.cli.demo import require_demo

    with demo_stack(settings, require_demo(settings), fresh=False) as stack:
        yield stack


@click.command("run")
@click.argument("job")
@click.option("--date", "load_date", type=click.DateTime(["%Y-%m-%d"]), help="Load date; today if left out.")
@click.option("--term", help="Only this term, such as 2258; every active one if left out.")
@click.option("--quiet", is_flag=True, help="Only say how it ended.")
@click.option("--demo", is_flag=True, help="On the demo lake and its simulated sources.")
def run_command(job: str, load_date: datetime | None, term: str | None, quiet: bool, demo: bool) -> None:
    """Run JOB (term_daily, course_daily or person_daily) for one load date in this process.

    Courses are loaded in a run per active term; one that fails does not keep the others from being loaded.

    Example: datalake run term_daily --date 2026-01-31

    Example: datalake run course_daily --term 2258
    """
    with chosen_stack(demo=demo) as stack:
        from datalake_assets.cli.jobs import run_job

        day: date = load_date.date() if load_date else stack.settings.clock.today()
        outcome = run_job(job, day, term=term, quiet=quiet)
    for run in outcome.runs:
        for step, message in run.failures.items():
            click.echo(click.style(f"{step}: ", fg="red") + message, err=True)
        for text in run.failed_checks:
            click.echo(click.style("check failed: ", fg="red") + text, err=True)
        click.echo(f"{job} {run.partition}: {'succeeded' if run.succeeded else 'FAILED'} (run {run.run_id})")
    sys.exit(0 if outcome.succeeded else 1)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--demo", is_flag=True, help="On the demo lake and its simulated sources.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(command: tuple[str, ...], demo: bool) -> None:
    """Run COMMAND with PostgreSQL, its tables and Dagster's home ready.

    Example: datalake exec -- dagster asset list -m datalake_assets.definitions
    """
    with chosen_stack(demo=demo):
        program = shutil.which(command[0], path=str(Path(sys.executable).parent)) or shutil.which(command[0])
        if program is None:
            raise click.ClickException(f"There is no program {command[0]!r}.")
        sys.exit(subprocess.run([program, *command[1:]], check=False).returncode)  # noqa: S603 - that is the point
