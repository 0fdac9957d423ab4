"""Addresses, connections, scrubbed errors, COPY under faults, slice locks and reading, against a real server."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import psycopg2
import psycopg2.extensions
import pyarrow as pa
import pytest
import trustme
from pydantic import SecretStr
from sqlalchemy import make_url

from datalake_assets.errors import DatalakeError
from datalake_assets.storage.postgres import (
    PostgresAddress,
    PostgresError,
    connect,
    copy_batches,
    copy_records,
    lock_slice,
    read_batches,
    run_to_end,
    scrubbed,
    scrubbing,
    session,
    supervised,
)
from datalake_assets.storage.postgres_types import ConversionError
from datalake_assets_tests.storage.proxy import proxied

pytestmark = pytest.mark.anyio

CANARY = "123-45-6789"


@pytest.fixture
async def connection(database: PostgresAddress) -> AsyncIterator[asyncpg.Connection]:
    async with session(database, application_name="test") as opened:
        yield opened


@asynccontextmanager
async def second(address: PostgresAddress, name: str = "second") -> AsyncIterator[asyncpg.Connection]:
    async with session(address, application_name=name) as opened:
        yield opened


class OddError(Exception):
    """What a source may raise."""


def everything_said(error: BaseException) -> str:
    """What any log or UI could show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))


def address(**changes: Any) -> PostgresAddress:
    values: dict[str, Any] = {"host": "db.example.edu", "port": 5432, "database": "lake", "user": "loader"}
    return PostgresAddress(**(values | {"password": SecretStr(CANARY)} | changes))


# ------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("host", "sslmode"),
    [
        ("db.example.edu", "verify-full"),
        ("10.0.0.7", "verify-full"),
        ("2001:db8::1", "verify-full"),
        ("localhost", "disable"),
        ("127.0.0.53", "disable"),
        ("::1", "disable"),
        ("/var/run/postgresql", "disable"),
    ],
)
def test_traffic_that_leaves_the_machine_is_verified_by_default(host: str, sslmode: str) -> None:
    assert address(host=host).sslmode == sslmode


def test_a_wrong_sslmode_is_refused() -> None:
    """`allow` would be taken for encryption and is none."""
    with pytest.raises(PostgresError, match="must be one of disable, prefer, require, verify-full"):
        address(sslmode="allow")


def test_an_address_never_shows_its_password() -> None:
    assert CANARY not in repr(address()) + str(address()) + f"{address()}"


@pytest.mark.parametrize("host", ["db.example.edu", "2001:db8::1", "/var/run/a folder"])
def test_a_url_survives_every_character(host: str) -> None:
    odd = address(host=host, user="a:b@c/d", password=SecretStr("p@ss/w:rd%20 é?#"), database="la ke/1?")
    for read in (psycopg2.extensions.parse_dsn(odd.url("postgresql")), make_url(odd.url()).translate_connect_args()):
        assert read.get("user", read.get("username")) == "a:b@c/d"
        assert read["password"] == "p@ss/w:rd%20 é?#"
        assert read.get("dbname", read.get("database")) == "la ke/1?"
    parsed = psycopg2.extensions.parse_dsn(odd.url("postgresql"))
    assert parsed["host"] == host
    assert parsed["port"] == "5432"
    assert parsed.get("sslmode") == (None if host.startswith("/") else "verify-full")


def test_a_url_opens_the_database(database: PostgresAddress) -> None:
    opened = psycopg2.connect(database.url("postgresql"))
    assert opened.info.dbname == database.database
    opened.close()


# ---------------------------------------------------------------------------------------------- connections


async def test_a_session_is_set_up_for_the_lake(connection: asyncpg.Connection) -> None:
    settings = {
        name: await connection.fetchval("select current_setting($1)", name)
        for name in (
            "application_name",
            "TimeZone",
            "search_path",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
        )
    }
    assert settings == {
        "application_name": "test",
        "TimeZone": "UTC",
        "search_path": "",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "10min",
    }
    assert await connection.fetchval("select count(*) from pg_prepared_statements") == 0


async def test_an_application_name_is_given_as_the_server_keeps_it(database: PostgresAddress) -> None:
    async with second(database, "é" + "x" * 100) as opened:
        assert await opened.fetchval("select current_setting('application_name')") == "?" + "x" * 62


