"""`DatedView`: a view of a table for each month (or day, week, year), and one over all of them.

The model says what can be declared and refuses nonsense; the builder makes a partitioned asset, a job and a schedule of
it. How views are made is in `lake/dated_views.py`.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from datalake_assets.assets.layers import ONE_RETRY, is_last_attempt
from datalake_assets.assets.reporting import reported_failures
from datalake_assets.components.scheduling import (
    Schedule,
    build_trigger,
    job_name,
    refuse_once,
    refuse_unknown_zone,
)
from datalake_assets.components.yaml_component import Owner, YamlComponent, YamlScaffolder
from datalake_assets.keys import TableName
from datalake_assets.lake.dated_views import LONGEST_IDENTIFIER, LONGEST_NAME, Every, Period, ViewError, make_view
from datalake_assets.lake.dated_views import DatedView as View
from datalake_assets.lake.dated_views import Field as ViewField
from datalake_assets.lake.ledger import Receipt
from datalake_assets.resources import LakeResource

_IDENTIFIER: Final = r"^[a-z_][a-z0-9_]*$"
_CRON: Final[Mapping[Every, str]] = {
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "year": "0 0 1 1 *",
}

Value = bool | int | date | str


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FieldSpec(_Model):
    """A column of the view."""

    expr: Annotated[str, Field(min_length=1, description="SQL over columns of the table.")]
    as_: Annotated[str, Field(alias="as", min_length=1, description="Name of the column.")]

    @field_validator("as_")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if len(name.encode()) > LONGEST_IDENTIFIER or "\0" in name:
            raise ValueError(f"PostgreSQL knows no name of more than {LONGEST_IDENTIFIER} bytes: shorten {name!r}")
        return name


class PartitionSpec(_Model):
    """The periods that there is a view for."""

    every: Annotated[Every, Field(description="How long a period is; weeks begin on Monday.")] = "month"
    start: Annotated[date, Field(description="First day of the first period.")]
    end: Annotated[date | None, Field(description="Day after the last period; none: for ever.")] = None
    timezone: Annotated[str, Field(description="Time zone in which periods begin.")] = "UTC"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        refuse_unknown_zone(self.timezone)
        if not Period(self.every, self.start).is_regular:
            raise ValueError(f"`start` is {self.start}, on which no {self.every} begins")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"the periods end on {self.end}, and begin no earlier than on {self.start}")
        return self

    @property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """The same for Dagster."""
        return dg.TimeWindowPartitionsDefinition(
            start=self.start.isoformat(),
            end=None if self.end is None else self.end.isoformat(),
            fmt="%Y-%m-%d",
            cron_schedule=_CRON[self.every],
            timezone=self.timezone,
        )

    def period(self, key: str) -> Period:
        """The period of a partition key."""
        return Period(self.every, date.fromisoformat(key), self.timezone)


class DatedViewSpec(_Model):
    """Attributes of a `DatedView`."""

    view: Annotated[
        str, Field(pattern=_IDENTIFIER, max_length=LONGEST_NAME, description="Name of the view over all periods.")
    ]
    table: Annotated[
        str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$", description="The table that it reads.")
    ]
    schema_: Annotated[
        str | None,
        Field(alias="schema", pattern=_IDENTIFIER, description="Schema of the views; that of the table if left out."),
    ] = None
    columns: Annotated[
        Literal["all"] | tuple[FieldSpec, ...], Field(description="Expression and name of each column, or `all`.")
    ] = "all"
    where: Annotated[
        str,
        Field(
            description="The condition for a row to belong to the period. Jinja offers `ds`, `last_day` (dates), "
            "`period_start`, `period_end` (moments), `midnight(date)`, `fy_start('mm-dd')` and `params`."
        ),
    ] = "true"
    params: Annotated[Mapping[str, Value], Field(description="Further values for the expressions.")] = {}
    partition: Annotated[PartitionSpec, Field(description="The periods.")]
    catchup: Annotated[bool, Field(description="The schedule makes up for every period that was missed.")] = True
    schedule: Annotated[Schedule | None, Field(description="When views of periods that are over are made.")] = None
    readers: Annotated[tuple[str, ...], Field(description="Roles that may read the views.")] = ()
    description: Annotated[str, Field(description="What the view shows.")] = ""
    owner: Owner = "team:data-engineering"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.columns != "all":
            names = [field.as_ for field in self.columns]
            if not names:
                raise ValueError("`columns` is empty: name columns, or write `columns: all`")
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"column {', '.join(twice)} is declared twice")
            if self.partition.every in names:
                raise ValueError(f"column {self.partition.every} tells the periods apart: name yours otherwise")
        if self.dated.name == self.table_name:
            raise ValueError(f"the view is called as its table, {self.table}: name it otherwise")
        first = Period(self.partition.every, self.partition.start, self.partition.timezone)
        refuse_once(self.schedule)
        try:
            self.dated.rendered(first)
        except ViewError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def code_version(self) -> str:
        """Digest of all that the rows of a view depend on: views of another one are told to be outdated."""
        text = self.model_dump_json(include={"view", "table", "schema_", "columns", "where", "params", "partition"})
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def table_name(self) -> TableName:
        """What the view is on."""
        return TableName(*self.table.split("."))

    @property
    def dated(self) -> View:
        """The same as the lake knows it."""
        fields = None
        if self.columns != "all":
            fields = tuple(ViewField(field.expr, field.as_) for field in self.columns)
        return View(
            name=TableName(self.schema_ or self.table_name.schema, self.view),
            table=self.table_name,
            fields=fields,
            where=self.where,
            params=self.params,
            every=self.partition.every,
            readers=self.readers,
        )


# ---------------------------------------------------------------------------------------------------- builder


def build_dated_view(spec: DatedViewSpec, *, running: bool) -> dg.Definitions:
    """The asset, the job and the schedule of a dated view.

    Args:
        spec: What is declared.
        running: Whether the schedule starts running.
    """
    view, partitions = spec.dated, spec.partition.definition
    key = dg.AssetKey(view.name.parts)

    @dg.multi_asset(
        name="__".join(view.name),
        specs=[
            dg.AssetSpec(
                key=key,
                deps=[spec.table_name.parts],
                group_name=spec.table_name.table,
                kinds={"postgres", "view"},
                owners=[spec.owner],
                tags={"lake/layer": "view"},
                code_version=spec.code_version,
                description=f"One row per row of {spec.table} and {spec.partition.every}; each has a view that bears "
                f"its last day.\n\n{spec.description}".strip(),
                metadata={
                    "dagster/table_name": str(view.name),
                    "dagster/storage_kind": "postgres",
                    "lake/where": dg.MetadataValue.md(f"```sql\n{spec.where}\n```"),
                    **_lineage(spec, view),
                },
            )
        ],
        partitions_def=partitions,
        # One run makes the views of a whole backfill: each takes milliseconds, starting a run takes seconds.
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=ONE_RETRY,
    )
    def dated_view(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        async def run() -> dict[str, Receipt]:
            async with lake.connect(context.run.run_id) as connection:
                return {
                    each: await make_view(
                        connection, lake.ledger, view, spec.partition.period(each), run_id=context.run.run_id
                    )
                    for each in context.partition_keys
                }

        with reported_failures(last_attempt=is_last_attempt(context)):
            receipts = asyncio.run(run())
        for each, receipt in receipts.items():
            name = view.of(spec.partition.period(each))
            context.log.info("%s shows %s rows.", name, receipt.rows_total)
            told = {"dagster/partition_row_count": receipt.rows_total, "lake/view": str(name)}
            context.add_asset_metadata(told, key, each)
        return dg.MaterializeResult(asset_key=key)

    job = dg.define_asset_job(
        name=job_name(view.name, "views"),
        selection=dg.AssetSelection.assets(key),
        executor_def=dg.in_process_executor,
        description=f"Makes the views of {spec.view}.",
    )
    definitions = dg.Definitions(assets=[dated_view], jobs=[job])
    if spec.schedule is None:
        return definitions
    trigger = build_trigger(
        name=job.name, job=job, schedule=spec.schedule, running=running, keys=_due(spec, partitions, key)
    )
    return dg.Definitions.merge(definitions, trigger)


def _due(
    spec: DatedViewSpec, partitions: dg.TimeWindowPartitionsDefinition, key: dg.AssetKey
) -> Callable[[dg.ScheduleEvaluationContext, datetime], Sequence[str]]:
    """The periods that a tick makes views of: those that are over, and with catch-up all that have none yet."""

    def due(context: dg.ScheduleEvaluationContext, moment: datetime) -> Sequence[str]:
        over = partitions.get_partition_keys(current_time=moment)
        if not spec.catchup:
            return over[-1:]
        made = context.instance.get_materialized_partitions(key)
        return [each for each in over if each not in made]

    return due


def _lineage(spec: DatedViewSpec, view: View) -> dict[str, Any]:
    """The columns that each column reads; where all are shown as they are, there is nothing to tell."""
    if view.fields is None:
        return {}
    rendered = view.rendered(Period(spec.partition.every, spec.partition.start, spec.partition.timezone))
    table = dg.AssetKey(spec.table_name.parts)
    lineage = {
        name: [dg.TableColumnDep(table, column) for column in sorted(columns)]
        for name, columns in rendered.sources.items()
    }
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "") for name in lineage])
    return {"dagster/column_lineage": dg.TableColumnLineage(lineage), "dagster/column_schema": schema}


# -------------------------------------------------------------------------------------------------- component


class DatedViewScaffolder(YamlScaffolder):
    """A view of every column, to be narrowed down."""

    stub = """\
  view: NAME
  table: dit.omis_dataset
  columns: all  # or a list such as {expr: "subtotal / 100.0", as: Subtotal}
  where: created_date >= {{ period_start }} and created_date < {{ period_end }}
  partition: {every: month, start: 2019-07-01}
  schedule: "@monthly"
"""


@dg.scaffold_with(DatedViewScaffolder)
class DatedView(YamlComponent):
    """Views of a table by period, and one over all periods."""

    model = DatedViewSpec

    def build(self, *, running: bool) -> dg.Definitions:
        """The asset, the job and the schedule."""
        return build_dated_view(self.spec, running=running)
