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
@click.option(
    "--date",
    "load_date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Load date, today if left out; of a pipeline by periods, a day of the period.",
)
@click.option("--term", help="Of course_daily: only this term, such as 2258; every active one if left out.")
@click.option("--partition", metavar="KEY", help="Of a pipeline: its partition, as Dagster shows it.")
@click.option("--from", "first", metavar="KEY", help="Of a pipeline: the first partition of a range.")
@click.option("--to", "last", metavar="KEY", help="Of a pipeline: the last partition of a range.")
@click.option("--quiet", is_flag=True, help="Only say how it ended.")
@click.option("--demo", is_flag=True, help="On the demo lake and its simulated sources.")
def run_command(
    job: str,
    load_date: datetime | None,
    term: str | None,
    partition: str | None,
    first: str | None,
    last: str | None,
    quiet: bool,
    demo: bool,
) -> None:
    """Run JOB in this process: term_daily, course_daily, person_daily, or that of a declared pipeline.

    The first three load one date; courses in a run per active term. Jobs of declared pipelines are called
    SCHEMA__TABLE_load or SCHEMA__VIEW_views. Some have no partitions and load what the source has now; of the others,
    name one partition or a range. A range of views is one run, one of files a run each. A run that fails does not
    keep the others from being tried.

    Example: datalake run term_daily --date 2026-01-31

    Example: datalake run course_daily --term 2258

    Example: datalake run dit__contacts_load

    Example: datalake run dit__completed_omis_orders_views --from 2019-07-01 --to 2020-06-01

    Example: datalake run trips__rides_load --partition "green|2021-01-01"
    """
    asked = {"--partition": partition, "--from": first, "--to": last}
    with chosen_stack(demo=demo) as stack:
        from datalake_assets.cli.jobs import JobError, campus_jobs, run_job

        if job in campus_jobs():
            if given := [option for option, value in asked.items() if value is not None]:
                raise JobError(f"{job} takes no {given[0]}.", todo="Say which day with --date.")
            day: date = load_date.date() if load_date else stack.settings.clock.today()
            outcome = run_job(job, day, term=term, quiet=quiet)
        else:
            from datalake_assets.cli.pipeline_jobs import Asked, run_pipeline

            if term is not None:
                raise JobError(f"{job} is not run by term.", todo="Leave the term out.")
            wanted = Asked(partition, load_date.date() if load_date else None, first, last)
            outcome = run_pipeline(job, wanted, quiet=quiet)
    for run in outcome.runs:
        for step, message in run.failures.items():
            click.echo(click.style(f"{step}: ", fg="red") + message, err=True)
        for text in run.failed_checks:
            click.echo(click.style("check failed: ", fg="red") + text, err=True)
        state = "succeeded" if run.succeeded else "FAILED"
        click.echo(f"{' '.join(filter(None, (job, run.partition)))}: {state} (run {run.run_id})")
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