async def test_json_travels_as_bytes_both_ways(connection: asyncpg.Connection) -> None:
    document = '{"n": 1.50, "s": "é"}'.encode()
    assert await connection.fetchval("select $1::jsonb", document) == document


async def test_a_session_leaves_nothing_behind_after_an_error(
    database: PostgresAddress, connection: asyncpg.Connection
) -> None:

    async def fail() -> None:
        async with second(database, "left behind") as opened:
            await opened.execute("begin; select pg_advisory_lock(1)")
            raise OddError

    with pytest.raises(OddError):
        await fail()
    assert await sessions(connection, "left behind", expected=0) == 0


async def sessions(connection: asyncpg.Connection, name: str, *, expected: int, within_s: float = 5.0) -> int:
    """Sessions of an application, once they are as many as expected or time is up."""
    end = time.monotonic() + within_s
    while True:
        found = await connection.fetchval("select count(*) from pg_stat_activity where application_name = $1", name)
        if found == expected or time.monotonic() > end:
            return int(found)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "sentence", "sqlstate", "transient"),
    [
        ({"password": SecretStr("wrong")}, "The password was refused", "28P01", False),
        ({"user": "nobody else"}, "The password was refused", "28P01", False),
        ({"database": "nowhere"}, "The database does not exist", "3D000", False),
        ({"host": "/nonexistent"}, "does not exist", "", True),
        ({"host": "name.invalid", "sslmode": "disable"}, "The server cannot be reached", "", True),
    ],
)
async def test_a_door_that_stays_shut_says_why(
    database: PostgresAddress, changes: dict[str, Any], sentence: str, sqlstate: str, transient: bool
) -> None:
    with pytest.raises(PostgresError, match=sentence) as caught:
        await connect(replace(database, **changes), application_name="test")
    assert (caught.value.sqlstate, caught.value.transient) == (sqlstate, transient)
    assert caught.value.where
    assert caught.value.todo
    assert database.password.get_secret_value() not in everything_said(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_closed_port_and_a_silent_server_say_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = address(host="127.0.0.1", port=listener.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(PostgresError, match=r"did not answer within 0.5 s") as caught:
            await connect(silent, application_name="test", deadline_s=0.5)
        assert time.monotonic() - started < 2
        assert caught.value.transient
    with pytest.raises(PostgresError, match="cannot be reached"):
        await connect(silent, application_name="test")


async def test_a_full_server_says_so(database: PostgresAddress, connection: asyncpg.Connection) -> None:
    role = f"limited_{os.getpid()}"
    await connection.execute(f"create role {role} login password 'x' connection limit 1")
    try:
        limited = replace(database, user=role, password=SecretStr("x"))
        async with second(limited):
            with pytest.raises(PostgresError, match="no connection left") as caught:
                await connect(limited, application_name="test")
        assert caught.value.sqlstate == "53300"
        assert caught.value.transient
    finally:
        await connection.execute(f"drop role {role}")


async def test_a_server_that_is_too_old_is_refused(database: PostgresAddress) -> None:
    """The proxy rewrites what the server says of its version; everything else is real."""

    def older(data: bytes) -> bytes:
        start = data.find(b"server_version\0")
        if start < 0:
            return data
        start += len(b"server_version\0")
        end = data.index(b"\0", start)
        return data[:start] + b"13.9".ljust(end - start) + data[end:]

    async with proxied(database, to_client=older) as old:
        with pytest.raises(PostgresError, match="runs PostgreSQL 13; the lake needs 14 or later"):
            await connect(old, application_name="test")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def file_of(certificate: trustme.Blob, folder: Path) -> str:
    path = folder / "ca.pem"
    certificate.write_to_path(str(path))
    return str(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_verified_connection_needs_the_right_name_and_authority(
    database: PostgresAddress, authority: trustme.CA, tmp_path: Path
) -> None:
    ca = file_of(authority.cert_pem, tmp_path)
    right = server_context(authority.issue_cert("127.0.0.1"))
    async with proxied(database, tls=right, tcp=True) as tls:
        async with second(replace(tls, sslmode="verify-full", ca=ca)) as opened:
            assert await opened.fetchval("select 1") == 1
        async with second(replace(tls, sslmode="require")) as opened:
            assert await opened.fetchval("select 1") == 1
        with pytest.raises(PostgresError, match="certificate was not accepted"):
            await connect(replace(tls, sslmode="verify-full"), application_name="test")
    (tmp_path / "other").mkdir()
    async with proxied(database, tls=right, tcp=True) as tls:
        other = file_of(trustme.CA().cert_pem, tmp_path / "other")
        for sslmode in ("verify-full", "require"):
            with pytest.raises(PostgresError, match="certificate was not accepted"):
                await connect(replace(tls, sslmode=sslmode, ca=other), application_name="test")
    async with proxied(database, tls=server_context(authority.issue_cert("db.example.edu")), tcp=True) as tls:
        with pytest.raises(PostgresError, match=r"certificate was not accepted.*mismatch"):
            await connect(replace(tls, sslmode="verify-full", ca=ca), application_name="test")


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(database: PostgresAddress) -> None:
    async with proxied(database, tcp=True) as plain:
        for sslmode in ("require", "verify-full"):
            with pytest.raises(PostgresError, match="does not offer TLS"):
                await connect(replace(plain, sslmode=sslmode), application_name="test")
        async with second(replace(plain, sslmode="prefer")) as opened:
            assert await opened.fetchval("select 1") == 1


async def test_a_missing_authority_is_named(database: PostgresAddress) -> None:
    with pytest.raises(PostgresError, match="POSTGRES_CA, does not exist"):
        await connect(address(host="127.0.0.1", sslmode="verify-full", ca="/nonexistent.pem"), application_name="test")


async def test_the_environment_does_not_reach_the_connection(
    database: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg reads libpq's variables for whatever it is not told."""
    for name, value in {
        "PGSSLMODE": "verify-full",
        "PGPASSWORD": "x",
        "PGTARGETSESSIONATTRS": "standby",
        "PGHOST": "name.invalid",
        "PGSERVICE": "nowhere",
        "PGSSLNEGOTIATION": "direct",
    }.items():
        monkeypatch.setenv(name, value)
    async with second(database) as opened:
        assert await opened.fetchval("select 1") == 1


# --------------------------------------------------------------------------------------------------- errors

RAISE = f"do $$ begin raise exception 'row {CANARY}' using detail = '{CANARY}', errcode = '42501'; end $$"
LEAKY = [
    ("insert into public.person values (1, $1)", (CANARY,), "23505", "constraint person_pkey"),
    ("insert into public.person values (2, null)", (), "23502", "column ssn"),
    (f"insert into public.person values (3, '{CANARY}{CANARY}')", (), "22001", ""),
    (f"select '{CANARY}'::integer", (), "22P02", ""),
    ("select $1::text::integer", (CANARY,), "22P02", ""),
    ("select $1::integer", (CANARY,), "22000", ""),
    (f"insert into public.visit values ('{CANARY}')", (), "23503", "constraint visit_ssn_fkey"),
    (RAISE, (), "42501", ""),
    (f'select \'{{"a": "{CANARY}\\u0000"}}\'::jsonb', (), "22P05", ""),
    (f"select '{{\"a\": {CANARY}'::jsonb", (), "22P02", ""),
]


@pytest.mark.parametrize(("query", "args", "sqlstate", "named"), LEAKY)
async def test_an_error_never_quotes_a_row_or_a_parameter(
    connection: asyncpg.Connection, query: str, args: tuple[Any, ...], sqlstate: str, named: str
) -> None:
    """PostgreSQL writes `Failing row contains (…)`, and Dagster would show it in its event log."""
    await connection.execute(
        "create table public.person (id integer primary key, ssn varchar(11) not null unique);"
        " create table public.visit (ssn varchar(11) references public.person (ssn));"
        f" insert into public.person values (1, '{CANARY[:-1]}0')"
    )
    with pytest.raises(PostgresError) as caught, scrubbing("loading people"):
        await connection.execute(query, *args)
    error = caught.value
    shown = everything_said(error).replace(query, "")
    assert CANARY not in shown
    assert CANARY[:-1] not in shown
    assert error.sqlstate == sqlstate
    assert named in error.where
    assert "loading people" in error.where
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert not error.transient


async def test_an_error_about_names_repeats_them(connection: asyncpg.Connection) -> None:
    with pytest.raises(PostgresError, match='PostgreSQL says: column "wrong" does not exist') as caught, scrubbing():
        await connection.execute("select wrong from pg_catalog.pg_class")
    assert caught.value.condition == "UndefinedColumnError"


async def test_a_missing_privilege_is_said_plainly(database: PostgresAddress, connection: asyncpg.Connection) -> None:
    role = f"reader_{os.getpid()}"
    await connection.execute(f"create role {role} login password 'x'; create table public.guarded (a integer)")
    try:
        async with second(replace(database, user=role, password=SecretStr("x"))) as reader:
            with pytest.raises(PostgresError, match=r"lacks a privilege.*permission denied for") as caught, scrubbing():
                await reader.execute("insert into public.guarded values (1)")
        assert (caught.value.sqlstate, caught.value.transient) == ("42501", False)
        with pytest.raises(PostgresError, match="table does not exist"), scrubbing():
            await connection.execute("table public.missing")
    finally:
        await connection.execute(f"drop role {role}")


async def test_what_may_pass_by_itself_is_transient(database: PostgresAddress, connection: asyncpg.Connection) -> None:
    await connection.execute(
        "create table public.contended (id integer primary key); insert into public.contended values (1), (2)"
    )

    async def fails_with(sqlstate: str, opened: asyncpg.Connection, query: str) -> None:
        with pytest.raises(PostgresError) as caught, scrubbing():
            await opened.execute(query)
        assert (caught.value.sqlstate, caught.value.transient) == (sqlstate, True)

    async with second(database) as other:
        await fails_with("25006", other, "begin read only; insert into public.contended values (3)")
        await other.execute("rollback")
        async with connection.transaction():
            await connection.execute("lock table public.contended")
            await fails_with("55P03", other, "set lock_timeout = '50ms'; table public.contended")
        await fails_with("57014", other, "set statement_timeout = '50ms'; select pg_sleep(5)")
        pid = other.get_server_pid()
        await connection.execute("select pg_terminate_backend($1, 5000)", pid)
        with pytest.raises(PostgresError, match="connection") as caught, scrubbing():
            await other.execute("select 1")
        assert caught.value.transient


async def test_a_deadlock_is_transient_and_leaves_one_winner(
    database: PostgresAddress, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "create table public.pair (id integer primary key, n integer); insert into public.pair values (1, 0), (2, 0)"
    )

    async def cross(first: int, then: int, barrier: asyncio.Barrier) -> None:
        async with second(database) as opened:
            await opened.execute("set deadlock_timeout = '50ms'")
            with scrubbing():
                async with opened.transaction():
                    await opened.execute("update public.pair set n = n + 1 where id = $1", first)
                    await barrier.wait()
                    await opened.execute("update public.pair set n = n + 1 where id = $1", then)

    barrier = asyncio.Barrier(2)
    ends = await asyncio.gather(cross(1, 2, barrier), cross(2, 1, barrier), return_exceptions=True)
    (loser,) = [end for end in ends if end is not None]
    assert isinstance(loser, PostgresError)
    assert (loser.sqlstate, loser.transient) == ("40P01", True)
    assert await connection.fetchval("select sum(n) from public.pair") == 2


def test_an_error_of_the_driver_is_not_quoted() -> None:
    for error in (asyncpg.InterfaceError(f"odd {CANARY}"), asyncpg.InternalClientError(CANARY), ValueError(CANARY)):
        assert CANARY not in everything_said(scrubbed(error, "somewhere"))


def test_our_own_errors_pass_unchanged() -> None:
    ours = DatalakeError("Ours.")
    with pytest.raises(DatalakeError) as caught, scrubbing("elsewhere"):
        raise ours
    assert caught.value is ours


# ----------------------------------------------------------------------------------------------------- COPY


async def test_records_are_copied_and_counted(connection: asyncpg.Connection) -> None:
    await connection.execute("create temporary table landed (id integer, document jsonb, digest bytea, tags text[])")
    rows = [(n, b'{"n": 1}' if n % 2 else None, bytes([n % 256]) * 16, ["a", "b"]) for n in range(2_345)]
    names = ("id", "document", "digest", "tags")
    assert await copy_records(connection, "landed", names, iter(rows), deadline_s=30) == 2_345
    assert [tuple(row) for row in await connection.fetch("select * from pg_temp.landed order by id")] == rows
    assert await copy_records(connection, "landed", names, [], deadline_s=30, schema="pg_temp") == 0


async def test_a_table_is_found_by_its_schema_only(connection: asyncpg.Connection) -> None:
    """A search path would let a table of the same name elsewhere take the rows."""
    await connection.execute("create table public.target (id integer)")
    batch = pa.RecordBatch.from_pydict({"id": pa.array([1], pa.int32())})
    assert await copy_batches(connection, "target", ["id"], [batch], deadline_s=30, schema="public") == 1
    with pytest.raises(ConversionError, match="The table does not exist"):
        await copy_batches(connection, "target", ["id"], [batch], deadline_s=30)
    with pytest.raises(PostgresError, match="A table does not exist"):
        await copy_records(connection, "target", ["id"], [(1,)], deadline_s=30)
    with pytest.raises(ConversionError, match="no column other"):
        await copy_batches(connection, "target", ["id", "other"], [batch], deadline_s=30, schema="public")


async def test_a_value_that_does_not_fit_is_named_by_its_row(connection: asyncpg.Connection) -> None:
    await connection.execute("create temporary table landed (id integer, document jsonb)")
    rows: list[tuple[Any, Any]] = [(n, b"{}") for n in range(700)]
    with pytest.raises(PostgresError, match="row 701") as caught:
        await copy_records(connection, "landed", ["id", "document"], [*rows, (CANARY, b"{}")], deadline_s=30)
    assert CANARY not in everything_said(caught.value)
    rows[12] = (12, f'{{"ssn": "{CANARY}", '.encode())
    with pytest.raises(PostgresError, match="row 13 of the COPY, column document") as caught:
        await copy_records(connection, "landed", ["id", "document"], rows, deadline_s=30)
    assert CANARY not in everything_said(caught.value)
    assert caught.value.sqlstate == "22P02"
    with pytest.raises(PostgresError, match="another number of columns than 2"):
        await copy_records(connection, "landed", ["id", "document"], [(1,)], deadline_s=30)
    assert await connection.fetchval("select count(*) from pg_temp.landed") == 0


@pytest.mark.parametrize(
    "raised",
    [OddError("odd"), OddError("x" * 20_000), ValueError("odd"), ConnectionError("odd")],
    ids=lambda e: str(e)[:4],
)
async def test_an_error_of_the_source_comes_out_as_itself(connection: asyncpg.Connection, raised: Exception) -> None:
    """asyncpg once hung if the text of the error was longer than 9,995 bytes (issue 1354)."""
    await connection.execute("create temporary table landed (id integer)")

    def broken() -> Iterator[tuple[int]]:
        yield from ((n,) for n in range(50_000))  # more than one COPY command takes
        raise raised

    def broken_batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"id": pa.array(range(10), pa.int32())})
        raise raised

    for copying in (
        copy_records(connection, "landed", ["id"], broken(), deadline_s=10),
        copy_batches(connection, "landed", ["id"], broken_batches(), deadline_s=10),
    ):
        with pytest.raises(type(raised)) as caught:
            await copying
        assert caught.value is raised
        assert await connection.fetchval("select count(*) from pg_temp.landed") == 0


async def test_a_source_is_closed_when_the_copy_fails(connection: asyncpg.Connection) -> None:
    await connection.execute("create temporary table landed (id smallint)")
    closed = threading.Event()

    def rows() -> Iterator[tuple[int]]:
        try:
            yield from ((n,) for n in range(10_000_000))
        finally:
            closed.set()

    with pytest.raises(PostgresError):
        await copy_records(connection, "landed", ["id"], rows(), deadline_s=10)
    assert closed.wait(2)


def endless(pause_s: float = 0.0) -> Iterator[tuple[int, str]]:
    for number in range(10**9):
        if pause_s:
            time.sleep(pause_s)
        yield number, "x" * 200


def endless_batches() -> Iterator[pa.RecordBatch]:
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(10_000)), "filler": pa.array(["x" * 200] * 10_000)})
    while True:
        yield batch


