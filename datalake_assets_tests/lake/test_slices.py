"""Names of a partition: its key in Dagster, its folder, its lock."""

from dataclasses import replace
from datetime import date

import pytest

from datalake_assets.entities import TERM, Column
from datalake_assets.lake.slices import LoadError, LoadSlice, slice_of

DAY = date(2026, 1, 31)
COURSE = replace(
    TERM,
    name="course",
    key=(Column("term_code", ("term",), "integer"), Column("course_id", ("id",), "integer")),
    scope=("term_code",),
)


def test_a_whole_entity_is_loaded_by_day() -> None:
    piece = LoadSlice(TERM, DAY)
    assert piece.dimensions == {"load_date": "2026-01-31"}
    assert (piece.partition, piece.scope_text, str(piece)) == ("2026-01-31", "", "term 2026-01-31")


def test_a_scoped_entity_is_loaded_by_day_and_scope() -> None:
    piece = LoadSlice(COURSE, DAY, (2258,))
    assert piece.dimensions == {"load_date": "2026-01-31", "term_code": "2258"}
    assert (piece.partition, piece.scope_text) == ("2026-01-31|2258", "2258")


@pytest.mark.parametrize(
    ("entity", "scope", "message"),
    [
        (TERM, (1,), "A slice of term needs a value for each of no scope columns; got 1."),
        (COURSE, (), "A slice of course needs a value for each of ('term_code',) scope columns; got 0."),
    ],
)
def test_a_slice_with_the_wrong_scope_is_refused(entity: object, scope: tuple[int, ...], message: str) -> None:
    """A forgotten scope would load one term's courses over those of all."""
    with pytest.raises(LoadError) as refusal:
        LoadSlice(entity, DAY, scope)  # type: ignore[arg-type]
    assert str(refusal.value) == message


def test_a_number_is_one_wherever_the_scope_comes_from() -> None:
    """A partition key and the name of a folder bring text, and PostgreSQL wants a number."""
    assert slice_of(COURSE, "2026-01-31|2258") == LoadSlice(COURSE, DAY, ("2258",)) == LoadSlice(COURSE, DAY, (2258,))
    assert LoadSlice(COURSE, DAY, ("2258",)).scope == (2258,)
    with pytest.raises(LoadError, match="term_code is a number in a slice of course; got 'fall'"):
        LoadSlice(COURSE, DAY, ("fall",))
