"""Bringing a database's tables up to date: plain SQL files, applied in order by alembic, recorded and never edited.

Users write `NNNN_name.sql` and nothing else; alembic's version modules are made from the files for the length of
one call. What the files hold does not belong here.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from datalake_assets.errors import DatalakeError
from datalake_assets.storage.postgres import PostgresAddress, run_to_end, scrubbed, scrubbing, server_error, session

if TYPE_CHECKING:
    import psycopg2
    import sqlalchemy

_NAME: Final = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")

_LOCK: Final = 0x6461_7461_6C61_6B65
"""Key of the advisory lock: the bytes of "datalake"."""

_LOCK_WAIT: Final = "120s"
_TABLE_LOCK_WAIT: Final = "30s"
"""A migration that waits for a table keeps every later reader of it waiting too."""

_RECORD: Final = """
create schema if not exists ops;
create table if not exists ops.migration (
    number text primary key,
    file text not null,
    sha256 text not null,
    applied_at timestamptz not null
);
"""

_ALEMBIC_RECORD: Final = """
create table if not exists ops.alembic_version (
    version_num varchar(32) not null,
    constraint alembic_version_pkc primary key (version_num)
);
"""
"""As alembic makes it."""

_DUPLICATE_TABLE: Final = "42P07"

_ENV: Final = """
from alembic import context
context.configure(
    connection=context.config.attributes["connection"],
    version_table="alembic_version",
    version_table_schema="ops",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
"""

_VERSION: Final = """
from alembic import context, op
revision = {number!r}
down_revision = {previous!r}
def upgrade():
    context.config.attributes["apply"](op.get_bind(), {number!r})
"""

_TRANSACTION_WORDS: Final = frozenset({"abort", "begin", "commit", "end", "release", "rollback", "savepoint", "start"})

_TOKEN: Final = re.compile(
    r"""
      (?P<comment> --[^\n]* )
    | (?P<block> /\* )
    | (?P<escaped> \b[eE]'(?: [^'\\] | \\. | '' )*' )
    | (?P<text> '(?: [^'] | '' )*' )
    | (?P<quoted> "(?: [^"] | "" )*" )
    | (?P<dollar> (?<![\w$]) \$ (?: [^\W\d]\w* )? \$ )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<end> ; )
    | (?P<other> \S )
    """,
    re.VERBOSE | re.DOTALL,
)


class MigrationError(DatalakeError):
    """The files cannot be applied, or do not match what was applied before."""


@dataclass(frozen=True)
class _File:
    number: str
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def pending(address: PostgresAddress, folder: Path) -> list[str]:
    """Names of the files that are not applied yet, in order.

    Raises:
        MigrationError: The files are not numbered 0001, 0002, …, or an applied one was edited or removed.
        PostgresError: The database cannot be read.
    """
    return [file.name for file in _pending(_files(folder), run_to_end(_applied(address)))]


def migrate(address: PostgresAddress, folder: Path) -> list[str]:
    """Apply what is pending, each file in a transaction of its own; of two callers at once one waits.

    Args:
        address: The database; its role must be able to create schemas.
        folder: Folder of the `NNNN_name.sql` files.

    Returns:
        Names of the files that were applied.

    Raises:
        MigrationError: As for `pending`, or a statement failed; files before it stay applied.
        PostgresError: The database cannot be read.
    """
    files = _files(folder)
    if not _pending(files, run_to_end(_applied(address))):
        return []
    # Loading SQLAlchemy and alembic takes longer than finding that there is nothing to do.
    import sqlalchemy

    engine = sqlalchemy.create_engine(address.url(), poolclass=sqlalchemy.NullPool)
    sqlalchemy.event.listen(engine, "connect", _set_up)
    try:
        with _failures(), engine.connect() as lock, engine.connect() as connection:
            lock.execute(sqlalchemy.text(f"set local lock_timeout = '{_LOCK_WAIT}'"))
            lock.execute(sqlalchemy.text("select pg_catalog.pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            expected = [file.name for file in _pending(files, run_to_end(_applied(address)))]
            done = _upgrade(connection, files) if expected else []
    finally:
        engine.dispose()
    if done != expected:
        raise MigrationError(
            "Tables ops.alembic_version and ops.migration contradict each other: "
            f"{', '.join(expected)} should have been applied, but alembic applied {', '.join(done) or 'nothing'}.",
            where=str(address),
            todo="Find out who changed either table, and make them agree before loading anything.",
        )
    return done


async def migrate_within(connection: asyncpg.Connection, folder: Path) -> list[str]:
    """Apply what is pending as part of the caller's transaction, recorded as `migrate` records it.

    Args:
        connection: A connection inside a transaction; nobody else can migrate until it ends.
        folder: Folder of the `NNNN_name.sql` files.

    Returns:
        Names of the files that were applied.

    Raises:
        MigrationError: As for `migrate`.
    """
    files = _files(folder)
    await connection.execute(f"set local lock_timeout = '{_LOCK_WAIT}'")
    await connection.execute("select pg_catalog.pg_advisory_xact_lock($1)", _LOCK)
    await connection.execute(f"set local lock_timeout = '{_TABLE_LOCK_WAIT}'")
    waiting = _pending(files, await _read_applied(connection))
    await connection.execute(_RECORD + _ALEMBIC_RECORD)
    for file in waiting:
        for line, statement in _statements(file):
            try:
                await connection.execute(statement)
            except asyncpg.PostgresError as error:
                said = scrubbed(error).what
                raise _failed(said, file.name, line, statement, int(error.position or 0), error.sqlstate) from None
        await connection.execute(
            "insert into ops.migration values ($1, $2, $3, clock_timestamp())", file.number, file.name, file.sha256
        )
    if waiting:
        await connection.execute("delete from ops.alembic_version")
        await connection.execute("insert into ops.alembic_version values ($1)", waiting[-1].number)
    return [file.name for file in waiting]


def _upgrade(connection: "sqlalchemy.Connection", files: list[_File]) -> list[str]:
    import alembic.command
    import alembic.config
    import sqlalchemy

    by_number = {file.number: file for file in files}
    done: list[str] = []

    def apply(bind: "sqlalchemy.Connection", number: str) -> None:
        file = by_number[number]
        for line, statement in _statements(file):
            _execute(bind, statement, file.name, line)
        bind.execute(
            sqlalchemy.text("insert into ops.migration values (:number, :file, :sha256, clock_timestamp())"),
            {"number": number, "file": file.name, "sha256": file.sha256},
        )
        done.append(file.name)

    connection.execute(sqlalchemy.text(_RECORD))
    connection.commit()
    with _version_folder(files) as scripts:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["apply"] = apply
        alembic.command.upgrade(config, "head")
    connection.commit()
    return done


def _set_up(driver: "psycopg2.extensions.connection", _record: object) -> None:
    """Names are found only where a statement gives the schema, and nothing waits long for a table."""
    with driver.cursor() as cursor:
        cursor.execute(
            f"set search_path = ''; set lock_timeout = '{_TABLE_LOCK_WAIT}'; set application_name = 'datalake migrate'"
        )
    driver.commit()


@contextmanager
def _failures() -> Iterator[None]:
    """Explain errors outside the statements of a file; those are explained where they happen."""
    import sqlalchemy.exc

    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        waited = getattr(error.orig, "pgcode", None) == "55P03"
        raise MigrationError(
            f"Somebody else has been migrating this database for more than {_LOCK_WAIT}."
            if waited
            else f"The migrations could not be started: {_said(error.orig)}",
            todo="Look in pg_stat_activity for `datalake migrate`, then migrate again."
            if waited
            else "Mend that, or the grants of the role, and migrate again.",
        ) from None


def _said(error: Any) -> str:
    """What the driver says, without what may quote data."""
    diagnosis = getattr(error, "diag", None)
    return server_error(
        sqlstate=getattr(error, "pgcode", None) or "08000",
        condition=type(error).__name__,
        message=getattr(diagnosis, "message_primary", None) or "",
    ).what


def _execute(connection: "sqlalchemy.Connection", statement: str, file: str, line: int) -> None:
    import psycopg2

    # The driver's own cursor: SQL files hold percent signs and colons that are no parameters.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        position = int(error.diag.statement_position or 0)
        raise _failed(_said(error), file, line, statement, position, error.pgcode) from None
    finally:
        cursor.close()


def _failed(said: str, file: str, line: int, statement: str, position: int, sqlstate: str | None) -> MigrationError:
    todo = "Nothing of this file was applied. Mend it, or the grants of the role, and migrate again."
    if sqlstate == _DUPLICATE_TABLE:
        todo = (
            "If the tables of an earlier system have these names, `datalake adopt` shows how to take them over. " + todo
        )
    return MigrationError(
        f"A migration failed: {said}",
        where=f"{file}, line {line + statement.count(chr(10), 0, position)}",
        todo=todo,
    )


@contextmanager
def _version_folder(files: list[_File]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="migrations-") as name:
        folder = Path(name)
        (folder / "versions").mkdir()
        (folder / "env.py").write_text(_ENV, "utf-8")
        previous: str | None = None
        for file in files:
            text = _VERSION.format(number=file.number, previous=previous)
            (folder / "versions" / f"{file.name.removesuffix('.sql')}.py").write_text(text, "utf-8")
            previous = file.number
        yield folder


def _statements(file: _File) -> Iterator[tuple[int, str]]:
    """The statements of a file, each with the line it begins in.

    They are sent one by one, because the server says where in a text it found an error only for some errors.
    """
    text = file.text
    start: int | None = None
    words: list[str] = []
    body = 0  # depth inside the body of a SQL function, whose semicolons end nothing
    position = 0
    while (token := _TOKEN.search(text, position)) is not None:
        position, kind = token.end(), token.lastgroup
        if kind == "comment":
            continue
        if kind == "block":
            position = _end_of_comment(text, token.end())
            continue
        if start is None:
            if kind == "end":
                continue
            start = token.start()
        if kind == "dollar":
            closing = text.find(token[0], token.end())
            position = closing + len(token[0]) if closing >= 0 else len(text)
        elif kind == "word":
            word = token[0].lower()
            if body:
                body += {"case": 1, "end": -1}.get(word, 0)
            elif word == "atomic" and words and words[-1] == "begin":
                body = 1
            words.append(word)
        elif kind == "end" and not body:
            yield _statement(file, start, position, words)
            start, words = None, []
    if start is not None:
        yield _statement(file, start, len(text), words)


def _statement(file: _File, start: int, end: int, words: list[str]) -> tuple[int, str]:
    line = file.text.count("\n", 0, start) + 1
    if words and words[0] in _TRANSACTION_WORDS:
        raise MigrationError(
            f"A migration may not begin or end transactions itself: it says {words[0]!r}.",
            where=f"{file.name}, line {line}",
            todo="Leave that out: each file is applied in a transaction of its own.",
        )
    return line, file.text[start:end]


def _end_of_comment(text: str, position: int) -> int:
    """Where a block comment ends; they nest in PostgreSQL."""
    depth = 1
    while depth and (mark := re.compile(r"/\*|\*/").search(text, position)) is not None:
        depth += 1 if mark[0] == "/*" else -1
        position = mark.end()
    return len(text) if depth else position


def _files(folder: Path) -> list[_File]:
    files = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(
                f"{path.name} is no name of a migration.",
                where=str(folder),
                todo="Name it like 0001_what_it_does.sql: four digits, then small letters, digits and underscores.",
            )
        # Universal newlines: a checkout that turned them round is no edit.
        files.append(_File(match["number"], path.name, path.read_text("utf-8")))
    for expected, file in enumerate(files, start=1):
        if int(file.number) != expected:
            raise MigrationError(
                f"Migrations are numbered without gaps and repetitions: {file.name} stands at place {expected:04d}.",
                where=str(folder),
                todo="Number the files that are not applied anywhere yet anew.",
            )
    if not files:
        raise MigrationError("There are no migrations.", where=str(folder), todo="Install the package anew.")
    return files


async def _applied(address: PostgresAddress) -> dict[str, Any]:
    async with session(address, application_name="datalake migrate") as connection:
        with scrubbing(f"reading the migrations of {address}"):
            return await _read_applied(connection)


async def _read_applied(connection: asyncpg.Connection) -> dict[str, Any]:
    if not await connection.fetchval("select pg_catalog.to_regclass('ops.migration') is not null"):
        return {}
    rows = await connection.fetch("select number, file, sha256 from ops.migration")
    return {row["number"]: row for row in rows}


def _pending(files: list[_File], applied: dict[str, Any]) -> list[_File]:
    """The files still to apply.

    Raises:
        MigrationError: Files and database tell different histories.
    """
    known = {file.number: file for file in files}
    for number, row in sorted(applied.items()):
        file = known.get(number)
        if file is None or file.name != row["file"]:
            raise MigrationError(
                f"Migration {row['file']} was applied to the database, and its file is gone.",
                where=f"number {number}" if file is None else f"number {number}, which is {file.name} now",
                todo="Use the version of datalake-assets that brought it, or a later one.",
            )
        if file.sha256 != row["sha256"]:
            raise MigrationError(
                f"Migration {file.name} was edited after it had been applied.",
                where=f"SHA-256 applied {row['sha256'][:12]}…, now {file.sha256[:12]}…",
                todo="Put the file back as it was, and write the change as the next migration.",
            )
    return [file for file in files if file.number not in applied]
