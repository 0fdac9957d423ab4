"""From a run to a message: real jobs in a real Dagster instance, a real lake, and a real webhook."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datalake_assets.assets.reporting import reported_failures
from datalake_assets.errors import DatalakeError
from datalake_assets.notifications import MOST_RUNS, build_notification_sensors, ended_runs
from datalake_assets.notify import store
from datalake_assets.notify.model import Notification
from datalake_assets.resources import LakeResource
from datalake_assets.settings import project_files
from datalake_assets.sources.errors import TransientSourceError
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.notify.webhook_server import webhook
from datalake_assets_tests.servers import fresh_database
from datalake_assets_tests.sources.fault_server import FaultServer, answer

PERSON = "900-12-3456"


class Mood:
    """What goes wrong in the next run; read while it runs."""

    error: Exception | None = None
    offending: int = 0
    severity = dg.AssetCheckSeverity.ERROR


DAYS = dg.DailyPartitionsDefinition("2026-01-01")
FIRST, SECOND = "2026-01-01", "2026-01-02"


@dg.asset(key=["clicks_raw", "clicks"], partitions_def=DAYS, owners=["team:clicks"])
def clicks_raw__clicks() -> None:
    with reported_failures():
        if Mood.error is not None:
            raise Mood.error


@dg.asset_check(asset=["clicks_raw", "clicks"], blocking=True)
def rows_are_whole() -> dg.AssetCheckResult:
    text = f"{Mood.offending} offending rows."
    return dg.AssetCheckResult(passed=not Mood.offending, description=text, severity=Mood.severity)


@dg.asset(key=["clicks_xform", "current"], deps=[clicks_raw__clicks], partitions_def=DAYS)
def clicks_xform__current() -> None:
    pass


@dg.op
def explode() -> None:
    raise ValueError(f"the row of {PERSON} cannot be read")


@dg.job(executor_def=dg.in_process_executor)
def housekeeping() -> None:
    explode()


JOB = "clicks_daily"
DEFINITIONS = dg.Definitions(
    assets=[clicks_raw__clicks, clicks_xform__current],
    asset_checks=[rows_are_whole],
    jobs=[
        dg.define_asset_job(JOB, selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor),
        housekeeping,
    ],
    sensors=build_notification_sensors(running=False),
    resources={"lake": LakeResource()},
    executor=dg.in_process_executor,
)


@dataclass
class Watched:
    """A Dagster instance and a lake, with the sensors that watch both."""

    instance: dg.DagsterInstance
    address: PostgresAddress
    hook: FaultServer
    cursors: dict[str, str | None] = field(default_factory=dict)

    def tick(self, name: str = "run_notifications") -> str:
        """One tick as the daemon does it: the cursor is kept only if the tick does not fail."""
        repository = DEFINITIONS.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=repository,
            cursor=self.cursors.get(name),
            resources={"lake": LakeResource()},
        )
        result = repository.get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = result.cursor
        return result.skip_message or ""

    def run(self, partition: str = FIRST, job: str = JOB) -> str:
        definition = DEFINITIONS.resolve_job_def(job)
        key = partition if job == JOB else None
        return definition.execute_in_process(instance=self.instance, partition_key=key, raise_on_error=False).run_id

    def kept(self) -> list[Notification]:
        async def ask() -> list[Notification]:
            async with session(self.address, application_name="test") as connection:
                return [kept for kept, _ in await store.listing(connection, open_only=False)]

        return asyncio.run(ask())

    @property
    def texts(self) -> list[str]:
        return [json.loads(request.body)["text"] for request in self.hook.requests]


@pytest.fixture(scope="module")
def lake_of_runs(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres_server) as address:
        migrate(address, project_files() / "sql" / "migrations")
        yield address


@pytest.fixture
def watched(lake_of_runs: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Nothing went wrong so far, and the sensors have begun to look."""

    async def empty() -> None:
        async with session(lake_of_runs, application_name="test") as connection:
            await connection.execute("delete from ops.notification; delete from ops.receipt")

    asyncio.run(empty())
    for name in ("error", "offending", "severity"):
        monkeypatch.setattr(Mood, name, getattr(Mood, name))
    with (
        webhook(answer(b"ok", content_type="text/plain")) as hook,
        dg.DagsterInstance.ephemeral(str(tmp_path)) as instance,
    ):
        for name, value in {
            "POSTGRES_HOST": lake_of_runs.host,
            "POSTGRES_PORT": str(lake_of_runs.port),
            "POSTGRES_DB": lake_of_runs.database,
            "POSTGRES_USER": lake_of_runs.user,
            "POSTGRES_PASS": lake_of_runs.password.get_secret_value(),
            "DATALAKE_HOME": str(tmp_path),
            "DATALAKE_UI_URL": "https://dagster.example.edu",
            "NOTIFY_WEBHOOK_URLS": f"{hook.url}/hook",
        }.items():
            monkeypatch.setenv(name, value)
        watched = Watched(instance, lake_of_runs, hook)
        watched.tick()
        yield watched


