"""The way to PostgreSQL: addresses, connections, errors without data, COPY under a deadline, slice locks.

Everything here speaks asyncpg, the lake's only driver. PostgreSQL quotes rows in its errors and asyncpg
quotes arguments, so no error of theirs leaves this module as it came. asyncpg's own timeout does not end a
COPY whose server process is frozen or gone, so long work is watched from outside. What loads run does not
belong here, nor how types correspond (`postgres_types.py`).
"""

import asyncio
import contextlib
import ipaddress
import itertools
import re
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import asyncpg
import pyarrow as pa
from pydantic import SecretStr

from datalake_assets.errors import DatalakeError
from datalake_assets.storage.feed import Feed, SourceError
from datalake_assets.storage.postgres_types import (
    COPY_END,
    COPY_START,
    Column,
    ConversionError,
    CopyEncoder,
    arrow_type,
    columns_of,
)
from datalake_assets.storage.sqlstates import QUOTABLE_CLASSES, TRANSIENT, meaning

T = TypeVar("T")

SSL_MODES: Final = ("disable", "prefer", "require", "verify-full")
OLDEST_SERVER: Final = 14
WATCH_S: Final = 0.25
"""How often long work is looked at: a lost server process is noticed about this late."""

_APPLICATION_NAME_BYTES: Final = 63
_SENT_BYTES: Final = 512 * 1024
_RECORDS_AT_ONCE: Final = 500
_PORTION_S: Final = 1.0
_PORTION_LISTS: Final = 64
_PORTION_BUFFERS: Final = 8
_CANCEL_S: Final = 0.05
_DEFAULT_LOCK_TIMEOUT: Final = "30s"
_IDLE_IN_TRANSACTION_TIMEOUT: Final = "10min"


# --------------------------------------------------------------------------------------------------- errors


