"""The truth, against walks through days whose outcome can be told by hand."""

from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.simulator.callers import SCENARIO_START, ask_cstools, cstools_rows, key_of, qas_rows

VICTIM = "UGRD/2258"


def scenario_day(number: int) -> date:
    return SCENARIO_START + timedelta(days=number - 1)


def account(truth: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = truth["days"][scenario_day(number).isoformat()]
    return found


def counts(truth: dict[str, Any], number: int) -> tuple[int, ...]:
    names = ("new", "changed", "removed", "unchanged", "quarantined")
    return tuple(account(truth, number)[name] for name in names)


def keys(truth: dict[str, Any]) -> dict[str, str]:
    return {"/".join(item["key"]): item["digest"] for item in truth["keys"]}


def active(truth: dict[str, Any]) -> list[str]:
    assert all(item["acad_career"] == "UGRD" for item in truth["active_terms"])
    return [item["strm"] for item in truth["active_terms"]]


def changes(truth: dict[str, Any], number: int) -> dict[str, str]:
    day = scenario_day(number).isoformat()
    return {"/".join(item["key"]): item["operation"] for item in truth["history"] if item["day"] == day}


def replayed(truth: dict[str, Any]) -> dict[str, str]:
    """The state that the history leads to."""
    state: dict[str, str] = {}
    for item in truth["history"]:
        key = "/".join(item["key"])
        assert (key in state) == (item["operation"] != "I")
        if item["operation"] == "D":
            assert item["digest"] is None
            del state[key]
        else:
            assert state.get(key) != item["digest"]
            state[key] = item["digest"]
    return state


def test_five_days_show_load_roll_change_with_removal_shuffle_and_outage(simulator: SimulatorControl) -> None:
    truth = simulator.truth(day=scenario_day(6))
    assert counts(truth, 1) == (143, 0, 0, 0, 0)
    assert counts(truth, 2) == (0, 4, 0, 139, 0)
    assert counts(truth, 3) == (0, 1, 1, 141, 0)
    assert counts(truth, 4) == (0, 0, 0, 142, 0)
    assert counts(truth, 5) == (0, 0, 0, 0, 0)
    assert counts(truth, 6) == (1, 1, 0, 141, 0)
    assert [account(truth, number)["obtainable"] for number in range(1, 7)] == [True] * 4 + [False, True]
    assert account(truth, 5)["why"] == "status 503, 4 times"
    assert truth["landed_days"] == [scenario_day(number).isoformat() for number in (1, 2, 3, 4, 6)]
    assert changes(truth, 2) == dict.fromkeys(["UGRD/2265", "UGRD/2268", "UGRD/2271", "UGRD/2275"], "U")
    assert Counter(changes(truth, 3).values()) == {"U": 1, "D": 1}
    assert changes(truth, 4) == changes(truth, 5) == {}
    assert changes(truth, 6) == {"UGRD/2288": "U", "UGRD/2291": "I"}


def test_a_shuffle_is_seen_and_is_no_change(simulator: SimulatorControl) -> None:
    truth = simulator.truth(day=scenario_day(4))
    assert [account(truth, number)["reordered"] for number in (1, 2, 3)] == [0, 0, 0]
    assert account(truth, 4)["reordered"] > 100


def test_keys_are_what_the_history_leads_to(simulator: SimulatorControl) -> None:
    truth = simulator.truth(day=scenario_day(8))
    assert replayed(truth) == keys(truth)


def test_keys_are_those_that_are_sent_without_blanks(simulator: SimulatorControl) -> None:
    simulator.set_day(scenario_day(2))
    assert {key_of(row) for row in cstools_rows(simulator)} == set(keys(simulator.truth()))


def test_active_terms_follow_the_current_one(simulator: SimulatorControl) -> None:
    """2268 is fall after a summer: the fourth lies before. 2271 is spring after a fall: it lies after."""
    assert active(simulator.truth(day=scenario_day(1))) == ["2261", "2265", "2268", "2271"]
    assert active(simulator.truth(day=scenario_day(2))) == ["2268", "2271", "2275", "2278"]


def test_a_summer_term_has_three_active_terms() -> None:
    with running_simulator(day="2026-06-20") as simulator:
        assert active(simulator.truth()) == ["2261", "2265", "2268"]


def test_days_that_are_skipped_are_made_up_for_later(simulator: SimulatorControl) -> None:
    """What happened in between comes with the next landed day, as one change."""
    truth = simulator.truth(days=[scenario_day(1), scenario_day(4)])
    assert truth["landed_days"] == [scenario_day(1).isoformat(), scenario_day(4).isoformat()]
    assert counts(truth, 4) == (0, 4, 1, 138, 0)
    assert keys(truth) == keys(simulator.truth(day=scenario_day(4)))


def test_days_are_landed_in_the_order_of_their_dates(simulator: SimulatorControl) -> None:
    forward = simulator.truth(days=[scenario_day(number) for number in (1, 2, 3)])
    assert simulator.truth(days=[scenario_day(number) for number in (3, 1, 2, 1)]) == forward


def test_without_days_nothing_is_held(simulator: SimulatorControl) -> None:
    truth = simulator.truth(since=scenario_day(1), day=scenario_day(1), days=[])
    assert (truth["keys"], truth["history"], truth["active_terms"]) == ([], [], None)
    assert truth["active_terms_problem"] == "nothing was landed"


def test_the_truth_does_not_depend_on_what_was_asked_before(simulator: SimulatorControl) -> None:
    simulator.set_faults(preset="hostile")
    before = simulator.truth(day=scenario_day(10))
    for number in (3, 1):
        simulator.set_day(scenario_day(number))
        ask_cstools(simulator)
    assert simulator.truth(day=scenario_day(10)) == before


def test_a_poisoned_row_keeps_its_last_state(simulator: SimulatorControl) -> None:
    simulator.set_faults(
        [{"fault": "poison", "keys": ["UGRD/2268", "LAW/2168"], "days": [scenario_day(2).isoformat()]}]
    )
    truth = simulator.truth(day=scenario_day(3))
    assert counts(truth, 2) == (0, 3, 0, 138, 2)
    assert "UGRD/2268" not in changes(truth, 2)
    assert changes(truth, 3)["UGRD/2268"] == "U"
    assert keys(truth)["LAW/2168"] == keys(simulator.truth(day=scenario_day(1)))["LAW/2168"]


def test_two_current_terms_leave_the_last_good_selection(simulator: SimulatorControl) -> None:
    """Here the old one is poisoned on the day of the roll, so that its Y stays beside the new one's."""
    simulator.set_faults([{"fault": "poison", "keys": ["UGRD/2268"], "days": [scenario_day(2).isoformat()]}])
    truth = simulator.truth(day=scenario_day(2))
    assert active(truth) == active(simulator.truth(day=scenario_day(1)))
    assert truth["active_terms_problem"] == "2 undergraduate terms are current"
    assert truth["active_terms_day"] == scenario_day(1).isoformat()
    healed = simulator.truth(day=scenario_day(3))
    assert (active(healed)[1], healed["active_terms_problem"]) == ("2271", None)


@pytest.mark.parametrize(
    ("knob", "problem"),
    [
        ("duplicate_current", "2 undergraduate terms are current"),
        ("no_current", "no undergraduate terms are current"),
    ],
)
def test_no_selection_is_better_than_a_wrong_one(knob: str, problem: str) -> None:
    knobs: dict[str, Any] = {knob: "2026-11-20"}
    with running_simulator(day="2026-11-20", **knobs) as simulator:
        truth = simulator.truth()
        assert (truth["active_terms"], truth["active_terms_problem"]) == (None, problem)
        later = simulator.truth(since="2026-11-20", day="2026-11-21")
        assert (active(later)[2], later["active_terms_problem"]) == ("2268", None)


def test_nulls_in_the_neighbours_cost_no_active_term() -> None:
    with running_simulator(
        day="2026-11-20", null_columns=["OLD_TERM", "ACAD_YEAR", "BU_PAST_TERM_1"], term_order="strm"
    ) as simulator:
        assert active(simulator.truth()) == ["2261", "2265", "2268", "2271"]


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("wrong_types", "key_null"),
        ("wrong_types", "key_missing"),
        ("wrong_types", "key_number"),
        ("wrong_types", "row_empty"),
        ("wrong_types", "row_text"),
        ("wrong_types", "row_null"),
        ("wrong_types", "row_list"),
        ("malformed_json", "dup_keys"),
    ],
)
def test_a_row_that_hides_its_key_forbids_removals(simulator: SimulatorControl, fault: str, how: str) -> None:
    day = scenario_day(3).isoformat()
    simulator.set_faults([{"fault": fault, "how": how, "keys": [VICTIM], "days": [day]}])
    truth = simulator.truth(day=scenario_day(4))
    assert counts(truth, 3) == (0, 1, 0, 140, 1)
    assert account(truth, 3)["why"] == "nothing is removed: a row does not tell its key"
    assert VICTIM in keys(truth)
    assert counts(truth, 4)[2] == 1


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("poison", "nul"),
        ("poison", "lone_surrogate"),
        ("poison", "huge_number"),
        ("poison", "deep_nesting"),
        ("malformed_json", "nan"),
        ("wrong_types", "text_number"),
        ("wrong_types", "text_bool"),
        ("wrong_types", "text_object"),
        ("wrong_types", "text_too_long"),
    ],
)
def test_one_bad_document_costs_one_document(simulator: SimulatorControl, fault: str, how: str) -> None:
    simulator.set_faults([{"fault": fault, "how": how, "keys": [VICTIM]}])
    truth = simulator.truth(day=scenario_day(1))
    assert counts(truth, 1) == (142, 0, 0, 0, 1)
    assert VICTIM not in keys(truth)
    assert account(truth, 1)["why"] == ""


