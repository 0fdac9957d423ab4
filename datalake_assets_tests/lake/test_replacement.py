"""Tables replaced as a whole: what readers see, what is kept, what a crash leaves."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import date
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from datalake_assets.keys import TableName
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.ledger import Ledger
from datalake_assets.lake.replacement import (
    Counts,
    DeclaredTable,
    Incoming,
    Loaded,
    Mode,
    Origin,
    ReplacementError,
    load_tables,
)
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, session

pytestmark = pytest.mark.anyio

DAY = date(2026, 3, 1)
ORDERS, ITEMS = TableName("shop", "orders"), TableName("shop", "items")


def table(name: TableName = ORDERS, *columns: Column, **options: Any) -> DeclaredTable:
    own = columns or (
        Column("id", "id", parse_type("integer"), key=True, description="The number."),
        Column("state", "state", parse_type("varchar(10)")),
    )
    return DeclaredTable(name, own, **options)


ITEM_COLUMNS = (
    Column("id", "id", parse_type("integer"), key=True),
    Column("position", "", parse_type("integer"), key=True),
)


def orders(numbers: Iterable[int], state: str = "new", declared: DeclaredTable | None = None) -> Incoming:
    declared = declared or table()
    rows = [{"id": number, "state": state} for number in numbers]
    return Incoming(declared, lambda: [pa.RecordBatch.from_pylist(rows, declared.schema)])


def items(numbers: Iterable[int]) -> Incoming:
    declared = table(ITEMS, *ITEM_COLUMNS)
    rows = [{"id": number, "position": 1} for number in numbers]
    return Incoming(declared, lambda: [pa.RecordBatch.from_pylist(rows, declared.schema)])


async def load(
    connection: asyncpg.Connection,
    *incoming: Incoming,
    sha: str = "a",
    day: date = DAY,
    mode: Mode = "replace",
    **more: Any,
) -> Loaded:
    origin = Origin(day, sha, "v1")
    run = more.pop("run_id", f"run-{sha}")
    return await load_tables(connection, Ledger(), incoming, origin, run_id=run, mode=mode, **more)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def address(database: PostgresAddress) -> PostgresAddress:
    await asyncio.to_thread(migrate, database, project_files() / "sql" / "migrations")
    return database


@pytest.fixture
async def lake(address: PostgresAddress) -> AsyncIterator[asyncpg.Connection]:
    async with session(address, application_name="tests") as connection:
        yield connection


async def parts(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("select count(*) from pg_tables where schemaname = 'lake_parts'")


async def test_a_first_load_makes_the_tables_with_key_comment_grants_and_rows(lake):
    await lake.execute("drop role if exists reader_of_tests; create role reader_of_tests")
    try:
        declared = table(comment="Orders of the shop's.", readers=("reader_of_tests",), indexes=(("state",),))
        loaded = await load(lake, orders(range(3), declared=declared))
        assert (loaded.changed, loaded.rows) == (True, {ORDERS: 3})
        assert await lake.fetchval("select obj_description('shop.orders'::regclass)") == "Orders of the shop's."
        assert await lake.fetchval("select col_description('shop.orders'::regclass, 1)") == "The number."
        await lake.execute("set role reader_of_tests")
        assert await lake.fetchval("select count(*) from shop.orders") == 3
    finally:
        await lake.execute("reset role; drop owned by reader_of_tests; drop role reader_of_tests")


DEPENDENTS = """
    create view shop.new_orders as select id, state from shop.orders where state = 'new';
    create view shop.newest as select max(id) as id from shop.new_orders;
    create materialized view shop.counted as select count(*) as orders from shop.newest;
    create index own_index on shop.orders (state text_pattern_ops desc nulls last) where id > 0;
    create unique index own_unique on shop.orders (id, (lower(state)));
    create statistics shop.own_statistics on id, state from shop.orders;
    comment on table shop.orders is 'Said by hand.';
    comment on column shop.orders.state is 'Said by hand, too.';
    comment on view shop.newest is 'And this.';
    grant select on shop.orders, shop.newest to public;
    grant update (state) on shop.orders to public;
    alter table shop.orders add constraint own_check check (id >= 0);
    alter table shop.orders enable row level security;
    create policy own_policy on shop.orders using (true);
    create function shop.refuse() returns trigger language plpgsql as 'begin raise exception ''no''; end';
    create trigger own_trigger before delete on shop.orders for each row execute function shop.refuse();