class PostgresError(DatalakeError):
    """PostgreSQL, or the way to it, failed; never holds a value of a row or of a parameter.

    Args:
        what: What happened, as a full sentence.
        where: Table, constraint, column, row number, as far as known.
        todo: What to do next.
        sqlstate: The five characters of the SQL standard, empty if no server spoke.
        condition: Name of the condition, e.g. `UniqueViolationError`.
        transient: Whether the same work may succeed if it is simply repeated.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        todo: str = "",
        sqlstate: str = "",
        condition: str = "",
        transient: bool = False,
    ) -> None:
        super().__init__(what, where=where, todo=todo)
        self.sqlstate = sqlstate
        self.condition = condition
        self.transient = transient


_COPY_PLACE: Final = re.compile(r"^COPY [^\n]*?, line (\d+)(?:, column ([^:\n\"]+))?", re.MULTILINE)


def scrubbed(error: BaseException, where: str = "", *, rows_before: int = 0) -> PostgresError:
    """What an error of asyncpg says, without the rows and arguments that it quotes.

    Args:
        error: An error of asyncpg, or of the connection below it.
        where: What was being done, added to what the server names.
        rows_before: Rows copied before the COPY that failed, to number its rows in the whole.
    """
    if isinstance(error, asyncpg.PostgresError):
        return server_error(
            sqlstate=error.sqlstate or "",
            condition=type(error).__name__,
            message=str(getattr(error, "message", None) or ""),
            where=where,
            names={
                "schema": error.schema_name,
                "table": error.table_name,
                "column": error.column_name,
                "constraint": error.constraint_name,
            },
            context=error.context or "",
            rows_before=rows_before,
            raised_by_code=error.server_source_function == "exec_stmt_raise",
        )
    if isinstance(error, asyncpg.exceptions.DataError | OverflowError | ValueError | TypeError):
        return PostgresError(
            "A value does not fit the type of its parameter or column.",
            where=where,
            todo="Look at the types of the statement and of what it is given.",
            condition=type(error).__name__,
        )
    if isinstance(error, OSError):  # TimeoutError and ConnectionError among them
        slow = isinstance(error, TimeoutError)
        return PostgresError(
            "The server did not answer in time." if slow else "The connection to the server was lost.",
            where=where,
            todo="Run again; look into the server's log if it repeats.",
            condition=type(error).__name__,
            transient=True,
        )
    closed = isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
    return PostgresError(
        "The connection to the server is closed." if closed else "The PostgreSQL driver was used in a way it refuses.",
        where=where,
        todo="Run again." if closed else "Report it, with the traceback.",
        condition=type(error).__name__,
        transient=closed,
    )


def server_error(
    *,
    sqlstate: str,
    condition: str,
    message: str,
    where: str = "",
    names: dict[str, str | None] | None = None,
    context: str = "",
    rows_before: int = 0,
    raised_by_code: bool = False,
) -> PostgresError:
    """An error report of the server without what may quote data; for every driver.

    Args:
        sqlstate: Five characters of the SQL standard.
        condition: Name of the condition.
        message: The primary message; repeated only where its class cannot quote a value.
        where: What was being done.
        names: Objects that the server names: schema, table, column, constraint.
        context: The CONTEXT field, of which only the row and column of a COPY are taken.
        rows_before: Rows copied before that COPY.
        raised_by_code: Whether a function's RAISE wrote the message, which then may hold anything.
    """
    what, todo = meaning(sqlstate)
    what += f" ({condition}, SQLSTATE {sqlstate or 'unknown'})"
    if message and sqlstate[:2] in QUOTABLE_CLASSES and not raised_by_code:
        what += f" PostgreSQL says: {message.splitlines()[0]}."
    places = [where] if where else []
    places += [f"{kind} {name}" for kind, name in (names or {}).items() if name]
    if place := _COPY_PLACE.search(context):
        places.append(f"row {int(place[1]) + rows_before} of the COPY" + (f", column {place[2]}" if place[2] else ""))
    return PostgresError(
        what,
        where=", ".join(places),
        todo=todo,
        sqlstate=sqlstate,
        condition=condition,
        transient=sqlstate in TRANSIENT,
    )


@contextmanager
def scrubbing(where: str = "") -> Iterator[None]:
    """Let errors of asyncpg out of a block only as `PostgresError`.

    Args:
        where: What the block does, for the error.

    Raises:
        PostgresError: asyncpg or the connection failed.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise scrubbed(error, where) from None
    except (ConnectionError, TimeoutError) as error:
        raise scrubbed(error, where) from None


# ---------------------------------------------------------------------------------------------- connections


@dataclass(frozen=True)
class PostgresAddress:
    """Where a database is and as whom to enter it.

    Attributes:
        host: A name, an IP address, or the absolute folder of a Unix socket.
        port: TCP port, or the number in the socket's name.
        database: The database.
        user: The role.
        password: Its password.
        sslmode: One of `SSL_MODES`; by default disable for a socket or this machine, else verify-full.
        ca: File with the certificate authority of the server; None means those that this machine trusts.
    """

    host: str
    port: int
    database: str
    user: str
    password: SecretStr = field(repr=False)
    sslmode: str | None = None
    ca: str | None = None

    def __post_init__(self) -> None:
        if self.sslmode is None:
            object.__setattr__(self, "sslmode", "disable" if self.is_local else "verify-full")
        if self.sslmode not in SSL_MODES:
            raise PostgresError(
                f"sslmode is {self.sslmode!r}; it must be one of {', '.join(SSL_MODES)}.",
                todo="Set POSTGRES_SSLMODE.",
            )

    def __str__(self) -> str:
        place = f"{self.host}/.s.PGSQL.{self.port}" if self.is_socket else f"{self._url_host}:{self.port}"
        return f"database {self.database} at {place} as {self.user}"

    @property
    def is_socket(self) -> bool:
        """Whether the host is the folder of a Unix socket."""
        return self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.is_socket or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def _url_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else quote(self.host, safe=".")

    def url(self, driver: str = "postgresql+psycopg2") -> str:
        """The address as a URL, password included: for libraries that take nothing else, never for a log.

        Args:
            driver: `postgresql` for libpq, `postgresql+psycopg2` for SQLAlchemy.
        """
        options: dict[str, str] = {"host": self.host, "port": str(self.port)} if self.is_socket else {}
        if not self.is_socket:
            options["sslmode"] = str(self.sslmode)
            ca = self.ca or (ssl.get_default_verify_paths().cafile if self.sslmode == "verify-full" else None)
            if ca or self.sslmode == "verify-full":
                options["sslrootcert"] = ca or "system"
        place = "" if self.is_socket else f"{self._url_host}:{self.port}"
        credentials = f"{quote(self.user, safe='')}:{quote(self.password.get_secret_value(), safe='')}"
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        return f"{driver}://{credentials}@{place}/{quote(self.database, safe='')}{query}"

    def with_database(self, name: str) -> "PostgresAddress":
        """The same server and role, another database."""
        return replace(self, database=name)


