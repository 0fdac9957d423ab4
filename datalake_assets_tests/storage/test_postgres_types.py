"""Every type goes into PostgreSQL and comes back as it was, or is refused by name."""

import asyncio
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest

from datalake_assets.storage.postgres import PostgresAddress, copy_batches, read_batches, session
from datalake_assets.storage.postgres_types import (
    Column,
    ConversionError,
    CopyEncoder,
    arrow_type,
    columns_of,
    declaration,
)
from datalake_assets_tests.servers import fresh_database

CANARY = "123-45-6789"
UTC = dt.UTC
INSTANTS = [dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), None, dt.datetime(2026, 2, 3, 4, 5, 6, 7, UTC)]
NAIVE = [None if value is None else value.replace(tzinfo=None) for value in INSTANTS]
DAYS = [dt.date(1, 1, 1), None, dt.date(2000, 1, 1), dt.date(9999, 12, 31)]


@pytest.fixture(scope="module")
def types_database(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres_server) as address:
        yield address


def round_trip(
    address: PostgresAddress,
    declared: str,
    batches: list[pa.RecordBatch],
    *,
    before: str = "",
    read_as: pa.DataType | None = None,
    query: str = "select value from pg_temp.typed order by place",
) -> list[object]:
    """What a column gives back after a COPY of the column `value` of some batches."""

    async def run() -> list[object]:
        async with session(address, application_name="types") as connection:
            if before:
                await connection.execute(before)
            await connection.execute(
                f"create temporary table typed (place integer generated always as identity, value {declared})"
            )
            rows = sum(batch.num_rows for batch in batches)
            assert await copy_batches(connection, "typed", ["value"], batches, deadline_s=30) == rows
            schema = None if read_as is None else pa.schema([("value", read_as)])
            back: list[object] = []
            async for batch in read_batches(connection, query, batch_rows=3, schema=schema):
                back += batch.column(0).to_pylist()
            return back

    return asyncio.run(run())