@pytest.fixture
async def filled(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute("create table public.filled (id bigint, filler text)")
    return connection


async def copy_endlessly(opened: asyncpg.Connection, kind: str, deadline_s: float) -> int:
    """A COPY that only a fault can end."""
    if kind == "batches":
        return await copy_batches(
            opened, "filled", ["id", "filler"], endless_batches(), deadline_s=deadline_s, schema="public"
        )
    pause_s = 0.0005 if kind == "slow records" else 0.0
    return await copy_records(
        opened, "filled", ["id", "filler"], endless(pause_s), deadline_s=deadline_s, schema="public"
    )


KINDS = ["records", "slow records", "batches"]


async def copying_backend(watcher: asyncpg.Connection) -> int:
    """The server process that copies, once it does."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if pid := await watcher.fetchval("select pid from pg_stat_progress_copy where tuples_processed >= 0"):
            return int(pid)
        await asyncio.sleep(0.02)
    raise AssertionError("nothing copies")


@pytest.mark.parametrize("kind", ["records", "batches"])
async def test_a_frozen_server_process_ends_a_copy_at_the_deadline(
    database: PostgresAddress, filled: asyncpg.Connection, kind: str
) -> None:
    """asyncpg's own timeout waits for ever once its write buffer is full (D4)."""
    if not database.is_socket:
        pytest.skip("freezing a server process needs a server on this machine")
    async with second(database, "frozen") as opened:
        task = asyncio.ensure_future(copy_endlessly(opened, kind, 1.5))
        pid = await copying_backend(filled)
        started = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(PostgresError, match=r"Time was up after 1.5 s.*copying into public.filled") as caught:
                await task
        finally:
            os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - started < 2.5
        assert caught.value.transient
        assert opened.is_closed()
    assert await sessions(filled, "frozen", expected=0) == 0
    assert await filled.fetchval("select count(*) from public.filled") == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_terminated_server_process_is_noticed_within_two_seconds(
    database: PostgresAddress, filled: asyncpg.Connection, kind: str
) -> None:
    """A source that is slow would otherwise be drawn to its end, a full buffer waited for without end (D2)."""
    async with second(database, "terminated") as opened:
        task = asyncio.ensure_future(copy_endlessly(opened, kind, 30))
        pid = await copying_backend(filled)
        started = time.monotonic()
        await filled.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises(PostgresError) as caught:
            await task
        assert time.monotonic() - started < 2
        assert caught.value.transient
    assert await filled.fetchval("select count(*) from public.filled") == 0


async def test_a_cancelled_copy_is_transient_and_leaves_the_connection_usable(
    database: PostgresAddress, filled: asyncpg.Connection
) -> None:
    """An operator's pg_cancel_backend, which asyncpg would only notice once the source is empty (D3)."""
    async with second(database) as opened:
        task = asyncio.ensure_future(copy_endlessly(opened, "records", 30))
        pid = await copying_backend(filled)
        while not task.done():  # one that falls between two COPY commands finds nothing to cancel
            await filled.execute("select pg_cancel_backend($1)", pid)
            await asyncio.wait({task}, timeout=0.2)
        with pytest.raises(PostgresError, match="cancelled") as caught:
            await task
        assert (caught.value.sqlstate, caught.value.transient) == ("57014", True)
        assert await opened.fetchval("select count(*) from public.filled") == 0


async def test_a_source_that_never_answers_does_not_hold_the_deadline(
    database: PostgresAddress, filled: asyncpg.Connection
) -> None:
    release = threading.Event()

    def stuck() -> Iterator[tuple[int, str]]:
        yield 1, "x"
        release.wait(20)

    async with second(database) as opened:
        started = time.monotonic()
        with pytest.raises(PostgresError, match=r"Time was up after 0.5 s"):
            await copy_records(opened, "filled", ["id", "filler"], stuck(), deadline_s=0.5, schema="public")
        assert time.monotonic() - started < 3
    release.set()
    assert await filled.fetchval("select count(*) from public.filled") == 0


async def test_a_cancelled_task_takes_its_copy_along(database: PostgresAddress, filled: asyncpg.Connection) -> None:
    async with second(database, "given up") as opened:
        task = asyncio.ensure_future(copy_endlessly(opened, "batches", 30))
        await copying_backend(filled)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert opened.is_closed()
    assert await sessions(filled, "given up", expected=0) == 0
    assert await filled.fetchval("select count(*) from public.filled") == 0


async def test_a_killed_loader_leaves_nothing(database: PostgresAddress, filled: asyncpg.Connection) -> None:
    """kill -9 of the run worker in the middle of a COPY (D1)."""
    code = textwrap.dedent("""
        import asyncio, os
        from pydantic import SecretStr
        from datalake_assets.storage.postgres import PostgresAddress, copy_records, session

        async def main():
            address = PostgresAddress(os.environ["H"], int(os.environ["P"]), os.environ["D"], os.environ["U"],
                                      SecretStr(os.environ["W"]))
            async with session(address, application_name="killed") as connection:
                rows = ((n, "x" * 200) for n in range(10**9))
                await copy_records(connection, "filled", ["id", "filler"], rows, deadline_s=60, schema="public")

        asyncio.run(main())
    """)
    known = {
        "H": database.host,
        "P": str(database.port),
        "D": database.database,
        "U": database.user,
        "W": database.password.get_secret_value(),
    }
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **known}, cwd=Path(__file__).parents[2])
    try:
        await copying_backend(filled)
    finally:
        worker.kill()
        worker.wait()
    assert await sessions(filled, "killed", expected=0) == 0
    assert await filled.fetchval("select count(*) from public.filled") == 0


