"""Running a job of declared pipelines inside this process: which partitions were asked for, and in how many runs.

How one run goes is in `jobs.py`, what is declared in `pipelines.py`; importing that takes a while, which is why
nothing else does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Final

import dagster as dg
from pydantic import ValidationError

from datalake_assets.cli.jobs import JobError, JobOutcome, RunOutcome, campus_jobs, instance_for_runs, run_once
from datalake_assets.cli.pools import pools_of, wait_for_pools
from datalake_assets.settings import load_settings

_FEW: Final = 3
"""So many things are named one by one."""


@dataclass(frozen=True)
class Asked:
    """The partitions to load, as the operator said it; nothing for a job without partitions.

    Attributes:
        partition: A key as Dagster shows it.
        day: A day that the partition holds.
        first: First key of a range.
        last: Last key of a range.
    """

    partition: str | None = None
    day: date | None = None
    first: str | None = None
    last: str | None = None

    def __post_init__(self) -> None:
        if (self.first is None) != (self.last is None):
            raise JobError("A range needs both ends.", todo="Give --from and --to, or one key with --partition.")
        if sum(each is not None for each in (self.partition, self.day, self.first)) > 1:
            raise JobError(
                "The partition is named in more than one way.", todo="Use --partition, --date, or --from with --to."
            )

    @property
    def option(self) -> str | None:
        """What names the partitions, or None."""
        if self.partition is not None:
            return "--partition"
        return "--date" if self.day is not None else None if self.first is None else "--from and --to"


def run_pipeline(name: str, asked: Asked, *, quiet: bool = False) -> JobOutcome:
    """Run a job of declared pipelines; a run that fails does not keep those of other partitions from being tried.

    Args:
        name: The job, e.g. `dit__contacts_load`.
        asked: Its partitions.
        quiet: Keep Dagster's log off the terminal; it is in the instance anyway.

    Raises:
        JobError: There is no such job, or no such partition of it.
    """
    job = _job(name)
    ranges = _runs(job, _keys(job, asked))
    with instance_for_runs() as instance:
        return JobOutcome(tuple(_run(job, keys, instance, quiet=quiet) for keys in ranges))


@cache  # the environment of a process says what is defined, and does not change while it lives
def declared() -> dg.Definitions:
    """Everything that is declared.

    Raises:
        JobError: A declaration cannot be read.
    """
    from datalake_assets.pipelines import defs

    try:
        return defs()
    except Exception as error:  # Dagster lets through what a declaration makes it stumble over
        raise JobError(
            f"The declared pipelines cannot be loaded. {_said(error.__cause__ or error)}",
            todo="Correct the declaration; `datalake exec dg check defs` shows all that is said of it.",
        ) from error


def _said(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        found = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
        return " ".join(f"{place}: {text}." for place, text in found[:_FEW])
    return str(error).partition("\n")[0]


def _job(name: str) -> dg.JobDefinition:
    names = sorted(job.name for job in declared().jobs or ())
    if name not in names:
        raise JobError(
            f"There is no job {name!r}.",
            todo=f"By day: {', '.join(sorted(campus_jobs()))}. Declared pipelines: {', '.join(names)}.",
        )
    return declared().resolve_job_def(name)


def _keys(job: dg.JobDefinition, asked: Asked) -> Sequence[str]:
    """The partitions that are asked for; none of a job without partitions."""
    partitions = job.partitions_def
    if partitions is None:
        if asked.option:
            raise JobError(
                f"{job.name} has no partitions: it loads what its source has now.", todo=f"Leave {asked.option} out."
            )
        return ()
    if asked.partition is not None:
        return [_known(job, partitions, asked.partition)]
    if asked.day is not None:
        return [_holding(job, partitions, asked.day)]
    if asked.first is None or asked.last is None:
        raise JobError(
            f"{job.name} has partitions: {_extent(partitions)}.",
            todo="Name one with --partition, or a range with --from and --to.",
        )
    ends = dg.PartitionKeyRange(_known(job, partitions, asked.first), _known(job, partitions, asked.last))
    keys = [] if _is_reversed(partitions, ends) else partitions.get_partition_keys_in_range(ends)
    if not keys:
        raise JobError(f"{asked.last} comes before {asked.first}.", todo="Exchange --from and --to.")
    return keys


def _known(job: dg.JobDefinition, partitions: dg.PartitionsDefinition[str], key: str) -> str:
    if is_partition(partitions, key):
        return key
    raise JobError(
        f"{key!r} is no partition of {job.name}: there are {_extent(partitions)}.",
        todo="Write it as Dagster shows it; a period is loaded once it is over.",
    )


def is_partition(partitions: dg.PartitionsDefinition[str], key: str) -> bool:
    """Whether there is a partition of that key."""
    try:
        return partitions.has_partition_key(key)
    except (ValueError, dg.DagsterError):  # a text that is not even written like a key
        return False


def _holding(job: dg.JobDefinition, partitions: dg.PartitionsDefinition[str], day: date) -> str:
    """The only partition that holds a day."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        raise JobError(
            f"More than one partition of {job.name} holds {day}: there are {_extent(partitions)}.",
            todo="Name one with --partition, or several with --from and --to.",
        )
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        raise JobError(
            f"The partitions of {job.name} are no times: {_extent(partitions)}.", todo="Name one with --partition."
        )
    found = [key for key in partitions.get_partition_keys() if _begins(partitions, key) <= day < _ends(partitions, key)]
    if not found:
        raise JobError(
            f"No partition of {job.name} holds {day}: there are {_extent(partitions)}.",
            todo="A period is loaded once it is over; name one of them.",
        )
    if len(found) > 1:
        raise JobError(f"More than one partition of {job.name} holds {day}.", todo="Name one with --partition.")
    return found[0]