def batch_of(values: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([values], ["value"])


BIG = "x" * 70_000
EXACT = [
    ("boolean", pa.bool_(), [True, None, False]),
    ("smallint", pa.int16(), [-32768, None, 32767]),
    ("smallint", pa.int8(), [-128, None, 127]),
    ("smallint", pa.uint8(), [0, None, 255]),
    ("integer", pa.int32(), [-(2**31), None, 2**31 - 1]),
    ("integer", pa.int64(), [-1, None, 7]),
    ("bigint", pa.int64(), [-(2**63), None, 2**63 - 1]),
    ("bigint", pa.uint32(), [0, None, 2**32 - 1]),
    ("real", pa.float32(), [1.5, None, float("inf"), -0.0]),
    ("double precision", pa.float64(), [0.1, None, float("-inf"), 5e-324]),
    ("double precision", pa.float32(), [1.5, None]),
    ("double precision", pa.int32(), [1, None]),
    ("date", pa.date32(), DAYS),
    ("date", pa.date64(), DAYS),
    ("time", pa.time64("us"), [dt.time(0), None, dt.time(23, 59, 59, 999999)]),
    ("time", pa.time32("s"), [dt.time(1, 2, 3), None]),
    ("timestamp", pa.timestamp("us"), NAIVE),
    ("timestamp", pa.timestamp("s"), [dt.datetime.fromisoformat("1999-12-31"), None]),
    ("timestamp with time zone", pa.timestamp("us", "UTC"), INSTANTS),
    ("timestamp with time zone", pa.timestamp("us", "America/New_York"), INSTANTS),
    ("timestamp with time zone", pa.timestamp("ns", "UTC"), INSTANTS),
    ("text", pa.string(), ["", None, "žluťoučký 🐎", BIG]),
    ("text", pa.large_string(), ["a", None, ""]),
    ("text", pa.string_view(), ["a", None, "longer than twelve bytes"]),
    ("text", pa.binary(), ["a", None, "é"]),
    ("text", pa.dictionary(pa.int8(), pa.string()), ["a", None, "b", "a"]),
    ("text", pa.null(), [None, None]),
    ("varchar(3)", pa.string(), ["abc", None]),
    ("json", pa.string(), ['{"b": 1, "a": 2}', None]),
    ("bytea", pa.binary(), [b"", None, bytes(range(256))]),
    ("bytea", pa.large_binary(), [b"\x00", None]),
    ("bytea", pa.binary(4), [b"abcd", None]),
    ("bytea", pa.binary_view(), [b"abcd", None, b"longer than twelve bytes"]),
    ("text[]", pa.list_(pa.string()), [["a", "", None, "NULL", "{}"], None, [], ["é"]]),
    ("text[]", pa.large_list(pa.large_string()), [[], None, []]),
    ("text[]", pa.list_(pa.string_view()), [["a"], None]),
    ("varchar[]", pa.list_(pa.string(), 2), [["a", "b"], None]),
    ("uuid", pa.binary(16), [uuid.UUID(int=7).bytes, None]),
    ("numeric(20,0)", pa.uint64(), [0, None, 2**64 - 1]),
    ("numeric(12,2)", pa.int16(), [-5, None, 0]),
    ("numeric(10,2)", pa.decimal128(10, 2), [Decimal("-12345678.90"), None, Decimal("0.01"), Decimal("0.00")]),
    ("numeric(18,18)", pa.decimal128(18, 18), [Decimal("0.123456789012345678"), None, Decimal("-1E-18")]),
    ("numeric(18,5)", pa.decimal128(38, 5), [Decimal("1.00001"), None, Decimal("9999999999999.99999")]),
    ("numeric(38,10)", pa.decimal128(38, 10), [Decimal("1234567890123456789012345678.0123456789"), None]),
    ("numeric(60,3)", pa.decimal256(60, 3), [Decimal(10) ** 50 + Decimal("0.125"), None, Decimal("-0.001")]),
    ("numeric(9,2)", pa.decimal64(9, 2), [Decimal("10000.00"), None, Decimal("-0.05")]),
    ("numeric(9,0)", pa.decimal128(6, -3), [Decimal("123000"), None]),
    ("numeric(10,2)", pa.decimal128(10, 4), [Decimal("1.2300"), None]),
]


@pytest.mark.parametrize(("declared", "kind", "values"), EXACT, ids=[f"{row[1]} as {row[0]}" for row in EXACT])
def test_a_value_comes_back_as_it_was(
    types_database: PostgresAddress, declared: str, kind: pa.DataType, values: list[object]
) -> None:
    if pa.types.is_dictionary(kind):
        array = pa.array(values, pa.string()).dictionary_encode()
    else:
        array = pa.array(values, kind)
    # A slice is the hard case: buffers of the array hold more than its rows.
    padded = pa.concat_arrays([array.slice(0, 1), array, array]).slice(1, len(array))
    read_as = None
    if declared.startswith("numeric"):
        precision, scale = (int(digits) for digits in declared[8:-1].split(","))
        read_as = (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    back = round_trip(types_database, declared, [batch_of(padded), batch_of(array)], read_as=read_as)
    expected = array.to_pylist()
    if declared == "uuid":
        expected = [None if value is None else str(uuid.UUID(bytes=value)) for value in expected]
    elif pa.types.is_binary(kind) and declared == "text":
        expected = [None if value is None else value.decode() for value in expected]
    assert back == expected * 2


def test_a_value_without_nulls_takes_the_same_way(types_database: PostgresAddress) -> None:
    for declared, kind, values in EXACT[:30]:
        if pa.types.is_null(kind) or pa.types.is_dictionary(kind):
            continue
        array = pa.array([value for value in values if value is not None], kind)
        back = round_trip(types_database, declared, [batch_of(array)])
        assert [value.encode() if isinstance(value, str) and pa.types.is_binary(kind) else value for value in back] == (
            array.to_pylist()
        ), declared


@pytest.mark.parametrize("kind", [pa.string(), pa.large_binary()], ids=str)
def test_json_travels_as_utf_8_text_or_bytes(types_database: PostgresAddress, kind: pa.DataType) -> None:
    documents = ['{"a": [1, 2.50, "é"], "b": null}', None, "[]", '"x"']
    values = [text.encode() if text and pa.types.is_large_binary(kind) else text for text in documents]
    back = round_trip(types_database, "jsonb", [batch_of(pa.array(values, kind))])
    assert [text and json.loads(str(text)) for text in back] == [text and json.loads(text) for text in documents]
    assert '"a": [1, 2.50, "é"]' in str(back[0])


def test_numbers_of_a_document_keep_their_digits(types_database: PostgresAddress) -> None:
    document = '{"n": 12345678901234567890123.450}'
    assert round_trip(types_database, "jsonb", [batch_of(pa.array([document]))]) == [document]


def test_an_enumeration_and_a_domain_are_written_as_their_text(types_database: PostgresAddress) -> None:
    before = "create type public.colour as enum ('green', 'yellow'); create domain public.short as varchar(5)"
    batch = batch_of(pa.array(["green", None]))
    assert round_trip(types_database, "public.colour", [batch], before=before) == ["green", None]
    assert round_trip(types_database, "public.short", [batch]) == ["green", None]


def test_what_polars_gives_can_be_written(types_database: PostgresAddress) -> None:
    """Polars has its own views, categories and decimals of 38 digits."""
    frame = pl.DataFrame(
        {
            "text": ["a", None],
            "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
            "price": pl.Series([Decimal("1.25"), None], dtype=pl.Decimal(38, 2)),
            "tags": [["a", "b"], []],
        }
    )
    table = frame.to_arrow()

    async def run() -> list[tuple[object, ...]]:
        async with session(types_database, application_name="types") as connection:
            columns = ", ".join(f"{field.name} {declaration(field)}" for field in table.schema)
            await connection.execute(f"create temporary table framed ({columns})")
            await copy_batches(connection, "framed", table.schema.names, table.to_batches(), deadline_s=30)
            return [tuple(row) for row in await connection.fetch("select * from pg_temp.framed order by text")]

    assert asyncio.run(run()) == [("a", "x", Decimal("1.25"), ["a", "b"]), (None, "y", None, [])]


@pytest.mark.parametrize("batch_rows", [1_000, 7_777, 60_000])
def test_what_takes_several_copy_commands_is_written_whole(types_database: PostgresAddress, batch_rows: int) -> None:
    """Each COPY command must begin and end with a row, wherever batches and pieces end."""
    values = pa.array([f"{number} " * (number % 257) for number in range(60_000)])  # some 50 MB
    batches = [batch_of(values.slice(start, batch_rows)) for start in range(0, len(values), batch_rows)]
    sent = hashlib.md5("".join(values.to_pylist()).encode()).hexdigest()  # noqa: S324 - only compared
    query = "select md5(string_agg(value, '' order by place)) from pg_temp.typed"
    assert round_trip(types_database, "text", batches, query=query) == [sent]


def test_the_wire_format_of_many_columns_is_that_of_the_server(types_database: PostgresAddress) -> None:
    """Rows are joined from pieces by column; a piece lost or doubled would shift all that follow."""

    async def run() -> None:
        async with session(types_database, application_name="types") as connection:
            await connection.execute(
                "create temporary table wide as select n::integer as a, null::text as b, n::text as c,"
                " case when n % 3 = 0 then n * 1.5 end::numeric(12,2) as d, n % 2 = 0 as e, null::integer as f"
                " from generate_series(1, 100) as n"
            )
            names = ["a", "b", "c", "d", "e", "f"]
            schema = pa.schema([(column.name, arrow_type(column)) for column in await columns_of(connection, "wide")])
            batches = [
                batch
                async for batch in read_batches(connection, "select * from pg_temp.wide order by a", schema=schema)
            ]
            await connection.execute("create temporary table copied (like pg_temp.wide)")
            await copy_batches(connection, "copied", names, batches, deadline_s=30)
            difference = (
                "(table pg_temp.wide except table pg_temp.copied) union all"
                " (table pg_temp.copied except table pg_temp.wide)"
            )
            assert await connection.fetch(difference) == []

    asyncio.run(run())


REFUSED = [
    ("integer", pa.array([1.5])),
    ("integer", pa.array(["1"])),
    ("integer", pa.array([True])),
    ("real", pa.array([0.1], pa.float64())),
    ("real", pa.array([2**25 + 1], pa.int64())),
    ("numeric(10,2)", pa.array([0.1])),
    ("timestamp", pa.array([INSTANTS[0]], pa.timestamp("us", "UTC"))),
    ("timestamp with time zone", pa.array([NAIVE[0]], pa.timestamp("us"))),
    ("timestamp(0) with time zone", pa.array([INSTANTS[0]], pa.timestamp("us", "UTC"))),
    ("date", pa.array([NAIVE[0]], pa.timestamp("us"))),
    ("text", pa.array([1])),
    ("bytea", pa.array(["a"])),
    ("boolean", pa.array([1])),
    ("jsonb", pa.array([{"a": 1}])),
    ("interval", pa.array([dt.timedelta(1)])),
    ("integer[]", pa.array([[1]])),
]


@pytest.mark.parametrize(
    ("declared", "values"), REFUSED, ids=[f"{values.type} as {declared}" for declared, values in REFUSED]
)
def test_a_type_that_would_be_guessed_or_lose_is_refused(
    types_database: PostgresAddress, declared: str, values: pa.Array
) -> None:
    with pytest.raises(ConversionError, match=r'Column "value" is .* without guessing or loss'):
        round_trip(types_database, declared, [batch_of(values)])


UNFIT = [
    ("smallint", pa.array([1, 123456789])),
    ("numeric(10,2)", pa.array([Decimal("1.23456789")])),
    ("timestamp", pa.array([123456789], pa.timestamp("ns"))),
    ("text", pa.array([b"123-45-6789\xff"])),
    ("double precision", pa.array([2**53 + 1])),
    ("date", pa.array([86_400_001], pa.date64())),
]


@pytest.mark.parametrize(
    ("declared", "values"), UNFIT, ids=[f"{values.type} as {declared}" for declared, values in UNFIT]
)
def test_a_value_that_does_not_fit_is_refused_without_being_quoted(
    types_database: PostgresAddress, declared: str, values: pa.Array
) -> None:
    with pytest.raises(ConversionError, match='Column "value" holds a value that does not fit') as caught:
        round_trip(types_database, declared, [batch_of(values)])
    for canary in (CANARY, "123456789", "1.2345", str(2**53 + 1)):
        assert canary not in str(caught.value)


def test_a_missing_or_doubled_column_is_named() -> None:
    with pytest.raises(ConversionError, match='0 columns named "b"'):
        CopyEncoder([Column("b", "text", "text")], pa.schema([("a", pa.string())]))
    with pytest.raises(ConversionError, match='2 columns named "a"'):
        CopyEncoder([Column("a", "text", "text")], pa.schema([("a", pa.string()), ("a", pa.string())]))


def test_rows_of_nothing_but_nulls_are_still_rows() -> None:
    encoder = CopyEncoder([Column("a", "int4", "integer")], pa.schema([("a", pa.null())]))
    pieces = list(encoder.encode(pa.RecordBatch.from_arrays([pa.nulls(3)], ["a"])))
    assert b"".join(piece.to_pybytes() for piece in pieces) == (b"\x00\x01" + b"\xff" * 4) * 3


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        (pa.uint64(), "numeric(20,0)"),
        (pa.decimal128(10, 2), "numeric(10,2)"),
        (pa.decimal128(3, 5), "numeric(5,5)"),
        (pa.timestamp("ms"), "timestamp without time zone"),
        (pa.list_(pa.string()), "text[]"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
        (pa.binary(16), "bytea"),
    ],
    ids=str,
)
def test_a_new_column_gets_a_type_that_holds_every_value(kind: pa.DataType, declared: str) -> None:
    assert declaration(pa.field("a", kind)) == declared


@pytest.mark.parametrize("kind", [pa.struct([("a", pa.int32())]), pa.list_(pa.int32()), pa.duration("s")], ids=str)
def test_nested_data_is_refused_by_the_name_of_its_column(kind: pa.DataType) -> None:
    with pytest.raises(ConversionError, match='Column "address"'):
        declaration(pa.field("address", kind))


def test_a_column_without_counterpart_is_refused_by_name() -> None:
    with pytest.raises(ConversionError, match='Column "where" is point'):
        arrow_type(Column("where", "point", "point"))


def test_the_catalog_is_read_as_declared(types_database: PostgresAddress) -> None:
    async def run() -> list[Column]:
        async with session(types_database, application_name="types") as connection:
            await connection.execute(
                "create table public.described (id bigint generated always as identity, price numeric(7,-2),"
                " gone text, word varchar(3) not null default 'x', amount numeric, at timestamptz(3));"
                " alter table public.described drop column gone;"
                " comment on column public.described.word is 'A word.'"
            )
            assert await columns_of(connection, "described", "nowhere") == []
            assert await columns_of(connection, "described") == []
            return await columns_of(connection, "described", "public")

    assert asyncio.run(run()) == [
        Column("id", "int8", "bigint", nullable=False, filled=True),
        Column("price", "numeric", "numeric(7,-2)", precision=7, scale=-2),
        Column("word", "varchar", "character varying(3)", nullable=False, filled=True, comment="A word."),
        Column("amount", "numeric", "numeric"),
        Column("at", "timestamptz", "timestamp(3) with time zone"),
    ]