def source_is_down() -> TransientSourceError:
    return TransientSourceError("PeopleSoft was silent for too long.", where="BU_TERM_QRY", todo="Run it again later.")


def test_a_failing_job_is_told_once_with_what_where_what_to_do_and_a_link(watched: Watched) -> None:
    Mood.error = source_is_down()
    run_id = watched.run()
    assert watched.tick() == "1 runs have ended. 1 troubles. webhook:default took 1"
    assert watched.tick() == "No run has ended."
    (text,) = watched.texts
    assert text.splitlines() == [
        "*[error] Run failed: clicks_raw.clicks*",
        "PeopleSoft was silent for too long. Where: BU_TERM_QRY; job clicks_daily, partition 2026-01-01, step "
        "clicks_raw__clicks. What to do: Run it again later.",
        "Partition: 2026-01-01.",
        f"https://dagster.example.edu/runs/{run_id}",
    ]
    (kept,) = watched.kept()
    assert (kept.kind, kept.owner, kept.asset, kept.run_id) == (
        "run_failed",
        "team:clicks",
        "clicks_raw.clicks",
        run_id,
    )


def test_the_same_failure_of_the_next_day_counts_and_is_not_told_again(watched: Watched) -> None:
    Mood.error = source_is_down()
    for partition in (FIRST, SECOND):
        watched.run(partition)
        watched.tick()
    (kept,) = watched.kept()
    assert (kept.times_seen, kept.partition, kept.open_partitions) == (2, SECOND, (FIRST, SECOND))
    assert len(watched.texts) == 1


def test_a_retried_run_is_told_once(watched: Watched) -> None:
    """The same run fails, is run again by Dagster, and fails again, between two ticks or not."""
    Mood.error = source_is_down()
    for _ in range(2):
        watched.run()
    watched.tick()
    assert [kept.times_seen for kept in watched.kept()] == [2]
    assert len(watched.texts) == 1


def test_another_cause_at_the_same_place_is_another_trouble(watched: Watched) -> None:
    """A guard that stops a load must not hide behind the outage of the night before."""
    for error in (source_is_down(), DatalakeError("This load would remove 17 of 20 keys.")):
        Mood.error = error
        watched.run()
        watched.tick()
    assert len(watched.kept()) == len(watched.texts) == 2


def test_a_failure_is_over_when_its_partition_succeeds_and_new_when_it_returns(watched: Watched) -> None:
    Mood.error = source_is_down()
    watched.run()
    watched.tick()
    Mood.error = None
    watched.run(SECOND)
    watched.tick()
    assert [kept.state for kept in watched.kept()] == ["told"]
    run_id = watched.run(FIRST)
    watched.tick()
    assert [(kept.state, kept.resolved_by) for kept in watched.kept()] == [("resolved", run_id)]
    Mood.error = source_is_down()
    watched.run(FIRST)
    watched.tick()
    assert [kept.state for kept in watched.kept()] == ["told", "resolved"]
    assert len(watched.texts) == 2


def test_a_failed_check_is_told_and_the_run_it_stopped_is_not_told_besides(watched: Watched) -> None:
    Mood.offending = 3
    watched.run()
    watched.tick()
    (kept,) = watched.kept()
    assert (kept.kind, kept.severity, kept.subject) == (
        "check_failed",
        "error",
        "clicks_raw.clicks rows_are_whole",
    )
    assert (kept.owner, kept.asset) == ("team:clicks", "clicks_raw.clicks")
    assert "3 offending rows." in watched.texts[0]


def test_a_warning_of_a_run_that_succeeded_is_told_and_resolved(watched: Watched) -> None:
    Mood.offending, Mood.severity = 1, dg.AssetCheckSeverity.WARN
    watched.run()
    watched.tick()
    assert [(kept.kind, kept.severity, kept.state) for kept in watched.kept()] == [("check_failed", "warn", "told")]
    assert "*[warn] Check failed" in watched.texts[0]
    Mood.offending = 0
    watched.run()
    watched.tick()
    assert [kept.state for kept in watched.kept()] == ["resolved"]


def test_an_unforeseen_error_is_told_without_its_text(watched: Watched) -> None:
    """Exceptions quote values; only sentences of ours are known to hold none."""
    watched.run(job="housekeeping")
    watched.tick()
    (text,) = watched.texts
    assert "Run failed: housekeeping.explode" in text
    assert "The step failed with ValueError." in text
    assert PERSON not in text
    assert PERSON not in watched.kept()[0].text


def test_a_canceled_run_is_told_once_and_over_with_the_next_success(watched: Watched) -> None:
    job = DEFINITIONS.resolve_job_def(JOB)
    run = watched.instance.create_run_for_job(job, tags={"dagster/partition": FIRST})
    watched.instance.report_run_canceled(run)
    watched.instance.report_run_canceled(run, "Told twice, by the run and by the daemon.")
    watched.tick()
    (kept,) = watched.kept()
    assert (kept.kind, kept.severity, kept.subject, kept.times_seen) == ("run_canceled", "warn", JOB, 1)
    watched.run()
    watched.tick()
    assert [kept.state for kept in watched.kept()] == ["resolved"]