async def connect(address: PostgresAddress, *, application_name: str, deadline_s: float = 10.0) -> asyncpg.Connection:
    """Open a connection that is set up for the lake.

    Names are found only where a statement gives the schema, times are UTC, locks and idle transactions end by
    themselves, and jsonb travels as UTF-8 bytes both ways. Statements are not cached and nothing is sent at
    start-up that PgBouncer does not know, so that a pooler in session mode may stand in between.

    Args:
        address: Where to.
        application_name: Who works, as the server shows it: the run id.
        deadline_s: Longest time to wait for the server, in seconds.

    Raises:
        PostgresError: The server cannot be reached, does not let us in, or is older than `OLDEST_SERVER`.
    """
    where = str(address)
    try:
        async with asyncio.timeout(deadline_s):
            connection = await asyncpg.connect(
                host=address.host,
                port=address.port,
                database=address.database,
                user=address.user,
                password=address.password.get_secret_value(),
                ssl=_tls(address),
                direct_tls=False,
                target_session_attrs="any",
                timeout=deadline_s,
                statement_cache_size=0,
                server_settings={
                    "application_name": _shortened(application_name),
                    "TimeZone": "UTC",
                },
            )
            try:
                await _set_up(connection, where)
            except BaseException:
                connection.terminate()
                raise
            return connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise scrubbed(error, where) from None
    except (OSError, ValueError) as error:
        raise _unreachable(error, where, deadline_s) from None


@asynccontextmanager
async def session(
    address: PostgresAddress, *, application_name: str, deadline_s: float = 10.0
) -> AsyncIterator[asyncpg.Connection]:
    """A connection for the length of a block, closed whatever happens in it.

    After an error the connection is cut, not closed politely: the server rolls back what was open, and
    nothing waits for a server that no longer answers.

    Args:
        address: Where to.
        application_name: Who works, as the server shows it: the run id.
        deadline_s: Longest time to wait for the server, in seconds.

    Raises:
        PostgresError: No connection could be opened.
    """
    connection = await connect(address, application_name=application_name, deadline_s=deadline_s)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    try:
        await connection.close(timeout=deadline_s)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        connection.terminate()  # the work is done; how the server says good-bye does not matter


async def _set_up(connection: asyncpg.Connection, where: str) -> None:
    major = connection.get_server_version().major
    if major < OLDEST_SERVER:
        raise PostgresError(
            f"The server runs PostgreSQL {major}; the lake needs {OLDEST_SERVER} or later.",
            where=where,
            todo="Upgrade the server, or set POSTGRES_HOST to another one.",
        )
    await connection.execute(
        "select pg_catalog.set_config('search_path', '', false),"
        " pg_catalog.set_config('lock_timeout', $1, false),"
        " pg_catalog.set_config('idle_in_transaction_session_timeout', $2, false)",
        _DEFAULT_LOCK_TIMEOUT,
        _IDLE_IN_TRANSACTION_TIMEOUT,
    )
    # 1 is the version of jsonb's binary form, the only one there is.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda document: b"\x01" + document,
        decoder=lambda data: data[1:],
    )


