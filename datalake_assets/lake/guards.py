"""How much may be missing from a load before it is refused.

A guard compares counts and raises; it never changes anything. The defaults stand in `settings.py`, permission
to pass a guard for once in `ops.guard_override` (`datalake allow`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from datalake_assets.lake.outcomes import Outcomes
from datalake_assets.lake.slices import LoadError

GUARDED_BY: Final = "lake/guarded_by"
"""Tag of a declared asset that `datalake allow` can name: `partition`, or `load_date` where each landing is judged."""


class IntolerableError(LoadError):
    """Too much of an answer is missing for it to be trusted."""


class VolumeGuardError(LoadError):
    """A load would remove more than a night may."""


@dataclass(frozen=True)
class Tolerances:
    """Shares (0 to 1) beyond which a load is refused.

    Attributes:
        failed: Keys without a trustworthy answer, of the keys asked.
        quarantined: Documents that could not be kept, of the keys asked.
        removed: Keys removed by one load, of the keys alive before it.
        without_terms: People whose terms PeopleSoft does not know, of those it should know some of.
        empty: Empty objects in an answer that still counts as complete, of the documents in it.
    """

    failed: float
    quarantined: float
    removed: float
    without_terms: float = 0.5
    empty: float = 0.0

    def check_outcomes(self, outcomes: Outcomes, where: str) -> None:
        """Refuse an answer of which too much is missing.

        Raises:
            IntolerableError: A share is beyond its tolerance.
        """
        self.check_failed(outcomes.failed, outcomes.asked, where)
        if outcomes.quarantined > self.quarantined * outcomes.asked:
            raise IntolerableError(
                f"{outcomes.quarantined} of {outcomes.asked} keys are in quarantine; "
                f"at most {self.quarantined:.1%} may be.",
                where=where,
                todo="Look at `datalake quarantine list` and at the source, then materialise the landing partition "
                "again; or raise LAKE_MAX_QUARANTINED_SHARE knowingly.",
            )

    def check_failed(self, failed: int, asked: int, where: str, rules: Mapping[str, int] | None = None) -> None:
        """Refuse an answer that lacks too many of the keys that were asked for.

        Args:
            failed: Keys that failed.
            asked: Keys that were asked for.
            where: What is loaded.
            rules: How many failed by which rule, if that is known.

        Raises:
            IntolerableError: The share is beyond its tolerance.
        """
        if failed > self.failed * asked:
            counted = ", ".join(f"{rule} {count}" for rule, count in (rules or {}).items())
            raise IntolerableError(
                f"{failed} of {asked} keys are without a trustworthy answer{f' ({counted})' if counted else ''}; "
                f"at most {self.failed:.1%} may be.",
                where=where,
                todo="Look at the source, then materialise the landing partition again on its day; or raise "
                "LAKE_MAX_FAILED_SHARE knowingly.",
            )

    def check_removal(self, removed: int, alive: int, where: str) -> None:
        """Refuse a load that removes too much at once. One key may always go.

        Raises:
            VolumeGuardError: The share is beyond its tolerance.
        """
        if removed > max(1, self.removed * alive):
            raise VolumeGuardError(
                f"This load would remove {removed} of {alive} keys; at most {self.removed:.0%} may go at once.",
                where=where,
                todo="Make sure with the source that they are really gone, then permit this one load with "
                '`datalake allow ASSET PARTITION volume --reason "..."` and materialise it again.',
            )
