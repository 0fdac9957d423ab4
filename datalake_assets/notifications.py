"""Dagster's side of notifications: what ended runs have to tell, and the tick that looks at the lake and sends.

The runs are read by a cursor of our own instead of Dagster's run status sensors: those move on when their function
fails, so that a run that ends while the lake is down would never be told. Here a tick that cannot record is
repeated, and recording twice changes nothing. What is a trouble's identity, and how it is sent, is in `notify/`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import asyncpg
import dagster as dg

from datalake_assets.entities import ENTITIES
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.checks import Lake
from datalake_assets.notify import store
from datalake_assets.notify.delivery import deliver
from datalake_assets.notify.model import DEFAULT_OWNER, Kind, Trouble
from datalake_assets.notify.watch import FRESHNESS_CHECK, look_at_freshness, look_at_quarantine
from datalake_assets.resources import LakeResource
from datalake_assets.storage.postgres import scrubbing

T = TypeVar("T")

RUNS_EVERY_S: Final = 30
"""How late a failure is told; a tick without an ended run asks Dagster's storage three indexed questions."""

LAKE_EVERY_S: Final = 300
"""How often data is found stale, and what could not be sent is tried again."""

MOST_RUNS: Final = 50
"""Ended runs of each status that a tick reads, so that a large backfill stays within the minute a tick has."""

ENDS: Final = {
    dg.DagsterEventType.RUN_SUCCESS: "succeeded",
    dg.DagsterEventType.RUN_FAILURE: "failed",
    dg.DagsterEventType.RUN_CANCELED: "was canceled",
}

_TOLD_BY: Final = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
_CHECK_STOPPED: Final = "DagsterAssetCheckFailedError"
_PARTITION: Final = "dagster/partition"
_RANGE: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_LOOK_INTO_THE_LOG: Final = "Open the run: its log holds the error, which may hold data and is not repeated here."


