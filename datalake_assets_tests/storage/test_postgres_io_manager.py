"""Assets through `dg.materialize`: slices are replaced whole, readers never see half of one, runs do not collide."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from datalake_assets.errors import DatalakeError
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, run_to_end, session
from datalake_assets.storage.postgres_io_manager import PostgresIOManager, TableError
from datalake_assets_tests.servers import address_from
from datalake_assets_tests.storage.proxy import proxied

DAILY = dg.DailyPartitionsDefinition("2026-01-01", timezone="America/New_York", end_date="2026-03-20")
TERMS = dg.StaticPartitionsDefinition(["2258", "2261"])
BOTH = dg.MultiPartitionsDefinition({"load_date": DAILY, "term": TERMS})
KEY = ["lake", "visit"]


pytestmark = pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`")  # beta, as the docs recommend it


class SupersededError(DatalakeError):
    """A later attempt has begun."""


class AttemptLedger:
    """The least that a ledger must do, in tables of its own."""

    async def begin(self, connection: asyncpg.Connection, asset: str, partition: str, run_id: str) -> int:
        query = (
            "insert into ops.attempt values ($1, $2, 1, $3) on conflict (asset, partition)"
            " do update set attempt = attempt.attempt + 1, run_id = excluded.run_id returning attempt"
        )
        return int(await connection.fetchval(query, asset, partition, run_id))

    async def commit(self, connection: asyncpg.Connection, asset: str, partition: str, attempt: int, rows: int) -> None:
        latest = await connection.fetchval(
            "select attempt from ops.attempt where asset = $1 and partition = $2 for update", asset, partition
        )
        if latest != attempt:
            raise SupersededError(f"Attempt {attempt} of {latest}.")
        await connection.execute("insert into ops.load values ($1, $2, $3, $4)", asset, partition, attempt, rows)


class LakeTables(PostgresIOManager):
    """Tables of the lake at a libpq URL."""

    url: str

    @property
    def address(self) -> PostgresAddress:
        return address_from(self.url)

    @property
    def ledger(self) -> AttemptLedger:
        return AttemptLedger()


@pytest.fixture
def lake(database: PostgresAddress) -> PostgresAddress:
    execute(
        database,
        "create schema lake; create schema ops;"
        " create table ops.attempt (asset text, partition text, attempt integer, run_id text,"
        " primary key (asset, partition));"
        " create table ops.load (asset text, partition text, attempt integer, rows bigint)",
    )
    return database


def fetch(address: PostgresAddress, query: str, *args: Any) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        async with session(address, application_name="test") as connection:
            return [tuple(row) for row in await connection.fetch(query, *args)]

    return run_to_end(run())


def execute(address: PostgresAddress, query: str) -> None:
    async def run() -> None:
        async with session(address, application_name="test") as connection:
            await connection.execute(query)

    run_to_end(run())


def io_manager(address: PostgresAddress, **options: Any) -> PostgresIOManager:
    return LakeTables(url=address.url("postgresql"), **options)


def asset_of(make: Callable[..., Any], key: Sequence[str] = KEY, **options: Any) -> dg.AssetsDefinition:
    """An asset that returns what a function makes of its context."""

    @dg.asset(key=key, **options)
    def one(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        return dg.Output(make(context))

    return one


def run(
    address: PostgresAddress,
    *assets: dg.AssetsDefinition,
    partition: str | None = None,
    tags: dict[str, str] | None = None,
    selection: Sequence[dg.AssetsDefinition] | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        list(assets),
        resources={"io_manager": io_manager(address, **options)},
        partition_key=partition,
        tags=tags,
        selection=list(selection) if selection else None,
    )


def metadata(result: dg.ExecuteInProcessResult, asset: dg.AssetsDefinition) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset.node_def.name)
    return {name: value.value for name, value in event.metadata.items()}


FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", None, "ž"], "price": [Decimal("1.50"), Decimal("2.00"), None]})
SHAPES: dict[str, Callable[[], Any]] = {
    "pl.DataFrame": lambda: FRAME,
    "pl.LazyFrame": lambda: FRAME.lazy(),
    "pa.Table": lambda: FRAME.to_arrow(),
    "pa.RecordBatchReader": lambda: FRAME.to_arrow().to_reader(max_chunksize=2),
    "an iterator of batches": lambda: iter(FRAME.to_arrow().to_batches(max_chunksize=1)),
    "a generator of batches": lambda: (batch for batch in FRAME.to_arrow().to_batches(max_chunksize=1)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_holds_rows_becomes_a_table(lake: PostgresAddress, shape: str) -> None:
    asset = asset_of(lambda context: SHAPES[shape]())
    for _ in range(2):
        result = run(lake, asset)
        assert fetch(lake, "select id, name, price from lake.visit order by id") == [
            (1, "a", Decimal("1.50")),
            (2, None, Decimal("2.00")),
            (3, "ž", None),
        ]
    shown = metadata(result, asset)
    assert shown["dagster/row_count"] == 3
    assert "dagster/partition_row_count" not in shown
    assert shown["dagster/table_name"] == f"{lake.database}.lake.visit"
    assert [(column.name, column.type) for column in shown["dagster/column_schema"].columns] == [
        ("id", "bigint"),
        ("name", "text"),
        ("price", f"numeric(38,{2})"),
    ]
    assert fetch(lake, "select partition, attempt, rows from ops.load order by attempt") == [("", 1, 3), ("", 2, 3)]


def consumer_of(annotation: Any, seen: list[Any], **options: Any) -> dg.AssetsDefinition:
    def take(frame: Any) -> None:
        seen.append(frame.read_all() if isinstance(frame, pa.RecordBatchReader) else frame)

    take.__annotations__["frame"] = annotation
    return dg.asset(
        name="consumer", ins={"frame": dg.AssetIn(key=KEY, metadata=options.pop("metadata", None))}, **options
    )(take)


@pytest.mark.parametrize("annotation", [pl.DataFrame, pl.LazyFrame, pa.Table, pa.RecordBatchReader, Any], ids=str)
def test_an_input_comes_as_its_annotation_says(lake: PostgresAddress, annotation: Any) -> None:
    seen: list[Any] = []
    run(lake, asset_of(lambda context: FRAME), consumer_of(annotation, seen))
    (frame,) = seen
    if annotation is Any or annotation is pl.LazyFrame:
        assert isinstance(frame, pl.LazyFrame)
        frame = frame.collect()
    if isinstance(frame, pa.Table):
        frame = pl.DataFrame(frame)
    assert frame.sort("id").equals(FRAME)


def test_an_input_can_be_limited_to_columns(lake: PostgresAddress) -> None:
    seen: list[Any] = []
    asset = asset_of(lambda context: FRAME)
    run(lake, asset, consumer_of(pl.DataFrame, seen, metadata={"columns": ["name", "id"]}))
    assert seen[0].columns == ["name", "id"]
    with pytest.raises(TableError, match="no column nothing"):
        run(lake, asset, consumer_of(pl.DataFrame, seen, metadata={"columns": ["nothing"]}))


def test_an_annotation_that_is_no_frame_is_refused(lake: PostgresAddress) -> None:
    with pytest.raises(TableError, match=r"lake.visit cannot be handed out as .*int.*Annotate the input as"):
        run(lake, asset_of(lambda context: FRAME), consumer_of(int, []))


def test_a_reader_that_is_left_alone_lets_go_of_its_connection(lake: PostgresAddress) -> None:
    execute(lake, "create table lake.visit as select generate_series(1, 500000) as n")
    upstream = dg.AssetSpec(KEY)

    @dg.asset(ins={"frame": dg.AssetIn(key=KEY)})
    def consumer(frame: pa.RecordBatchReader) -> None:
        assert frame.read_next_batch().num_rows == 10_000

    assert dg.materialize([upstream, consumer], resources={"io_manager": io_manager(lake)}).success
    end = time.monotonic() + 5
    query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    while fetch(lake, query) != [(0,)]:
        assert time.monotonic() < end
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------- partitions


def visits(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """Three rows a day, marked with the run that made them."""
    days = [dt.date.fromisoformat(key) for key in context.partition_keys]
    return pl.DataFrame(
        {
            "load_date": [day for day in days for _ in range(3)],
            "n": [n for _ in days for n in range(3)],
            "run": [context.run.run_id] * 3 * len(days),
        }
    )


def daily(make: Callable[..., Any] = visits, **options: Any) -> dg.AssetsDefinition:
    return asset_of(make, partitions_def=DAILY, metadata={"partition_expr": "load_date"}, **options)


def test_a_partition_replaces_its_rows_and_no_others(lake: PostgresAddress) -> None:
    asset = daily()
    first = run(lake, asset, partition="2026-01-01")
    run(lake, asset, partition="2026-01-02")
    again = run(lake, asset, partition="2026-01-01")
    assert fetch(
        lake, "select load_date, count(*), min(run) from lake.visit group by load_date order by load_date"
    ) == [
        (dt.date(2026, 1, 1), 3, again.run_id),
        (dt.date(2026, 1, 2), 3, fetch(lake, "select run_id from ops.attempt where partition = '2026-01-02'")[0][0]),
    ]
    assert metadata(first, asset)["dagster/row_count"] == 3
    shown = metadata(again, asset)
    assert (shown["dagster/row_count"], shown["dagster/partition_row_count"]) == (6, 3)
    # A slice is found by an index, not by reading the whole table.
    assert fetch(lake, "select indexdef from pg_indexes where tablename = 'visit'")[0][0].endswith("(load_date)")


def test_an_empty_partition_empties_its_rows_only(lake: PostgresAddress) -> None:
    run(lake, daily(), partition="2026-01-01")
    run(lake, daily(), partition="2026-01-02")
    run(lake, daily(lambda context: visits(context).clear()), partition="2026-01-01")
    run(lake, daily(lambda context: iter(())), partition="2026-01-01")
    assert fetch(lake, "select distinct load_date from lake.visit") == [(dt.date(2026, 1, 2),)]


def test_several_partitions_of_one_run_are_one_transaction(lake: PostgresAddress) -> None:
    """A backfill in a single run: all of its days or none."""
    seen: list[Any] = []
    single = dg.BackfillPolicy.single_run()
    asset = daily(backfill_policy=single)
    consumer = consumer_of(dict[str, pl.DataFrame], seen, partitions_def=DAILY, backfill_policy=single)
    tags = {"dagster/asset_partition_range_start": "2026-01-30", "dagster/asset_partition_range_end": "2026-02-02"}
    days = ("2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02")
    result = run(lake, asset, consumer, tags=tags)
    shown = {
        event.partition: event.metadata["dagster/partition_row_count"].value
        for event in result.asset_materializations_for_node(asset.node_def.name)
    }
    assert shown == dict.fromkeys(days, 3)
    assert fetch(lake, "select partition, rows from ops.load order by partition") == [(day, 3) for day in days]
    assert {key: frame.height for key, frame in seen[0].items()} == dict.fromkeys(days, 3)
    frames: list[Any] = []
    whole = consumer_of(pa.Table, frames, partitions_def=DAILY, backfill_policy=single)
    run(lake, asset, whole, tags=tags, selection=[whole])
    assert frames[0].num_rows == 12


def test_an_input_gets_the_partition_of_its_run(lake: PostgresAddress) -> None:
    seen: list[Any] = []
    run(lake, daily(), partition="2026-01-01")
    run(lake, daily(), consumer_of(pl.DataFrame, seen, partitions_def=DAILY), partition="2026-01-02")
    assert seen[0]["load_date"].unique().to_list() == [dt.date(2026, 1, 2)]


def multi(make: Callable[..., Any], expression: Any) -> dg.AssetsDefinition:
    return asset_of(make, partitions_def=BOTH, metadata={"partition_expr": expression})


def enrolments(context: dg.AssetExecutionContext) -> pl.DataFrame:
    keys = context.partition_key.keys_by_dimension  # type: ignore[attr-defined]
    return pl.DataFrame(
        {"load_date": [dt.date.fromisoformat(keys["load_date"])] * 2, "strm": [int(keys["term"])] * 2, "n": [1, 2]}
    )


def test_two_dimensions_find_their_columns_by_a_mapping(lake: PostgresAddress) -> None:
    asset = multi(enrolments, {"load_date": "load_date", "term": "strm"})
    for key in ("2026-01-01|2258", "2026-01-01|2261", "2026-01-02|2258", "2026-01-01|2261"):
        result = run(lake, asset, partition=key)
    assert metadata(result, asset)["dagster/partition_row_count"] == 2
    assert fetch(lake, "select load_date::text, strm, count(*) from lake.visit group by 1, 2 order by 1, 2") == [
        ("2026-01-01", 2258, 2),
        ("2026-01-01", 2261, 2),
        ("2026-01-02", 2258, 2),
    ]
    assert fetch(lake, "select distinct partition from ops.load order by 1") == [
        ("2026-01-01|2258",),
        ("2026-01-01|2261",),
        ("2026-01-02|2258",),
    ]


@pytest.mark.parametrize("expression", [None, "load_date", {"load_date": "load_date"}, {"load_date": "a", "x": "b"}])
def test_a_dimension_without_a_column_is_refused(lake: PostgresAddress, expression: Any) -> None:
    """The slice would be larger than the partition, and deleted with it."""
    with pytest.raises(TableError, match=r'Set "partition_expr".*"load_date": "<column>", "term": "<column>"'):
        run(lake, multi(enrolments, expression), partition="2026-01-01|2258")


def test_a_partitioned_asset_must_name_its_column(lake: PostgresAddress) -> None:
    asset = asset_of(visits, partitions_def=DAILY)
    with pytest.raises(TableError, match="does not say which column holds its partition key"):
        run(lake, asset, partition="2026-01-01")
    execute(lake, "create table lake.visit (n integer)")
    wrong = asset_of(
        lambda context: pl.DataFrame({"n": [1]}),
        partitions_def=DAILY,
        metadata={"partition_expr": "load_date"},
    )
    with pytest.raises(TableError, match='no column "load_date" to find partition 2026-01-01 by'):
        run(lake, wrong, partition="2026-01-01")


def test_rows_of_another_partition_are_refused(lake: PostgresAddress) -> None:
    """They would stay when their own partition is replaced, and so be doubled."""
    run(lake, daily(), partition="2026-01-02")
    stray = daily(lambda context: visits(context).with_columns(load_date=pl.lit(dt.date(2026, 1, 2))))
    with pytest.raises(TableError, match="3 of 3 rows do not belong to the partition"):
        run(lake, stray, partition="2026-01-01")
    without = daily(lambda context: visits(context).with_columns(load_date=pl.lit(None, pl.Date)))
    with pytest.raises(TableError, match="3 of 3 rows do not belong"):
        run(lake, without, partition="2026-01-02")
    assert fetch(lake, "select count(*) from lake.visit") == [(3,)]


NEW_YORK = "America/New_York"
MONTHLY = dg.MonthlyPartitionsDefinition("2026-01-01", end_date="2026-06-01")
HOURLY = dg.HourlyPartitionsDefinition("2026-01-01-00:00", timezone=NEW_YORK, end_date="2026-12-01-00:00")


def rows_at(column: pl.Series) -> Callable[..., pl.DataFrame]:
    return lambda context: pl.DataFrame({"at": column})


def instants(*texts: str) -> pl.Series:
    return pl.Series([dt.datetime.fromisoformat(text) for text in texts], dtype=pl.Datetime("us", "UTC"))


WINDOWS = [
    (DAILY, "2026-03-08", instants("2026-03-08T05:00:00Z", "2026-03-09T03:59:59Z"), None),  # a day of 23 hours
    (DAILY, "2026-03-08", instants("2026-03-09T04:00:00Z"), "1 of 1 rows do not belong"),
    (DAILY, "2026-03-08", instants("2026-03-08T04:59:59Z"), "1 of 1 rows do not belong"),
    (MONTHLY, "2026-02-01", pl.Series([dt.date(2026, 2, 1), dt.date(2026, 2, 28)]), None),
    (MONTHLY, "2026-02-01", pl.Series([dt.date(2026, 3, 1)]), "1 of 1 rows do not belong"),
    (MONTHLY, "2026-02-01", pl.Series(["2026-02-01"]), None),
    (MONTHLY, "2026-02-01", pl.Series([dt.datetime.fromisoformat("2026-02-28T23:59")]), None),
    (HOURLY, "2026-11-01-01:00", instants("2026-11-01T05:30:00Z"), None),  # the first of two hours from 1 to 2
    (HOURLY, "2026-11-01-01:00-0500", instants("2026-11-01T05:30:00Z"), "1 of 1 rows do not belong"),
    (HOURLY, "2026-11-01-01:00", pl.Series([dt.datetime.fromisoformat("2026-11-01T01:30")]), "cannot tell partition"),
    (HOURLY, "2026-01-02-03:00", pl.Series([dt.date(2026, 1, 2)]), "cannot tell partition 2026-01-02-03:00"),
    (TERMS, "2258", pl.Series([2258]), None),
]


@pytest.mark.parametrize(
    ("partitions", "key", "column", "refused"),
    WINDOWS,
    ids=[f"{key} in {column.dtype}{' refused' if refused else ''}" for _, key, column, refused in WINDOWS],
)
def test_a_column_of_time_is_compared_with_the_window(
    lake: PostgresAddress, partitions: Any, key: str, column: pl.Series, refused: str | None
) -> None:
    asset = asset_of(rows_at(column), partitions_def=partitions, metadata={"partition_expr": "at"})
    if refused is not None:
        with pytest.raises(TableError, match=refused):
            run(lake, asset, partition=key)
        return
    run(lake, asset, partition=key)
    run(lake, asset, partition=key)
    assert fetch(lake, "select count(*) from lake.visit") == [(len(column),)]


# ----------------------------------------------------------------------------------------------- tables


def test_views_grants_indexes_and_comments_survive(lake: PostgresAddress) -> None:
    """A table that is dropped and made anew loses them all."""
    execute(
        lake,
        "create table lake.visit (id bigint primary key, name text, price numeric(38,2), seq bigint generated always"
        " as identity, loaded_at timestamptz not null default now()); comment on column lake.visit.name is 'Who.';"
        " create view lake.names as select name from lake.visit; grant select on lake.visit to pg_monitor",
    )
    before = fetch(lake, "select 'lake.visit'::regclass::oid, relacl::text from pg_class where relname = 'visit'")
    asset = asset_of(lambda context: FRAME)
    shown = metadata(run(lake, asset), asset)
    run(lake, asset)
    assert fetch(lake, "select count(*), count(loaded_at) from lake.visit") == [(3, 3)]
    assert fetch(lake, "select count(*) from lake.names") == [(3,)]
    assert (
        fetch(lake, "select 'lake.visit'::regclass::oid, relacl::text from pg_class where relname = 'visit'") == before
    )
    described = {column.name: column for column in shown["dagster/column_schema"].columns}
    assert described["name"].description == "Who."
    assert not described["id"].constraints.nullable


MISMATCHES = [
    ("id bigint, name text", "no column price, which the asset returned"),
    ("id bigint, name text, price numeric(38,2), more text", "did not return column more"),
]


@pytest.mark.parametrize(("columns", "sentence"), MISMATCHES)
def test_columns_that_do_not_match_are_refused(lake: PostgresAddress, columns: str, sentence: str) -> None:
    execute(lake, f"create table lake.visit ({columns}); insert into lake.visit (id) values (7)")
    with pytest.raises(TableError, match=sentence) as caught:
        run(lake, asset_of(lambda context: FRAME))
    assert caught.value.todo
    assert fetch(lake, "select id from lake.visit") == [(7,)]


def test_a_type_that_does_not_match_is_refused_by_column(lake: PostgresAddress) -> None:
    execute(lake, "create table lake.visit (id text, name text, price numeric(38,2))")
    with pytest.raises(DatalakeError, match='Column "id" is int64 in the batches, which cannot become text'):
        run(lake, asset_of(lambda context: FRAME))


def test_a_row_that_breaks_a_rule_changes_nothing_and_is_not_quoted(lake: PostgresAddress) -> None:
    execute(
        lake,
        "create table lake.visit (id bigint unique, name text, price numeric(38,2)); insert into lake.visit values (7)",
    )
    twice = pl.concat([FRAME, FRAME])
    with pytest.raises(PostgresError, match="Two rows have the same key") as caught:
        run(lake, asset_of(lambda context: twice))
    assert "(id)=(1)" not in str(caught.value)
    assert "constraint visit_id_key" in caught.value.where
    assert fetch(lake, "select id from lake.visit") == [(7,)]


@pytest.mark.parametrize(
    ("key", "prepare", "sentence"),
    [
        (["nowhere", "visit"], "", "Schema nowhere does not exist"),
        (["lake", "visit"], "create view lake.visit as select 1 as id", "lake.visit is not a table"),
        (["visit"], "", "two parts, schema and table"),
    ],
)
def test_a_place_that_cannot_be_loaded_is_refused(
    lake: PostgresAddress, key: list[str], prepare: str, sentence: str
) -> None:
    execute(lake, prepare or "select 1")
    with pytest.raises(TableError, match=sentence):
        run(lake, asset_of(lambda context: FRAME, key))


def test_what_holds_no_rows_is_refused(lake: PostgresAddress) -> None:
    with pytest.raises(DatalakeError, match="not a table"):
        run(lake, asset_of(lambda context: 42))
    with pytest.raises(DatalakeError, match="yielded no batch, so its columns are unknown"):
        run(lake, asset_of(lambda context: iter(())))
    with pytest.raises(TableError, match=r"Table lake.visit does not exist.*Materialise lake/visit first"):
        dg.materialize([dg.AssetSpec(KEY), consumer_of(pl.DataFrame, [])], resources={"io_manager": io_manager(lake)})


def test_memory_does_not_grow_with_the_rows(lake: PostgresAddress) -> None:
    """An output is streamed: what is in memory is a few batches, however many there are."""
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(1000)), "text": pa.array(["x" * 1000] * 1000)})
    alive: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(200):
            alive.append(pa.total_allocated_bytes())
            yield pa.RecordBatch.from_arrays(
                [pa.array(batch.column(0).to_pylist()), batch.column(1).cast(pa.large_string())], ["id", "text"]
            )

    run(lake, asset_of(lambda context: batches()))
    assert fetch(lake, "select count(*) from lake.visit") == [(200_000,)]
    assert max(alive) < 40_000_000  # all of it is 200 MB


# ---------------------------------------------------------------------------------------------- collisions


@contextmanager
def counting_reader(address: PostgresAddress, query: str) -> Iterator[set[Any]]:
    """What a reader sees, over and over again, while something is going on."""
    seen: set[Any] = set()
    stop = threading.Event()

    async def read() -> None:
        async with session(address, application_name="reader") as connection:
            while not stop.is_set():
                seen.add(await connection.fetchval(query))

    thread = threading.Thread(target=lambda: asyncio.run(read()))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_a_reader_sees_the_old_slice_or_the_new_one(lake: PostgresAddress) -> None:
    def many(context: dg.AssetExecutionContext) -> pl.DataFrame:
        count = 20_000 if context.run.tags.get("size") == "large" else 10_000
        return pl.DataFrame({"load_date": [dt.date(2026, 1, 1)] * count, "n": range(count)})

    asset = daily(many)
    run(lake, asset, partition="2026-01-01")
    with counting_reader(lake, "select count(*) from lake.visit where load_date = '2026-01-01'") as seen:
        for size in ("large", "small", "large"):
            run(lake, asset, partition="2026-01-01", tags={"size": size})
    assert seen == {10_000, 20_000}


def test_runs_of_different_partitions_make_the_table_together(lake: PostgresAddress) -> None:
    """Both find no table; the second to try must not fail."""
    days = [f"2026-01-{day:02}" for day in range(1, 7)]
    barrier = threading.Barrier(len(days))

    def at_once(context: dg.AssetExecutionContext) -> Iterator[pa.RecordBatch]:
        barrier.wait(30)
        yield from visits(context).to_arrow().to_batches()

    asset = daily(at_once)
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda day: run(lake, asset, partition=day).success, days))
    assert results == [True] * 6
    assert fetch(lake, "select count(*), count(distinct load_date) from lake.visit") == [(18, 6)]
    assert fetch(lake, "select count(*) from pg_indexes where tablename = 'visit'") == [(1,)]


def test_two_runs_of_one_partition_end_as_one_load(lake: PostgresAddress) -> None:
    """Without lock and fence, both would insert (D13)."""
    asset = daily()
    run(lake, asset, partition="2026-01-01")

    def attempt(_: int) -> str | None:
        try:
            return run(lake, asset, partition="2026-01-01").run_id
        except SupersededError:
            return None

    with ThreadPoolExecutor(4) as threads:
        ends = [end for end in threads.map(attempt, range(4)) if end is not None]
    assert ends
    rows = fetch(lake, "select run from lake.visit")
    assert len(rows) == 3
    assert rows[0][0] in ends
    (latest,) = fetch(lake, "select attempt, run_id from ops.attempt")
    assert latest == (5, rows[0][0])


def test_an_older_attempt_cannot_commit_after_a_newer_one_began(lake: PostgresAddress) -> None:
    """Dagster believed the first run dead and started another; the orphan still writes (D14)."""
    successor: list[dg.ExecuteInProcessResult] = []

    def slow(context: dg.AssetExecutionContext) -> Iterator[pa.RecordBatch]:
        yield from visits(context).to_arrow().to_batches()
        successor.append(run(lake, daily(), partition="2026-01-01"))  # while our rows are already in staging

    run(lake, daily(), partition="2026-01-01")
    with pytest.raises(SupersededError, match="Attempt 2 of 3"):
        run(lake, daily(slow), partition="2026-01-01")
    assert fetch(lake, "select distinct run from lake.visit") == [(successor[0].run_id,)]


def test_a_slice_held_by_another_writer_says_by_whom(lake: PostgresAddress) -> None:
    run(lake, daily(), partition="2026-01-01")

    async def hold() -> None:
        async with session(lake, application_name="run 4711") as connection, connection.transaction():
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'lake.visit', '2026-01-01'), 0))"
            )
            with pytest.raises(PostgresError, match=r"held the slice for more than 0.2 s: run 4711 \(process"):
                await asyncio.to_thread(run, lake, daily(), partition="2026-01-01", lock_deadline_s=0.2)
            await asyncio.to_thread(run, lake, daily(), partition="2026-01-02", lock_deadline_s=0.2)

    asyncio.run(hold())


def test_a_commit_whose_answer_is_lost_can_be_repeated(lake: PostgresAddress) -> None:
    """The server has committed, nobody knows; a blind insert would double the slice (D8)."""
    swallowed = []

    def swallow(data: bytes) -> bytes:
        if b"C\x00\x00\x00\x0bCOMMIT\x00" in data and armed:
            swallowed.append(data)
            raise ConnectionError
        return data

    armed: list[bool] = []

    async def lose() -> None:
        async with proxied(lake, to_client=swallow) as lossy:

            def output(context: dg.AssetExecutionContext) -> Iterator[pa.RecordBatch]:
                yield from visits(context).to_arrow().to_batches()
                armed.append(True)

            with pytest.raises(PostgresError) as caught:
                await asyncio.to_thread(run, lossy, daily(output), partition="2026-01-01")
            assert caught.value.transient

    asyncio.run(lose())
    assert swallowed
    run(lake, daily(), partition="2026-01-01")
    assert fetch(lake, "select count(*) from lake.visit") == [(3,)]


def test_staging_carries_the_run_and_goes_with_it(lake: PostgresAddress) -> None:
    seen: list[Any] = []

    def peek(context: dg.AssetExecutionContext) -> Iterator[pa.RecordBatch]:
        yield from visits(context).to_arrow().to_batches()
        seen.extend(fetch(lake, "select relname, relpersistence::text from pg_class where relname like 'stage%'"))
        seen.append(
            fetch(lake, "select count(*) from pg_stat_activity where application_name = $1", context.run.run_id)
        )

    result = run(lake, daily(peek), partition="2026-01-01")
    assert seen == [(f"stage_{result.run_id}", "t"), [(1,)]]
    assert fetch(lake, "select relname from pg_class where relname like 'stage%'") == []
