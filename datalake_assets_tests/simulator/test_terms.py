from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import SCENARIO_START

DAYS = st.dates(date(2017, 1, 1), date(2034, 12, 31))
CHAR_SIZES = {
    "ACAD_CAREER": 4,
    "STRM": 4,
    "DESCR": 20,
    "TERM_BEGIN_DT": 8,
    "TERM_END_DT": 8,
    "CURRENT_IND": 1,
    "BU_CUR_FUTURE_TERM": 1,
    "BU_FUTURE_TERM_1": 4,
    "BU_PAST_TERM_1": 4,
    "OLD_TERM": 5,
    "ACAD_YEAR": 4,
}

Documents = dict[tuple[str, str], dict[str, Json]]


def documents(population: TermPopulation, day: date) -> Documents:
    found = {term.key: term.fields for term in population.on(day)}
    assert len(found) == len(population.on(day)), "two terms with one key"
    return found


def scenario(**knobs: object) -> TermPopulation:
    return TermPopulation(Config.of({"scenario_start": SCENARIO_START, **knobs}))


def scenario_day(number: int) -> date:
    return SCENARIO_START + timedelta(days=number - 1)


def text(fields: dict[str, Json], name: str) -> str:
    value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""


def current(found: Documents) -> dict[str, list[str]]:
    marked: dict[str, list[str]] = {}
    for (career, strm), fields in found.items():
        if text(fields, "CURRENT_IND") == "Y":
            marked.setdefault(career, []).append(strm)
    return marked


@given(DAYS)
@settings(max_examples=40, deadline=None)
def test_on_any_day_each_career_has_one_current_term_which_has_begun(day: date) -> None:
    found = documents(TermPopulation(Config()), day)
    marked = current(found)
    assert {career: len(terms) for career, terms in marked.items()} == dict.fromkeys(["UGRD", "GRAD", "LAW", "MED"], 1)
    for career, [strm] in marked.items():
        later = [fields for (other, code), fields in found.items() if other == career and code > strm]
        assert text(found[career, strm], "TERM_BEGIN_DT") <= f"{day:%Y%m%d}"
        assert all(text(fields, "TERM_BEGIN_DT") > f"{day:%Y%m%d}" for fields in later)