@contextmanager
def small_disk(folder: Path, owner: int) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small disk needs the right to mount")
    try:
        inside = folder / "space"
        inside.mkdir(mode=0o700)
        os.chown(inside, owner, owner)
        yield inside
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_is_not_transient_and_changes_nothing(
    database: PostgresAddress, connection: asyncpg.Connection
) -> None:
    """A retry storm would only fill the disk again (D9)."""
    if os.geteuid() != 0 or not database.is_socket:
        pytest.skip("a small disk needs root, and a server on this machine")
    server = Path(database.host)
    with small_disk(server.parent.parent / "small", server.stat().st_uid) as space:
        await connection.execute(f"create tablespace small location '{space}'")
        await connection.execute("create table public.tight (id bigint, filler text) tablespace small")
        await connection.execute("insert into public.tight values (1, 'kept')")
        with pytest.raises(PostgresError, match="disk of the server is full") as caught:
            await copy_batches(connection, "tight", ["id", "filler"], endless_batches(), deadline_s=30, schema="public")
        assert (caught.value.sqlstate, caught.value.transient) == ("53100", False)
        assert await connection.fetchval("select count(*) from public.tight") == 1
        await connection.execute("drop table public.tight")
        await connection.execute("drop tablespace small")


async def test_any_statement_can_be_watched(database: PostgresAddress, connection: asyncpg.Connection) -> None:
    async with second(database, "watched") as opened:
        started = time.monotonic()
        with pytest.raises(PostgresError, match=r"Time was up.*Where: sleeping"):
            await supervised(opened, opened.execute("select pg_sleep(30)"), deadline_s=0.3, doing="sleeping")
        assert time.monotonic() - started < 2
    assert await sessions(connection, "watched", expected=0, within_s=2) == 0
    assert await supervised(connection, connection.fetchval("select 1"), deadline_s=5, doing="counting") == 1


