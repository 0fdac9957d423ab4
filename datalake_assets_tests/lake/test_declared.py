"""Declared columns: what is kept exactly, what fails, and that nothing is guessed."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets import exact_json
from datalake_assets.lake.declared import Column, DeclarationError, Failure, parse_type
from datalake_assets.storage.postgres_types import declaration

TEXTS = [
    ("integer", "7", 7),
    ("integer", "+7", 7),
    ("integer", "-0", 0),
    ("integer", "3.0", 3),
    ("integer", "3.5", "not_an_integer"),
    ("integer", "", "not_an_integer"),
    ("integer", " 7", "not_an_integer"),
    ("integer", "1e3", "not_an_integer"),
    ("integer", "2147483648", "out_of_range"),
    ("smallint", "32768", "out_of_range"),
    ("bigint", "9223372036854775807", 9223372036854775807),
    ("bigint", "9223372036854775808", "out_of_range"),
    ("decimal(6,2)", "1234.50", Decimal("1234.50")),
    ("decimal(6,2)", "1.230", Decimal("1.23")),
    ("decimal(6,2)", "12e2", Decimal("1200.00")),
    ("decimal(6,2)", "1.234", "too_many_decimals"),
    ("decimal(6,2)", "12345", "out_of_range"),
    ("decimal(2,2)", "0.12", Decimal("0.12")),
    ("decimal(2,2)", "1.12", "out_of_range"),
    ("decimal", "0.0581", Decimal("0.0581")),
    ("decimal", "NaN", "not_a_decimal"),
    ("double", "-1.5e3", -1500.0),
    ("double", "1e400", "out_of_range"),
    ("double", "inf", "not_a_double"),
    ("boolean", "False", False),
    ("boolean", "0", "not_a_boolean"),
    ("date", "2020-02-29", date(2020, 2, 29)),
    ("date", "2021-02-29", "out_of_range"),
    ("date", "01/02/2021", "not_a_date"),
    ("timestamp", "2021-01-01 00:15:56", datetime(2021, 1, 1, 0, 15, 56)),  # noqa: DTZ001 - it has no zone
    ("timestamp", "2021-01-01T00:15:56Z", "not_a_timestamp"),
    ("timestamp", "2021-01-01 24:15:56", "out_of_range"),
    ("timestamptz", "2021-01-01T00:00:00.25+05:30", datetime(2020, 12, 31, 18, 30, 0, 250_000, tzinfo=UTC)),
    ("timestamptz", "2021-01-01T00:00:00", "not_a_timestamptz"),
    ("text", "NA", "NA"),
    ("text", "", ""),
    ("text", "007", "007"),
    ("text", "a\0b", "nul_character"),
    ("varchar(3)", "äöü", "äöü"),
    ("varchar(3)", "abcd", "too_long"),
    ("jsonb", '{"a": 1.10}', '{"a":1.10}'),
    ("jsonb", "{", "not_json"),
    ("jsonb", '{"a":1,"a":2}', "duplicate_key"),
]


@pytest.mark.parametrize(("words", "text", "expected"), TEXTS)
def test_a_text_becomes_exactly_what_it_says_or_fails_with_a_rule(words, text, expected):
    """The column-wise way (all are good) and the row-wise way (one is not) agree."""
    kind = parse_type(words)
    failed = (isinstance(expected, str) and kind.kind not in ("text", "jsonb")) or expected in RULES
    for texts, row in (([text], 0), ([None, text, "\ufffe"], 1)):
        cast = kind.cast(pa.array(texts))
        assert cast.values.type == kind.arrow
        assert [each.rule for each in cast.failures if each.row == row] == ([expected] if failed else [])
        assert cast.values[row].as_py() == (None if failed else expected)


RULES = {"nul_character", "too_long", "not_json", "duplicate_key"}

JSON_VALUES = [
    ("integer", "0", 0),
    ("integer", "1.0", 1),
    ("integer", "1e3", 1000),
    ("integer", "true", "not_an_integer"),
    ("integer", '"12"', 12),
    ("integer", "99999999999999999999", "out_of_range"),
    ("boolean", "false", False),
    ("boolean", "0", "not_a_boolean"),
    ("text", '""', ""),
    ("text", "5", "not_a_text"),
    ("text", "[]", "not_a_text"),
    ("decimal(12,2)", "0.1", Decimal("0.10")),
    ("decimal(12,2)", "0.105", "too_many_decimals"),
    ("double", "0.1", 0.1),
    ("date", '"2019-07-31"', date(2019, 7, 31)),
    ("date", "20190731", "not_a_date"),
    ("jsonb", '[1.10,{"b":null}]', '[1.10,{"b":null}]'),
    ("jsonb", "false", "false"),
]


@pytest.mark.parametrize(("words", "json", "expected"), JSON_VALUES)
def test_a_json_value_arrives_as_itself_or_fails(words, json, expected):
    """False, 0 and '' became NULL in the earlier system."""
    kind = parse_type(words)
    failed = isinstance(expected, str) and expected.startswith(("not_a", "out_of", "too_many"))
    for values, row in (([exact_json.loads(json.encode())], 0), ([None, exact_json.loads(json.encode()), {}, "x"], 1)):
        cast = kind.cast(values)
        assert [each.rule for each in cast.failures if each.row == row] == ([expected] if failed else [])
        assert cast.values[row].as_py() == (None if failed else expected)


def test_null_is_no_failure_unless_a_value_is_required():
    kind = parse_type("integer")
    values = pa.array(["1", None, "x"])
    assert Column("a", "a", kind).cast(values).failures == [Failure(2, "not_an_integer")]
    for column in (Column("a", "a", kind, required=True), Column("a", "a", kind, key=True)):
        assert column.cast(values).failures == [Failure(1, "required"), Failure(2, "not_an_integer")]


@given(st.lists(st.one_of(st.none(), st.decimals(allow_nan=False, allow_infinity=False, places=3, max_value=10**9))))
def test_no_value_is_lost_or_changed_between_the_ways_of_a_cast(numbers):
    texts = pa.array([None if number is None else str(number) for number in numbers], pa.string())
    for words in ("decimal(12,2)", "decimal", "integer"):
        kind = parse_type(words)
        by_text, by_value = kind.cast(texts), kind.cast(numbers)
        assert by_text.values.equals(by_value.values)
        assert [failure.row for failure in by_text.failures] == [failure.row for failure in by_value.failures]
        failed = {failure.row for failure in by_text.failures}
        for row, number in enumerate(numbers):
            assert by_text.values[row].as_py() == (None if row in failed else number)


@pytest.mark.parametrize("words", ["number", "varchar", "varchar(0)", "decimal(50,2)", "decimal(2,3)", "text(5)", ""])
def test_a_type_that_cannot_be_meant_is_refused_with_what_can(words):
    with pytest.raises(DeclarationError):
        parse_type(words)


@pytest.mark.parametrize("words", ["Character  Varying(255)", "timestamp with time zone", "NUMERIC(10, 2)", "jsonb"])
def test_types_as_postgresql_writes_them_are_understood(words):
    assert " ".join(words.lower().split()).replace(", ", ",") == parse_type(words).sql


@pytest.mark.parametrize("words", ["integer", "bigint", "double", "boolean", "date", "timestamp", "timestamptz"])
def test_the_types_in_arrow_and_in_postgresql_belong_together(words):
    kind = parse_type(words)
    spelled = {"double precision": "double precision"}.get(kind.sql, kind.sql)
    assert declaration(pa.field("a", kind.arrow)) == spelled
