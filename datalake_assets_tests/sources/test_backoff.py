from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import time_machine

from datalake_assets.sources.backoff import Backoff, retry_after_seconds
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError

NOW = datetime(2025, 9, 2, 12, 0, 0, tzinfo=UTC)


def backoff(**change: float) -> Backoff:
    numbers = {"base_s": 1.0, "cap_s": 60.0, "retry_after_cap_s": 900.0, "max_500": 2, **change}
    return Backoff(**numbers)  # type: ignore[arg-type]


def waits(retry_after_s: float | None = None, attempts: int = 9, **change: float) -> list[float]:
    hook = backoff(**change)
    failure = TransientSourceError("It failed.", retry_after_s=retry_after_s)
    return [float(hook(failure)) for _ in range(attempts)]


def test_waits_are_random_between_nothing_and_a_doubling_ceiling() -> None:
    """Without full jitter, everybody who failed together comes back together."""
    ceilings = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    many = [waits() for _ in range(400)]
    for number, ceiling in enumerate(ceilings):
        drawn = [run[number] for run in many]
        assert 0 <= min(drawn) < ceiling * 0.05
        assert ceiling * 0.95 < max(drawn) <= ceiling


def test_retry_after_is_a_minimum_under_the_jitter() -> None:
    many = [waits(retry_after_s=30, attempts=1)[0] for _ in range(400)]
    assert 30 <= min(many) < 30.05
    assert 30.95 < max(many) <= 31


@pytest.mark.parametrize(("asked_for", "waited_for"), [(900.0, True), (900.1, False)])
def test_retry_after_beyond_the_cap_is_not_waited_for(asked_for: float, waited_for: bool) -> None:
    answer = backoff()(TransientSourceError("It failed.", retry_after_s=asked_for))
    assert (answer is not False) == waited_for


@pytest.mark.parametrize("failure", [PermanentSourceError("No."), ValueError("A bug."), KeyError("x")])
def test_only_transient_failures_are_retried(failure: Exception) -> None:
    """Fault P4: the predecessor retried every exception, refused logons and bugs included."""
    assert backoff()(failure) is False


def test_status_500_is_retried_twice() -> None:
    hook = backoff()
    failure = TransientSourceError("It failed.", status=500)
    assert [hook(failure) is not False for _ in range(3)] == [True, True, False]


def test_a_wait_of_nothing_is_still_a_retry() -> None:
    """The retrying library reads False as "give up"; 0.0 must not be mistaken for it."""
    answer = backoff(base_s=0)(TransientSourceError("It failed."))
    assert answer == 0.0
    assert not isinstance(answer, bool)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("9" * 9, 999_999_999),
        ("9" * 5000, 1e9),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Tue, 02 Sep 2025 12:01:30 -0000", 90),
        ("Tue, 02 Sep 2025 08:01:30 -0400", 90),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Tue, 99 Sep 2025 12:01:30 GMT", None),
        ("Tue, 02 Sep 99999999999 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    with time_machine.travel(NOW, tick=False):
        assert retry_after_seconds(header) == seconds


@pytest.mark.parametrize(("date", "seconds"), [("Tue, 02 Sep 2025 12:00:30 GMT", 60), ("rubbish", 90)])
def test_a_date_is_counted_from_the_clock_of_the_source(date: str, seconds: float) -> None:
    """A clock that is wrong here must not turn "in a minute" into "tomorrow"."""
    with time_machine.travel(NOW, tick=False):
        assert retry_after_seconds("Tue, 02 Sep 2025 12:01:30 GMT", date) == seconds
