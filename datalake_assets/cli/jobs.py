"""Running a Dagster job inside this process, recorded in the instance like any other run.

The instance, the database and the sources must be there already (see `stack.py`). Jobs of declared pipelines are
found in `pipeline_jobs.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final

import dagster as dg

from datalake_assets.entities import ENTITIES, Entity
from datalake_assets.errors import DatalakeError

_STATEMENT_TIMEOUT_MS: Final = 60_000
"""Of a statement on Dagster's storage: what has no answer by then has none later."""

_CONNECTION_AGE_S: Final = 10
"""How long a connection to Dagster's storage is used: shorter than any proxy or server closes an idle one."""

_MORE_CONNECTIONS: Final = 5
"""Connections to a storage beside the one that is kept, for events of several threads at once."""


class JobError(DatalakeError):
    """A job cannot be started as asked."""


@dataclass(frozen=True)
class JobOutcome:
    """What became of the runs of a job: one, or one for each term or partition that was asked for.

    Attributes:
        runs: Every run.
    """

    runs: tuple["RunOutcome", ...]

    @property
    def succeeded(self) -> bool:
        """Whether every run is green."""
        return all(run.succeeded for run in self.runs)

    @property
    def run_ids(self) -> list[str]:
        """The runs in Dagster."""
        return [run.run_id for run in self.runs]

    @property
    def errors(self) -> list[str]:
        """Why runs are not green, each with its partition where there are several."""
        return [
            f"{run.partition}: {text}" if len(self.runs) > 1 else text
            for run in self.runs
            for text in (*run.failures.values(), *run.failed_checks)
        ]


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run.

    Attributes:
        run_id: The run in Dagster.
        partition: What it loaded; empty where there are no partitions.
        succeeded: Whether every step and every blocking check passed.
        failures: What failed, by step, in the words of its error.
        failed_checks: Checks with severity error that did not pass, as `asset: check: summary`.
    """

    run_id: str
    partition: str
    succeeded: bool
    failures: dict[str, str]
    failed_checks: list[str]


def run_job(name: str, load_date: date, *, term: str | None = None, quiet: bool = False) -> JobOutcome:
    """Run a job for one load date; a run that fails does not keep those of other terms from being tried.

    Args:
        name: The job, e.g. `term_daily`.
        load_date: The day to load.
        term: Only this term, where the job is run by term; None: every active one.
        quiet: Keep Dagster's log off the terminal; it is in the instance anyway.

    Raises:
        JobError: There is no such job, or no such partition of it.
        NoActiveTermsError: The job is run by term, and no term is active.
    """
    from datalake_assets.automation import load_partitions
    from datalake_assets.partitions import partition_key
    from datalake_assets.resources import LakeResource

    entities = campus_jobs()
    if name not in entities:
        raise JobError(f"There is no job {name!r}.", todo=f"Jobs: {', '.join(sorted(entities))}.")
    entity = entities[name]
    if term is not None and not entity.scope:
        raise JobError(f"{name} is not run by term.", todo="Leave the term out.")
    job = _definitions().resolve_job_def(name)
    _require_day(job, load_date)
    with instance_for_runs() as instance:
        keys = load_partitions(entity, load_date, LakeResource(), lambda: instance)
        if term is not None:
            keys = [key for key in keys if key == partition_key(load_date, term)]
        if not keys:
            raise JobError(f"{term} is no active term.", todo="Look at `term_curated.term_data_by_service`.")
        return JobOutcome(tuple(run_once(job, instance, partition_key=key, quiet=quiet) for key in keys))


def campus_jobs() -> dict[str, Entity]:
    """The jobs of Term, Course and Person, each with what it loads."""
    from datalake_assets.automation import job_name

    return {job_name(entity): entity for entity in ENTITIES}


@contextmanager
def instance_for_runs() -> Iterator[dg.DagsterInstance]:
    """Dagster's instance with one connection for each storage.

    A run tells the event log some hundred things, and otherwise connects anew for each of them.
    """
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _CONNECTION_AGE_S, _MORE_CONNECTIONS)
        yield instance


@cache  # the environment of a process says what is defined, and does not change while it lives
def _definitions() -> dg.Definitions:
    from datalake_assets.definitions import defs

    return defs()


def _require_day(job: dg.JobDefinition, load_date: date) -> None:
    from datalake_assets.partitions import LOAD_DATE

    days = job.partitions_def
    if isinstance(days, dg.MultiPartitionsDefinition):
        days = days.get_partitions_def_for_dimension(LOAD_DATE)
    if days is None or days.has_partition_key(load_date.isoformat()):
        return
    first, last = days.get_first_partition_key(), days.get_last_partition_key()
    raise JobError(
        f"{load_date} is no partition of {job.name}: there are {first} to {last}.",
        todo="Choose a date in that range, or set LAKE_START_DATE to have earlier ones.",
    )


def run_once(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    label: str | None = None,
    quiet: bool = False,
) -> RunOutcome:
    """Run a job once, to its end.

    Args:
        job: The job.
        instance: Where the run is recorded.
        partition_key: The partition; None where there are none, or the tags name them.
        tags: Tags of the run.
        label: What is loaded, as people are told; None: the partition.
        quiet: Keep Dagster's log off the terminal.
    """
    loggers = {"console": {"config": {"log_level": "CRITICAL" if quiet else "INFO"}}}
    result = job.execute_in_process(
        instance=instance,
        partition_key=partition_key,
        tags=tags,
        run_config={"loggers": loggers},
        raise_on_error=False,
    )
    failures = {event.step_key or "": _reason(event) for event in result.all_events if event.is_step_failure}
    checks = [
        f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
    ]
    return RunOutcome(result.run_id, label or partition_key or "", result.success, failures, checks)


def _reason(event: dg.DagsterEvent) -> str:
    """Why a step failed: the sentence it failed with, or the error behind the last retry."""
    failure = event.step_failure_data.user_failure_data
    if failure is not None and failure.description:
        return str(failure.description)
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "" if error is None else error.message.strip()
