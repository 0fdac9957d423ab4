"""When things run: jobs, schedules and the sensor that cleans up.

Jobs select by entity, so that a new table needs no change here. Schedules tick in the university's time zone; they
and the sensor start stopped unless a setting says otherwise. What runs does not belong here.
"""

import asyncio
from collections.abc import Callable
from datetime import date

import dagster as dg

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.entities import Entity
from datalake_assets.lake.terms import NoActiveTermsError, active_terms
from datalake_assets.partitions import TERMS, partition_key
from datalake_assets.recovery.sweep import Reconciled, reconcile
from datalake_assets.resources import LakeResource

MAX_RUNTIME_S = 6 * 3600
"""A daily run that takes longer hangs: the next day's would meet it."""

ACTIVE_TERMS_EVERY_S = 600
"""Terms become active a few times a year; the schedule of courses looks for itself."""

RECONCILE_EVERY_S = 300
"""A dead run is noticed after some minutes of silence; looking more often finds nothing sooner."""


def build_daily_automation(*, entity: Entity, running: bool) -> dg.Definitions:
    """The daily job of an entity, every asset from landing to curated with its checks, and its schedule.

    Steps run in the process of the run: starting a process per step takes longer than the steps do. Where an entity
    is loaded by term, every active term has a run of its own, so that one that fails holds up no other.

    Args:
        entity: Whose load.
        running: Whether the schedule starts running.
    """
    name = job_name(entity)
    job = dg.define_asset_job(
        name=name,
        selection=dg.AssetSelection.groups(entity.name),
        executor_def=dg.in_process_executor,
        tags={dg.MAX_RUNTIME_SECONDS_TAG: str(MAX_RUNTIME_S)},
        description=f"Lands {entity.name}s and brings raw, xform and curated up to date, with every check.",
    )

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=f"0 {entity.load_hour} * * *",
        execution_timezone=CAMPUS_ZONE.key,
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description=f"Every day at {entity.load_hour:02d}:00, {CAMPUS_ZONE.key}.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> list[dg.RunRequest]:
        day = load_date_of_tick(context)
        keys = load_partitions(entity, day, lake, lambda: context.instance)
        return [dg.RunRequest(run_key=f"{name} {key}", partition_key=key) for key in keys]

    return dg.Definitions(jobs=[job], schedules=[schedule])


def job_name(entity: Entity) -> str:
    """The name of an entity's daily job, e.g. `term_daily`."""
    return f"{entity.name}_daily"


def load_partitions(
    entity: Entity, day: date, lake: LakeResource, instance: Callable[[], dg.DagsterInstance]
) -> list[str]:
    """The partitions that make up the daily load of an entity; those of new terms are made known to Dagster.

    Args:
        entity: Whose load.
        day: Its load date.
        lake: Where the active terms are read.
        instance: Gives the Dagster instance; asked only where there are terms.

    Raises:
        NoActiveTermsError: The entity is loaded by term, and no term is active.
    """
    if not entity.scope:
        return [partition_key(day)]
    terms = asyncio.run(_active_terms(lake))
    # A key that is known already stays as it is.
    instance().add_dynamic_partitions(str(TERMS.name), [str(term) for term in terms])
    return [partition_key(day, term) for term in terms]


def build_term_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that turns newly active terms into partitions, so that they can be seen and loaded by hand.

    Args:
        running: Whether the sensor starts running.
    """

    @dg.sensor(
        name="active_terms",
        minimum_interval_seconds=ACTIVE_TERMS_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Makes a partition of courses for every term that became active.",
    )
    def active_terms_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult | dg.SkipReason:
        try:
            terms = [str(term) for term in asyncio.run(_active_terms(lake))]
        except NoActiveTermsError as error:
            return dg.SkipReason(str(error))
        new = sorted(set(terms) - set(context.instance.get_dynamic_partitions(str(TERMS.name))))
        if not new:
            return dg.SkipReason(f"Every active term has its partition: {', '.join(terms)}.")
        return dg.SensorResult(dynamic_partitions_requests=[TERMS.build_add_request(new)])

    return active_terms_sensor


async def _active_terms(lake: LakeResource) -> list[int]:
    async with lake.connect("active terms") as connection:
        return await active_terms(connection)


def build_reconcile_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that does what `datalake reconcile` does, every few minutes.

    Dagster cannot see that a run's process died together with its code server; this ends such runs, and clears
    away what they left.

    Args:
        running: Whether the sensor starts running.
    """

    @dg.sensor(
        name="reconcile",
        minimum_interval_seconds=RECONCILE_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Ends runs without a living process, and clears away what they left in PostgreSQL and on disk.",
    )
    def reconcile_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        async def sweep() -> Reconciled:
            async with lake.connect("reconcile") as connection:
                return await reconcile(
                    connection,
                    context.instance,
                    lake_url=lake.settings.lake_url,
                    spool_folder=str(lake.settings.spool_folder),
                    runs_are_here=lake.settings.postgres().is_local,
                )

        done = asyncio.run(sweep())
        if done.problems:
            raise dg.Failure(description=" ".join(done.problems))
        return dg.SkipReason(done.summary())

    return reconcile_sensor


def load_date_of_tick(context: dg.ScheduleEvaluationContext) -> date:
    """The load date of a tick: the local day on which it was due, however late it is evaluated."""
    return context.scheduled_execution_time.astimezone(CAMPUS_ZONE).date()
