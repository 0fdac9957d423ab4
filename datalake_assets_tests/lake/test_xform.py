"""The current state: the fold of the history, typed, whatever was loaded before or missed."""

from datetime import date
from typing import Any

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.tables import table_of
from datalake_assets_tests.lake.lakes import SmallLake, answer, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
TABLE = "term_xform.current_term_data"

WHOLE = {
    "ACAD_CAREER": "UGRD",
    "STRM": "2258",
    "DESCR": "Fall 2025",
    "TERM_BEGIN_DT": "20250902",
    "TERM_END_DT": "20251220",
    "CURRENT_IND": "Y",
    "BU_CUR_FUTURE_TERM": "C",
    "BU_FUTURE_TERM_1": "2261",
    "BU_PAST_TERM_1": "2255",
    "OLD_TERM": "20253",
    "ACAD_YEAR": "2026",
}


async def test_every_column_is_read_from_its_member(lake: SmallLake) -> None:
    lake.land(D1, [answer(WHOLE)])
    await lake.load_raw(D1)
    await lake.load_xform(D1, "run-7")
    row = dict(await lake.connection.fetchrow(f"select * from {TABLE}"))
    assert {name: row[name] for name in (column.name for column in (*TERM.key, *TERM.columns))} == {
        column.name: WHOLE[column.path[0]] for column in (*TERM.key, *TERM.columns)
    }
    assert (row["rownumber"], row["load_date"], row["run_id"], row["digest"]) == (1, D1, "run-7", answer(WHOLE).digest)


@pytest.mark.parametrize(
    ("given", "shown"),
    [("Fall  ", "Fall"), ("  Fall", "  Fall"), ("   ", ""), ("", ""), (None, None), ("Fä\tll", "Fä\tll")],
)
async def test_padding_after_a_value_is_not_shown(lake: SmallLake, given: str | None, shown: str | None) -> None:
    """PeopleSoft pads with blanks; a reader who compares CURRENT_IND with 'Y' must find it."""
    lake.land(D1, [answer(term("2251", given))])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    assert await lake.rows(TABLE, "descr") == [(shown,)]


async def test_a_key_with_blanks_around_it_is_shown_without(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251 ", career="UGRD  "))])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    assert await lake.rows(TABLE, "acad_career", "strm") == [("UGRD", "2251")]


async def test_a_column_that_documents_lack_is_null(lake: SmallLake) -> None:
    lake.land(D1, [answer({"ACAD_CAREER": "UGRD", "STRM": "2251"})])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    names = [column.name for column in TERM.columns]
    assert await lake.rows(TABLE, *names) == [(None,) * len(names)]


async def test_a_load_that_was_missed_is_caught_up_by_the_next(lake: SmallLake) -> None:
    """Invariant 1: the table converges on the history, so it needs no list of what was touched."""
    for day, descr in ((D1, "A"), (D2, "B"), (D3, "C")):
        lake.land(day, [answer(term("2251", descr)), *([answer(term("2255"))] if day == D1 else [])])
        await lake.load_raw(day)
    receipt = await lake.load_xform(D1)
    assert await lake.rows(TABLE, "strm", "descr", "load_date") == [("2251", "C", D3)]
    assert (receipt.rows_new, receipt.rows_removed, receipt.rows_total) == (1, 0, 1)


async def test_a_key_that_went_and_came_back_as_it_was_is_dated_by_its_return(lake: SmallLake) -> None:
    for day, answers in ((D1, [answer(term("2251"))]), (D2, []), (D3, [answer(term("2251"))])):
        lake.land(day, answers)
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    await lake.load_raw(D2)
    await lake.load_raw(D3)
    await lake.load_xform(D3)
    assert await lake.rows(TABLE, "strm", "load_date") == [("2251", D3)]


async def test_rows_that_somebody_damaged_are_mended(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251")), answer(term("2255")), answer(term("2258"))])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    before = (await lake.contents())[TABLE]
    await lake.connection.execute(
        f"delete from {TABLE} where strm = '2251';"
        f" update {TABLE} set digest = '\\x00', descr = 'damaged' where strm = '2255';"
        f" insert into {TABLE} select acad_career, '9999', descr, null, null, null, null, null, null, null, null, null,"
        f" modified_date, load_date, digest, run_id, loaded_at from {TABLE} where strm = '2258'"
    )
    receipt = await lake.load_xform(D1)
    assert (receipt.rows_new, receipt.rows_changed, receipt.rows_removed, receipt.rows_unchanged) == (1, 1, 1, 1)
    assert (await lake.contents())[TABLE] == before


async def test_rows_that_are_right_are_left_alone(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251")), answer(term("2255"))])
    lake.land(D2, [answer(term("2251")), answer(term("2255", "Other"))])
    await lake.load_raw(D1)
    await lake.load_xform(D1, "run-1")
    await lake.load_raw(D2)
    receipt = await lake.load_xform(D2, "run-2")
    assert await lake.rows(TABLE, "strm", "run_id") == [("2251", "run-1"), ("2255", "run-2")]
    assert (receipt.rows_unchanged, receipt.rows_changed) == (1, 1)


async def test_terms_are_numbered_by_career_and_code_whatever_the_order_of_the_answer(lake: SmallLake) -> None:
    careers = [("UGRD", "2251"), ("GRAD", "2258"), ("UGRD", "2248"), ("GRAD", "2251"), ("LAW", "2255")]
    lake.land(D1, [answer(term(strm, career=career)) for career, strm in careers])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    assert await lake.rows(TABLE, "rownumber", "acad_career", "strm") == [
        (number, career, strm) for number, (career, strm) in enumerate(sorted(careers), start=1)
    ]


async def test_numbers_follow_when_a_term_comes_and_goes(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251")), answer(term("2258"))])
    lake.land(D2, [answer(term("2251")), answer(term("2255")), answer(term("2258"))])
    lake.land(D3, [answer(term("2255")), answer(term("2258"))])
    for day, expected in (
        (D1, [("2251", 1), ("2258", 2)]),
        (D2, [("2251", 1), ("2255", 2), ("2258", 3)]),
        (D3, [("2255", 1), ("2258", 2)]),
    ):
        await lake.load_raw(day)
        await lake.load_xform(day)
        assert await lake.rows(TABLE, "strm", "rownumber") == expected


async def test_an_empty_history_is_an_empty_table(lake: SmallLake) -> None:
    receipt = await lake.load_xform(D1)
    assert (receipt.rows_total, receipt.rows_removed) == (0, 0)


@pytest.mark.parametrize("layer", ["raw", "xform", "curated"])
async def test_the_tables_of_the_migrations_are_those_that_are_declared(lake: SmallLake, layer: Any) -> None:
    """Readers know the tables by these columns; checks and the UI derive them from the entity."""
    table = table_of(TERM, layer)
    rows = await lake.connection.fetch(
        "select attname, format_type(atttypid, atttypmod), not attnotnull from pg_attribute"
        " where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum",
        str(table.name),
    )
    assert [tuple(row) for row in rows] == [(column.name, column.type, column.nullable) for column in table.columns]
    key = await lake.connection.fetchval(
        "select array_agg(a.attname::text order by k.n) from pg_index as i,"
        " unnest(i.indkey) with ordinality as k (attnum, n) inner join pg_attribute as a using (attnum)"
        " where i.indrelid = $1::regclass and a.attrelid = i.indrelid and i.indisprimary",
        str(table.name),
    )
    assert tuple(key) == table.key