def build_notification_sensors(*, running: bool) -> list[dg.SensorDefinition]:
    """The sensor that reads ended runs, and the one that looks at the lake and sends what is unsent.

    Args:
        running: Whether they start running.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="run_notifications",
        minimum_interval_seconds=RUNS_EVERY_S,
        default_status=status,
        description="Tells of failed and canceled runs and failed checks, once per trouble, and when they are over.",
    )
    def run_notifications(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        if context.cursor is None:
            context.update_cursor(str(latest_end(context.instance)))
            return dg.SkipReason("Runs that end from now on are told.")
        ends, cursor = ended_runs(context.instance, int(context.cursor))
        if not ends:
            return dg.SkipReason("No run has ended.")
        graph = Graph.of(context.repository_def)
        seen = [sightings(context.instance, end, graph) for end in ends]
        said = _in_lake(lake, lambda connection: _record_and_send(connection, lake, seen))
        context.update_cursor(str(cursor))
        return dg.SkipReason(f"{len(ends)} runs have ended. {said}")

    @dg.sensor(
        name="lake_notifications",
        minimum_interval_seconds=LAKE_EVERY_S,
        default_status=status,
        description="Tells of stale data and a growing quarantine, and sends what could not be sent before.",
    )
    def lake_notifications(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        known: dict[str, int] = json.loads(context.cursor or "{}")

        async def look(connection: asyncpg.Connection) -> tuple[dict[str, int], str]:
            for entity in ENTITIES:
                # Freshness is a matter of receipts and the clock: neither snapshots nor services are read.
                seen = Lake(connection, lake.landing(entity), (), lake.tolerances, lake.clock)
                await look_at_freshness(seen, entity)
            growth = lake.settings.quarantine_growth
            level = await look_at_quarantine(connection, known, growth, lake.clock.now())
            return level, await _send(connection, lake)

        level, said = _in_lake(lake, look)
        if level != known:
            context.update_cursor(json.dumps(level))
        return dg.SkipReason(said)

    return [run_notifications, lake_notifications]


# ---------------------------------------------------------------------------------------------------- ended runs


@dataclass(frozen=True)
class EndedRun:
    """A run and how it ended."""

    run: dg.DagsterRun
    end: dg.DagsterEventType
    at: datetime


@dataclass
class Sightings:
    """What one run has to tell.

    Attributes:
        run_id: The run.
        at: When it ended.
        partition: Its partition; empty if it has none.
        troubles: What somebody should know.
        good: Subjects that it showed to be good, with the kinds of trouble that this ends.
    """

    run_id: str
    at: datetime
    partition: str
    troubles: list[Trouble] = field(default_factory=list)
    good: list[tuple[tuple[Kind, ...], str]] = field(default_factory=list)


@dataclass(frozen=True)
class Graph:
    """What of the code location is needed to name things: tables by step, and owners by table."""

    tables: Mapping[str, str]
    owners: Mapping[str, str]

    @classmethod
    def of(cls, repository: dg.RepositoryDefinition | None) -> "Graph":
        """Read it from the definitions; without them steps go by their own names."""
        tables: dict[str, str] = {}
        owners: dict[str, str] = {}
        for key, definition in (repository.assets_defs_by_key if repository else {}).items():
            table = ".".join(key.path)
            if not definition.is_executable:
                continue
            tables.setdefault(definition.node_def.name, table)
            for owner in definition.get_asset_spec(key).owners[:1]:
                owners[table] = owner
        return cls(tables, owners)

    def owner(self, table: str) -> str:
        """Who answers for a table."""
        return self.owners.get(table, DEFAULT_OWNER)

    def table(self, step: str) -> str:
        """The table that a step makes; empty if it makes none that is known."""
        return self.tables.get(step.partition("[")[0].partition(".")[0], "")


def latest_end(instance: dg.DagsterInstance) -> int:
    """Number of the latest end of a run; 0 if none has ended."""
    latest = [instance.fetch_run_status_changes(end, limit=1).records for end in ENDS]
    return max((record.storage_id for records in latest for record in records), default=0)


def ended_runs(instance: dg.DagsterInstance, after: int) -> tuple[list[EndedRun], int]:
    """Runs that have ended since, in the order of their ends, and up to which end that is all of them."""
    found: list[tuple[int, dg.DagsterEventType, dg.EventLogRecord]] = []
    horizons: list[int] = []
    for end in ENDS:
        wanted = dg.RunStatusChangeRecordsFilter(event_type=end, after_storage_id=after)  # type: ignore[arg-type]
        page = instance.fetch_run_status_changes(wanted, limit=MOST_RUNS, ascending=True)
        found += [(record.storage_id, end, record) for record in page.records]
        if len(page.records) == MOST_RUNS:
            horizons.append(page.records[-1].storage_id)
    horizon = min(horizons, default=max((number for number, _, _ in found), default=after))
    ends = []
    for number, end, record in sorted(found, key=lambda item: item[0]):
        run = instance.get_run_by_id(record.run_id) if number <= horizon else None
        if run is not None:
            ends.append(EndedRun(run, end, datetime.fromtimestamp(record.timestamp, UTC)))
    return ends, horizon


def sightings(instance: dg.DagsterInstance, ended: EndedRun, graph: Graph) -> Sightings:
    """What an ended run has to tell: from its failed steps, its checks, and its end."""
    run = ended.run
    seen = Sightings(run.run_id, ended.at, _partition(run))
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=_TOLD_BY)]
    steps: list[dg.DagsterEvent] = []
    checks: dict[tuple[dg.AssetKey, str], dg.AssetCheckEvaluation] = {}
    for event in events:
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            checks[(evaluation.asset_key, evaluation.check_name)] = evaluation  # the last one of a retried step
        elif event.event_type is dg.DagsterEventType.STEP_FAILURE:
            steps.append(event)
        elif event.step_key is not None:
            seen.good.append((("run_failed",), graph.table(event.step_key) or f"{run.job_name}.{event.step_key}"))
    for evaluation in checks.values():
        _check(seen, evaluation, graph)
    if ended.end is dg.DagsterEventType.RUN_SUCCESS:
        seen.good.append((("run_failed", "run_canceled"), _name(run)))
    elif ended.end is dg.DagsterEventType.RUN_CANCELED:
        seen.troubles.append(
            Trouble(
                kind="run_canceled",
                severity="warn",
                subject=_name(run),
                owner=_owner(run, graph),
                partition=seen.partition,
                run_id=run.run_id,
                what=f"A run of {_name(run)} was canceled.",
                where=_where(run),
                todo="Run it again unless somebody canceled it on purpose.",
            )
        )
    else:
        seen.troubles += _failures(run, steps, seen, graph)
    return seen


def _check(seen: Sightings, evaluation: dg.AssetCheckEvaluation, graph: Graph) -> None:
    if evaluation.check_name == FRESHNESS_CHECK:
        return  # looked at every few minutes, also when nothing runs
    table = ".".join(evaluation.asset_key.path)
    subject = f"{table} {evaluation.check_name}"
    if evaluation.passed:
        seen.good.append((("check_failed",), subject))
        return
    seen.troubles.append(
        Trouble(
            kind="check_failed",
            severity="error" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warn",
            subject=subject,
            owner=graph.owner(table),
            asset=table,
            partition=seen.partition,
            run_id=seen.run_id,
            what=evaluation.description or "The check does not hold.",
            where=f"check {evaluation.check_name} of {table}",
            todo="Open the run, or see it with `datalake checks`; what lies below a blocking check was not loaded.",
        )
    )


def _failures(run: dg.DagsterRun, steps: Sequence[dg.DagsterEvent], seen: Sightings, graph: Graph) -> Iterator[Trouble]:
    """One trouble per failed step, or one for a run that failed outside its steps."""
    told = partial(Trouble, kind="run_failed", severity="error", partition=seen.partition, run_id=run.run_id)
    blocked = any(trouble.kind == "check_failed" and trouble.severity == "error" for trouble in seen.troubles)
    for event in steps:
        error = event.step_failure_data.error
        if blocked and error is not None and error.cls_name == _CHECK_STOPPED:
            continue  # the failed check is told, with what it found
        # Dagster wraps what a step raises, and `reported_failures` does too.
        cause = ((error.cause or error).cls_name if error else None) or "an unknown error"
        step = event.step_key or ""
        table = graph.table(step)
        owner = graph.owner(table) if table else _owner(run, graph)
        what, where, todo = _said(event, f"{_where(run)}, step {step}", cause)
        yield told(
            subject=table or f"{run.job_name}.{step}",
            asset=table,
            owner=owner,
            cause=cause,
            what=what,
            where=where,
            todo=todo,
        )
    if not steps:
        yield told(
            subject=_name(run),
            owner=_owner(run, graph),
            what=f"A run of {_name(run)} failed outside its steps: its process died, or it could not start.",
            where=_where(run),
            todo="Open the run; its last events say more. `datalake reconcile` clears up after a dead process.",
        )


def _said(event: dg.DagsterEvent, place: str, error: str) -> tuple[str, str, str]:
    """What a step says of its failure, where, and what to do.

    Only what `reported_failures` wrote is repeated: it holds no data, and every other error may.
    """
    failure = event.step_failure_data.user_failure_data
    said = {name: str(value.value) for name, value in failure.metadata.items()} if failure else {}
    if not said.get("what"):
        return f"The step failed with {error}.", place, _LOOK_INTO_THE_LOG
    where = said.get("where")
    return said["what"], f"{where}; {place}" if where else place, said.get("what_to_do", "")


def _name(run: dg.DagsterRun) -> str:
    """The job, or what the UI materialised without one."""
    if not run.job_name.startswith("__") or not run.asset_selection:
        return run.job_name
    return ", ".join(sorted(".".join(key.path) for key in run.asset_selection)[:5])


def _owner(run: dg.DagsterRun, graph: Graph) -> str:
    tables = sorted(".".join(key.path) for key in run.asset_selection or ())
    return next((graph.owners[table] for table in tables if table in graph.owners), DEFAULT_OWNER)


def _partition(run: dg.DagsterRun) -> str:
    first, last = (run.tags.get(name, "") for name in _RANGE)
    return run.tags.get(_PARTITION) or (f"{first}...{last}" if first else "")


def _where(run: dg.DagsterRun) -> str:
    partition = _partition(run)
    return f"job {run.job_name}" + (f", partition {partition}" if partition else "")


# ------------------------------------------------------------------------------------------------------ the lake


def _in_lake(lake: LakeResource, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with lake.connect("notifications") as connection:
            with scrubbing("notifications"):
                return await work(connection)

    try:
        return asyncio.run(connected())
    except DatalakeError as error:
        raise dg.Failure(description=str(error)) from error


async def _record_and_send(connection: asyncpg.Connection, lake: LakeResource, seen: Sequence[Sightings]) -> str:
    troubles = 0
    for run in seen:
        for kinds, subject in run.good:
            await store.resolve(connection, kinds, subject, run.partition, at=run.at, by=run.run_id)
        for trouble in run.troubles:
            troubles += await store.record(connection, trouble, run.at)
    return f"{troubles} troubles. {await _send(connection, lake)}"


async def _send(connection: asyncpg.Connection, lake: LakeResource) -> str:
    """Send what is owed; wrong settings keep it unsent, and do not keep troubles from being recorded."""
    try:
        return (await deliver(connection, lake.settings.notify(), lake.clock)).summary()
    except DatalakeError as error:
        return f"Nothing could be sent. {error}"