async def test_ordinary_code_below_an_event_loop_can_still_run_a_coroutine(database: PostgresAddress) -> None:
    async def ask() -> int:
        async with second(database) as opened:
            return int(await opened.fetchval("select 42"))

    assert run_to_end(ask()) == 42
    assert await asyncio.to_thread(run_to_end, ask()) == 42
    with pytest.raises(OddError):
        run_to_end(fail_oddly())


async def fail_oddly() -> None:
    raise OddError


# ---------------------------------------------------------------------------------------------------- locks


async def test_two_writers_of_one_slice_go_one_after_the_other(
    database: PostgresAddress, connection: asyncpg.Connection
) -> None:
    """Without the lock both find nothing of the other and insert everything twice (D13)."""
    await connection.execute("create table public.slice (id integer)")

    async def load() -> None:
        async with second(database) as opened, opened.transaction():
            await lock_slice(opened, "slice", "2026-01-01")
            await opened.execute("delete from public.slice")
            await asyncio.sleep(0.05)
            await opened.execute("insert into public.slice select generate_series(1, 100)")

    await asyncio.gather(*(load() for _ in range(4)))
    assert await connection.fetchval("select count(*) from public.slice") == 100


async def test_a_slice_held_too_long_says_by_whom(database: PostgresAddress) -> None:
    async with second(database, "run 4711") as holder, second(database, "run 4712") as waiter:
        async with holder.transaction():
            await lock_slice(holder, "term_raw.term_data", "2026-01-01")
            async with waiter.transaction():
                started = time.monotonic()
                with pytest.raises(PostgresError) as caught:
                    await lock_slice(waiter, "term_raw.term_data", "2026-01-01", deadline_s=0.3)
                assert time.monotonic() - started < 2
                assert f"run 4711 (process {holder.get_server_pid()}, idle in transaction" in str(caught.value)
                assert "term_raw.term_data / 2026-01-01" in caught.value.where
                assert caught.value.transient
                # The transaction lives on, and other slices are free.
                await lock_slice(waiter, "term_raw.term_data", "2026-01-02", deadline_s=0.3)
                assert await waiter.fetchval("select current_setting('lock_timeout')") == "30s"
        async with waiter.transaction():
            await lock_slice(waiter, "term_raw.term_data", "2026-01-01", deadline_s=0.3)


