"""The active terms: the current undergraduate term, its neighbours and a fourth, whatever form the data take."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.entities import TERM
from datalake_assets.lake.checks import Lake, Verdict, checks_of
from datalake_assets.lake.curated import NoSelectionError
from datalake_assets_tests.lake.lakes import CLOCK, SmallLake, answer, shuffled, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
TABLE = "term_curated.term_data_by_service"

FIVE_YEARS = [
    ("2241", "Spring 2024"),
    ("2245", "Summer 2024"),
    ("2248", "Fall 2024"),
    ("2251", "Spring 2025"),
    ("2255", "Summer 2025"),
    ("2258", "Fall 2025"),
    ("2261", "Spring 2026"),
    ("2265", "Summer 2026"),
    ("2268", "Fall 2026"),
]


def terms(current: str | tuple[str, ...], names: list[tuple[str, str]] = FIVE_YEARS, **fields: Any) -> list[Any]:
    current = (current,) if isinstance(current, str) else current
    return [term(strm, descr, **{"CURRENT_IND": "Y" if strm in current else "N", **fields}) for strm, descr in names]


async def active_after(lake: SmallLake, documents: list[Any], day: date = D1) -> list[str]:
    lake.land(day, [answer(document) for document in documents])
    await lake.load(day)
    return await active(lake)


async def active(lake: SmallLake) -> list[str]:
    return [strm for (strm,) in await lake.rows(TABLE, "strm")]


async def verdict(lake: SmallLake, name: str) -> Verdict:
    check = next(check for check in checks_of(TERM) if check.name == name)
    return await check.evaluate(Lake(lake.connection, lake.landing, lake.services, lake.tolerances, CLOCK), D1)


# -------------------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        # After a summer term the fourth is the one before it.
        ("2258", ["2251", "2255", "2258", "2261"]),
        # After no summer term the fourth is the one after the next.
        ("2251", ["2248", "2251", "2255", "2258"]),
        # A summer term has no fourth.
        ("2255", ["2251", "2255", "2258"]),
        # The first and the last of a career have fewer neighbours.
        ("2241", ["2241", "2245", "2248"]),
        ("2268", ["2261", "2265", "2268"]),
        ("2245", ["2241", "2245", "2248"]),
        ("2265", ["2261", "2265", "2268"]),
        ("2261", ["2258", "2261", "2265", "2268"]),
    ],
)
async def test_the_selection_follows_the_rule(lake: SmallLake, current: str, expected: list[str]) -> None:
    assert await active_after(lake, terms(current)) == expected
    assert (await verdict(lake, "active_terms_hold_the_current_term")).passed
    assert (await verdict(lake, "exactly_one_current_undergraduate_term")).passed


@pytest.mark.parametrize("missing", ["OLD_TERM", "BU_FUTURE_TERM_1", "TERM_BEGIN_DT", "DESCR", "ACAD_YEAR"])
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "null"])
async def test_a_column_that_a_neighbour_lacks_drops_nobody(lake: SmallLake, missing: str, absent: bool) -> None:
    """`end_term IS NOT NULL` on a record was true only if all columns were: four active terms became one (fault T2)."""
    documents = [
        {**document, **{column.path[0]: "1" for column in TERM.columns if column.path[0] not in document}}
        for document in terms("2251")
    ]
    for document in documents:
        if document["STRM"] != "2251":
            document[missing] = None
            if absent:
                del document[missing]
    assert await active_after(lake, documents) == ["2248", "2251", "2255", "2258"]


async def test_a_neighbour_of_which_only_the_key_is_known_is_still_a_neighbour(lake: SmallLake) -> None:
    """Courses are loaded for every active term, whatever else is known of it."""
    documents = [
        document if document["STRM"] == "2251" else {"ACAD_CAREER": "UGRD", "STRM": document["STRM"]}
        for document in terms("2251")
    ]
    assert await active_after(lake, documents) == ["2248", "2251", "2255", "2258"]


@pytest.mark.parametrize("seed", range(5))
async def test_careers_may_be_interleaved_in_any_order(lake: SmallLake, seed: int) -> None:
    """Neighbours by row number were those of other careers: only the current term was left (fault T3)."""
    documents = [
        {**document, "ACAD_CAREER": career}
        for career in ("UGRD", "GRAD", "LAW", "MED")
        for document in terms("2258" if career == "UGRD" else "2251")
    ]
    assert await active_after(lake, shuffled(documents, seed)) == ["2251", "2255", "2258", "2261"]
    assert await lake.rows(TABLE, "acad_career") == [("UGRD",)] * 4


async def test_padding_after_the_indicator_does_not_hide_the_current_term(lake: SmallLake) -> None:
    documents = terms("2251")
    documents[3]["CURRENT_IND"] = "Y   "
    assert await active_after(lake, documents) == ["2248", "2251", "2255", "2258"]


@pytest.mark.parametrize("name", ["SUMMER 2025", "summer 2025", "Late Summer '25", "Summer 2025   "])
async def test_a_summer_term_is_known_by_its_name_in_any_case(lake: SmallLake, name: str) -> None:
    names = [(strm, name if strm == "2255" else descr) for strm, descr in FIVE_YEARS]
    assert await active_after(lake, terms("2255", names)) == ["2251", "2255", "2258"]


@pytest.mark.parametrize("indicator", ["y", "N", "", " ", None, "1"])
async def test_only_a_capital_y_marks_the_current_term(lake: SmallLake, indicator: str | None) -> None:
    documents = terms("none")
    documents[3]["CURRENT_IND"] = indicator
    with pytest.raises(NoSelectionError):
        await active_after(lake, documents)


async def test_a_current_term_of_another_career_is_not_the_current_one(lake: SmallLake) -> None:
    documents = [*terms("2251"), *({**document, "ACAD_CAREER": "GRAD"} for document in terms("2261"))]
    assert await active_after(lake, documents) == ["2248", "2251", "2255", "2258"]


async def test_a_term_that_is_gone_is_no_neighbour(lake: SmallLake) -> None:
    await active_after(lake, terms("2251"))
    names = [name for name in FIVE_YEARS if name[0] != "2255"]
    assert await active_after(lake, terms("2251", names), D2) == ["2248", "2251", "2258", "2261"]


async def test_the_selection_rolls_with_the_current_term(lake: SmallLake) -> None:
    assert await active_after(lake, terms("2251")) == ["2248", "2251", "2255", "2258"]
    assert await active_after(lake, terms("2255"), D2) == ["2251", "2255", "2258"]
    assert await active_after(lake, terms("2258"), D3) == ["2251", "2255", "2258", "2261"]
    assert await lake.rows(TABLE, "strm", "current_ind") == [("2251", "N"), ("2255", "N"), ("2258", "Y"), ("2261", "N")]


# -------------------------------------------------------------------------------------- no single current term


@pytest.mark.parametrize("current", ["none", ("2251", "2258")], ids=["none is current", "several are current"])
async def test_without_a_single_current_term_the_last_good_selection_stays_and_a_check_fails(
    lake: SmallLake, current: str | tuple[str, ...]
) -> None:
    """Stale rows stayed in silence, or an arbitrary one of several current terms was taken (fault T4)."""
    good = await active_after(lake, terms("2251"))
    before = (await lake.contents())[TABLE]
    assert await active_after(lake, terms(current), D2) == good
    assert (await lake.contents())[TABLE] == before
    failed = await verdict(lake, "exactly_one_current_undergraduate_term")
    assert not failed.passed
    assert failed.summary == "1 offending rows."


async def test_a_term_that_is_shown_although_it_is_gone_has_no_place_among_those_that_are_there(
    lake: SmallLake,
) -> None:
    """Invariant 1: the number that it had was a fact of an earlier load, not of what was landed."""
    await active_after(lake, terms("2251"))
    names = [name for name in FIVE_YEARS if name[0] != "2255"]
    assert await active_after(lake, terms("none", names), D2) == ["2248", "2251", "2255", "2258"]
    assert await lake.rows(TABLE, "strm", "rownumber") == [("2248", 3), ("2251", 4), ("2255", None), ("2258", 5)]


async def test_the_selection_recovers_on_the_next_good_day(lake: SmallLake) -> None:
    await active_after(lake, terms("2251"))
    await active_after(lake, terms("none"), D2)
    assert await active_after(lake, terms("2258"), D3) == ["2251", "2255", "2258", "2261"]
    assert (await verdict(lake, "exactly_one_current_undergraduate_term")).passed


async def test_the_last_good_selection_is_that_of_the_date_and_not_of_the_load(lake: SmallLake) -> None:
    """Invariant 1: loaded in any order, the tables show the selection of the last date that had one."""
    for day, current in ((D3, "none"), (D2, "2255"), (D1, "2251")):
        lake.land(day, [answer(document) for document in terms(current)])
        await lake.load_raw(day)
    await lake.load_xform(D1)
    await lake.load_curated(D1)
    assert await active(lake) == ["2251", "2255", "2258"]
    assert await lake.rows(TABLE, "strm", "load_date") == [("2251", D2), ("2255", D2), ("2258", D1)]


async def test_a_lake_that_never_had_a_current_term_says_so(lake: SmallLake) -> None:
    lake.land(D1, [answer(document) for document in terms("none")])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    with pytest.raises(NoSelectionError) as refusal:
        await lake.load_curated(D1)
    assert str(refusal.value) == (
        "The selection active_terms of service active_terms names no key on any of 1 dates. Where: "
        "term_curated.term_data_by_service. What to do: Look at the checks of the current table: they say what the "
        "documents lack."
    )
    assert await lake.rows("ops.service_version", "service") == []


# ------------------------------------------------------------------------------------- against a rule in Python


def rule(documents: list[dict[str, Any]]) -> set[str] | None:
    """The sentence of the requirement, over the sorted codes of one career."""
    career = sorted(
        (d["STRM"], d.get("CURRENT_IND") == "Y", "summer" in (d.get("DESCR") or "").lower()) for d in documents
    )
    current = [place for place, (_, is_current, _) in enumerate(career) if is_current]
    if len(current) != 1:
        return None
    place = current[0]
    chosen = {place - 1, place, place + 1}
    if not career[place][2]:
        chosen.add(place - 2 if place and career[place - 1][2] else place + 2)
    return {career[place][0] for place in chosen if 0 <= place < len(career)}


undergraduate = st.lists(
    st.builds(
        lambda strm, descr, current: {
            "ACAD_CAREER": "UGRD",
            "STRM": strm,
            **({} if descr == "absent" else {"DESCR": descr}),
            **({} if current is None else {"CURRENT_IND": current}),
        },
        st.text("0123456789AZ", min_size=1, max_size=4),
        st.sampled_from(["Summer I", "Fall", "Spring", "", None, "absent"]),
        st.sampled_from(["N", "N", "N", "Y", " ", None]),
    ),
    max_size=8,
    unique_by=lambda document: document["STRM"],
)
other_careers = st.lists(
    st.builds(
        lambda career, strm: term(strm, career=career, CURRENT_IND="Y"),
        st.sampled_from(["GRAD", "UGR"]),
        st.text("09", min_size=4, max_size=4),
    ),
    max_size=3,
    unique_by=lambda document: (document["ACAD_CAREER"], document["STRM"]),
)


@given(first=undergraduate, second=undergraduate, others=other_careers, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
async def test_the_selection_is_that_of_the_last_date_on_which_the_rule_names_any(
    module_lake: SmallLake, first: list[Any], second: list[Any], others: list[Any], seed: int
) -> None:
    """Codes are ordered as text, byte by byte, whatever the collation of the database."""
    await module_lake.empty()
    for day, documents in ((D1, first), (D2, second)):
        module_lake.land(day, [answer(document) for document in shuffled([*documents, *others], seed)])
        await module_lake.load_raw(day)
        await module_lake.load_xform(day)
    expected = rule(second) or rule(first)
    if expected is None:
        with pytest.raises(NoSelectionError):
            await module_lake.load_curated(D2)
    else:
        await module_lake.load_curated(D2)
        assert set(await active(module_lake)) == expected
