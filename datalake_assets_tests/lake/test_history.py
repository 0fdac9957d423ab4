"""Questions to the history: what a document was on a date, and which field changed when, by which run."""

from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.entities import COURSE, PERSON, TERM
from datalake_assets.exact_json import loads
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.documents import judge
from datalake_assets.lake.history import Change, as_of, blame, parse_key
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets_tests.lake.lakes import SmallLake, answer, term
from datalake_assets_tests.lake.model import Day, Model

pytestmark = pytest.mark.anyio

D0, D1, D2, D3, D4 = (date(2026, 1, day) for day in (1, 2, 3, 4, 5))
KEY = ("UGRD", "2251")


async def lived(lake: SmallLake, *documents: Any, first: date = D1) -> None:
    """One term on consecutive days; None where it is gone."""
    for number, document in enumerate(documents):
        day = first + timedelta(days=number)
        lake.land(day, [] if document is None else [answer(document)])
        await lake.load_raw(day, f"run of {day}")


def told(changes: list[Change]) -> list[tuple[date, str, Any, Any]]:
    """What changed, with the words for values that were not there."""
    return [
        (
            change.load_date,
            change.path,
            "nothing" if change.appeared else change.before,
            "nothing" if change.vanished else change.after,
        )
        for change in changes
    ]


# ---------------------------------------------------------------------------------------------------- as of


async def test_a_document_is_shown_as_it_was_at_the_end_of_a_day(lake: SmallLake) -> None:
    await lived(lake, term("2251", "A"), term("2251", "A"), term("2251", "B"), None)
    found = [await as_of(lake.connection, TERM, KEY, day) for day in (D0, D1, D2, D3, D4, date(2030, 1, 1))]
    assert [state and (state.since, state.operation, state.document) for state in found] == [
        None,
        (D1, "I", term("2251", "A")),
        (D1, "I", term("2251", "A")),
        (D3, "U", term("2251", "B")),
        (D4, "D", None),
        (D4, "D", None),
    ]
    assert found[3] is not None
    assert found[3].run_id == f"run of {D3}"


async def test_a_key_that_never_was_has_no_state(lake: SmallLake) -> None:
    await lived(lake, term("2251"))
    assert await as_of(lake.connection, TERM, ("GRAD", "2251"), D1) is None
    assert await blame(lake.connection, TERM, ("GRAD", "2251")) == []


async def test_numbers_are_shown_to_their_last_digit(lake: SmallLake) -> None:
    text = '{"ACAD_CAREER":"UGRD","STRM":"2251","N":12345678901234567890.50}'
    lake.land(D1, [judge(TERM, loads(text.encode()), "test")])
    await lake.load_raw(D1)
    state = await as_of(lake.connection, TERM, KEY, D1)
    assert state is not None
    assert digest(state.document) == digest(loads(text.encode()))


# ---------------------------------------------------------------------------------------------------- blame


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"DESCR": "A"}, {"DESCR": "B"}, [("/DESCR", "A", "B")]),
        ({"X": 1}, {"X": 1.0}, []),
        ({"X": None}, {}, [("/X", None, "nothing")]),
        ({}, {"X": None}, [("/X", "nothing", None)]),
        ({"X": []}, {"X": {}}, [("/X", [], {})]),
        ({"X": {"a": 1, "b": 2}}, {"X": {"a": 1, "b": 3, "c": 4}}, [("/X/b", 2, 3), ("/X/c", "nothing", 4)]),
        ({"X": {"a": {"b": 1}}}, {"X": {"a": 2}}, [("/X/a", {"b": 1}, 2)]),
        # Elements have no place: what went and what came is told.
        ({"X": [1, 2, 3]}, {"X": [3, 1, 2]}, []),
        ({"X": [1, 2]}, {"X": [1, 3]}, [("/X[]", 2, "nothing"), ("/X[]", "nothing", 3)]),
        ({"X": [1]}, {"X": [1, 1]}, [("/X[]", "nothing", 1)]),
        ({"X": [{"a": [1, 2]}]}, {"X": [{"a": [2, 1]}]}, []),
        ({"X": [{"a": 1}]}, {"X": [{"a": 2}]}, [("/X[]", {"a": 1}, "nothing"), ("/X[]", "nothing", {"a": 2})]),
    ],
)
async def test_every_field_that_changed_is_told_and_no_other(
    lake: SmallLake, before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, Any, Any]]
) -> None:
    base = {"ACAD_CAREER": "UGRD", "STRM": "2251", "SAME": [1, {"x": None}]}
    await lived(lake, {**base, **before}, {**base, **after})
    changes = await blame(lake.connection, TERM, KEY)
    assert told([change for change in changes if change.load_date == D2]) == [(D2, *one) for one in expected]
    assert {change.run_id for change in changes} <= {f"run of {D1}", f"run of {D2}"}


