"""Dated views in a real database: names and values of any kind, changes of the declaration, tables being swapped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import date
from typing import Any

import asyncpg
import pytest

from datalake_assets.keys import TableName
from datalake_assets.lake.dated_views import LONGEST_NAME, DatedView, Field, Period, ViewError, make_view
from datalake_assets.lake.ledger import Ledger
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.test_replacement import ORDERS, load, orders

pytestmark = pytest.mark.anyio

VIEW = DatedView(
    name=TableName("shop", "sales"),
    table=TableName("shop", "sold"),
    fields=None,
    where="true",
    params={},
    every="month",
)
JULY, AUGUST = Period("month", date(2019, 7, 1)), Period("month", date(2019, 8, 1))
IN_PERIOD = "sold_on >= {{ period_start }} and sold_on < {{ period_end }}"


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
        await connection.execute(
            "create schema shop; create table shop.sold (id integer, price numeric(8,2), sold_on date);"
            "insert into shop.sold values (1, 5, '2019-07-31'), (2, 7, '2019-08-01'), (3, 9, '2020-02-29')"
        )
        yield connection


async def made(connection: asyncpg.Connection, view: DatedView, *periods: Period) -> None:
    for period in periods:
        await make_view(connection, Ledger(), view, period, run_id=f"makes {view.name}")


async def values(connection: asyncpg.Connection, query: str) -> list[Any]:
    return [row[0] if len(row) == 1 else tuple(row) for row in await connection.fetch(query)]


async def test_the_last_day_of_a_leap_february_and_every_row_in_one_period(lake):
    view = replace(VIEW, where=IN_PERIOD)
    february = Period("month", date(2020, 2, 1))
    for _ in range(2):
        await made(lake, view, february, AUGUST, JULY)
    assert await values(lake, "select id from shop.sales_2020_02_29") == [3]
    assert await values(lake, "select month, id from shop.sales order by id") == [
        (date(2019, 7, 1), 1),
        (date(2019, 8, 1), 2),
        (date(2020, 2, 1), 3),
    ]


@pytest.mark.parametrize(
    ("start", "month_and_day", "begins"),
    [
        (date(2019, 7, 1), "04-01", date(2019, 4, 1)),
        (date(2020, 3, 1), "04-01", date(2019, 4, 1)),
        (date(2020, 4, 1), "04-01", date(2020, 4, 1)),
        (date(2020, 4, 1), "04-06", date(2019, 4, 6)),
        (date(2020, 1, 1), "12-31", date(2019, 12, 31)),
        (date(2020, 2, 1), "02-28", date(2019, 2, 28)),
    ],
)
def test_a_financial_year_is_that_in_which_the_period_begins(start, month_and_day, begins):
    assert Period("month", start).fy_start(month_and_day) == begins


async def test_names_that_need_quotes_are_names_and_nothing_else(lake):
    await lake.execute('create table shop."select" as select 1 as "select", 2 as "say ""hi"""')
    fields = (
        Field('"select"', "select"),
        Field('"say ""hi"""', 'say "hi"; --'),
        Field('"select" % 2', "100 % {{ ds }} 'ü'"),
    )
    view = replace(VIEW, name=TableName("shop", "order"), table=TableName("shop", "select"), fields=fields)
    await made(lake, view, JULY, AUGUST)
    (row, _) = await lake.fetch('select * from shop."order" order by month')
    assert list(row.keys()) == ["month", "select", 'say "hi"; --', "100 % {{ ds }} 'ü'"]
    assert list(row.values()) == [JULY.start, 1, 2, 1]


async def test_the_longest_name_still_has_room_for_its_last_day(lake):
    view = replace(VIEW, name=TableName("shop", "v" * LONGEST_NAME))
    for _ in range(2):
        await made(lake, view, JULY, AUGUST)
    assert await values(lake, f"select count(*) from shop.{'v' * LONGEST_NAME}") == [6]


INJECTIONS = {
    "a value within quotes": ("name = '{{ params.v }}'", "' or true or name='"),
    "a value within double quotes": ('"{{ params.v }}" = 1', 'x" or true or "x'),
    "a value as a part of a word": ("sold_{{ params.v }} = 1", "on"),
    "a value that was text already": ("{% set x %}{{ params.v }}{% endset %}id = {{ x }}", "x"),
}


@pytest.mark.parametrize("how", INJECTIONS)
def test_a_value_that_does_not_stand_alone_is_refused(how):
    """It would end the text in which it stands, and what follows in it would be SQL."""
    where, value = INJECTIONS[how]
    with pytest.raises(ViewError, match="within quotes, or as a part of a word"):
        replace(VIEW, where=where, params={"v": value}).rendered(JULY)


@pytest.mark.parametrize(
    "where",
    [
        "id in (values (1))",
        "id in (table shop.secrets)",
        "(table secrets) = 1",
        "id = any (array (select 1))",
        "exists (select 1)",
        "true /* */",
        "*",
        "id as x",
    ],
)
def test_what_reads_more_than_columns_of_the_table_is_refused(where):
    with pytest.raises(ViewError, match="more than one SQL expression"):
        replace(VIEW, where=where).rendered(JULY)


