"""What can become of a key that a source was asked for, and the account that must balance.

Counting only: how an answer is judged is in `documents.py`, how much may be missing in `guards.py`.
"""

from dataclasses import dataclass
from enum import StrEnum

from datalake_assets.lake.slices import LoadError


class Outcome(StrEnum):
    """What became of one key that a source was asked for."""

    DATA = "data"
    ABSENT = "absent"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class UnbalancedError(LoadError):
    """The outcomes of a load do not add up to what was asked."""


@dataclass(frozen=True)
class Outcomes:
    """How many keys ended in which outcome.

    Raises:
        UnbalancedError: asked is not data + absent + failed + quarantined.
    """

    asked: int
    data: int = 0
    absent: int = 0
    failed: int = 0
    quarantined: int = 0

    def __post_init__(self) -> None:
        total = self.data + self.absent + self.failed + self.quarantined
        if total != self.asked:
            raise UnbalancedError(
                f"The receipt does not balance: {self.asked} keys asked, but {self.data} data + {self.absent} absent + "
                f"{self.failed} failed + {self.quarantined} quarantined = {total}.",
                todo="Nothing was loaded. Materialise the landing partition again; if it repeats, report it.",
            )