def _shortened(name: str) -> str:
    """An application name as the server keeps it: short and ASCII."""
    return name.encode("ascii", "replace").decode()[:_APPLICATION_NAME_BYTES]


def _tls(address: PostgresAddress) -> ssl.SSLContext | str | bool:
    if address.is_socket or address.sslmode == "disable":
        return False
    if address.sslmode == "prefer":
        return "prefer"
    context = ssl.create_default_context(cafile=address.ca)
    if address.sslmode == "require":  # as libpq: encrypted, and checked only against an authority that is given
        context.check_hostname = False
        if address.ca is None:
            context.verify_mode = ssl.CERT_NONE
    return context


def _unreachable(error: OSError | ValueError, where: str, deadline_s: float) -> PostgresError:
    todo = "Check POSTGRES_HOST and POSTGRES_PORT, and that the server runs and is reachable from here."
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason
        what = f"The server's certificate was not accepted: {reason}."
        todo = "Set POSTGRES_CA to the authority that signed it, and POSTGRES_HOST to a name that it holds."
        return PostgresError(what, where=where, todo=todo, condition=type(error).__name__)
    if isinstance(error, TimeoutError):
        what = f"The server did not answer within {deadline_s:g} s."
    elif "SSL" in str(error):
        what = "The server does not offer TLS."
        todo = "Switch TLS on at the server; POSTGRES_SSLMODE=disable only where the network is trusted."
        return PostgresError(what, where=where, todo=todo, condition=type(error).__name__)
    elif isinstance(error, FileNotFoundError):
        what = "The server's socket, or the file named by POSTGRES_CA, does not exist."
    elif isinstance(error, OSError) and error.strerror:
        what = f"The server cannot be reached: {error.strerror}."
    else:
        what = "The server cannot be reached."
    return PostgresError(what, where=where, todo=todo, condition=type(error).__name__, transient=True)


# ------------------------------------------------------------------------------------------ work and its end


async def supervised(
    connection: asyncpg.Connection, work: Coroutine[Any, Any, T], *, deadline_s: float, doing: str
) -> T:
    """Wait for work on a connection, but not past a deadline and not for a connection that is gone.

    The connection is cut if the work does not end by itself: the server then rolls back and frees its locks.

    Args:
        connection: What the work uses.
        work: A coroutine.
        deadline_s: Longest time by the clock on the wall, in seconds.
        doing: What the work is, for the error: `copying into ops.receipt`.

    Raises:
        PostgresError: The deadline passed, or the server went away.
    """
    task = asyncio.ensure_future(work)
    end = time.monotonic() + deadline_s
    lost = False
    try:
        while not task.done() and not lost:
            left = end - time.monotonic()
            if left <= 0:
                raise PostgresError(
                    f"Time was up after {deadline_s:g} s; the connection was cut and the server rolls back.",
                    where=doing,
                    todo="Run again; if it repeats, look at the load and the locks of the server.",
                    condition="Deadline",
                    transient=True,
                )
            lost = connection.is_closed()  # asyncpg may wait for ever to send to a server that is gone
            await asyncio.wait({task}, timeout=min(left, WATCH_S))
        if not task.done():
            raise PostgresError(
                "The server ended the connection in the middle of the work.",
                where=doing,
                todo="Run again; look into the server's log if it repeats.",
                condition="ConnectionLost",
                transient=True,
            )
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.sleep(_CANCEL_S)  # asyncpg asks the server to cancel, unless it is cut off at once
            connection.terminate()
            await asyncio.wait({task}, timeout=1.0)
        if task.done() and not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as forgotten


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from ordinary code, even below an event loop that waits for that code.

    Args:
        work: A coroutine that opens and closes what it uses itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="postgres-run") as thread:
        return thread.submit(asyncio.run, work).result()


