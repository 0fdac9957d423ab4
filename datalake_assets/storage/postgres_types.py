"""How Arrow and PostgreSQL types correspond: which type becomes which, and Arrow batches as binary COPY.

A value is kept exactly or refused; what cannot be kept (a float in a numeric column, a time without zone in a
column with one) is refused by the name of its column, never by its value. The rows of a batch are joined
column by column inside Arrow, so no Python object is made per value. Connections and COPY itself are in
`postgres.py`.
"""

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc

from datalake_assets.errors import DatalakeError

COPY_START: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_END: Final = b"\xff\xff"

_BYTES: Final = pa.large_binary()
_EMPTY: Final = pa.scalar(b"", _BYTES)
_NOTHING: Final = pa.scalar(None, _BYTES)
_NULL: Final = pa.scalar(b"\xff\xff\xff\xff", _BYTES)
_EPOCH_DAYS: Final = 10957  # 1970-01-01 to 2000-01-01, PostgreSQL's day zero
_EPOCH_US: Final = _EPOCH_DAYS * 86_400_000_000
_ENCODED_BYTES: Final = 4 * 1024 * 1024

_FIXED: Final = {
    "int2": (pa.int16(), "h"),
    "int4": (pa.int32(), "i"),
    "int8": (pa.int64(), "q"),
    "float4": (pa.float32(), "f"),
    "float8": (pa.float64(), "d"),
}
_TEXT: Final = frozenset({"text", "varchar", "bpchar", "json", "enum"})
_TEXT_ARRAYS: Final = {"_text": 25, "_varchar": 1043}  # with the OID of their elements

_TO_ARROW: Final = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "bytea": pa.large_binary(),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "json", "jsonb", "uuid", "enum"), pa.large_string()),
    "_text": pa.list_(pa.large_string()),
    "_varchar": pa.list_(pa.large_string()),
    "_int2": pa.list_(pa.int16()),
    "_int4": pa.list_(pa.int32()),
    "_int8": pa.list_(pa.int64()),
    "_float8": pa.list_(pa.float64()),
    "_bool": pa.list_(pa.bool_()),
    "_date": pa.list_(pa.date32()),
}


class ConversionError(DatalakeError):
    """A column or a value has no exact counterpart on the other side."""


