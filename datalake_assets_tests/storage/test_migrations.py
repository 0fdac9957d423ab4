"""Plain SQL files become tables, once, in order, whole, and with a history that cannot be bent unnoticed."""

import asyncio
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from datalake_assets.storage.migrations import MigrationError, migrate, pending
from datalake_assets.storage.postgres import PostgresAddress, run_to_end, session

ROOT = Path(__file__).parents[2]
CANARY = "123-45-6789"
FIRST = "create schema a; create table a.one (n integer);"
SECOND = "insert into a.one values (1), (2);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "100% of it"  # a percent sign is special to alembic's configuration
    path.mkdir()
    write(path, {"0001_first.sql": FIRST, "0002_second.sql": SECOND})
    return path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", newline="")


def ask(address: PostgresAddress, query: str) -> Any:
    async def run() -> Any:
        async with session(address, application_name="test") as connection:
            return await connection.fetchval(query)

    return run_to_end(run())


def test_files_are_applied_in_order_once_and_recorded(database: PostgresAddress, folder: Path) -> None:
    assert pending(database, folder) == ["0001_first.sql", "0002_second.sql"]
    assert migrate(database, folder) == ["0001_first.sql", "0002_second.sql"]
    assert ask(database, "select sum(n) from a.one") == 3
    assert pending(database, folder) == []
    assert migrate(database, folder) == []
    write(folder, {"0003_third.sql": "alter table a.one add column s text"})
    assert migrate(database, folder) == ["0003_third.sql"]
    assert ask(database, "select string_agg(file, ' ' order by number) from ops.migration") == (
        "0001_first.sql 0002_second.sql 0003_third.sql"
    )
    assert ask(database, "select version_num from ops.alembic_version") == "0003"
    assert ask(database, "select sum(n) from a.one") == 3


def test_the_project_s_own_migrations_apply(database: PostgresAddress) -> None:
    folder = ROOT / "sql" / "migrations"
    assert migrate(database, folder) == sorted(path.name for path in folder.glob("*.sql"))


def test_nothing_to_do_is_found_quickly_and_without_alembic(database: PostgresAddress, folder: Path) -> None:
    """Every start of the parent command asks."""
    migrate(database, folder)
    started = time.monotonic()
    assert migrate(database, folder) == []
    assert time.monotonic() - started < 0.3
    code = f"""
        import sys
        from pathlib import Path
        from pydantic import SecretStr
        from datalake_assets.storage.migrations import migrate
        from datalake_assets.storage.postgres import PostgresAddress
        address = PostgresAddress({database.host!r}, {database.port}, {database.database!r}, {database.user!r},
                                  SecretStr(sys.stdin.read()))
        assert migrate(address, Path({str(folder)!r})) == []
        print(sorted({{"alembic", "sqlalchemy", "psycopg2"}} & set(sys.modules)))
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        input=database.password.get_secret_value(),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert finished.stdout.strip() == "[]"


def test_of_two_at_once_one_works_and_the_other_finds_nothing_to_do(database: PostgresAddress, folder: Path) -> None:
    write(folder, {"0003_slow.sql": "select pg_catalog.pg_sleep(0.5); insert into a.one values (7);"})
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: migrate(database, folder), range(4)))
    assert sorted(map(len, results)) == [0, 0, 0, 3]
    assert ask(database, "select count(*) from a.one where n = 7") == 1


def test_it_works_below_a_running_event_loop(database: PostgresAddress, folder: Path) -> None:
    async def run() -> list[str]:
        return migrate(database, folder)

    assert len(asyncio.run(run())) == 2


FAILING = [
    ("select 1;\n\nselect\n    wrong\nfrom a.one;", 4, 'column "wrong" does not exist'),
    ("-- a; comment\n\ncreate table a.one (n integer);", 3, 'relation "one" already exists'),
    ("insert into a.one values (1);\nselec 1;", 2, 'syntax error at or near "selec"'),
    ("select 1;\n/* one /* two; */ ; */\ndo $$ begin\n raise exception 'no'; end $$;", 3, "SQLSTATE P0001"),
    ("\n\ninsert into one values (1)", 3, 'relation "one" does not exist'),
]


@pytest.mark.parametrize(("text", "line", "said"), FAILING, ids=[said for _, _, said in FAILING])
def test_a_failing_statement_is_named_by_file_and_line(
    database: PostgresAddress, folder: Path, text: str, line: int, said: str
) -> None:
    write(folder, {"0003_wrong.sql": text, "0004_never.sql": "select 1;"})
    with pytest.raises(MigrationError) as caught:
        migrate(database, folder)
    assert caught.value.where == f"0003_wrong.sql, line {line}"
    assert said in caught.value.what
    # What came before stays, what failed left nothing, and mending it is enough.
    assert pending(database, folder) == ["0003_wrong.sql", "0004_never.sql"]
    assert ask(database, "select count(*) from a.one") == 2
    write(folder, {"0003_wrong.sql": "select 1;"})
    assert migrate(database, folder) == ["0003_wrong.sql", "0004_never.sql"]


def test_a_failing_statement_does_not_show_rows(database: PostgresAddress, folder: Path) -> None:
    write(folder, {"0003_third.sql": f"insert into a.one values ('{CANARY}');"})
    with pytest.raises(MigrationError) as caught:
        migrate(database, folder)
    assert CANARY not in str(caught.value)
    write(folder, {"0003_third.sql": "insert into a.one values (1); create unique index on a.one (n);"})
    with pytest.raises(MigrationError, match=r"Two rows have the same key. \(UniqueViolation, SQLSTATE 23505\)"):
        migrate(database, folder)


HARD = """
create function a.f() returns text language plpgsql as $body$
begin
    return 'x;y' || ':not_a_parameter' || '%s'; -- it's; fine