# ----------------------------------------------------------------------------------------------------- COPY


async def copy_records(
    connection: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    records: Iterable[Sequence[Any]],
    *,
    deadline_s: float,
    schema: str | None = None,
) -> int:
    """Append rows to a table by binary COPY, all of them or none.

    Args:
        connection: An open connection.
        table: Name of the table.
        columns: The columns that each record brings, in its order.
        records: The rows, drawn in a thread of their own, from memory or a local file: a slow source would
            keep the table locked.
        deadline_s: Longest time by the clock on the wall, in seconds.
        schema: Schema of the table; None for a temporary one of this session.

    Returns:
        The number of rows.

    Raises:
        PostgresError: The server refused, went away, or did not finish in time; never holds a value.
            An error of `records` itself comes out as it is.
    """
    names = list(columns)
    feed = Feed(_lists(records))
    drawn = 0

    async def copy(portion: AsyncIterator[list[Sequence[Any]]]) -> str:
        async def rows() -> AsyncIterator[Sequence[Any]]:
            nonlocal drawn
            async for piece in portion:
                for row in piece:
                    drawn += 1
                    yield row

        return str(await connection.copy_records_to_table(table, records=rows(), columns=names, schema_name=schema))

    try:
        return await _copied(connection, feed, copy, _PORTION_LISTS, _named(table, schema), deadline_s)
    except SourceError as failure:
        raise failure.error from None
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        # asyncpg quotes the value that it could not encode.
        raise PostgresError(
            f"A value does not fit its column, or the row has another number of columns than {len(names)}.",
            where=f"copying into {_named(table, schema)}, row {drawn}",
            todo="Look at the types of the columns and of what they are given.",
            condition=type(error).__name__,
        ) from None


async def copy_batches(
    connection: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    *,
    deadline_s: float,
    schema: str | None = None,
    freeze: bool = False,
) -> int:
    """Append Arrow batches to a table by binary COPY, all of them or none.

    Args:
        connection: An open connection.
        table: Name of the table.
        columns: The columns to write; each batch brings them by name, all batches with the same types.
        batches: The batches, drawn in a thread of their own, from memory or a local file: a slow source would
            keep the table locked.
        deadline_s: Longest time by the clock on the wall, in seconds.
        schema: Schema of the table; None for a temporary one of this session.
        freeze: Make the rows visible to every snapshot that can see the table, which this very transaction must
            have made: a reader that began earlier would otherwise find the table empty.

    Returns:
        The number of rows.

    Raises:
        ConversionError: A column or a value has no exact counterpart in the table.
        PostgresError: The server refused, went away, or did not finish in time; never holds a value.
            An error of `batches` itself comes out as it is.
    """
    with scrubbing(f"copying into {_named(table, schema)}"):
        known = {column.name: column for column in await columns_of(connection, table, schema)}
    if missing := [name for name in columns if name not in known]:
        raise ConversionError(
            f"The table has no column {', '.join(missing)}." if known else "The table does not exist.",
            where=_named(table, schema),
            todo="Run `datalake migrate`, or write only columns that the table has.",
        )
    feed = Feed(_encoded([known[name] for name in columns], batches))

    async def copy(portion: AsyncIterator[memoryview]) -> str:
        async def pieces() -> AsyncIterator[bytes | memoryview]:
            yield COPY_START
            async for rows in portion:
                for start in range(0, len(rows), _SENT_BYTES):
                    yield rows[start : start + _SENT_BYTES]
            yield COPY_END

        return str(
            await connection.copy_to_table(
                table,
                source=pieces(),
                columns=list(columns),
                schema_name=schema,
                format="binary",
                freeze=freeze or None,
            )
        )

    try:
        return await _copied(connection, feed, copy, _PORTION_BUFFERS, _named(table, schema), deadline_s)
    except SourceError as failure:
        raise failure.error from None


