"""What day it is: the campus' day, or the one that is rehearsed."""

from datetime import UTC, date, datetime

import pytest
import time_machine

from datalake_assets.clock import Clock


@pytest.mark.parametrize(
    ("moment", "today"),
    [
        ("2026-01-15T04:59:59Z", date(2026, 1, 14)),
        ("2026-01-15T05:00:00Z", date(2026, 1, 15)),
        ("2026-07-15T03:59:59Z", date(2026, 7, 14)),
        ("2026-07-15T04:00:00Z", date(2026, 7, 15)),
        ("2026-03-08T06:59:59Z", date(2026, 3, 8)),
        ("2026-03-09T03:59:59Z", date(2026, 3, 8)),
        ("2026-11-02T04:59:59Z", date(2026, 11, 1)),
        ("2026-11-02T05:00:00Z", date(2026, 11, 2)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
def test_today_is_the_day_in_new_york_wherever_the_machine_stands(
    moment: str, today: date, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine in UTC would start the next load date at 20:00 on campus."""
    monkeypatch.setenv("TZ", zone)
    with time_machine.travel(datetime.fromisoformat(moment), tick=False):
        assert Clock().today() == today


def test_a_rehearsed_day_is_today() -> None:
    assert Clock(date(2030, 2, 28)).today() == date(2030, 2, 28)


def test_now_is_the_real_moment_even_in_a_rehearsal() -> None:
    """Columns that record when something was done must not lie."""
    moment = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
    with time_machine.travel(moment, tick=False):
        assert Clock(date(2030, 2, 28)).now() == moment
        assert Clock().now().tzinfo is UTC