@pytest.mark.parametrize(
    ("fault", "settings", "same"),
    [
        ("poison", {"how": "long_key"}, False),
        ("poison", {"how": "huge_doc_mb", "mb": 1}, False),
        ("wrong_types", {"how": "row_number_text"}, True),
        ("sensitive_elsewhere", {"how": "upper"}, True),
        ("sensitive_elsewhere", {"how": "mixed"}, True),
        ("sensitive_elsewhere", {"how": "nested"}, False),
        ("dup_records", {"how": "same"}, True),
        ("shape", {"how": "no_rownumber"}, True),
        ("encoding", {"how": "bom"}, True),
        ("encoding", {"how": "wrong_charset_header"}, True),
        ("latency", {"ms": 1000}, True),
        ("stall", {"seconds": 10}, True),
        ("trickle", {"bytes_per_second": 1000}, True),
    ],
)
def test_what_only_looks_bad_costs_nothing(
    simulator: SimulatorControl, fault: str, settings: dict[str, Any], same: bool
) -> None:
    plain = keys(simulator.truth(day=scenario_day(1)))
    simulator.set_faults([{"fault": fault, **settings}])
    truth = simulator.truth(day=scenario_day(1))
    assert counts(truth, 1) == (143, 0, 0, 0, 0)
    assert account(truth, 1)["attempts"] == 1
    assert (keys(truth) == plain) is same