async def _copied(
    connection: asyncpg.Connection,
    feed: Feed[T],
    copy: Callable[[AsyncIterator[T]], Awaitable[str]],
    items: int,
    table: str,
    deadline_s: float,
) -> int:
    """Empty a feed, whose items are whole rows, into a table: all or nothing, as a row of short COPY commands.

    asyncpg looks at what the server says only when a COPY ends: after a full disk or a cancel in a long one, it
    would go on sending to nobody until the source is empty.
    """
    doing = f"copying into {table}"
    rows = 0

    async def all_portions() -> None:
        nonlocal rows
        async with contextlib.AsyncExitStack() as stack:
            if not connection.is_in_transaction():
                await stack.enter_async_context(connection.transaction())
            while await feed.has_more():
                rows += int((await copy(feed.portion(items, _PORTION_S))).removeprefix("COPY "))

    try:
        await supervised(connection, all_portions(), deadline_s=deadline_s, doing=doing)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise scrubbed(error, doing, rows_before=rows) from None
    except ConnectionError as error:
        raise scrubbed(error, doing) from None
    finally:
        await feed.close()
    return rows


def _lists(records: Iterable[T]) -> Iterator[list[T]]:
    with _closing(records):
        iterator = iter(records)
        while piece := list(itertools.islice(iterator, _RECORDS_AT_ONCE)):
            yield piece


def _encoded(columns: Sequence[Column], batches: Iterable[pa.RecordBatch]) -> Iterator[memoryview]:
    """Whole rows as the server reads them, some megabytes at a time."""
    encoder: CopyEncoder | None = None
    schema: pa.Schema | None = None
    with _closing(batches):
        for batch in batches:
            if encoder is None or not batch.schema.equals(schema):
                encoder, schema = CopyEncoder(columns, batch.schema), batch.schema
            for rows in encoder.encode(batch):
                yield memoryview(rows)


@contextmanager
def _closing(source: Iterable[Any]) -> Iterator[None]:
    """End a generator with the block, not whenever its last reference goes."""
    try:
        yield
    finally:
        if isinstance(source, Generator):
            source.close()


def _named(table: str, schema: str | None) -> str:
    return f"{schema or 'pg_temp'}.{table}"


# -------------------------------------------------------------------------------------------- locks and reads


async def lock_slice(connection: asyncpg.Connection, *names: str, deadline_s: float = 60.0) -> None:
    """Take the lock on a slice until the transaction ends: whoever writes the slice takes it first.

    Args:
        connection: A connection inside a transaction.
        names: What the slice is called, the same words for every writer: asset, scope, partition.
        deadline_s: Longest time to wait for who holds it, in seconds.

    Raises:
        PostgresError: Somebody else held it for too long; says who.
    """
    if not connection.is_in_transaction():
        raise PostgresError(
            "A slice can only be locked inside a transaction: the lock ends with it.",
            where=" / ".join(names),
            todo="Report it, with the traceback.",
        )
    where = f"slice {' / '.join(names)}"
    with scrubbing(where):
        key, timeout = await connection.fetchrow(
            "select pg_catalog.hashtextextended($1, 0), pg_catalog.current_setting('lock_timeout')",
            "\x1f".join(names),
        )
        if await connection.fetchval("select pg_catalog.pg_try_advisory_xact_lock($1)", key):
            return
        try:
            async with connection.transaction():  # a savepoint: the transaction lives on to ask who holds the lock
                await connection.execute(_SET_LOCK_TIMEOUT, f"{max(1, int(deadline_s * 1000))}ms")
                await supervised(
                    connection,
                    connection.execute("select pg_catalog.pg_advisory_xact_lock($1)", key),
                    deadline_s=deadline_s + 5,
                    doing=where,
                )
                await connection.execute(_SET_LOCK_TIMEOUT, timeout)
        except asyncpg.LockNotAvailableError:
            holder = await _holder(connection, key)
        else:
            return
    raise PostgresError(
        f"Another writer held the slice for more than {deadline_s:g} s: {holder}.",
        where=where,
        todo="Wait for it, or end it by pg_terminate_backend(pid) if its run is dead; then run again.",
        sqlstate="55P03",
        condition="LockNotAvailableError",
        transient=True,
    )


