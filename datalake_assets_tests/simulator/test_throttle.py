from concurrent.futures import ThreadPoolExecutor

from datalake_assets.simulator.client import running_simulator
from datalake_assets_tests.simulator.callers import SCENARIO_START, ask_cstools, ask_persons, ask_sap, ask_snapperson

ROWS = '[{BUID:"U90000001"}]'


def test_more_than_the_limit_at_a_time_is_turned_away_and_asked_nobody() -> None:
    with running_simulator(day=SCENARIO_START, persons=20, person_batch_s=0.4, concurrency_limit=2) as limited:
        with ThreadPoolExecutor(6) as pool:
            statuses = sorted(pool.map(lambda _: ask_snapperson(limited, ROWS).status, range(6)))
        assert statuses == [200, 200, 429, 429, 429, 429]
        told = limited.requests()
        assert told["people"]["snapperson"] == {"U90000001": 2}
        refused = [request for request in told["requests"] if request["status"] == 429]
        assert {(*request["faults"], request["attempt"]) for request in refused} == {("concurrency_limit", None)}
        assert ask_snapperson(limited, ROWS).status == 200


def test_systems_do_not_share_their_limits() -> None:
    with (
        running_simulator(day=SCENARIO_START, persons=20, person_batch_s=0.3, concurrency_limit=1) as limited,
        ThreadPoolExecutor(2) as pool,
    ):
        snap = pool.submit(ask_snapperson, limited, ROWS)
        persons = pool.submit(ask_persons, limited, ["U90000001"])
        assert (snap.result().status, persons.result().status) == (200, 200)


def test_the_quota_of_a_day_ends_with_the_day() -> None:
    with running_simulator(day=SCENARIO_START, persons=20, daily_quota=3) as limited:
        assert [ask_persons(limited, ["U90000001"]).status for _ in range(5)] == [200, 200, 200, 429, 429]
        assert limited.requests()["requests"][-1]["faults"] == ["daily_quota"]
        limited.set_day("2026-11-21")
        assert ask_persons(limited, ["U90000001"]).status == 200
        limited.set_day(SCENARIO_START)
        assert ask_persons(limited, ["U90000001"]).status == 429
        limited.reset()
        assert ask_persons(limited, ["U90000001"]).status == 200


def test_refused_requests_use_up_no_quota() -> None:
    with running_simulator(day=SCENARIO_START, persons=20, daily_quota=1) as limited:
        assert [ask_persons(limited, []).status for _ in range(3)] == [422] * 3
        assert ask_persons(limited, ["U90000001"]).status == 200


def test_peoplesoft_and_sap_have_no_such_limits() -> None:
    with running_simulator(day=SCENARIO_START, persons=20, daily_quota=1) as limited:
        assert [ask_cstools(limited).status for _ in range(3)] == [200] * 3
        assert [ask_sap(limited).status for _ in range(3)] == [200] * 3


def test_a_client_that_hangs_up_frees_its_place() -> None:
    """Else a test that times out on purpose would leave the simulator throttled for ever."""
    with running_simulator(day=SCENARIO_START, persons=20, concurrency_limit=1) as limited:
        limited.set_faults([{"fault": "stall", "scope": "snapperson", "after_bytes": 1, "seconds": 600}])
        assert ask_snapperson(limited, ROWS, patience_s=0.3).end == "silent"
        limited.set_faults()
        assert ask_snapperson(limited, ROWS).status == 200