def test_a_run_whose_process_died_is_told(watched: Watched) -> None:
    """It has no failed step; `datalake reconcile` or Dagster's monitoring ends it."""
    job = DEFINITIONS.resolve_job_def(JOB)
    run = watched.instance.create_run_for_job(job, tags={"dagster/partition": FIRST})
    watched.instance.report_run_failed(run, "Ended by `datalake reconcile`.")
    watched.tick()
    assert "failed outside its steps" in watched.texts[0]


def test_what_ended_before_the_sensor_was_started_is_history(watched: Watched) -> None:
    Mood.error = source_is_down()
    watched.run()
    watched.cursors.clear()
    assert watched.tick() == "Runs that end from now on are told."
    assert watched.tick() == "No run has ended."
    assert watched.kept() == []


def test_a_failure_while_the_lake_is_down_is_told_when_it_is_back(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's own run status sensors move on, and nobody would ever hear of it."""
    Mood.error = source_is_down()
    watched.run()
    monkeypatch.setenv("POSTGRES_PORT", "1")
    with pytest.raises(dg.Failure, match="The server"):
        watched.tick()
    monkeypatch.undo()
    for name, value in {
        "POSTGRES_HOST": watched.address.host,
        "POSTGRES_PORT": str(watched.address.port),
        "POSTGRES_DB": watched.address.database,
        "POSTGRES_USER": watched.address.user,
        "POSTGRES_PASS": watched.address.password.get_secret_value(),
    }.items():
        monkeypatch.setenv(name, value)
    assert "1 troubles." in watched.tick()


def test_a_channel_that_is_down_fails_no_tick_and_is_tried_again_by_the_other_sensor(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mood.error = source_is_down()
    watched.run()
    monkeypatch.setenv("NOTIFY_WEBHOOK_URLS", "http://127.0.0.1:1/hook")
    assert "webhook:default did not take its message" in watched.tick()
    monkeypatch.setenv("NOTIFY_WEBHOOK_URLS", f"{watched.hook.url}/hook")
    assert watched.tick("lake_notifications") == "webhook:default took 1"
    assert len(watched.texts) == 1


def test_a_wrong_setting_keeps_the_trouble_in_the_table(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    Mood.error = source_is_down()
    watched.run()
    monkeypatch.setenv("NOTIFY_ROUTES", "team:clicks=nowhere")
    assert "1 troubles. Nothing could be sent. NOTIFY_ROUTES names webhook 'nowhere'" in watched.tick()
    assert [kept.state for kept in watched.kept()] == ["unsent"]


def test_more_ended_runs_than_a_tick_reads_are_all_told_in_order(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of failures is cut, one of successes is not: what lies beyond the cut must wait, or be lost."""
    monkeypatch.setattr("datalake_assets.notifications.MOST_RUNS", 2)
    assert MOST_RUNS > 2
    expected = []
    for error in (*[source_is_down()] * 3, None, source_is_down(), None, None):
        Mood.error = error
        expected.append(watched.run())
    seen: list[str] = []
    after = int(watched.cursors["run_notifications"] or 0)
    for _ in range(6):
        ends, after = ended_runs(watched.instance, after)
        seen += [end.run.run_id for end in ends]
    assert seen == expected
    while watched.tick() != "No run has ended.":
        pass
    assert [(kept.state, kept.times_seen) for kept in watched.kept()] == [("resolved", 1), ("resolved", 3)]


def test_a_quiet_tick_does_not_ask_the_lake(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    assert watched.tick() == "No run has ended."


def test_the_lake_is_looked_at_and_what_it_told_is_kept_by_the_cursor(watched: Watched) -> None:
    async def quarantine() -> None:
        async with session(watched.address, application_name="test") as connection:
            await connection.execute(
                "insert into ops.quarantine (entity, load_date, document_key, rule, reason, source, fingerprint,"
                " run_id, first_seen_at) values ('term', '2026-01-02', '{}', 'r', 'r', 's', '\\x01', 'run', now())"
            )

    asyncio.run(quarantine())
    assert watched.tick("lake_notifications") == "webhook:default took 1"
    assert watched.cursors["lake_notifications"] == '{"term": 1}'
    assert watched.tick("lake_notifications") == "Nothing was owed."
    assert "Quarantine grew: term" in watched.texts[0]


@pytest.mark.parametrize(("running", "status"), [(True, "RUNNING"), (False, "STOPPED")])
def test_sensors_start_as_the_setting_says(running: bool, status: str) -> None:
    sensors: list[Any] = build_notification_sensors(running=running)
    assert {sensor.name: sensor.default_status.value for sensor in sensors} == {
        "run_notifications": status,
        "lake_notifications": status,
    }
