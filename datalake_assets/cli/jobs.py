"""Running a Dagster job inside this process, recorded in the instance like any other run.

The instance, the database and the sources must be there already (see `stack.py`).
"""

from dataclasses import dataclass
from datetime import date

import dagster as dg

from datalake_assets.errors import DatalakeError


class JobError(DatalakeError):
    """A job cannot be started as asked."""


@dataclass(frozen=True)
class JobOutcome:
    """What became of a run.

    Attributes:
        run_id: The run in Dagster.
        succeeded: Whether every step and every blocking check passed.
        failures: What failed, by step, in the words of its error.
        failed_checks: Checks with severity error that did not pass, as `asset: check: summary`.
    """

    run_id: str
    succeeded: bool
    failures: dict[str, str]
    failed_checks: list[str]


def run_job(name: str, load_date: date, *, quiet: bool = False) -> JobOutcome:
    """Run a job for one load date.

    Args:
        name: The job, e.g. `term_daily`.
        load_date: The partition.
        quiet: Keep Dagster's log off the terminal; it is in the instance anyway.

    Raises:
        JobError: There is no such job, or the date is no partition of it.
    """
    from datalake_assets.definitions import defs

    definitions = defs()
    names = sorted(job.name for job in definitions.jobs or [])
    if name not in names:
        raise JobError(f"There is no job {name!r}.", todo=f"Jobs: {', '.join(names)}.")
    job = definitions.resolve_job_def(name)
    partitions = job.partitions_def
    if partitions is not None and not partitions.has_partition_key(load_date.isoformat()):
        first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
        raise JobError(
            f"{load_date} is no partition of {name}: there are {first} to {last}.",
            todo="Choose a date in that range, or set LAKE_START_DATE to have earlier ones.",
        )
    loggers = {"console": {"config": {"log_level": "CRITICAL" if quiet else "INFO"}}}
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            partition_key=load_date.isoformat(),
            run_config={"loggers": loggers},
            raise_on_error=False,
        )
        failures: dict[str, str] = {}
        for event in result.all_events:
            if event.is_step_failure:
                failures[event.step_key or ""] = _reason(event)
        checks = [
            f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}: {evaluation.description}"
            for evaluation in result.get_asset_check_evaluations()
            if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
        ]
        return JobOutcome(result.run_id, result.success, failures, checks)


def _reason(event: dg.DagsterEvent) -> str:
    """Why a step failed: the sentence it failed with, or the error behind the last retry."""
    failure = event.step_failure_data.user_failure_data
    if failure is not None and failure.description:
        return str(failure.description)
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "" if error is None else error.message.strip()
