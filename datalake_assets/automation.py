"""When things run: jobs, schedules and the sensor that cleans up.

Jobs select by entity, so that a new table needs no change here. Schedules tick in the university's time zone; they
and the sensor start stopped unless a setting says otherwise. What runs does not belong here.
"""

import asyncio
from datetime import date

import dagster as dg

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.entities import Entity
from datalake_assets.recovery.sweep import Reconciled, reconcile
from datalake_assets.resources import LakeResource

MAX_RUNTIME_S = 6 * 3600
"""A daily run that takes longer hangs: the next day's would meet it."""

RECONCILE_EVERY_S = 300
"""A dead run is noticed after some minutes of silence; looking more often finds nothing sooner."""


def build_daily_automation(*, entity: Entity, running: bool) -> dg.Definitions:
    """The daily job of an entity, every asset from landing to curated with its checks, and its schedule.

    Steps run in the process of the run: starting a process per step takes longer than the steps do.

    Args:
        entity: Whose load.
        running: Whether the schedule starts running.
    """
    name = f"{entity.name}_daily"
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
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = load_date_of_tick(context)
        return dg.RunRequest(run_key=f"{name} {day}", partition_key=day.isoformat())

    return dg.Definitions(jobs=[job], schedules=[schedule])


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