async def test_the_first_and_the_last_day_of_a_document_are_told(lake: SmallLake) -> None:
    await lived(lake, {"ACAD_CAREER": "UGRD", "STRM": "2251"}, None, {"ACAD_CAREER": "UGRD", "STRM": "2251"})
    assert told(await blame(lake.connection, TERM, KEY)) == [
        (D1, "/ACAD_CAREER", "nothing", "UGRD"),
        (D1, "/STRM", "nothing", "2251"),
        (D2, "/ACAD_CAREER", "UGRD", "nothing"),
        (D2, "/STRM", "2251", "nothing"),
        (D3, "/ACAD_CAREER", "nothing", "UGRD"),
        (D3, "/STRM", "nothing", "2251"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/X", ["/X", "/X/a", "/X/b", "/X[]"]),
        ("/X/a", ["/X/a"]),
        ("/XY", ["/XY"]),
        ("/Y", []),
        ("/X[]", ["/X[]"]),
    ],
)
async def test_blame_can_be_asked_for_one_field_and_what_lies_below_it(
    lake: SmallLake, path: str, expected: list[str]
) -> None:
    base = {"ACAD_CAREER": "UGRD", "STRM": "2251"}
    await lived(
        lake,
        {**base, "X": {"a": 1}, "XY": 1},
        {**base, "X": {"a": 2, "b": 1}, "XY": 2},
        {**base, "X": [1], "XY": 2},
        {**base, "X": [2], "XY": 2},
    )
    changes = await blame(lake.connection, TERM, KEY, path)
    assert sorted({change.path for change in changes}) == expected


@pytest.mark.parametrize("name", ["X/a", "X[]", "", "/"])
async def test_a_field_is_found_whose_name_holds_what_parts_a_path(lake: SmallLake, name: str) -> None:
    await lived(lake, {"ACAD_CAREER": "UGRD", "STRM": "2251", "Y": 1}, {**term("2251"), name: {"b": 1}})
    for path in (f"/{name}", f"/{name}/b"):
        found = [change.path for change in await blame(lake.connection, TERM, KEY, path)]
        assert found == [path]


async def test_a_field_that_came_and_went_with_what_holds_it_is_told(lake: SmallLake) -> None:
    """Nobody who asks for /X/a or /L[]/a should hear that there never was such a field."""
    base = {"ACAD_CAREER": "UGRD", "STRM": "2251"}
    await lived(
        lake,
        {**base, "X": {"a": 1, "b": 1}, "L": [{"a": 1, "b": 1}, {"a": 2}]},
        {**base, "X": {"a": 1, "b": 2}, "L": [{"a": 1, "b": 2}, {"a": 3}]},
        {**base, "X": 5},
    )
    assert await values_at(lake, "/X/a") == [(D1, None, 1), (D3, 1, None)]
    assert await values_at(lake, "/L[]/a") == [
        (D1, None, 1),
        (D1, None, 2),
        (D2, 2, None),
        (D2, None, 3),
        (D3, 1, None),
        (D3, 3, None),
    ]


async def values_at(lake: SmallLake, path: str) -> list[tuple[date, Any, Any]]:
    changes = await blame(lake.connection, TERM, KEY, path)
    assert {change.path for change in changes} <= {path}
    return [(change.load_date, change.before, change.after) for change in changes]


async def test_what_was_adopted_and_is_no_object_has_no_fields(lake: SmallLake) -> None:
    await lived(lake, {"ACAD_CAREER": "UGRD", "STRM": "2251"})
    await lake.connection.execute(
        "insert into ops.adopted_state (entity, document_key, load_date, place, written_at, digest, document, run_id)"
        " values ('term', '{UGRD,2251}', $1, 1, date '2026-01-01', '', '[1]', 'old')",
        D0,
    )
    try:
        assert {change.load_date for change in await blame(lake.connection, TERM, KEY)} == {D1}
    finally:
        await lake.connection.execute("delete from ops.adopted_state")


# ------------------------------------------------------------------------------------------- against the model


values = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
documents = st.dictionaries(st.sampled_from(["X", "Y"]), values, max_size=2).map(
    lambda fields: {"ACAD_CAREER": "UGRD", "STRM": "2251", **fields}
)
histories = st.lists(documents | st.none() | st.just("failed"), min_size=1, max_size=6)