end
$body$;
create function a.g(n integer) returns integer begin atomic
    select case when n = 1 then 2; else 3 end;
    select n;
end;
create table a.";odd""name" (b text default e'it\\'s; $1');
create function a.h() returns text language sql as $$ select 'end;' $$;
;;
"""


def test_semicolons_end_statements_only_where_they_do(database: PostgresAddress, folder: Path) -> None:
    write(folder, {"0003_hard.sql": HARD.replace("then 2; else", "then 2 else")})
    assert migrate(database, folder) == ["0001_first.sql", "0002_second.sql", "0003_hard.sql"]
    assert ask(database, "select a.f()") == "x;y:not_a_parameter%s"
    assert ask(database, "select a.g(5)") == 5
    assert ask(database, "select count(*) from pg_tables where tablename = ';odd\"name'") == 1


@pytest.mark.parametrize("word", ["begin", "COMMIT", "start transaction", "rollback"])
def test_a_file_may_not_end_its_transaction(database: PostgresAddress, folder: Path, word: str) -> None:
    """The first half would stay when the second fails."""
    write(folder, {"0003_own.sql": f"drop table a.one;\n{word};\n"})
    with pytest.raises(MigrationError, match=r"may not begin or end transactions.*0003_own.sql, line 2"):
        migrate(database, folder)
    assert ask(database, "select count(*) from a.one") == 2


def test_what_cannot_run_in_a_transaction_is_refused_by_name(database: PostgresAddress, folder: Path) -> None:
    write(folder, {"0003_index.sql": "create index concurrently on a.one (n);"})
    with pytest.raises(MigrationError, match="cannot run inside a transaction block"):
        migrate(database, folder)


DRIFTS = [
    ({"0001_first.sql": FIRST + " "}, [], r"0001_first.sql was edited after it had been applied"),
    ({}, ["0002_second.sql"], r"0002_second.sql was applied to the database, and its file is gone"),
    ({"0002_renamed.sql": SECOND}, ["0002_second.sql"], r"0002_second.sql was applied .* is 0002_renamed.sql now"),
    ({"0004_gap.sql": "select 1"}, [], r"0004_gap.sql stands at place 0003"),
    ({"0002_again.sql": "select 1"}, [], r"0002_second.sql stands at place 0003"),
    ({"3_short.sql": "select 1"}, [], r"3_short.sql is no name of a migration"),
    ({"0003-dash.sql": "select 1"}, [], r"0003-dash.sql is no name of a migration"),
]


@pytest.mark.parametrize(("changed", "removed", "sentence"), DRIFTS, ids=[sentence for _, _, sentence in DRIFTS])
def test_a_history_that_was_changed_is_refused(
    database: PostgresAddress, folder: Path, changed: dict[str, str], removed: list[str], sentence: str
) -> None:
    migrate(database, folder)
    for name in removed:
        (folder / name).unlink()
    write(folder, changed)
    for call in (pending, migrate):
        with pytest.raises(MigrationError, match=sentence) as caught:
            call(database, folder)
        assert caught.value.todo


def test_turned_line_ends_are_no_change(database: PostgresAddress, folder: Path) -> None:
    """git may check files out with other line ends than they were committed with."""
    migrate(database, folder)
    write(folder, {"0002_second.sql": SECOND.replace("\n", "\r\n")})
    assert migrate(database, folder) == []


def test_an_empty_folder_is_a_broken_installation(database: PostgresAddress, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="There are no migrations"):
        migrate(database, tmp_path)


def test_version_tables_that_contradict_each_other_are_refused(database: PostgresAddress, folder: Path) -> None:
    """Somebody ran alembic by hand, or restored half of schema ops."""
    migrate(database, folder)
    ask(database, "delete from ops.migration where number = '0002'")
    with pytest.raises(MigrationError, match=r"contradict each other: 0002_second.sql should have been applied"):
        migrate(database, folder)


def test_a_table_in_use_does_not_queue_up_its_readers(
    database: PostgresAddress, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a migration that waits for a reader, every later reader waits too (D11)."""
    migrate(database, folder)
    write(folder, {"0003_alter.sql": "alter table a.one add column s text;"})
    monkeypatch.setattr("datalake_assets.storage.migrations._TABLE_LOCK_WAIT", "100ms")

    async def run() -> None:
        connection: asyncpg.Connection
        async with session(database, application_name="reader") as connection, connection.transaction():
            await connection.fetch("select * from a.one")
            with pytest.raises(MigrationError, match=r"lock was not free in time.*0003_alter.sql, line 1"):
                await asyncio.to_thread(migrate, database, folder)

    asyncio.run(run())
    assert migrate(database, folder) == ["0003_alter.sql"]
