"""`datalake reconcile` on real runs: processes of their own that hold sessions, locks and slots, and die or stay."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from datalake_assets.cli.stack import lake_stack
from datalake_assets.entities import TERM
from datalake_assets.lake import leftovers
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked, Spool
from datalake_assets.settings import load_settings
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.cli.commands import CURRENT, FIRST, FUTURE, PAST, SECOND, Commands
from datalake_assets_tests.lake.lakes import CLOCK, SmallLake, answer

NOW = ("--older-than", "0", "--json")


class StuckRun:
    """A run in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.run_id = process.stdout.readline().strip()
        assert self.run_id, "the run did not start; its error is above"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(commands: Commands) -> Iterator[Callable[..., StuckRun]]:
    """Starts runs with Dagster's home ready, and kills what is left of them."""
    with ExitStack() as stack:

        def start_run(*holding: str) -> StuckRun:
            with dagster_home(commands):
                process = subprocess.Popen(
                    [sys.executable, "-m", "datalake_assets_tests.cli.stuck_run", *holding],
                    cwd=Path(__file__).parents[2],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return StuckRun(process)

        yield start_run
    commands.run("reconcile", *NOW)


@contextmanager
def dagster_home(commands: Commands) -> Iterator[dg.DagsterInstance]:
    """Dagster's records, as the command finds them, in the environment that runs have."""
    with commands.shell(), lake_stack(load_settings(), with_dagster=True), dg.DagsterInstance.get() as instance:
        yield instance


def change(commands: Commands, run_id: str, how: Callable[[dg.DagsterInstance, dg.DagsterRun], object]) -> None:
    with dagster_home(commands) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        how(instance, run)


def status(commands: Commands, run_id: str) -> str:
    with dagster_home(commands) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status.value


def sessions(commands: Commands, run_id: str) -> int:
    return len(commands.sql("select 1 from pg_stat_activity where application_name = $1", run_id))


def locks(commands: Commands) -> int:
    return len(commands.sql("select 1 from pg_locks where locktype = 'advisory' and objid = 4711"))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {run["run_id"]: run["verdict"] for run in (*report["runs_ended"], *report["runs_left"])}


def test_a_run_that_was_killed_is_ended_once(commands: Commands, start: Callable[..., StuckRun]) -> None:
    """Dagster itself would show it as started for ever, and never retry it."""
    run = start("session")
    assert status(commands, run.run_id) == "STARTED"
    run.kill()
    wait_until(lambda: sessions(commands, run.run_id) == 0)
    young = commands.run("reconcile", "--json").json()
    assert verdicts(young) == {run.run_id: "young"}
    planned = commands.run("reconcile", "--dry-run", *NOW)
    assert (planned.code, verdicts(planned.json())) == (0, {run.run_id: "dead"})
    assert status(commands, run.run_id) == "STARTED"
    done = commands.run("reconcile", *NOW)
    assert (done.code, verdicts(done.json())) == (0, {run.run_id: "dead"})
    assert done.err == ""
    assert done.json()["runs_ended"][0]["pids"] == [run.process.pid]
    assert status(commands, run.run_id) == "FAILURE"
    assert commands.run("reconcile", "--older-than", "0").out == "Nothing was left behind.\n"


def test_a_run_that_lives_is_left_alone(commands: Commands, start: Callable[..., StuckRun]) -> None:
    """With a session in the lake or without: a load waits minutes for its source."""
    busy, waiting = start("session"), start()
    report = commands.run("reconcile", *NOW).json()
    assert verdicts(report) == {busy.run_id: "alive", waiting.run_id: "alive"}
    assert report["sessions_ended"] == []
    assert [status(commands, run.run_id) for run in (busy, waiting)] == ["STARTED", "STARTED"]
    os.kill(waiting.process.pid, signal.SIGSTOP)
    assert verdicts(commands.run("reconcile", *NOW).json())[waiting.run_id] == "alive"


def test_a_run_that_was_to_be_canceled_ends_as_canceled(commands: Commands, start: Callable[..., StuckRun]) -> None:
    run = start()
    run.kill()
    change(commands, run.run_id, lambda instance, canceled: instance.report_run_canceling(canceled))
    assert verdicts(commands.run("reconcile", *NOW).json()) == {run.run_id: "dead"}
    assert status(commands, run.run_id) == "CANCELED"


def test_the_session_of_a_run_that_ended_is_ended_with_its_locks(
    commands: Commands, start: Callable[..., StuckRun]
) -> None:
    """Dagster believes it dead, yet its process still holds the lock that the retry waits for."""
    run = start("session")
    change(commands, run.run_id, lambda instance, failed: instance.report_run_failed(failed))
    assert locks(commands) == 1
    young = commands.run("reconcile", "--json").json()
    assert (young["sessions_ended"], sessions(commands, run.run_id)) == ([], 1)
    planned = commands.run("reconcile", "--dry-run", *NOW).json()
    assert (len(planned["sessions_ended"]), sessions(commands, run.run_id)) == (1, 1)
    done = commands.run("reconcile", *NOW)
    assert (done.code, [ended["run_id"] for ended in done.json()["sessions_ended"]]) == (0, [run.run_id])
    assert (sessions(commands, run.run_id), locks(commands)) == (0, 0)


def test_a_session_that_does_not_end_is_a_problem_and_not_a_success(
    commands: Commands, start: Callable[..., StuckRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server process keeps its locks, whatever one tells it."""
    monkeypatch.setattr(leftovers, "END_WITHIN_MS", 200)
    run = start("session")
    change(commands, run.run_id, lambda instance, failed: instance.report_run_failed(failed))
    ((pid,),) = commands.sql("select pid from pg_stat_activity where application_name = $1", run.run_id)
    try:
        os.kill(pid, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        pytest.skip("the processes of the server named by LAKE_TEST_DSN cannot be stopped from here")
    try:
        done = commands.run("reconcile", *NOW)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (done.code, done.json()["sessions_ended"]) == (1, [])
    assert done.json()["problems"] == [f"Server process {pid} of run {run.run_id} does not end."]


def test_sessions_of_people_are_never_ended(commands: Commands) -> None:
    async def look(lake: SmallLake) -> None:
        await lake.connection.execute("set application_name = 'psql'")

    commands.in_lake(look)
    assert commands.run("reconcile", *NOW).json()["sessions_ended"] == []


def test_a_slot_of_a_killed_run_is_free_again(commands: Commands, start: Callable[..., StuckRun]) -> None:
    """Else the source of the pool is never asked again."""
    run = start("pool")
    run.kill()
    planned = commands.run("reconcile", "--dry-run", *NOW).json()
    assert planned["slots_freed"] == []  # the run has not ended yet
    done = commands.run("reconcile", *NOW).json()
    assert done["slots_freed"] == [{"pool": "stuck", "run_id": run.run_id, "slots": 1}]
    with dagster_home(commands) as instance:
        assert instance.event_log_storage.get_concurrency_info("stuck").active_slot_count == 0
    assert commands.run("reconcile", *NOW).json()["slots_freed"] == []


def test_a_run_of_another_machine_is_never_ended_from_here(commands: Commands, start: Callable[..., StuckRun]) -> None:
    """Its process number means nothing here: a container that works would be taken for dead."""
    run = start()
    run.kill()
    launcher = {".dagster/grpc_info": json.dumps({"host": "code-server-7", "port": 4000})}
    change(commands, run.run_id, lambda instance, there: instance.add_run_tags(there.run_id, launcher))
    assert verdicts(commands.run("reconcile", *NOW).json()) == {run.run_id: "unknown"}
    assert verdicts(commands.run("reconcile", "--single-host", *NOW).json()) == {run.run_id: "unknown"}
    assert status(commands, run.run_id) == "STARTED"
    local = {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": "/tmp/gone"})}
    change(commands, run.run_id, lambda instance, here: instance.add_run_tags(here.run_id, local))
    assert verdicts(commands.run("reconcile", *NOW).json()) == {run.run_id: "dead"}


# ---------------------------------------------------------------------------------------------------- files


def test_answers_of_a_committed_load_are_forgotten_and_those_of_an_unfinished_one_kept(commands: Commands) -> None:
    store = ParquetStore(str(commands.home / "spool"))

    def spool(piece: LoadSlice, run_id: str) -> Spool:
        return Spool(store, piece, run_id=run_id, clock=CLOCK)

    asked = Asked(answers=[answer(CURRENT)], source=SourceAccount(), named_all=True)

    async def story(lake: SmallLake) -> None:
        for day, commits in ((FIRST, True), (SECOND, False)):
            piece = LoadSlice(TERM, day)
            attempt = await Ledger().begin(lake.connection, str(TERM.landing), piece.partition, "a")
            spool(piece, "a").put("BU_TERM_QRY", asked)
            if commits:
                async with lake.connection.transaction():
                    receipt = Receipt(asset=str(TERM.landing), partition=piece.partition, run_id="a", load_date=day)
                    await Ledger().write(lake.connection, receipt, attempt)

    commands.in_lake(story)
    assert commands.run("reconcile", "--dry-run", *NOW).json()["spools_cleared"] == ["term 2026-01-01"]
    assert len(store.partitions(TERM.landing)) == 2
    assert commands.run("reconcile", *NOW).json()["spools_cleared"] == ["term 2026-01-01"]
    assert [partition["load_date"] for partition in store.partitions(TERM.landing)] == ["2026-01-02"]

    async def begin_again(lake: SmallLake) -> None:
        spool(LoadSlice(TERM, FIRST), "b").put("BU_TERM_QRY", asked)
        await Ledger().begin(lake.connection, str(TERM.landing), "2026-01-01", "b")

    commands.in_lake(begin_again)
    assert commands.run("reconcile", *NOW).json()["spools_cleared"] == []


def test_a_superseded_snapshot_goes_when_nothing_is_loaded_from_it(commands: Commands) -> None:
    """Current ones stay, whatever their age; and so does the one that history may be mended from."""

    async def story(lake: SmallLake) -> tuple[str, str, str]:
        first = lake.land(FIRST, [answer(PAST), answer(CURRENT), answer(FUTURE)])
        never_loaded = lake.land(SECOND, [answer(PAST), answer(CURRENT)])
        loaded = lake.land(SECOND, [answer(PAST), answer(CURRENT), answer({**FUTURE, "DESCR": "loaded"})])
        for day in (FIRST, SECOND):
            await lake.load(day)
        lake.land(SECOND, [answer(PAST), answer(CURRENT), answer({**FUTURE, "DESCR": "current"})])
        return first.sha256, never_loaded.sha256, loaded.sha256

    first, never_loaded, loaded = commands.in_lake(story)
    forced = ("--superseded-for", "0")
    for mode in ((), ("--dry-run",)):  # superseded a moment ago
        assert commands.run("reconcile", *mode, *NOW).json()["files_removed"] == []
    planned = commands.run("reconcile", "--dry-run", *forced, *NOW).json()["files_removed"]
    assert {Path(file).name for file in planned} == {f"{never_loaded[:32]}.parquet", f"{never_loaded[:32]}.json"}
    assert all(Path(file).exists() for file in planned)
    done = commands.run("reconcile", *forced, *NOW).json()["files_removed"]
    assert sorted(done) == sorted(planned)

    async def go_on(lake: SmallLake) -> None:
        piece = LoadSlice(TERM, SECOND)
        assert lake.landing.revision(piece, loaded).sha256 == loaded
        await lake.load(FIRST)  # mends the second date from the snapshot that it was loaded from
        await lake.load(SECOND)  # from now on, the current one

    commands.in_lake(go_on)
    done = commands.run("reconcile", *forced, *NOW).json()["files_removed"]
    assert {Path(file).name for file in done} == {f"{loaded[:32]}.parquet", f"{loaded[:32]}.json"}
    assert first[:32] in {file.stem for file in Path(commands.environment["LAKE_URL"]).rglob("*.parquet")}


def test_a_file_that_a_dead_writer_left_goes_and_one_that_is_written_stays(commands: Commands) -> None:
    commands.in_lake(lambda lake: land_one(lake, FIRST))
    folder = Path(commands.environment["LAKE_URL"]) / "term_landing" / "term_data" / "load_date=2026-01-01"
    dead, living = folder / ".dead.part", folder / ".living.part"
    dead.write_bytes(b"x")
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert commands.run("reconcile", "--dry-run", *NOW).json()["files_removed"] == [str(dead)]
        assert dead.exists()
        assert commands.run("reconcile", *NOW).json()["files_removed"] == [str(dead)]
    assert not dead.exists()
    assert living.exists()


def test_what_a_dry_run_names_is_what_is_removed(commands: Commands) -> None:
    """Rests of a publication that was killed: a file without a manifest, a revision that never became current."""
    commands.in_lake(lambda lake: land_one(lake, FIRST))
    folder = Path(commands.environment["LAKE_URL"]) / "term_landing" / "term_data" / "load_date=2026-01-01"
    (folder / f"{'a' * 32}.parquet").write_bytes(b"x")
    (folder / f"{'b' * 32}.json").write_text("damaged")
    (folder / "notes.txt").write_text("somebody's")
    before = set(folder.iterdir())
    forced = ("--superseded-for", "0", *NOW)
    planned = commands.run("reconcile", "--dry-run", *forced).json()["files_removed"]
    assert planned == commands.run("reconcile", *forced).json()["files_removed"]
    assert before - set(folder.iterdir()) == {folder / f"{'a' * 32}.parquet"}


async def land_one(lake: SmallLake, day: date) -> None:
    lake.land(day, [answer(CURRENT)])


def test_a_store_that_cannot_be_collected_is_a_problem_and_the_rest_is_done(commands: Commands) -> None:
    Path(commands.environment["LAKE_URL"]).write_text("a file where a folder should be")
    leftover = commands.home / "spool" / "term_landing" / "term_data" / ".dead.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")
    for mode in (("--dry-run",), ()):
        done = commands.run("reconcile", *mode, *NOW)
        assert (done.code, done.json()["files_removed"]) == (1, [str(leftover)])
        assert "Not a directory" in done.json()["problems"][0]
    assert not leftover.exists()
    assert "problem: " in commands.run("reconcile", "--older-than", "0").err