def _begins(partitions: dg.TimeWindowPartitionsDefinition, key: str) -> date:
    return partitions.time_window_for_partition_key(key).start.date()


def _ends(partitions: dg.TimeWindowPartitionsDefinition, key: str) -> date:
    """The first day that it does not hold; of hours, the day after."""
    end: datetime = partitions.time_window_for_partition_key(key).end
    return max(end.date(), date.fromordinal(_begins(partitions, key).toordinal() + 1))


def _is_reversed(partitions: dg.PartitionsDefinition[str], ends: dg.PartitionKeyRange) -> bool:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        first = partitions.get_partition_key_from_str(ends.start).keys_by_dimension
        last = partitions.get_partition_key_from_str(ends.end).keys_by_dimension
        return any(
            _is_reversed(each.partitions_def, dg.PartitionKeyRange(first[each.name], last[each.name]))
            for each in partitions.partitions_defs
        )
    keys = list(partitions.get_partition_keys())
    return keys.index(ends.end) < keys.index(ends.start)


def _extent(partitions: dg.PartitionsDefinition[str]) -> str:
    keys = partitions.get_partition_keys()
    if len(keys) <= _FEW:
        return ", ".join(keys) or "none yet"
    return f"{keys[0]} to {keys[-1]}, {len(keys)} in all"


def _runs(job: dg.JobDefinition, keys: Sequence[str]) -> list[Sequence[str]]:
    """The partitions of each run: all of them where the assets do a range at once, else one after the other."""
    if not keys or job.backfill_policy == dg.BackfillPolicy.single_run():
        return [keys]
    return [[key] for key in keys]


def _run(job: dg.JobDefinition, keys: Sequence[str], instance: dg.DagsterInstance, *, quiet: bool) -> RunOutcome:
    wait_for_pools(pools_of(job), instance, load_settings().postgres())
    if len(keys) <= 1:
        return run_once(job, instance, partition_key=keys[0] if keys else None, quiet=quiet)
    tags = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    return run_once(job, instance, tags=tags, label=f"{keys[0]}...{keys[-1]}", quiet=quiet)
