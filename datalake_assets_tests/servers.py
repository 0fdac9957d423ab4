"""PostgreSQL for tests: one real server per test session, and an empty database for whoever asks.

`LAKE_TEST_DSN` names a server to use instead of the embedded one; its role must be allowed to create databases.
A conftest takes the fixtures over by name: `import database, postgres_server, reused_database`.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pydantic import SecretStr

from datalake_assets.storage.embedded import EmbeddedPostgres, drop_database, ensure_database
from datalake_assets.storage.postgres import PostgresAddress, session


def address_from(dsn: str) -> PostgresAddress:
    """The address that a libpq URL describes."""
    parts = urlsplit(dsn)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return PostgresAddress(
        host=options.get("host") or parts.hostname or "localhost",
        port=int(options.get("port") or parts.port or 5432),
        database=unquote(parts.path.removeprefix("/")) or "postgres",
        user=unquote(parts.username or "postgres"),
        password=SecretStr(unquote(parts.password or "")),
        sslmode=options.get("sslmode"),
        ca=options.get("sslrootcert"),
    )


@contextmanager
def open_folder(*, in_memory: bool = True) -> Iterator[Path]:
    """A temporary folder with a short name that every account may enter, unlike pytest's own.

    Args:
        in_memory: Prefer a disk in memory; more than a gigabyte belongs on a real one.
    """
    folder = Path(tempfile.mkdtemp(prefix="lake-", dir=_memory_disk() if in_memory else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _memory_disk() -> str | None:
    """A roomy file system in memory, where there is one that programs may be started from."""
    disk = Path("/dev/shm")
    if not disk.is_dir() or not os.access(disk, os.W_OK):
        return None
    status = os.statvfs(disk)
    roomy = status.f_bavail * status.f_frsize > 4 * 2**30
    return str(disk) if roomy and not status.f_flag & os.ST_NOEXEC else None


@contextmanager
def running_server(*, in_memory: bool = True) -> Iterator[PostgresAddress]:
    """A server of its own, or the one that `LAKE_TEST_DSN` names.

    Args:
        in_memory: Prefer a disk in memory; more than a gigabyte belongs on a real one.
    """
    if dsn := os.environ.get("LAKE_TEST_DSN"):
        yield address_from(dsn)
        return
    with open_folder(in_memory=in_memory) as folder, EmbeddedPostgres(folder / "pg") as address:
        asyncio.run(_forget_durability(address))
        yield address


async def _forget_durability(address: PostgresAddress) -> None:
    """What a test writes need not survive a power cut; waiting for the disk is most of what tests would do."""
    async with session(address, application_name="tests") as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await connection.execute(f"alter system set {setting} = off")
        await connection.execute("select pg_reload_conf()")


@contextmanager
def fresh_database(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database, dropped with all its sessions at the end of the block."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    asyncio.run(ensure_database(server, name))
    try:
        yield server.with_database(name)
    finally:
        asyncio.run(drop_database(server, name))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresAddress]:
    with running_server() as address:
        yield address


@pytest.fixture(scope="session")
def reused_database(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres_server) as address:
        yield address


@pytest.fixture
def database(reused_database: PostgresAddress) -> PostgresAddress:
    """An empty database: one for all tests, because making one takes longer than most tests, emptied before each."""
    asyncio.run(_empty(reused_database))
    return reused_database


async def _empty(address: PostgresAddress) -> None:
    async with session(address, application_name="tests") as connection:
        await connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        schemas = await connection.fetch(
            "select quote_ident(nspname) from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'"
        )
        await connection.execute(f"drop schema {', '.join(row[0] for row in schemas)} cascade; create schema public")
