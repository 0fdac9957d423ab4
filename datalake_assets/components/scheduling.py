"""When a declared pipeline runs: the words of its schedule, and what Dagster makes of them.

The words are those that people know from other schedulers. What runs belongs to the components.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo, available_timezones

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.keys import TableName

ONCE: Final = "@once"
ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_ONCE_EVERY_S: Final = 60

Keys = Callable[[dg.ScheduleEvaluationContext, datetime], Sequence[str]]
"""The partitions that a tick is to load, from its time."""


class Schedule(BaseModel):
    """When a pipeline runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: Annotated[
        str,
        Field(
            description="`@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, `@once`, or a cron expression of five "
            "fields.",
            examples=["@daily", "0 5 1 * *"],
        ),
    ]
    start: Annotated[date | None, Field(description="No run before this day.")] = None
    end: Annotated[date | None, Field(description="No run after this day.")] = None
    timezone: Annotated[str, Field(description="Time zone of the schedule, its start and its end.")] = CAMPUS_ZONE.key

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"cron": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {
                    "type": "string",
                    "description": "The word or expression alone.",
                    "pattern": rf"^({'|'.join([*ALIASES, ONCE])}|\S+( +\S+){{4}})$",
                },
                handler(core_schema),
            ]
        }

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cron not in {*ALIASES, ONCE} and not _is_cron(self.cron):
            words = ", ".join([*ALIASES, ONCE])
            raise ValueError(f"{self.cron!r} is no schedule: use one of {words}, or a cron expression of five fields")
        refuse_unknown_zone(self.timezone)
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"the schedule ends on {self.end}, before it starts on {self.start}")
        return self

    @property
    def is_once(self) -> bool:
        """Whether it runs a single time."""
        return self.cron == ONCE

    @property
    def expression(self) -> str:
        """The cron expression; of a single run, none."""
        return ALIASES.get(self.cron, self.cron)

    def idle_at(self, moment: datetime) -> str | None:
        """Why nothing runs at a moment, because of start or end; None if it runs."""
        day = moment.astimezone(ZoneInfo(self.timezone)).date()
        if self.start and day < self.start:
            return f"It starts on {self.start}."
        if self.end and day > self.end:
            return f"It ended on {self.end}."
        return None

    def __str__(self) -> str:
        limits = [f"from {self.start}"] if self.start else []
        limits += [f"until {self.end}"] if self.end else []
        return " ".join([self.cron, *limits]) + f", {self.timezone}"


def _is_cron(text: str) -> bool:
    try:
        dg.ScheduleDefinition(name="any", cron_schedule=text, job_name="any")
    except dg.DagsterInvalidDefinitionError:
        return False
    return len(text.split()) == 5


def refuse_unknown_zone(name: str) -> None:
    """Refuse a time zone that nobody knows, which would stop all declared pipelines when it is looked up.

    Raises:
        ValueError: It is one.
    """
    if name not in available_timezones():
        raise ValueError(f"there is no time zone {name!r}: use a name such as Europe/London")


def job_name(table: TableName, does: str) -> str:
    """Name of the job of a pipeline, e.g. `dit__contacts_load`, which is also that of its schedule.

    Args:
        table: What it makes.
        does: `load` or `views`; steps are named by the table alone.
    """
    return f"{table.schema}__{table.table}_{does}"


def refuse_once(schedule: Schedule | None) -> None:
    """Refuse a single run of a job that has partitions: nothing would say which of them.

    Raises:
        ValueError: It is one.
    """
    if schedule is not None and schedule.is_once:
        raise ValueError(f"`{ONCE}` cannot load partitions; use another schedule, or leave it out and backfill")


def build_trigger(
    *,
    name: str,
    job: Any,
    schedule: Schedule,
    running: bool,
    keys: Keys | None = None,
) -> dg.Definitions:
    """What starts a job: a schedule, or for a single run a sensor, which never asks for the same run twice.

    Args:
        name: Of the schedule or the sensor.
        job: What it starts.
        schedule: When; not once where there are partitions.
        running: Whether it starts running.
        keys: The partitions of a tick; None where the job has none.
    """
    if schedule.is_once:
        return dg.Definitions(sensors=[_once(name, job, schedule, running)])

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=schedule.expression,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description=f"{schedule}.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        moment = context.scheduled_execution_time
        if idle := schedule.idle_at(moment):
            return dg.SkipReason(idle)
        if keys is None:
            return [dg.RunRequest(run_key=f"{name} {_local(moment, schedule)}")]
        wanted = keys(context, moment)
        if not wanted:
            return dg.SkipReason("Every partition that is over was loaded.")
        return [dg.RunRequest(run_key=f"{name} {key} {_local(moment, schedule)}", partition_key=key) for key in wanted]

    return dg.Definitions(schedules=[tick])


def _local(moment: datetime, schedule: Schedule) -> str:
    """The time by the clock on the wall: an hour that comes twice asks for one run."""
    return moment.astimezone(ZoneInfo(schedule.timezone)).strftime("%Y-%m-%d %H:%M")


def _once(name: str, job: Any, schedule: Schedule, running: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        job=job,
        minimum_interval_seconds=_ONCE_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=f"{schedule}.",
    )
    def single(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if context.cursor:
            return dg.SkipReason(f"It ran once, at {context.cursor}.")
        now = datetime.now(ZoneInfo(schedule.timezone))
        if idle := schedule.idle_at(now):
            return dg.SkipReason(idle)
        context.update_cursor(now.isoformat(timespec="seconds"))
        return dg.RunRequest(run_key=name)

    return single