@dataclass(frozen=True)
class Column:
    """One column of a PostgreSQL table.

    Attributes:
        name: As in the catalog.
        type: Name of the base type in the catalog (`int4`, `timestamptz`, `_text`); `enum` for enumerations.
        declared: The type as written in a declaration, e.g. `numeric(10,2)`.
        nullable: Whether it takes nulls.
        filled: Whether the server fills it where a row brings nothing: default, identity or generated.
        comment: What the catalog says about it.
        precision: Declared digits of a numeric, if any.
        scale: Declared decimal places of a numeric, if any.
    """

    name: str
    type: str
    declared: str
    nullable: bool = True
    filled: bool = False
    comment: str = ""
    precision: int | None = None
    scale: int | None = None


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type that holds every value of a PostgreSQL column exactly.

    JSON becomes text; so does a numeric without declared digits, because no Arrow decimal holds them all.

    Raises:
        ConversionError: The type has no counterpart here.
    """
    if column.type == "numeric":
        if column.precision is None or column.scale is None or not 0 <= column.scale <= column.precision <= 76:
            return pa.large_string()
        return (pa.decimal128 if column.precision <= 38 else pa.decimal256)(column.precision, column.scale)
    if (found := _TO_ARROW.get(column.type)) is None:
        raise ConversionError(
            f'Column "{column.name}" is {column.declared or column.type}, which has no counterpart in Arrow.',
            todo="Cast it to text in the query, or leave it out.",
        )
    return found


def declaration(field: pa.Field) -> str:
    """The PostgreSQL type for a new column that is to hold an Arrow field.

    Raises:
        ConversionError: The type has no counterpart here.
    """
    kind = _plain(field.type)
    types = pa.types
    if types.is_decimal(kind):
        return f"numeric({max(kind.precision, kind.scale)},{max(kind.scale, 0)})" if kind.scale >= 0 else "numeric"
    if types.is_timestamp(kind):
        return "timestamp with time zone" if kind.tz else "timestamp without time zone"
    if _is_text_list(kind):
        return "text[]"
    for matches, name in (
        (types.is_boolean, "boolean"),
        (lambda kind: types.is_int8(kind) or types.is_uint8(kind) or types.is_int16(kind), "smallint"),
        (lambda kind: types.is_uint16(kind) or types.is_int32(kind), "integer"),
        (lambda kind: types.is_uint32(kind) or types.is_int64(kind), "bigint"),
        (types.is_uint64, "numeric(20,0)"),
        (lambda kind: types.is_float16(kind) or types.is_float32(kind), "real"),
        (types.is_float64, "double precision"),
        (types.is_date, "date"),
        (types.is_time, "time without time zone"),
        (_is_text, "text"),
        (_is_binary, "bytea"),
    ):
        if matches(kind):
            return name
    raise ConversionError(
        f'Column "{field.name}" has Arrow type {field.type}, which has no counterpart in PostgreSQL.',
        todo="Cast it to a plain type, or write nested data as JSON text.",
    )


async def columns_of(connection: asyncpg.Connection, table: str, schema: str | None = None) -> list[Column]:
    """The columns of a table, in their order; empty if there is no such table.

    Args:
        connection: An open connection.
        table: Name of the table.
        schema: Its schema; None for a temporary table of this session.
    """
    rows = await connection.fetch(_COLUMNS, schema or "pg_temp", table)
    return [Column(**dict(row)) for row in rows]


_COLUMNS: Final = """
with recursive bare as (
    select oid as declared, oid, typname, typtype, typbasetype from pg_catalog.pg_type
    union all
    select bare.declared, base.oid, base.typname, base.typtype, base.typbasetype
    from bare join pg_catalog.pg_type as base on base.oid = bare.typbasetype
    where bare.typtype = 'd'
)
select
    a.attname::text as name,
    case when bare.typtype = 'e' then 'enum' else bare.typname::text end as type,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as declared,
    not a.attnotnull as nullable,
    a.atthasdef or a.attidentity <> '' as filled,
    coalesce(pg_catalog.col_description(a.attrelid, a.attnum), '') as comment,
    case when digits.typmod >= 0 then (digits.typmod >> 16) & 65535 end as precision,
    case when digits.typmod >= 0 then ((digits.typmod & 2047) # 1024) - 1024 end as scale
from pg_catalog.pg_class as c
join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join bare on bare.declared = a.atttypid and bare.typtype <> 'd'
cross join lateral (select case when bare.typname = 'numeric' then a.atttypmod - 4 end as typmod) as digits
where
    c.relname = $2
    and c.relnamespace = case
        when $1 = 'pg_temp' then pg_catalog.pg_my_temp_schema()
        else (select n.oid from pg_catalog.pg_namespace as n where n.nspname = $1)
    end
order by a.attnum
"""


class CopyEncoder:
    """Arrow batches of one schema as rows of PostgreSQL's binary COPY format.

    Args:
        columns: The columns written, in their order; a batch brings each by its name.
        schema: Schema of the batches.

    Raises:
        ConversionError: A column is missing, or its type cannot become that of the table.
    """

    def __init__(self, columns: Sequence[Column], schema: pa.Schema) -> None:
        self._names = [column.name for column in columns]
        for name in self._names:
            if schema.names.count(name) != 1:
                raise ConversionError(f'The batches hold {schema.names.count(name)} columns named "{name}", not one.')
        self._encoders = [_encoder(column, schema.field(column.name).type) for column in columns]
        self._lead = pa.scalar(len(columns).to_bytes(2, "big"), _BYTES)

    def encode(self, batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
        """The rows of a batch, in pieces of bounded size that end with a row.

        Raises:
            ConversionError: A value does not fit the type of its column.
        """
        rows = max(1, batch.num_rows * _ENCODED_BYTES // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, rows):
            yield self._encode(batch.slice(start, rows))

    def _encode(self, batch: pa.RecordBatch) -> pa.Buffer:
        pieces = [self._lead]
        for name, encoder in zip(self._names, self._encoders, strict=True):
            try:
                pieces += encoder(batch.column(name))
            except (pa.ArrowException, OverflowError):
                # Arrow quotes the value that did not fit.
                raise ConversionError(
                    f'Column "{name}" holds a value that does not fit the type of its column in the table.',
                    todo="Look for values out of range, of finer precision, or text that is not UTF-8.",
                ) from None
        rows = _joined(pieces)
        if not isinstance(rows, pa.Array):  # no column at all: every piece was a scalar
            return pa.py_buffer(rows.as_py() * batch.num_rows)
        start, end = _offset(rows, 0), _offset(rows, len(rows))
        return rows.buffers()[2].slice(start, end - start)


_Encoder = Callable[[pa.Array], list[Any]]


def _encoder(column: Column, kind: pa.DataType) -> _Encoder:
    """How one column is written, chosen once for all batches."""
    plain = _plain(kind)
    chosen = _writer(column, plain)
    if chosen is None:
        raise ConversionError(
            f'Column "{column.name}" is {kind} in the batches, which cannot become '
            f"{column.declared or column.type} without guessing or loss.",
            todo="Cast it before it is written, or change the table in a migration.",
        )
    return chosen if plain == kind else lambda values: chosen(_plain_values(values, plain))


def _writer(column: Column, kind: pa.DataType) -> _Encoder | None:
    target, types = column.type, pa.types
    text_like = _is_text(kind) or _is_binary(kind)
    if types.is_null(kind):
        return lambda values: [_NULL]
    if target in ("int2", "int4", "int8"):
        return partial(_number, *_FIXED[target]) if types.is_integer(kind) else None
    if target in ("float4", "float8"):
        exact = types.is_float16(kind) or types.is_float32(kind)
        if target == "float8":
            exact = exact or types.is_float64(kind) or types.is_integer(kind)
        return partial(_number, *_FIXED[target]) if exact else None
    if target == "numeric":
        return partial(_numeric, column.scale) if types.is_decimal(kind) or types.is_integer(kind) else None
    if target in ("time", "timestamp", "timestamptz"):
        if "(" in column.declared and "(6)" not in column.declared:
            return None  # the server would round
        if target == "time":
            return _time if types.is_time(kind) else None
        return _timestamp if types.is_timestamp(kind) and (kind.tz is None) == (target == "timestamp") else None
    if target in _TEXT:
        return _text if text_like else None
    if target == "jsonb":
        return partial(_text, before=b"\x01") if text_like else None
    if target in _TEXT_ARRAYS:
        return partial(_text_array, _TEXT_ARRAYS[target]) if _is_text_list(kind) else None
    writes: dict[str, tuple[bool, _Encoder]] = {
        "bool": (types.is_boolean(kind), partial(_number, pa.uint8(), "B")),
        "date": (types.is_date(kind), _date),
        "bytea": (_is_binary(kind), _variable),
        "uuid": (types.is_fixed_size_binary(kind) and kind.byte_width == 16, _variable),
    }
    fits, writer = writes.get(target, (False, _variable))
    return writer if fits else None


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without what only matters inside Arrow: extensions, dictionaries and run lengths."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def _plain_values(values: pa.Array, plain: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    return values.cast(plain)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_text_list(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return is_list and _is_text(_plain(kind.value_type))


def _fixed(values: pa.Array, code: str) -> list[Any]:
    """Length and big-endian value of each row, for a type of fixed width."""
    width = array(code).itemsize
    length = pa.scalar(width.to_bytes(4, "big"), _BYTES)
    validity = values.is_valid() if values.null_count else None
    data = _bytes_of(_swapped(values, code), width, len(values), validity)
    return [length if validity is None else pc.if_else(validity, length, _NULL), data]


def _number(arrow: pa.DataType, code: str, values: pa.Array) -> list[Any]:
    return _fixed(values.cast(arrow), code)


def _date(values: pa.Array) -> list[Any]:
    days = values.cast(pa.date32()).view(pa.int32())
    return _fixed(pc.subtract_checked(days, pa.scalar(_EPOCH_DAYS, pa.int32())), "i")


def _time(values: pa.Array) -> list[Any]:
    return _fixed(values.cast(pa.time64("us")).view(pa.int64()), "q")


def _timestamp(values: pa.Array) -> list[Any]:
    microseconds = values.cast(pa.timestamp("us", tz=values.type.tz)).view(pa.int64())
    return _fixed(pc.subtract_checked(microseconds, pa.scalar(_EPOCH_US, pa.int64())), "q")


def _variable(values: pa.Array, before: bytes = b"") -> list[Any]:
    """Length and bytes of each row, for text and bytes; `before` stands in front of each value."""
    binary = values.cast(_BYTES)
    lengths = pc.add(pc.binary_length(binary), len(before)).cast(pa.int32())
    pieces = [_bytes_of(_swapped(lengths.fill_null(-1), "i"), 4, len(values))]
    if before:
        pieces.append(_where_valid(binary.is_valid(), before))
    return [*pieces, binary]


def _text(values: pa.Array, before: bytes = b"") -> list[Any]:
    return _variable(values.cast(pa.large_string()), before)  # the cast refuses bytes that are not UTF-8


def _numeric(scale: int | None, values: pa.Array) -> list[Any]:
    """Digits in groups of four; the server drops leading and trailing groups of zero itself.

    Args:
        scale: Decimal places of the column, to which the server would round without a word.
        values: Integers or decimals.
    """
    if pa.types.is_integer(values.type):
        values = values.cast(pa.decimal128(20, 0))
    if scale is not None and values.type.scale > scale:
        values = values.cast(pa.decimal128(38, scale))
    try:
        values = values.cast(pa.decimal128(18, max(values.type.scale, 0)))
    except pa.ArrowException:
        return [pa.array([_numeric_field(value) for value in values.to_pylist()], _BYTES)]
    scale = values.type.scale
    unscaled = _low_words(values)
    rest, groups = pc.abs(unscaled), []
    if odd := scale % 4:
        rest, group = _split(rest, 10**odd)
        groups.append(pc.multiply(group, 10 ** (4 - odd)))
    while not groups or pc.max(rest).as_py():  # amounts of money have few digits: two groups, not five
        rest, group = _split(rest, 10_000)
        groups.append(group)
    weight = len(groups) - -(-scale // 4) - 1
    length, count = (8 + 2 * len(groups)).to_bytes(4, "big"), len(groups).to_bytes(2, "big")
    positive, negative = (
        pa.scalar(length + count + weight.to_bytes(2, "big", signed=True) + sign + scale.to_bytes(2, "big"), _BYTES)
        for sign in (b"\x00\x00", b"\x40\x00")
    )
    is_negative = pc.less(unscaled, 0)
    head = pc.if_else(is_negative, negative, positive) if pc.any(is_negative).as_py() else positive
    validity = values.is_valid() if values.null_count else None
    return [
        head if validity is None else pc.if_else(validity, head, _NULL),
        *(_bytes_of(_swapped(group.cast(pa.int16()), "h"), 2, len(values), validity) for group in reversed(groups)),
    ]


def _numeric_field(value: Decimal | None) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    sign, digits, exponent = value.as_tuple()
    power = int(exponent)
    scale = max(-power, 0)
    text = "".join(map(str, digits)) + "0" * max(power, 0) + "0" * (-scale % 4)
    text = "0" * (-len(text) % 4) + text
    groups = [int(text[start : start + 4]) for start in range(0, len(text), 4)]
    weight = len(groups) - -(-scale // 4) - 1
    return b"".join(
        (
            (8 + 2 * len(groups)).to_bytes(4, "big"),
            len(groups).to_bytes(2, "big"),
            weight.to_bytes(2, "big", signed=True),
            b"\x40\x00" if sign else b"\x00\x00",
            scale.to_bytes(2, "big"),
            *(group.to_bytes(2, "big") for group in groups),
        )
    )


def _text_array(element: int, values: pa.Array) -> list[Any]:
    """One-dimensional arrays of text; an empty one has no dimension."""
    lists = values.cast(pa.large_list(pa.large_string()))
    elements = lists.values  # all of them: the offsets of the lists point into it, whatever slice this is
    fields = _joined(_variable(elements))
    starts = pa.Array.from_buffers(pa.int64(), len(lists) + 1, [None, lists.buffers()[1]], offset=lists.offset)
    ends = pa.Array.from_buffers(pa.int64(), len(fields) + 1, [None, fields.buffers()[1]], offset=fields.offset)
    bodies = [None, ends.take(starts).buffers()[1], fields.buffers()[2]]
    body = pa.Array.from_buffers(_BYTES, len(lists), bodies)
    validity, lengths = lists.is_valid(), lists.value_lengths().fill_null(0)
    filled = pc.greater(lengths, 0)
    has_nulls = int(elements.null_count > 0).to_bytes(4, "big")
    head = pc.if_else(
        filled,
        pa.scalar((1).to_bytes(4, "big") + has_nulls + element.to_bytes(4, "big"), _BYTES),
        pa.scalar(bytes(8) + element.to_bytes(4, "big"), _BYTES),
    )
    dimension = _bytes_of(_swapped(lengths.cast(pa.int32()), "i"), 4, len(lists), filled)
    lower_bound = _where_valid(filled, (1).to_bytes(4, "big"))
    whole = _joined([head, dimension, lower_bound, pc.if_else(filled, body, _NOTHING)])
    return _variable(pc.if_else(validity, whole, _NOTHING))


def _split(values: Any, base: int) -> tuple[Any, Any]:
    quotient = pc.divide(values, base)
    return quotient, pc.subtract(values, pc.multiply(quotient, base))


def _low_words(values: pa.Array) -> pa.Array:
    """The unscaled integers of decimals of up to 18 digits, which fit the lower half of their 16 bytes."""
    words = array("q")
    words.frombytes(values.buffers()[1])
    low = words[2 * values.offset : 2 * (values.offset + len(values)) : 2]
    unscaled = pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(low)])
    return pc.if_else(values.is_valid(), unscaled, 0)


def _swapped(values: pa.Array, code: str) -> "array[Any]":
    """The values of a primitive array in network byte order, as PostgreSQL reads them."""
    items = array(code)
    data = values.buffers()[1]
    start = values.offset * items.itemsize
    items.frombytes(data.slice(start, len(values) * items.itemsize) if data is not None else b"")
    if sys.byteorder == "little":
        items.byteswap()
    return items


def _bytes_of(items: "array[Any]", width: int, rows: int, validity: pa.Array | None = None) -> pa.Array:
    """Each item as a value of `width` bytes; null, that is nothing at all, where it is not valid."""
    values = pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(items)]).cast(_BYTES)
    return values if validity is None else pc.if_else(validity, values, _NOTHING)


def _where_valid(validity: pa.Array, data: bytes) -> pa.Array:
    return pc.if_else(validity, pa.scalar(data, _BYTES), _NOTHING)


def _joined(pieces: Sequence[Any]) -> Any:
    """The pieces of each row one behind the other; a null piece is nothing."""
    return pc.binary_join_element_wise(*pieces, _EMPTY, null_handling="replace", null_replacement="")


def _offset(values: pa.Array, index: int) -> int:
    start = (values.offset + index) * 8
    return int.from_bytes(values.buffers()[1].slice(start, 8).to_pybytes(), sys.byteorder)
