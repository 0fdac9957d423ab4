"""The account of a load: it balances, or the load is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.lake.outcomes import Outcome, Outcomes, UnbalancedError

counts = st.integers(0, 5)


@given(counts, counts, counts, counts, st.integers(-2, 2))
def test_an_account_balances_or_is_refused(data: int, absent: int, failed: int, quarantined: int, off: int) -> None:
    """Invariant 3: a load that lost count of its keys is not loaded."""
    asked = data + absent + failed + quarantined + off
    if off:
        with pytest.raises(UnbalancedError, match=rf"{asked} keys asked, but {data} data \+ {absent} absent"):
            Outcomes(asked=asked, data=data, absent=absent, failed=failed, quarantined=quarantined)
    else:
        outcomes = Outcomes(asked=asked, data=data, absent=absent, failed=failed, quarantined=quarantined)
        assert outcomes.asked == asked


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(UnbalancedError) as refusal:
        Outcomes(asked=3, data=1)
    assert str(refusal.value) == (
        "The receipt does not balance: 3 keys asked, but 1 data + 0 absent + 0 failed + 0 quarantined = 1. What to do: "
        "Nothing was loaded. Materialise the landing partition again; if it repeats, report it."
    )


def test_outcomes_are_written_as_in_the_tables() -> None:
    """Landing files of every day hold these words."""
    assert [outcome.value for outcome in Outcome] == ["data", "absent", "failed", "quarantined"]
