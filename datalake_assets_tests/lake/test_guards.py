"""How much may be missing: nobody's load goes through because a share was rounded in its favour."""

import pytest

from datalake_assets.lake.guards import IntolerableError, Tolerances, VolumeGuardError
from datalake_assets.lake.outcomes import Outcomes

TOLERANCES = Tolerances(failed=0.01, quarantined=0.05, removed=0.20)


@pytest.mark.parametrize(
    ("asked", "failed", "quarantined", "message"),
    [
        (100, 0, 0, None),
        (100, 1, 5, None),
        (100, 2, 0, "2 of 100 keys are without a trustworthy answer; at most 1.0% may be."),
        (100, 0, 6, "6 of 100 keys are in quarantine; at most 5.0% may be."),
        (99, 1, 0, "1 of 99 keys are without a trustworthy answer"),
        (19, 0, 1, "1 of 19 keys are in quarantine"),
        (20, 0, 1, None),
        (1, 1, 0, "1 of 1 keys are without"),
        (0, 0, 0, None),
    ],
)
def test_an_answer_of_which_too_much_is_missing_is_refused(
    asked: int, failed: int, quarantined: int, message: str | None
) -> None:
    """Invariant 3: partial data never looks like a good load."""
    outcomes = Outcomes(asked=asked, data=asked - failed - quarantined, failed=failed, quarantined=quarantined)
    if message is None:
        TOLERANCES.check_outcomes(outcomes, "here")
        return
    with pytest.raises(IntolerableError) as refusal:
        TOLERANCES.check_outcomes(outcomes, "term_raw.term_data, partition 2026-01-01")
    assert message in str(refusal.value)
    assert "Where: term_raw.term_data, partition 2026-01-01." in str(refusal.value)
    assert f"raise LAKE_MAX_{'FAILED' if failed else 'QUARANTINED'}_SHARE knowingly" in str(refusal.value)


def test_keys_that_are_absent_are_answered() -> None:
    TOLERANCES.check_outcomes(Outcomes(asked=10, absent=10), "here")


@pytest.mark.parametrize(
    ("removed", "alive", "refused"),
    [(0, 0, False), (0, 10, False), (1, 1, False), (1, 2, False), (2, 10, False), (3, 10, True), (2, 9, True)],
)
def test_a_load_that_removes_too_much_is_refused_but_one_key_may_always_go(
    removed: int, alive: int, refused: bool
) -> None:
    """Invariant 3: a half-empty answer that calls itself complete must not empty the lake."""
    if not refused:
        TOLERANCES.check_removal(removed, alive, "here")
        return
    with pytest.raises(
        VolumeGuardError, match=f"would remove {removed} of {alive} keys; at most 20% may go"
    ) as refusal:
        TOLERANCES.check_removal(removed, alive, "here")
    assert "datalake allow ASSET PARTITION volume --reason" in str(refusal.value)


@pytest.mark.parametrize(("share", "refused"), [(0.0, True), (1.0, False)])
def test_the_extremes_of_a_tolerance(share: float, refused: bool) -> None:
    tolerances = Tolerances(failed=share, quarantined=share, removed=share)
    if refused:
        with pytest.raises(IntolerableError):
            tolerances.check_outcomes(Outcomes(asked=1000, data=999, failed=1), "here")
        with pytest.raises(VolumeGuardError):
            tolerances.check_removal(2, 1000, "here")
    else:
        tolerances.check_outcomes(Outcomes(asked=2, failed=1, quarantined=1), "here")
        tolerances.check_removal(1000, 1000, "here")
