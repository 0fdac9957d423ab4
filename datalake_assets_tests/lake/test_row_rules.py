"""Rules for the rows of a file: in their order, on exact values, and kept away from everything but the rows."""

import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.files import FileColumn, Format, RowFile
from datalake_assets.lake.row_rules import RowRules, Rule, RuleError

TYPES = {"begun": "timestamp", "passengers": "smallint", "total": "numeric(12,2)", "flag": "text"}
COLUMNS = [Column(name, name, parse_type(words)) for name, words in TYPES.items()]
NO_PASSENGERS = Rule("no_passengers", "passengers = 0", "drop")
OUTSIDE_MONTH = Rule("outside_month", "date_trunc('month', begun) <> month", "quarantine")


def applied(folder: Path, lines: list[str], *rules: Rule) -> list[dict[str, Any]]:
    path = folder / "trips.csv"
    path.write_text("\n".join(["begun,passengers,total,flag", *lines]) + "\n")
    file = RowFile(path, "trips.csv", Format(), [FileColumn(column, (column.name,)) for column in COLUMNS])
    constants = {"month": pa.scalar(date(2021, 1, 1))}
    ready = RowRules(rules, COLUMNS, constants)
    return [
        {**row, "dropped": is_dropped}
        for batch, dropped in ready.apply(file.batches())
        for row, is_dropped in zip(batch.to_pylist(), dropped.to_pylist(), strict=True)
    ]


def test_a_row_of_another_month_is_quarantined_with_its_line_and_its_text(tmp_path: Path) -> None:
    lines = ["2021-01-31 23:59:59,1,5.00,N", "2009-01-01 00:00:00,1,5.00,N", "2021-02-01 00:00:00,1,5.00,N"]
    rows = applied(tmp_path, lines, OUTSIDE_MONTH)
    assert [(row["line"], row["rule"], row["dropped"]) for row in rows] == [
        (2, None, False),
        (3, "outside_month", False),
        (4, "outside_month", False),
    ]
    assert orjson.loads(rows[1]["document"])["begun"] == "2009-01-01 00:00:00"


def test_a_condition_that_is_null_leaves_the_row_alone(tmp_path: Path) -> None:
    rows = applied(tmp_path, ["2021-01-01 00:00:00,,5.00,N", "2021-01-01 00:00:00,0,5.00,N"], NO_PASSENGERS)
    assert [(row["rule"], row["dropped"]) for row in rows] == [(None, False), ("no_passengers", True)]


def test_a_rule_sees_what_the_one_before_it_has_set(tmp_path: Path) -> None:
    fill = Rule("unknown_passengers", "passengers is null", "set", {"passengers": "0", "flag": "'was ' || flag"})
    assert [row["dropped"] for row in applied(tmp_path, ["2021-01-01 00:00:00,,1.00,N"], fill, NO_PASSENGERS)] == [True]
    [row] = applied(tmp_path, ["2021-01-01 00:00:00,,1.00,N"], NO_PASSENGERS, fill)
    assert (row["passengers"], row["flag"], row["dropped"], row["rule"]) == (0, "was N", False, None)


def test_the_first_rule_that_keeps_a_row_out_counts(tmp_path: Path) -> None:
    [row] = applied(tmp_path, ["2009-01-01 00:00:00,0,1.00,N"], OUTSIDE_MONTH, NO_PASSENGERS)
    assert (row["rule"], row["dropped"]) == ("outside_month", False)


def test_a_row_that_is_refused_already_is_not_judged_again(tmp_path: Path) -> None:
    [row] = applied(tmp_path, ["2021-01-01 00:00:00,0,much,N"], NO_PASSENGERS)
    assert (row["rule"], row["dropped"]) == ("not_a_decimal", False)


def test_a_decimal_without_declared_digits_keeps_those_it_is_set_to(tmp_path: Path) -> None:
    """DuckDB's own `numeric` has three digits behind the point."""
    columns = [Column("rate", "rate", parse_type("decimal"))]
    path = tmp_path / "rates.csv"
    path.write_text("rate\n1\n")
    file = RowFile(path, "rates.csv", Format(), [FileColumn(columns[0], ("rate",))])
    rules = RowRules([Rule("exact", "rate = 1", "set", {"rate": "0.123456789012345678"})], columns, {})
    [(batch, _)] = rules.apply(file.batches())
    assert batch.column("rate").to_pylist() == [Decimal("0.123456789012345678")]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_month_of_a_moment_does_not_hang_on_the_machine(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        columns = [Column("moment", "moment", parse_type("timestamptz"))]
        path = tmp_path / "moments.csv"
        path.write_text("moment\n2021-01-31 23:30:00Z\n2021-02-01 00:30:00Z\n")
        file = RowFile(path, "moments.csv", Format(), [FileColumn(columns[0], ("moment",))])
        rule = Rule("outside", "date_trunc('month', moment) <> month", "quarantine")
        [(batch, _)] = RowRules([rule], columns, {"month": pa.scalar(date(2021, 1, 1))}).apply(file.batches())
        assert batch.column("rule").to_pylist() == [None, "outside"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "condition", ["begun > now()", "begun < current_date", "begun > date 'today'", "random() < 0.5", "uuid() = flag"]
)
def test_a_rule_that_gives_other_rows_the_next_time_is_refused(condition: str) -> None:
    """Invariant 9."""
    with pytest.raises(RuleError, match="is another one each time"):
        RowRules([Rule("clock", condition, "drop")], COLUMNS, {})


def test_decimals_are_compared_exactly(tmp_path: Path) -> None:
    rule = Rule("sum", "total = 0.1 + 0.2", "drop")
    [row] = applied(tmp_path, ["2021-01-01 00:00:00,1,0.30,N"], rule)
    assert row["dropped"]
    assert row["total"] == Decimal("0.30")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule("typo", "passenger = 0", "drop"), "passenger"),
        (Rule("half", "total >", "drop"), "no SQL expression"),
        (Rule("two", "true; select 1", "drop"), "no SQL expression"),
        (Rule("text", "flag", "set", {"total": "nothing"}), "no column nothing"),
        (Rule("file", "(select count(*) from read_csv('/etc/passwd')) > 0", "drop"), "is no condition"),
    ],
)
def test_what_is_no_condition_of_the_columns_is_refused_before_a_row_is_read(
    tmp_path: Path, rule: Rule, sentence: str
) -> None:
    with pytest.raises(RuleError, match=sentence):
        RowRules([rule], COLUMNS, {})


def test_a_rule_that_fails_on_a_value_does_not_quote_it(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="ConversionException") as caught:
        applied(tmp_path, ["2021-01-01 00:00:00,1,1.00,private"], Rule("number", "flag::integer > 1", "drop"))
    assert "private" not in str(caught.value)