@pytest.mark.parametrize("where", ["sold_on < now()", "sold_on < current_date", "sold_on < 'today'::date"])
def test_a_view_that_shows_other_rows_another_day_is_refused(where):
    """Invariant 9."""
    with pytest.raises(ViewError, match="another one each time"):
        replace(VIEW, where=where).rendered(JULY)


@pytest.mark.parametrize("template", ["{{ ds + 1 }}", "{{ 1 / 0 }}", "{{ midnight('x') }}", "{{ ds", "{{ [].x() }}"])
def test_a_template_that_fails_is_told_with_a_sentence(template):
    with pytest.raises(ViewError, match="The template cannot be rendered"):
        replace(VIEW, where=f"sold_on > {template}").rendered(JULY)


async def test_a_column_that_the_table_gets_later_is_shown_and_views_of_before_stay(lake):
    """Views that hold history are never dropped; a new column of the dataset must not stop the next month."""
    view = replace(VIEW, where=IN_PERIOD)
    await made(lake, view, JULY)
    await lake.execute("create view shop.own as select * from shop.sales")
    await lake.execute("alter table shop.sold add column note varchar(20); update shop.sold set note = 'n' || id")
    await made(lake, view, AUGUST)
    shown = "select id, note from shop.sales order by id"
    assert await values(lake, shown) == [(1, None), (2, "n2")]
    await made(lake, view, JULY)
    assert await values(lake, shown) == [(1, "n1"), (2, "n2")]
    assert await values(lake, "select id from shop.own order by id") == [1, 2]


async def test_periods_of_another_length_are_not_mixed_with_those_of_before(lake):
    """The 31st of July would count as a day and as a month."""
    await made(lake, replace(VIEW, where=IN_PERIOD), JULY, AUGUST)
    daily = replace(VIEW, where=IN_PERIOD, every="day")
    with pytest.raises(ViewError, match="shows a month for each row, and is declared to show a day now"):
        await made(lake, daily, Period("day", date(2019, 7, 31)))
    assert await values(lake, "select id from shop.sales order by id") == [1, 2]


async def test_a_column_of_another_type_is_told_and_every_view_stays(lake):
    await made(lake, replace(VIEW, fields=(Field("price", "Price"),)), JULY)
    with pytest.raises(ViewError, match="another type than in the view that is there"):
        await made(lake, replace(VIEW, fields=(Field("price::text", "Price"),)), JULY)
    assert await values(lake, 'select sum("Price") from shop.sales') == [21]


async def test_a_column_named_as_the_period_is_refused(lake):
    await lake.execute("create table shop.by_month as select 1 as month")
    with pytest.raises(ViewError, match='A column is called "month"'):
        await made(lake, replace(VIEW, table=TableName("shop", "by_month")), JULY)


async def test_views_of_somebody_else_are_no_periods(lake):
    await lake.execute(
        "create view shop.sales_2019_02_31 as select 1 as x; create view shop.sales_old_2019_02_28 as select 1 as x"
    )
    await made(lake, VIEW, JULY)
    assert await values(lake, "select count(*) from shop.sales") == [3]


async def test_views_in_a_new_schema_at_once_are_all_made(address, lake):
    """PostgreSQL's own `if not exists` lets one of two fail that make it at the same moment."""
    async with AsyncExitStack() as stack:
        open_ones = [await stack.enter_async_context(session(address, application_name="run")) for _ in range(6)]
        for schema in ("fresh", "fresher", "freshest"):
            views = [replace(VIEW, name=TableName(schema, f"sales_{number}")) for number in range(6)]
            await asyncio.gather(*(made(each, view, JULY) for each, view in zip(open_ones, views, strict=True)))
    assert await values(lake, "select count(*) from pg_views where schemaname like 'fresh%'") == [36]


async def test_views_are_made_while_their_table_is_replaced_and_read(address, lake):
    """Whoever waits for whom, nobody waits for ever, and no reader sees anything but a whole table."""
    await load(lake, orders(range(500)))
    view = replace(VIEW, name=TableName("shop", "orders_by"), table=ORDERS)
    await made(lake, view, JULY)
    done = asyncio.Event()
    seen: set[int] = set()

    async def reader() -> int:
        looks = 0
        async with session(address, application_name="reader") as connection:
            while not done.is_set():
                seen.add(await connection.fetchval("select count(*) from shop.orders_by_2019_07_31"))
                looks += 1
        return looks

    async def maker(name: str) -> int:
        rounds = 0
        async with session(address, application_name="maker") as connection:
            while not done.is_set():
                await made(connection, replace(view, name=TableName("shop", name)), JULY, AUGUST)
                rounds += 1
        return rounds

    others = [asyncio.create_task(each) for each in (reader(), maker("orders_by"), maker("orders_too"))]
    try:
        for number in range(1, 9):
            await load(lake, orders(range(500 + number % 2)), sha=str(number))
    finally:
        done.set()
    assert min(await asyncio.wait_for(asyncio.gather(*others), 30)) >= 1
    assert seen <= {500, 501}