@given(histories)
@settings(deadline=None, max_examples=25)
async def test_every_day_of_every_history_is_shown_as_the_model_has_it(
    module_lake: SmallLake, history: list[dict[str, Any] | str | None]
) -> None:
    await module_lake.empty()
    days: dict[date, Day] = {}
    for number, what in enumerate(history):
        day = D1 + timedelta(days=number)
        complete = what != "failed"
        module_lake.land(day, [answer(what)] if isinstance(what, dict) else [], complete=complete)
        await module_lake.load_raw(day)
        found = {"2251": {"digest": digest(what)}} if isinstance(what, dict) else {}
        days[day] = Day(found, complete=complete)
    for day in days:
        expected = Model.after({earlier: days[earlier] for earlier in days if earlier <= day})
        state = await as_of(module_lake.connection, TERM, KEY, day)
        last = expected.history[-1] if expected.history else None
        assert (state and (state.since, state.operation)) == (last and (last[1], last[2]))
        shown = None if state is None or state.document is None else {"digest": digest(state.document)}
        assert shown == expected.state.get("2251")


@given(documents, documents)
@settings(deadline=None, max_examples=25)
async def test_blame_tells_a_change_exactly_where_digests_differ(
    module_lake: SmallLake, before: dict[str, Any], after: dict[str, Any]
) -> None:
    await module_lake.empty()
    await lived(module_lake, before, after)
    changes = [change for change in await blame(module_lake.connection, TERM, KEY) if change.load_date == D2]
    assert bool(changes) is (digest(before) != digest(after))
    touched = {change.path.split("/")[1].removesuffix("[]") for change in changes}
    expected = {name for name in ("X", "Y") if digest([before.get(name, "-")]) != digest([after.get(name, "-")])}
    assert touched == expected


# ---------------------------------------------------------------------------------------------------- keys


def test_words_of_a_command_become_a_key() -> None:
    assert parse_key(TERM, ("UGRD", "2251")) == ("UGRD", "2251")
    assert parse_key(COURSE, ("UGRD", "2251", "104", "001")) == ("UGRD", 2251, 104, "001")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("2251",), "A key of course is ACADEMIC_CAREER TERM_CODE COURSE_ID SESSION_CODE; got 1 words."),
        (("UGRD", "22x", "1", "1"), "term_code is a number; '22x' is none."),
        (("UGRD", "2251", "-1", "1"), "course_id is a number; '-1' is none."),
    ],
)
def test_words_that_are_no_key_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(LoadError) as refusal:
        parse_key(COURSE, words)
    assert str(refusal.value) == message


# ------------------------------------------------------------------------------------- among many and for long


async def test_a_question_about_one_key_reads_that_key_only(lake: SmallLake) -> None:
    """A month of a large university is millions of rows; somebody at a help desk waits for the answer."""
    for entity, key in ((PERSON, ("U7",)), (COURSE, ("UGRD", 2258, 7, "1"))):
        columns = "'U' || i" if entity is PERSON else "'UGRD', 2258, i, '1'"
        columns_written = ", ".join((*entity.key_names, entity.document_column, entity.dated_column))
        await lake.connection.execute(
            f"insert into {entity.raw} ({columns_written}, load_date, operation, digest, source, run_id, loaded_at)"
            f""" select {columns}, '{{"a": 1}}', d, d, case d when date '2026-01-01' then 'I' else 'U' end::"char","""
            " decode(md5(d::text), 'hex'), 'test', 'run', now() from generate_series(1, 2000) as i,"
            " generate_series(date '2026-01-01', date '2026-01-20', '1 day') as d"
        )
        await lake.connection.execute(f"analyze {entity.raw}")
        names = {"raw": entity.raw, "key_names": entity.key_names, "document": entity.document_column}
        for query, values in (
            (statement("history/as_of.sql", **names), (date(2026, 1, 10),)),
            (statement("history/changes.sql", **names), (entity.name, list(map(str, key)), "/a")),
        ):
            plan = orjson.loads(
                await lake.connection.fetchval(f"explain (analyze, format json) {query}", *key, *values)
            )
            assert plan[0]["Execution Time"] < 50
            assert b"Seq Scan" not in orjson.dumps(plan)
        assert (await as_of(lake.connection, entity, key, date(2026, 1, 10))) is not None
        assert len(await blame(lake.connection, entity, key)) == 1


async def test_true_and_one_are_told_apart_at_any_depth(lake: SmallLake) -> None:
    """Python takes them for equal, and so may whoever looks for what did not change."""
    before, after = term("2251", deep={"list": [1], "x": 1}), term("2251", deep={"list": [True], "x": True})
    await lived(lake, before, after)
    assert {change.path for change in await blame(lake.connection, TERM, KEY) if change.load_date == D2} == {
        "/deep/list[]",
        "/deep/x",
    }