def test_rows_without_numbers_and_count_forbid_removals(simulator: SimulatorControl) -> None:
    """CS Tools counts nothing, so nothing shows that the row that is not there was not merely lost."""
    day = scenario_day(3).isoformat()
    simulator.set_faults([{"fault": "shape", "how": "no_rownumber", "days": [day]}])
    of_cstools = simulator.truth(day=scenario_day(4))
    assert counts(of_cstools, 3) == (0, 1, 0, 141, 0)
    assert account(of_cstools, 3)["why"] == "nothing is removed: neither count nor numbers show that all rows came"
    assert counts(of_cstools, 4)[2] == 1
    assert counts(simulator.truth(day=scenario_day(4), endpoint="qas"), 3)[2] == 1


def test_of_two_documents_with_one_key_the_first_in_canonical_order_stays(simulator: SimulatorControl) -> None:
    plain = keys(simulator.truth(day=scenario_day(1)))
    simulator.set_faults([{"fault": "dup_records", "how": "different", "keys": [VICTIM, "UGRD/2261"]}])
    truth = simulator.truth(day=scenario_day(1))
    assert counts(truth, 1) == (143, 0, 0, 0, 2)
    # `"Fall 2025"` and `"Fall 2025*"` differ first where one has a quote and the other a star: 0x22 < 0x2a.
    assert keys(truth) == plain


