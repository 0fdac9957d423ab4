from datetime import date

import pytest

from datalake_assets.simulator.days import Days, days_between, parse_day
from datalake_assets.simulator.errors import SimulatorError


@pytest.mark.parametrize(
    ("windows", "inside", "outside"),
    [
        (["2026-11-20"], ["2026-11-20"], ["2026-11-19", "2026-11-21"]),
        (["2026-11-20..2026-11-22"], ["2026-11-20", "2026-11-22"], ["2026-11-19", "2026-11-23"]),
        (["2026-11-20.."], ["2026-11-20", "2099-01-01"], ["2026-11-19"]),
        (["..2026-11-20"], ["1999-01-01", "2026-11-20"], ["2026-11-21"]),
        (["2026-11-20", "2026-11-22"], ["2026-11-20", "2026-11-22"], ["2026-11-21"]),
        ([], [], ["2026-11-20"]),
    ],
)
def test_windows_hold_their_days(windows: list[str], inside: list[str], outside: list[str]) -> None:
    days = Days.parse(windows)
    assert [day for day in inside + outside if date.fromisoformat(day) in days] == inside
    assert days.texts() == windows


@pytest.mark.parametrize("item", ["20261120", "2026-11-31", "2026-11-20..2026-11-19", "..", 20261120, None, "today"])
def test_what_is_no_window_is_refused(item: object) -> None:
    with pytest.raises(SimulatorError):
        Days.parse([item])


def test_a_day_has_one_form() -> None:
    """`date.fromisoformat` also reads 20261120 and 2026-W47-5, which would end up in comparisons of texts."""
    with pytest.raises(SimulatorError, match=r"2026-W47-5.*Allowed: a day such as 2026-11-20"):
        parse_day("2026-W47-5")


def test_days_between_are_counted_with_both_ends() -> None:
    assert list(days_between(date(2026, 2, 28), date(2026, 3, 1))) == [date(2026, 2, 28), date(2026, 3, 1)]