"""

ATTACHED = """
    select c.oid::text, c.relname, c.relkind, c.relowner::text, c.relacl::text, c.relrowsecurity::text,
        obj_description(c.oid), pg_get_viewdef(c.oid),
        (select string_agg(col_description(c.oid, a.attnum) || a.attacl::text, ';' order by a.attnum)
         from pg_attribute as a where a.attrelid = c.oid),
        (select string_agg(pg_get_indexdef(i.indexrelid), ';' order by i.indexrelid)
         from pg_index as i where i.indrelid = c.oid and i.indisvalid),
        (select string_agg(pg_get_constraintdef(k.oid), ';' order by k.oid)
         from pg_constraint as k where k.conrelid = c.oid),
        (select string_agg(pg_get_triggerdef(t.oid), ';' order by t.oid) from pg_trigger as t where t.tgrelid = c.oid),
        (select string_agg(p.polname, ';' order by p.oid) from pg_policy as p where p.polrelid = c.oid),
        (select string_agg(s.stxname, ';' order by s.oid) from pg_statistic_ext as s where s.stxrelid = c.oid)
    from pg_class as c where c.relnamespace = 'shop'::regnamespace order by c.oid
"""


async def replaces_under_a_reader(address: PostgresAddress, lake: asyncpg.Connection, times: int) -> None:
    """Old and new rows differ in number and state, so that a reader of a mixture would see it."""
    await load(lake, orders(range(1000)), items(range(1000)))
    await lake.execute(DEPENDENTS)
    before = await lake.fetch(ATTACHED)
    seen: set[tuple[int, ...]] = set()
    done = asyncio.Event()

    async def read(isolation: str, query: str) -> int:
        looks = 0
        async with session(address, application_name="reader") as reader:
            while not done.is_set():
                async with reader.transaction(isolation=isolation):
                    if isolation != "read_committed":
                        await reader.fetchval("select 1")  # the snapshot is older than the first look
                        await asyncio.sleep(0.005)
                    row = await reader.fetchrow(query)
                seen.add(tuple(row))
                looks += 1
        return looks

    joined = "select count(*), min(o.state) = max(o.state), (select count(*) from shop.items) from shop.orders as o"
    readers = [
        asyncio.create_task(read("read_committed", joined)),
        asyncio.create_task(read("repeatable_read", joined)),
        asyncio.create_task(
            read("read_committed", "select count(*), min(state) = max(state), 1000 + (max(id) - 999) from shop.orders")
        ),
        asyncio.create_task(
            read(
                "read_committed", "select count(*), true, count(*) from shop.new_orders where state = 'new' having true"
            )
        ),
    ]
    for number in range(1, times + 1):
        rows = 1000 + number % 2
        await load(lake, orders(range(rows), "new" if number % 2 else "old"), items(range(rows)), sha=str(number))
        assert await parts(lake) == 2
    done.set()
    looks = await asyncio.gather(*readers)
    assert min(looks) > times
    # The view shows only new orders: 0 rows of a whole old state.
    assert seen <= {(1000, True, 1000), (1001, True, 1001), (0, True, 0)}
    assert await lake.fetch(ATTACHED) == before


async def test_views_grants_indexes_and_comments_survive_replaces_and_no_reader_sees_a_part(address, lake):
    """Swaps by rename lose what hangs on the old table, and DELETE with INSERT makes a table grow for ever."""
    await replaces_under_a_reader(address, lake, 10)


@pytest.mark.campaign
async def test_views_grants_indexes_and_comments_survive_a_hundred_replaces(address, lake):
    await replaces_under_a_reader(address, lake, 100)


async def test_indexes_of_the_table_are_used_for_the_rows_of_every_load(lake):
    await load(lake, orders(range(10)))
    await lake.execute("create index on shop.orders (state)")
    await load(lake, orders(range(20)), sha="b")
    assert await lake.fetchval("select count(*) from pg_indexes where schemaname = 'lake_parts'") == 2
    invalid = "select count(*) from pg_index where not indisvalid"
    assert await lake.fetchval(invalid) == 0


async def test_a_load_of_the_same_snapshot_by_the_same_definition_changes_nothing(lake):
    first = await load(lake, orders(range(3)))
    assert await load(lake, orders(range(5)), run_id="other") == Loaded(False, (), first.rows)
    assert await lake.fetchval("select count(*) from ops.receipt") == 1


async def test_six_loads_at_once_end_as_one(address, lake):
    """Invariant 11: the earlier system mixed the pages of two runs."""

    async def one(number: int) -> Loaded:
        async with session(address, application_name=f"run {number}") as connection:
            return await load(connection, orders(range(100)), items(range(50)), run_id=f"run {number}")

    loaded = await asyncio.gather(*map(one, range(6)))
    assert sorted(each.changed for each in loaded) == [False] * 5 + [True]
    assert {tuple(each.rows.items()) for each in loaded} == {((ORDERS, 100), (ITEMS, 50))}
    assert await lake.fetchval("select count(*) from ops.receipt") == 2
    assert await parts(lake) == 2


async def test_what_is_refused_leaves_all_tables_as_they_were(lake):
    await load(lake, orders(range(3)), items(range(3)))

    async def refuse(counts: dict[TableName, Counts]) -> None:
        assert counts == {ORDERS: Counts(1, 3), ITEMS: Counts(1, 3)}
        raise ReplacementError("No.")

    with pytest.raises(ReplacementError):
        await load(lake, orders(range(1)), items(range(1)), sha="b", judge=refuse)
    with pytest.raises(PostgresError, match="23505"):
        await load(lake, orders(range(2)), items([1, 1]), sha="c")
    assert await lake.fetchval("select count(*) from shop.orders") == 3
    assert await lake.fetchval("select count(*) from shop.items") == 3
    assert await parts(lake) == 2
    assert (await load(lake, orders(range(2)), items([1]), sha="d")).rows == {ORDERS: 2, ITEMS: 1}


async def test_new_gone_and_changed_columns_are_followed(lake):
    await load(lake, orders(range(3)))
    await lake.execute("create view shop.ids as select id from shop.orders")
    changed = table(
        ORDERS,
        Column("id", "id", parse_type("integer"), key=True),
        Column("extra", "extra", parse_type("timestamptz"), required=True, description="New."),
    )
    rows = [{"id": 1, "extra": 0}]
    incoming = Incoming(changed, lambda: [pa.RecordBatch.from_pylist(rows, changed.schema)])
    await load(lake, incoming, sha="b")
    assert set((await lake.fetchrow("select * from shop.orders")).keys()) == {"id", "extra"}
    assert await lake.fetchval("select count(*) from shop.ids") == 1
    wider = table(ORDERS, changed.columns[0], Column("extra", "extra", parse_type("jsonb")))
    incoming = Incoming(wider, lambda: [pa.RecordBatch.from_pylist([{"id": 1, "extra": "{}"}], wider.schema)])
    await load(lake, incoming, sha="c")
    assert await lake.fetchval("select extra from shop.orders") == b"{}"


@pytest.mark.parametrize("type_", [None, "integer"])
async def test_a_column_that_a_view_reads_cannot_go_and_the_view_is_named(lake, type_):
    """A dropped column fails before anything is dropped."""
    await load(lake, orders(range(3)))
    await lake.execute("create view shop.states as select state from shop.orders")
    kept = (Column("state", "state", parse_type(type_)),) if type_ else ()
    changed = table(ORDERS, Column("id", "id", parse_type("integer"), key=True), *kept)
    drawn = []
    incoming = Incoming(changed, lambda: drawn.append(1) or [])
    with pytest.raises(ReplacementError, match=r'Column "state".*shop\.states'):
        await load(lake, incoming, sha="b")
    assert not drawn
    assert await lake.fetchval("select count(*) from shop.states") == 3


async def test_a_changed_key_gets_an_index_of_its_own(lake):
    await load(lake, items([1, 2]))
    changed = table(ITEMS, ITEM_COLUMNS[0], Column("position", "", parse_type("integer")))
    rows = [{"id": 1, "position": 1}, {"id": 1, "position": 2}]
    with pytest.raises(PostgresError, match="23505"):
        await load(lake, Incoming(changed, lambda: [pa.RecordBatch.from_pylist(rows, changed.schema)]), sha="b")
    await load(lake, Incoming(changed, lambda: [pa.RecordBatch.from_pylist(rows[:1], changed.schema)]), sha="b")
    key = await lake.fetchval("select pg_get_indexdef('shop.items_key'::regclass)")
    assert key.endswith("(id)")


async def test_a_table_of_somebody_else_is_left_alone(lake):
    await lake.execute("create schema shop; create table shop.orders (id integer)")
    with pytest.raises(ReplacementError, match="was not made by a declared pipeline"):
        await load(lake, orders(range(3)))


async def test_a_reader_that_holds_the_table_is_waited_for_and_keeps_no_other_waiting(address, lake):
    await load(lake, orders(range(3)))
    async with session(address, application_name="holder") as holder, session(address, application_name="o") as other:
        transaction = holder.transaction()
        await transaction.start()
        await holder.fetchval("select count(*) from shop.orders")
        loading = asyncio.create_task(load(lake, orders(range(4)), sha="b"))
        for _ in range(5):
            assert await asyncio.wait_for(other.fetchval("select count(*) from shop.orders"), 2) == 3
            await asyncio.sleep(0.2)
        assert not loading.done()
        await transaction.rollback()
        assert (await loading).rows == {ORDERS: 4}


async def test_append_keeps_other_dates_and_repeats_its_own(lake):
    days = [date(2026, 3, day) for day in (1, 2, 3)]
    declared = table(ORDERS, Column("n", "n", parse_type("integer")))

    async def append(day: date, rows: int, sha: str) -> Loaded:
        batch = pa.RecordBatch.from_pylist([{"n": number} for number in range(rows)], declared.schema)
        return await load(lake, Incoming(declared, lambda: [batch]), day=day, sha=sha, mode="append")

    await append(days[2], 3, "c")
    await append(days[0], 5, "a")
    await append(days[1], 2, "b")
    await append(days[0], 1, "d")
    assert not (await append(days[1], 9, "b")).changed
    rows = await lake.fetch("select load_date, count(*) as n from shop.orders group by 1 order by 1")
    assert [tuple(row) for row in rows] == list(zip(days, (1, 2, 3), strict=True))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1, 2)])
async def test_upsert_gives_the_same_rows_in_any_order(lake, order):
    numbers = {1: range(4), 2: range(2, 6), 3: range(5, 7)}
    for at, day in enumerate(order):
        incoming = orders(numbers[day], f"day {day}")
        await load(lake, incoming, day=date(2026, 3, day), sha=f"{day}", mode="upsert", run_id=f"run {at}")
    rows = await lake.fetch("select id, state from shop.orders order by id")
    states = ["day 1", "day 1", "day 2", "day 2", "day 2", "day 3", "day 3"]
    assert [tuple(row) for row in rows] == list(enumerate(states))


LOAD_IN_A_PROCESS = """
import asyncio, sys
from pydantic import SecretStr
from datalake_assets.lake import crashpoints
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.test_replacement import items, load, orders
host, port, database, user, password, step = sys.argv[1:]
async def main():
    address = PostgresAddress(host, int(port), database, user, SecretStr(password))
    async with session(address, application_name="victim") as connection:
        await load(connection, orders(range(7), "killed"), items(range(7)), sha="killed")
crashpoints.arm(step)
asyncio.run(main())
"""


@pytest.mark.parametrize("step", ["mid_copy", "before_commit", "after_commit"])
async def test_a_killed_load_leaves_the_old_tables_or_the_new_ones_and_nothing_else(address, lake, step):
    """Invariant 4: the copy of a killed load of the earlier system stopped every load after it."""
    await load(lake, orders(range(3)), items(range(3)))
    arguments = (address.host, str(address.port), address.database, address.user, address.password.get_secret_value())
    command = [sys.executable, "-c", LOAD_IN_A_PROCESS, *arguments, step]
    killed = await asyncio.to_thread(
        subprocess.run, command, cwd=project_files(), env=dict(os.environ), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    expected = 7 if step == "after_commit" else 3
    for name in (ORDERS, ITEMS):
        assert await lake.fetchval(f"select count(*) from {name}") == expected
    assert (await load(lake, orders(range(5)), items(range(5)), sha="next")).rows == {ORDERS: 5, ITEMS: 5}
    assert await parts(lake) == 2