async def test_a_lock_waited_for_leaves_the_lock_timeout_as_it_was(database: PostgresAddress) -> None:
    async with second(database) as holder, second(database) as waiter:
        transaction = holder.transaction()
        await transaction.start()
        await lock_slice(holder, "a")
        asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(transaction.rollback()))
        async with waiter.transaction():
            await lock_slice(waiter, "a", deadline_s=5)
            assert await waiter.fetchval("select current_setting('lock_timeout')") == "30s"


async def test_names_of_slices_do_not_run_into_each_other(database: PostgresAddress) -> None:
    async with second(database) as first, second(database) as other, first.transaction(), other.transaction():
        await lock_slice(first, "a", "bc")
        await lock_slice(other, "ab", "c", deadline_s=0.2)


async def test_a_lock_outside_a_transaction_is_refused(connection: asyncpg.Connection) -> None:
    """It would be gone before the next statement."""
    with pytest.raises(PostgresError, match="only be locked inside a transaction"):
        await lock_slice(connection, "a")


# -------------------------------------------------------------------------------------------------- reading


async def test_rows_are_read_in_batches_from_a_cursor(connection: asyncpg.Connection) -> None:
    query = "select n, n::text as word from generate_series($1::integer, 25) as n"
    batches = [batch async for batch in read_batches(connection, query, 1, batch_rows=10)]
    assert [batch.num_rows for batch in batches] == [10, 10, 5]
    assert batches[0].schema == pa.schema([("n", pa.int32()), ("word", pa.large_string())])
    assert pa.Table.from_batches(batches).column("word").to_pylist() == [str(n) for n in range(1, 26)]
    assert not connection.is_in_transaction()