@pytest.mark.parametrize(
    ("fault", "settings", "why"),
    [
        ("status_401", {}, "status 401"),
        ("status_403", {}, "status 403"),
        ("status_404", {}, "status 404"),
        ("status_429", {"retry_after": "86400"}, "status 429, come back in 86400 s"),
        ("redirect_302", {}, "status 302"),
        ("key_expires_at_request", {"n": 1}, "status 401"),
        ("error_200", {}, "an error in a 200: ps_status_error"),
        ("malformed_json", {"how": "unescaped_quote"}, "no JSON: a row breaks the body"),
        ("malformed_json", {"how": "trailing_comma"}, "no JSON: trailing_comma"),
        ("encoding", {"how": "utf16"}, "not UTF-8: utf16"),
        ("encoding", {"how": "latin1_body"}, "not UTF-8: latin1_body"),
        ("encoding", {"how": "bad_utf8_byte"}, "not UTF-8: bad_utf8_byte"),
        ("shape", {"how": "null_data"}, "the envelope holds no rows: null_data"),
        ("shape", {"how": "empty_result"}, "the envelope holds no rows: empty_result"),
        ("missing_records", {}, "1 rows are missing from the answer"),
        ("row_cap", {"rows": 100}, "the answer is capped"),
        ("poison", {"how": "huge_doc_mb", "mb": 17}, "the body is larger than 16 MiB"),
    ],
)
def test_what_will_stay_wrong_is_asked_for_once(
    simulator: SimulatorControl, fault: str, settings: dict[str, Any], why: str
) -> None:
    simulator.set_faults([{"fault": fault, **settings}])
    truth = simulator.truth(day=scenario_day(1))
    assert (account(truth, 1)["why"], account(truth, 1)["attempts"]) == (why, 1)
    assert truth["keys"] == []


@pytest.mark.parametrize(
    ("fault", "settings", "first_n", "attempts"),
    [
        ("status_429", {"retry_after": "seconds"}, 3, 4),
        ("status_500", {}, 2, 3),
        ("status_502_html", {}, 3, 4),
        ("status_503", {}, 3, 4),
        ("status_504_html", {}, 3, 4),
        ("conn_reset", {}, 3, 4),
        ("content_length_lie", {"how": "more"}, 3, 4),
        ("content_length_lie", {"how": "less"}, 1, 2),
        ("body_cut", {"how": "gzip"}, 3, 4),
        ("malformed_json", {"how": "cut"}, 1, 2),
        ("latency", {"ms": 61_000}, 3, 4),
        ("stall", {"seconds": 61}, 3, 4),
        ("trickle", {"bytes_per_second": 100}, 3, 4),
    ],
)
def test_what_may_pass_is_asked_for_again_but_not_for_ever(
    simulator: SimulatorControl, fault: str, settings: dict[str, Any], first_n: int, attempts: int
) -> None:
    simulator.set_faults([{"fault": fault, "first_n": first_n, **settings}])
    passed = account(simulator.truth(day=scenario_day(1)), 1)
    assert (passed["obtainable"], passed["attempts"]) == (True, attempts)
    simulator.set_faults([{"fault": fault, "first_n": first_n + 1, **settings}])
    stayed = account(simulator.truth(day=scenario_day(1)), 1)
    assert (stayed["obtainable"], stayed["attempts"]) == (False, attempts)


def test_the_clients_patience_can_be_told(simulator: SimulatorControl) -> None:
    simulator.set_faults([{"fault": "status_503", "first_n": 4}, {"fault": "stall", "seconds": 5}])
    day = scenario_day(1)
    assert not account(simulator.truth(day=day), 1)["obtainable"]
    assert account(simulator.truth(day=day, attempts=5), 1)["obtainable"]
    assert not account(simulator.truth(day=day, attempts=5, silence_s=4), 1)["obtainable"]
    assert not account(simulator.truth(day=day, attempts=5, deadline_s=4), 1)["obtainable"]
    assert not account(simulator.truth(day=day, attempts=5, body_mb=0.01), 1)["obtainable"]


def test_raw_controls_cost_the_answer_of_one_face_and_not_of_the_other(simulator: SimulatorControl) -> None:
    """PeopleSoft's own writer is known for them; a wrapper written today is not."""
    simulator.set_faults([{"fault": "malformed_json", "how": "raw_control", "keys": [VICTIM]}])
    assert not account(simulator.truth(day=scenario_day(1)), 1)["obtainable"]
    of_qas = simulator.truth(day=scenario_day(1), endpoint="qas")
    assert counts(of_qas, 1) == (143, 0, 0, 0, 0)
    simulator.set_faults()
    assert keys(of_qas)[VICTIM] != keys(simulator.truth(day=scenario_day(1)))[VICTIM]


def test_both_faces_lead_to_the_same_lake() -> None:
    with running_simulator(scenario_start=SCENARIO_START, alias_fields="true") as simulator:
        of_cstools = simulator.truth(day=scenario_day(4), endpoint="cstools")
        of_qas = simulator.truth(day=scenario_day(4), endpoint="qas")
        assert keys(of_cstools) == keys(of_qas)
        assert of_cstools["history"] == of_qas["history"]
        assert all(name.startswith(("A.", "attr:")) for row in qas_rows(simulator) for name in row)
