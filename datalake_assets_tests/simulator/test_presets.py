from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.days import Days, days_between
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import KNOBS
from datalake_assets.simulator.presets import _HOSTILITIES, _TERMS, Presets
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets_tests.simulator.callers import SCENARIO_START, ask_cstools, ask_qas

SECOND_DAY = SCENARIO_START + timedelta(days=1)


def presets(**knobs: object) -> Presets:
    config = Config.of(knobs)
    return Presets(config, TermPopulation(config), ["peoplesoft", "peoplesoft"])


def test_the_scenario_has_an_outage_on_day_5_on_every_attempt_and_face(simulator: SimulatorControl) -> None:
    simulator.set_day(SCENARIO_START + timedelta(days=4))
    assert [ask(simulator).status for _ in range(3) for ask in (ask_cstools, ask_qas)] == [503] * 6
    simulator.set_day(SCENARIO_START + timedelta(days=5))
    assert ask_cstools(simulator).status == 200


def test_clean_has_no_faults() -> None:
    assert presets().plan("clean").on(SCENARIO_START) == []


def test_realistic_costs_some_attempts_and_no_day(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="realistic")
    truth = simulator.truth(since="2027-01-01", day="2027-02-28")
    attempts = Counter(day["attempts"] for day in truth["days"].values())
    assert all(day["obtainable"] for day in truth["days"].values())
    assert 35 < attempts[1] < 55
    assert ask_cstools(simulator).pieces[0][0] >= 0.02


def test_an_outage_lasts_from_the_second_day_of_the_scenario(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="outage:peoplesoft")
    assert ask_cstools(simulator).status == 200
    for day in (SECOND_DAY, SECOND_DAY + timedelta(days=30)):
        simulator.set_day(day)
        assert [ask(simulator).status for _ in range(2) for ask in (ask_cstools, ask_qas)] == [503] * 4
    truth = simulator.truth(day=SECOND_DAY)
    assert truth["landed_days"] == [SCENARIO_START.isoformat()]
    assert len(truth["keys"]) == 143


def test_an_outage_can_be_limited_to_days(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="outage:peoplesoft", days=[SCENARIO_START.isoformat()])
    assert ask_cstools(simulator).status == 503
    simulator.set_day(SECOND_DAY)
    assert ask_cstools(simulator).status == 200


def test_an_outage_without_a_scenario_is_always() -> None:
    plan = presets().plan("outage:peoplesoft")
    assert [fault.knob for fault in plan.on(date(2020, 1, 1))] == ["status_503"]


def test_poison_day_costs_four_rows_and_not_the_roll(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="poison-day")
    truth = simulator.truth(day=SCENARIO_START + timedelta(days=2))
    first, second, third = truth["days"].values()
    assert (first["quarantined"], second["quarantined"], third["quarantined"]) == (0, 4, 0)
    assert (second["changed"], second["removed"]) == (3, 0)
    assert [item["strm"] for item in truth["active_terms"]][:2] == ["2268", "2271"]
    # The term after the new current one changes with the roll, but the lake learns of it a day later.
    rolled = [(item["key"], item["day"]) for item in truth["history"] if item["key"] == ["UGRD", "2275"]]
    assert [day for _, day in rolled] == ["2026-11-20", "2026-11-22"]
    simulator.set_day(SECOND_DAY)
    for _ in range(3):
        body = ask_cstools(simulator).body
        assert b"\\u0000" in body
        assert b"\\ud83d" in body
        assert b"1e400000" in body
        assert b"[" * 2000 in body


def test_poison_day_needs_a_day() -> None:
    with pytest.raises(SimulatorError, match="poison-day needs a day"):
        presets().plan("poison-day")
    plan = presets().plan("poison-day", days=Days.parse(["2026-11-24"]))
    of_terms = [[found for found in plan.on(date(2026, 11, day)) if found.scope == _TERMS] for day in (23, 24, 25)]
    assert [len(found) for found in of_terms] == [0, 4, 0]
    assert {found.scope for found in plan.on(date(2026, 11, 24))} == {
        _TERMS,
        "snaplogic_course",
        "personapi",
        "snapperson",
    }


def test_hostile_days_differ_and_some_are_lost(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="hostile")
    truth = simulator.truth(since=SCENARIO_START, day=SCENARIO_START + timedelta(days=119))
    days = list(truth["days"].values())
    lost = [day["why"] for day in days if not day["obtainable"]]
    assert days[0]["obtainable"]
    assert 0.15 < len(lost) / len(days) < 0.35
    assert len(set(lost)) > 10
    assert {day["attempts"] for day in days if day["obtainable"]} == {1, 2, 3}
    assert sum(day["quarantined"] > 0 for day in days) > 20
    assert max(day["quarantined"] for day in days) < 0.05 * 143
    assert any(day["why"].startswith("nothing is removed") for day in days)


def test_the_first_day_of_a_hostile_scenario_is_never_lost() -> None:
    """A walk that begins with nothing has nothing to lose, and proves nothing."""
    hostile = presets(scenario_start=SCENARIO_START)
    for seed in range(40):
        faults = hostile.plan("hostile", fault_seed=seed).on(SCENARIO_START)
        for one in _HOSTILITIES:
            lost = {replace(found, scope=scope) for found in one.lost for scope in one.scopes}
            assert not lost & set(faults)


def test_hostile_uses_every_kind_of_fault() -> None:
    """A fault that no preset uses is a fault that no rehearsal meets."""
    plan = presets().plan("hostile")
    days = days_between(date(2026, 1, 1), date(2028, 12, 31))
    met = {fault for day in days for fault in plan.on(day)}
    for one in _HOSTILITIES:
        listed = {*one.passing, *one.spoilt, *one.lost}
        assert {fault for fault in met if fault.scope in one.scopes} == {
            replace(fault, scope=scope) for fault in listed for scope in one.scopes
        }
    assert {fault.knob for fault in met} == set(KNOBS)


def test_another_fault_seed_is_another_hostile_world() -> None:
    days = list(days_between(date(2026, 1, 1), date(2026, 1, 31)))
    first, again, other = ([presets().plan("hostile", fault_seed=seed).on(day) for day in days] for seed in (1, 1, 2))
    assert first == again != other


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(SimulatorError, match="clean, realistic, hostile, poison-day, outage:peoplesoft"):
        presets().plan("outage:sap")


def test_a_simulator_starts_with_its_preset_and_returns_to_it() -> None:
    with running_simulator(preset="outage:peoplesoft", day="2026-11-20") as simulator:
        assert ask_cstools(simulator).status == 503
        simulator.set_faults()
        assert ask_cstools(simulator).status == 200
        simulator.reset()
        assert ask_cstools(simulator).status == 503
