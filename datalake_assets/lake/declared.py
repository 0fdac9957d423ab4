"""What a declared column is: its type in words, and values of JSON or text made into that type.

A value is kept exactly or it fails: every failure is told with its row and its rule, and nothing is guessed. `NA`
is text, an empty text is no null and no zero, `false` and `0` are values like others. Where values come from, and
what becomes of a row with a failure, does not belong here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from datalake_assets import exact_json
from datalake_assets.errors import DatalakeError
from datalake_assets.exact_json import JsonValue

Kind = Literal["text", "integer", "decimal", "double", "boolean", "date", "timestamp", "timestamptz", "jsonb"]

OPEN_DECIMAL: Final = pa.decimal128(38, 18)
"""What holds a decimal that is declared without digits: twenty before the point, eighteen after it."""

_WORDS: Final = {
    "text": ("text", "text"),
    "smallint": ("integer", "smallint"),
    "int2": ("integer", "smallint"),
    "integer": ("integer", "integer"),
    "int": ("integer", "integer"),
    "int4": ("integer", "integer"),
    "bigint": ("integer", "bigint"),
    "int8": ("integer", "bigint"),
    "decimal": ("decimal", "numeric"),
    "numeric": ("decimal", "numeric"),
    "double": ("double", "double precision"),
    "double precision": ("double", "double precision"),
    "float8": ("double", "double precision"),
    "boolean": ("boolean", "boolean"),
    "bool": ("boolean", "boolean"),
    "date": ("date", "date"),
    "timestamp": ("timestamp", "timestamp without time zone"),
    "timestamp without time zone": ("timestamp", "timestamp without time zone"),
    "timestamptz": ("timestamptz", "timestamp with time zone"),
    "timestamp with time zone": ("timestamptz", "timestamp with time zone"),
    "jsonb": ("jsonb", "jsonb"),
}
KNOWN_TYPES: Final = (
    "varchar(n), text, smallint, integer, bigint, decimal, decimal(p,s), double, boolean, date, timestamp, "
    "timestamptz, jsonb"
)

_ARROW: Final[dict[str, pa.DataType]] = {
    "text": pa.large_string(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "jsonb": pa.large_string(),
}

_WITH_LENGTH: Final = re.compile(r"(?:varchar|character varying)\s*\(\s*(\d+)\s*\)")
_WITH_DIGITS: Final = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_MAX_LENGTH: Final = 10_485_760
"""What PostgreSQL allows for varchar."""

_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MOMENT: Final = _DAY + r"[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_FORMS: Final[dict[Kind, str]] = {
    "integer": r"^[+-]?[0-9]+(\.0*)?$",
    "decimal": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$",
    "double": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$",
    "boolean": r"^(true|false|True|False|TRUE|FALSE)$",
    "date": f"^{_DAY}$",
    "timestamp": f"^{_MOMENT}$",
    "timestamptz": f"^{_MOMENT}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$",
}
"""How a value is written; anything else is not of the kind."""


class DeclarationError(DatalakeError):
    """A column is declared in a way that cannot be meant."""


@dataclass(frozen=True)
class Failure:
    """One value that is not what its column declares.

    Attributes:
        row: Its place among the values that were cast, from 0.
        rule: Stable word for what is wrong, e.g. `not_an_integer`; never the value.
    """

    row: int
    rule: str


@dataclass(frozen=True)
class Cast:
    """Values as a declared type.

    Attributes:
        values: One value for each that was given; null where it was null, or failed.
        failures: Every value that failed, in order of rows.
    """

    values: pa.Array = field(repr=False)
    failures: list[Failure]


@dataclass(frozen=True)
class ColumnType:
    """A type as it is declared; made by `parse_type`.

    Attributes:
        kind: What its values are.
        sql: The type in PostgreSQL, as `format_type` writes it.
        arrow: The type in Arrow.
        length: The most characters of a varchar.
    """

    kind: Kind
    sql: str
    arrow: pa.DataType
    length: int | None = None

    def __str__(self) -> str:
        return self.sql

    def cast(self, values: pa.Array | pa.ChunkedArray | Sequence[JsonValue]) -> Cast:
        """Make values into this type.

        Args:
            values: Texts as an Arrow array, or values of JSON as `exact_json` parses them. Null stays null.
        """
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.Array):
            return self._of_texts(values.cast(pa.large_string()))
        return self._of_json(values)

    def _of_texts(self, texts: pa.Array) -> Cast:
        if self.kind == "text":
            return self._checked_texts(texts)
        if self.kind == "jsonb":
            return _each(texts.to_pylist(), _json_text, self.arrow)
        formed = pc.match_substring_regex(texts, _FORMS[self.kind])
        kept = pc.if_else(formed, texts, pa.scalar(None, texts.type))
        cast = self._exact(kept)
        wrong = pc.and_(texts.is_valid(), cast.values.is_null())
        if not pc.any(wrong).as_py():
            return cast
        told = {failure.row for failure in cast.failures}
        malformed = [Failure(row, self._malformed) for row in _rows(wrong) if row not in told]
        return Cast(cast.values, sorted([*cast.failures, *malformed], key=lambda failure: failure.row))

    def _exact(self, texts: pa.Array) -> Cast:
        """Texts of the right form; those that no value of the type equals, fail."""
        plain = texts
        if self.kind == "integer":
            plain = pc.replace_substring_regex(pc.utf8_ltrim(texts, "+"), r"\.0*$", "")
        elif self.kind == "double":
            plain = pc.utf8_ltrim(texts, "+")
        elif self.kind == "boolean":
            plain = pc.utf8_lower(texts)
        elif self.kind == "decimal":
            # Arrow rounds digits beyond the scale away without a word in some versions, and refuses them in others.
            return self._decimals(texts)
        try:
            return Cast(_finite(plain.cast(self.arrow)), [])
        except pa.ArrowInvalid:
            return _each(plain.to_pylist(), lambda text: pa.scalar(text).cast(self.arrow).as_py(), self.arrow)

    def _decimals(self, texts: pa.Array) -> Cast:
        places = self.arrow.scale
        whole = max(self.arrow.precision - places, 1)
        fits = pc.match_substring_regex(texts, rf"^[+-]?[0-9]{{1,{whole}}}(\.[0-9]{{0,{places}}})?$")
        if pc.all(fits, min_count=0).as_py():  # nulls are passed over
            plain = pc.replace_substring_regex(pc.utf8_ltrim(texts, "+"), r"\.$", "")
            try:
                return Cast(plain.cast(self.arrow), [])
            except pa.ArrowInvalid:  # only where there is no digit before the point
                pass
        return _each(texts.to_pylist(), lambda text: self._fitting(Decimal(text)), self.arrow)

    def _fitting(self, number: Decimal) -> Decimal:
        """A number, if this decimal type holds it as it is.

        Raises:
            _Misfit: It has too many digits before or after the point.
        """
        if not number:
            return Decimal(0)
        _, digits, exponent = number.as_tuple()
        significant = "".join(map(str, digits)).rstrip("0")
        power = int(exponent) + len(digits) - len(significant)
        if -power > self.arrow.scale:
            raise _Misfit("too_many_decimals")
        if len(significant.lstrip("0")) + power > self.arrow.precision - self.arrow.scale:
            raise _Misfit("out_of_range")
        return number

    def _checked_texts(self, texts: pa.Array) -> Cast:
        flaws = [("nul_character", pc.match_substring(texts, "\0"))]
        if self.length is not None:
            flaws.append(("too_long", pc.greater(pc.utf8_length(texts), self.length)))
        failures = []
        for rule, wrong in flaws:
            if pc.any(wrong).as_py():
                failures += [Failure(row, rule) for row in _rows(wrong)]
                texts = pc.if_else(wrong.fill_null(False), pa.scalar(None, texts.type), texts)
        return Cast(texts, sorted(failures, key=lambda failure: failure.row))

    def _of_json(self, values: Sequence[JsonValue]) -> Cast:
        if self.kind == "jsonb":
            return _each(values, _json, self.arrow)
        if self.kind == "boolean" and all(value is None or value is True or value is False for value in values):
            return Cast(pa.array(values, self.arrow), [])
        try:
            texts = pa.array(values, pa.large_string()) if _are(values, str) else None
        except (pa.ArrowException, UnicodeEncodeError):
            texts = None  # half of a surrogate pair
        if texts is not None:
            return self._of_texts(texts)
        if self.kind == "integer" and _are(values, int):
            try:
                return Cast(pa.array(values, self.arrow), [])
            except (pa.ArrowException, OverflowError):
                pass
        return _each(values, self._of_value, self.arrow)

    def _of_value(self, value: JsonValue) -> Any:
        if isinstance(value, str):
            cast = self._of_texts(_text_array(value))
            if cast.failures:
                raise _Misfit(cast.failures[0].rule)
            return cast.values[0].as_py()
        if isinstance(value, bool):
            if self.kind == "boolean":
                return value
        elif isinstance(value, int | Decimal) and (defect := exact_json.defects(value)) is None:
            if self.kind == "integer":
                return self._integer(value)
            if self.kind == "decimal":
                return self._fitting(Decimal(value))
            if self.kind == "double":
                return float(value)
        elif isinstance(value, int | Decimal):
            raise _Misfit(str(defect))
        raise _Misfit(self._malformed)

    def _integer(self, value: int | Decimal) -> int:
        if value != int(value):
            raise _Misfit("not_an_integer")
        return int(value)

    @property
    def _malformed(self) -> str:
        article = "an" if self.kind == "integer" else "a"
        return f"not_{article}_{self.kind}"


@dataclass(frozen=True)
class Column:
    """One column of a declared table.

    Attributes:
        name: Its name in the table.
        source: Where its values come from: the name of a field or of a column in a file.
        type: Its type.
        required: Whether every row must have a value.
        key: Whether it is part of what no two rows have in common.
        description: What it holds.
        personal: Previews mask it.
    """

    name: str
    source: str
    type: ColumnType
    required: bool = False
    key: bool = False
    description: str = ""
    personal: bool = False

    @property
    def sql(self) -> str:
        """Its type in PostgreSQL."""
        return self.type.sql

    @property
    def nullable(self) -> bool:
        """Whether rows without a value are kept."""
        return not (self.required or self.key)

    @property
    def field(self) -> pa.Field:
        """The column in Arrow."""
        return pa.field(self.name, self.type.arrow)

    def cast(self, values: pa.Array | pa.ChunkedArray | Sequence[JsonValue]) -> Cast:
        """Make values into the type of the column; a null where a value is required fails with rule `required`.

        Args:
            values: As `ColumnType.cast` takes them.
        """
        cast = self.type.cast(values)
        if self.nullable or not cast.values.null_count:
            return cast
        told = {failure.row for failure in cast.failures}
        missing = [Failure(row, "required") for row in _rows(cast.values.is_null()) if row not in told]
        return Cast(cast.values, sorted([*cast.failures, *missing], key=lambda failure: failure.row))


def parse_type(words: str) -> ColumnType:
    """The type that a declaration names.

    Args:
        words: As in SQL, e.g. `varchar(100)`, `decimal(12,2)`, `timestamptz`.

    Raises:
        DeclarationError: There is no such type here.
    """
    plain = " ".join(words.lower().split())
    if match := _WITH_LENGTH.fullmatch(plain):
        length = int(match[1])
        if not 1 <= length <= _MAX_LENGTH:
            raise DeclarationError(f"A varchar holds 1 to {_MAX_LENGTH} characters; {words!r} says {length}.")
        return ColumnType("text", f"character varying({length})", pa.large_string(), length)
    if match := _WITH_DIGITS.fullmatch(plain):
        precision, scale = int(match[1]), int(match[2] or 0)
        if not (1 <= precision <= 38 and scale <= precision):
            raise DeclarationError(
                f"A decimal has 1 to 38 digits, and no more of them after the point than in all; {words!r} has others."
            )
        return ColumnType("decimal", f"numeric({precision},{scale})", pa.decimal128(precision, scale))
    if (known := _WORDS.get(plain)) is None:
        raise DeclarationError(f"There is no type {words!r}.", todo=f"Use one of: {KNOWN_TYPES}.")
    kind, sql = known
    return ColumnType(kind, sql, OPEN_DECIMAL if kind == "decimal" else _ARROW[sql])  # type: ignore[arg-type]


class _Misfit(ValueError):
    """A value that a type does not hold; its text is the rule."""


def _each(values: Sequence[Any], convert: Callable[[Any], Any], kind: pa.DataType) -> Cast:
    """One value after the other: the way to go where something is wrong, or Arrow has no way of its own."""
    found: list[Any] = []
    failures = []
    for row, value in enumerate(values):
        try:
            converted = None if value is None else convert(value)
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                converted = pa.scalar(converted, kind).as_py()  # its range
                if converted in (float("inf"), float("-inf")):
                    raise _Misfit("out_of_range")
        except _Misfit as misfit:
            failures.append(Failure(row, str(misfit)))
            converted = None
        except (ValueError, OverflowError, ArithmeticError):  # Arrow's errors are ValueErrors
            failures.append(Failure(row, "out_of_range"))
            converted = None
        found.append(converted)
    return Cast(pa.array(found, kind), failures)


def _json(value: JsonValue) -> str:
    if defect := exact_json.defects(value):
        raise _Misfit(defect)
    return exact_json.dumps(value).decode()


def _json_text(text: str) -> str:
    try:
        value = exact_json.loads(text.encode())
    except exact_json.JsonError:
        raise _Misfit("not_json") from None
    return _json(value)


def _text_array(text: str) -> pa.Array:
    try:
        return pa.array([text], pa.large_string())
    except (pa.ArrowException, UnicodeEncodeError):
        raise _Misfit("lone_surrogate") from None


def _finite(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
        raise pa.ArrowInvalid("out of range")
    return values


def _are(values: Sequence[JsonValue], kind: type) -> bool:
    """Whether all values are of a type or null; `True` is no integer."""
    return set(map(type, values)) <= {kind, type(None)}


def _rows(condition: pa.Array) -> list[int]:
    """Where a condition holds."""
    found: list[int] = pc.indices_nonzero(condition.fill_null(False)).to_pylist()
    return found