@given(DAYS, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_every_field_fits_its_column_once_blanks_are_gone(day: date, seed: int) -> None:
    for fields in documents(TermPopulation(Config(seed=seed, whitespace_rate=0.5)), day).values():
        for name, value in fields.items():
            assert value is None or (isinstance(value, str) and len(value.rstrip()) <= CHAR_SIZES[name])


def test_the_same_seed_gives_the_same_terms_and_another_seed_others() -> None:
    day = date(2026, 11, 20)
    assert TermPopulation(Config()).on(day) == TermPopulation(Config()).on(day)
    assert TermPopulation(Config()).on(day) != TermPopulation(Config(seed=2)).on(day)


def test_days_can_be_asked_for_in_any_order() -> None:
    """Data with a memory would make the result of a backfill depend on its order."""
    days = [scenario_day(number) for number in range(1, 9)]
    forward, backward = scenario(), scenario()
    expected = [forward.on(day) for day in days]
    assert [backward.on(day) for day in reversed(days)] == expected[::-1]


def test_codes_names_and_years_follow_the_campus_scheme() -> None:
    found = documents(TermPopulation(Config(whitespace_rate=0)), date(2025, 10, 1))
    fields = found["UGRD", "2258"]
    assert fields["DESCR"] == "Fall 2025"
    assert (fields["ACAD_YEAR"], fields["OLD_TERM"]) == ("2026", "20264")
    assert (fields["CURRENT_IND"], fields["BU_CUR_FUTURE_TERM"]) == ("Y", "C")
    assert (fields["BU_FUTURE_TERM_1"], fields["BU_PAST_TERM_1"]) == ("2261", "2255")
    assert text(found["UGRD", "2261"], "DESCR") == "Spring 2026"
    assert text(found["UGRD", "2255"], "DESCR") == "Summer 2025"


def test_past_and_future_years_are_as_many_as_asked_for() -> None:
    years = {key[1][1:3] for key in documents(scenario(terms_years=3, future_years=1), SCENARIO_START)}
    assert years == {"23", "24", "25", "26", "27"}


def test_careers_stay_together_or_are_mixed_as_asked() -> None:
    together = [term.key[0] for term in scenario().on(SCENARIO_START)]
    assert together == sorted(together, key=["UGRD", "GRAD", "LAW", "MED"].index)
    mixed = [term.key[1] for term in scenario(term_order="strm").on(SCENARIO_START)]
    assert mixed == sorted(mixed)


def test_about_one_text_in_a_hundred_has_trailing_blanks() -> None:
    values = [
        value
        for seed in range(20)
        for fields in documents(TermPopulation(Config(seed=seed)), SCENARIO_START).values()
        for value in fields.values()
        if isinstance(value, str) and value.strip()
    ]
    share = sum(value.endswith(" ") for value in values) / len(values)
    assert 0.007 < share < 0.013


def test_empty_is_written_in_four_ways_but_old_codes_in_two() -> None:
    forms: dict[str, Counter[str]] = {"BU_CUR_FUTURE_TERM": Counter(), "OLD_TERM": Counter()}
    for fields in documents(TermPopulation(Config(whitespace_rate=0)), SCENARIO_START).values():
        for name, counter in forms.items():
            value = fields.get(name, "left out")
            if not isinstance(value, str) or value in ("", " ", "left out"):
                counter[repr(value)] += 1
    assert set(forms["BU_CUR_FUTURE_TERM"]) == {"None", "''", "' '", "'left out'"}
    assert set(forms["OLD_TERM"]) == {"None", "'left out'"}


def test_some_name_is_not_ascii() -> None:
    """Else a client that reads the wrong encoding would never be found out."""
    assert any(not text(fields, "DESCR").isascii() for fields in documents(scenario(), SCENARIO_START).values())


def changed(population: TermPopulation, number: int) -> dict[tuple[str, str], set[str]]:
    """The fields that differ from the day before, by key; a whole document counts as `whole`."""
    before, now = documents(population, scenario_day(number - 1)), documents(population, scenario_day(number))
    differing = {
        key: {name for name in before[key] | now[key] if before[key].get(name, 0) != now[key].get(name, 0)}
        for key in before.keys() & now.keys()
    }
    return {key: names for key, names in differing.items() if names} | {
        key: {"whole"} for key in before.keys() ^ now.keys()
    }


def test_day_2_rolls_the_undergraduate_term_and_nothing_else() -> None:
    population = scenario()
    before = current(documents(population, scenario_day(1)))
    now = current(documents(population, scenario_day(2)))
    assert (before["UGRD"], now["UGRD"]) == (["2268"], ["2271"])
    assert {career: terms for career, terms in before.items() if career != "UGRD"} == {
        career: terms for career, terms in now.items() if career != "UGRD"
    }
    differing = changed(population, 2)
    assert {key for key, names in differing.items() if "CURRENT_IND" in names} == {("UGRD", "2268"), ("UGRD", "2271")}
    assert {career for career, _ in differing} == {"UGRD"}
    assert differing["UGRD", "2275"] == {"BU_PAST_TERM_1"}


def test_day_3_changes_one_term_and_takes_a_past_one_away() -> None:
    population = scenario()
    differing = changed(population, 3)
    [revised] = [key for key, names in differing.items() if "whole" not in names]
    [removed] = [key for key, names in differing.items() if "whole" in names]
    assert differing[revised] == {"DESCR", "TERM_END_DT"}
    assert removed[0] in ("GRAD", "LAW")
    assert removed[1] < current(documents(population, scenario_day(2)))[removed[0]][0]
    assert removed not in documents(population, scenario_day(30))


def test_day_4_shuffles_rows_and_fields_and_changes_nothing() -> None:
    population = scenario()
    before, now = population.on(scenario_day(3)), population.on(scenario_day(4))
    assert changed(population, 4) == {}
    assert [term.key for term in before] != [term.key for term in now]
    assert any(
        list(fields) != list(documents(population, scenario_day(3))[key])
        for key, fields in documents(population, scenario_day(4)).items()
    )


def test_day_5_and_later_are_in_order_again_and_day_6_brings_a_term() -> None:
    population = scenario()
    assert [term.key for term in population.on(scenario_day(5))] == [
        term.key for term in population.on(scenario_day(3))
    ]
    added = [key for key, names in changed(population, 6).items() if "whole" in names]
    assert added == [("UGRD", "2291")]
    assert changed(population, 7) == {}


@given(st.dates(date(2018, 1, 1), date(2032, 12, 31)), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_the_calendar_stays_out_of_the_scenario_wherever_it_starts(start: date, seed: int) -> None:
    """A term that begins, or a new year, inside the five days would add changes that nobody expects."""
    population = TermPopulation(Config(seed=seed, scenario_start=start))
    walk = [documents(population, start + timedelta(days=offset)) for offset in range(6)]
    assert [len(found) for found in walk[:5]] == [len(walk[0])] * 2 + [len(walk[0]) - 1] * 3
    assert walk[2] == walk[3] == walk[4]
    assert current(walk[0])["UGRD"] < current(walk[1])["UGRD"] == current(walk[4])["UGRD"]
    assert all(len(terms) == 1 for terms in current(walk[5]).values())
    assert len(walk[5]) > len(walk[4])


def test_without_a_scenario_nothing_happens_on_ordinary_days() -> None:
    population = TermPopulation(Config())
    assert population.on(date(2026, 11, 20)) == population.on(date(2026, 11, 30))


def test_several_or_no_current_terms_come_on_the_days_asked_for() -> None:
    population = TermPopulation(Config.of({"duplicate_current": "2026-11-21", "no_current": "2026-11-22..2026-11-23"}))
    counts = [len(current(documents(population, date(2026, 11, day))).get("UGRD", [])) for day in (20, 21, 22, 23, 24)]
    assert counts == [1, 2, 0, 0, 1]


def test_neighbours_of_the_current_term_have_the_nulls_asked_for() -> None:
    population = scenario(null_columns="OLD_TERM,ACAD_YEAR")
    found = documents(population, SCENARIO_START)
    for strm in ("2261", "2265", "2271", "2275"):
        assert found["UGRD", strm]["OLD_TERM"] is None
        assert found["UGRD", strm]["ACAD_YEAR"] is None
    assert found["UGRD", "2268"]["OLD_TERM"] is not None


@pytest.mark.parametrize("number", range(2, 8))
def test_quirks_never_look_like_changes(number: int) -> None:
    """Blanks that came and went would make a lake that keeps documents as sent record changes every day."""
    quirky = scenario(whitespace_rate=0.5, null_vs_empty_rate=1)
    plain = scenario(whitespace_rate=0, null_vs_empty_rate=0)
    assert changed(quirky, number).keys() == changed(plain, number).keys()
