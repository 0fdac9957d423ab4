"""SQL from `sql/`: names go in quoted, values never, and what is missing is an error."""

import re
from pathlib import Path

import jinja2
import pytest

from datalake_assets.keys import TableName
from datalake_assets.statements import has_statement, statement, statement_names, statement_text

SQL = Path(__file__).parent.parent / "sql"
EVERY_STATEMENT = sorted(path.relative_to(SQL).as_posix() for path in SQL.rglob("*.sql"))


def test_a_table_is_rendered_quoted() -> None:
    assert statement("layers/count.sql", table=TableName("a", 'b"; drop table c')).endswith(
        'from "a"."b""; drop table c"\n'
    )


def test_columns_are_rendered_quoted_with_their_alias() -> None:
    text = statement("layers/checks/duplicate_keys.sql", table=TableName("a", "b"), key=("x", 'y"z'))
    assert 'select "x", "y""z"' in text
    assert '"y""z" is null' in text


def test_a_name_that_was_not_given_is_an_error() -> None:
    """Rendered as nothing, a missing condition would widen a delete."""
    with pytest.raises(jinja2.UndefinedError, match="table"):
        statement("layers/count.sql")


def test_a_statement_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(jinja2.TemplateNotFound):
        statement("layers/no_such.sql")


def test_optional_statements_are_found_by_their_path() -> None:
    assert has_statement("term_xform/current_term_data/after_write.sql")
    assert not has_statement("term_raw/term_data/after_write.sql")


def test_the_statements_of_a_folder_are_sorted_and_those_below_it_left_out() -> None:
    names = statement_names("layers/raw")
    assert names == sorted(names)
    assert "layers/raw/changes.sql" in names
    assert not any("/checks/" in name for name in names)
    assert statement_names("no/such/folder") == []


@pytest.mark.parametrize("path", EVERY_STATEMENT)
def test_every_statement_begins_with_what_it_does(path: str) -> None:
    text = statement_text(path)
    comments = [line for line in re.sub(r"^\{% from .* %\}\n", "", text).splitlines() if line]
    assert comments[0].startswith(("-- ", "{# "))


@pytest.mark.parametrize("path", EVERY_STATEMENT)
def test_no_statement_reads_the_clock_but_for_bookkeeping(path: str) -> None:
    """Invariant 9: dates come from the partition; `clock_timestamp()` only fills columns that say when it was done."""
    text = re.sub(r"--.*", "", statement_text(path))
    assert not re.search(r"\b(now\(\)|current_date|current_time|localtime|statement_timestamp|today)\b", text)
    if "clock_timestamp()" in text:
        assert re.search(r"loaded_at|(adopted|begun|committed|resolved|first_seen|applied|granted)_at", text)
