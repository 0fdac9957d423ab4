"""One name for asset key, table, folder and dataset."""

import pytest

from datalake_assets.keys import TableName, quote_identifier

RAW = TableName("term_raw", "term_data")


def test_every_form_of_a_name_is_derived_from_the_same_two_words() -> None:
    assert RAW.parts == ["term_raw", "term_data"]
    assert RAW.quoted == '"term_raw"."term_data"'
    assert RAW.path == "term_raw/term_data"
    assert str(RAW) == "term_raw.term_data"


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("strm", '"strm"'),
        ("Order", '"Order"'),
        ('a"; drop table b; --', '"a""; drop table b; --"'),
        ("a b.c", '"a b.c"'),
    ],
)
def test_an_identifier_cannot_leave_its_quotes(name: str, quoted: str) -> None:
    assert quote_identifier(name) == quoted


def test_a_schema_with_a_dot_is_not_taken_for_two_names() -> None:
    assert TableName("a.b", "c").quoted != TableName("a", "b.c").quoted