async def test_no_row_still_tells_the_types(connection: asyncpg.Connection) -> None:
    batches = [batch async for batch in read_batches(connection, "select 1::bigint as n where false")]
    assert [batch.num_rows for batch in batches] == [0]
    assert batches[0].schema == pa.schema([("n", pa.int64())])


async def test_a_numeric_of_unknown_digits_becomes_text_in_full(connection: asyncpg.Connection) -> None:
    query = "select 1e30::numeric + 0.5 as a, '{\"b\": 1.50}'::jsonb as b, array['x'] as c"
    (batch,) = [batch async for batch in read_batches(connection, query)]
    assert batch.to_pylist() == [{"a": "1" + "0" * 30 + ".5", "b": '{"b": 1.50}', "c": ["x"]}]


async def test_a_reader_that_stops_early_ends_its_transaction(connection: asyncpg.Connection) -> None:
    batches = read_batches(connection, "select generate_series(1, 100000)", batch_rows=10)
    async for _ in batches:
        break
    await batches.aclose()
    assert not connection.is_in_transaction()


async def test_a_query_that_fails_is_scrubbed(connection: asyncpg.Connection) -> None:
    with pytest.raises(PostgresError) as caught:
        async for _ in read_batches(connection, "select $1::text::integer", CANARY):
            pass
    assert CANARY not in everything_said(caught.value)
    assert not connection.is_in_transaction()