_SET_LOCK_TIMEOUT: Final = "select pg_catalog.set_config('lock_timeout', $1, true)"


async def _holder(connection: asyncpg.Connection, key: int) -> str:
    row = await connection.fetchrow(
        "select l.pid, a.application_name, a.state,"
        " extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::integer as seconds"
        " from pg_catalog.pg_locks as l left join pg_catalog.pg_stat_activity as a on a.pid = l.pid"
        " where l.locktype = 'advisory' and l.granted and l.classid = $1 and l.objid = $2 and l.objsubid = 1"
        " and l.database = (select d.oid from pg_catalog.pg_database as d"
        " where d.datname = pg_catalog.current_database())",
        (key >> 32) & 0xFFFFFFFF,
        key & 0xFFFFFFFF,
    )
    if row is None:
        return "it has just let go"
    name = row["application_name"] or "an unnamed application"
    age = "" if row["seconds"] is None else f", in a transaction for {row['seconds']} s"
    return f"{name} (process {row['pid']}, {row['state'] or 'state not visible to this role'}{age})"


async def read_batches(
    connection: asyncpg.Connection,
    query: str,
    *args: Any,
    batch_rows: int = 10_000,
    schema: pa.Schema | None = None,
) -> AsyncGenerator[pa.RecordBatch, None]:
    """Rows of a query as Arrow batches, from a cursor on the server: memory holds one batch at a time.

    Args:
        connection: An open connection; a transaction is opened for the cursor if there is none.
        query: One statement that returns rows.
        args: Its parameters.
        batch_rows: Rows in a batch.
        schema: Types of the columns, in their order. Without it they follow from the query; a numeric then
            becomes text, because the server does not say how many digits it may have.

    Yields:
        At least one batch, so that the types are known even if there is no row.

    Raises:
        ConversionError: A type has no counterpart in Arrow.
        PostgresError: The server refused or went away.
    """
    where = "reading rows"
    transaction = None
    if not connection.is_in_transaction():
        transaction = connection.transaction(readonly=True)
        with scrubbing(where):
            await transaction.start()
    try:
        with scrubbing(where):
            statement = await connection.prepare(query)
            cursor = await statement.cursor(*args)
        if schema is None:
            schema = pa.schema([_result_field(attribute) for attribute in statement.get_attributes()])
        rows: list[Any] = []
        first = True
        while first or len(rows) == batch_rows:
            with scrubbing(where):
                rows = await cursor.fetch(batch_rows)
            if rows or first:
                yield _batch(rows, schema)
            first = False
    finally:
        if transaction is not None and not connection.is_closed():
            with scrubbing(where):
                await transaction.rollback()


def _result_field(attribute: asyncpg.Attribute) -> pa.Field:
    kind = attribute.type.name
    if attribute.type.kind == "array":  # asyncpg calls int4's array `int4[]`, the catalog `_int4`
        kind = f"_{kind.removesuffix('[]')}"
    elif attribute.type.schema != "pg_catalog" and attribute.type.kind == "scalar":
        kind = "enum"  # asyncpg gives values of types made by users as text
    return pa.field(attribute.name, arrow_type(Column(attribute.name, kind, attribute.type.name)))


def _batch(rows: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = []
    for described, values in zip(schema, columns, strict=True):
        if pa.types.is_large_string(described.type):
            values = [value if isinstance(value, str | bytes | None) else _as_text(value) for value in values]
        arrays.append(pa.array(values, described.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as_text(value: Any) -> str:
    """A numeric in full, without an exponent; anything else as it writes itself."""
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)
