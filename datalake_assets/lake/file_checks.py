"""What must hold of a landed file before it replaces a partition: enough rows, as many as last time, few refused.

A verdict compares numbers and changes nothing. What is tolerated is declared with the files; permission to pass for
once stands in `ops.guard_override` (`datalake allow`) until a load has used it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import asyncpg

from datalake_assets.lake.file_landing import FileSnapshot
from datalake_assets.lake.guards import VolumeGuardError
from datalake_assets.lake.ledger import Ledger
from datalake_assets.statements import statement

VOLUME_GUARD: Final = "volume"


@dataclass(frozen=True)
class Verdict:
    """One check of a landed file.

    Attributes:
        check: Its name.
        passed: Whether it holds.
        summary: A sentence with the numbers.
        blocks: Whether a partition may not be replaced if it does not hold.
        numbers: What was compared.
    """

    check: str
    passed: bool
    summary: str
    blocks: bool = True
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FileTolerances:
    """What is tolerated of a file.

    Attributes:
        min_rows: Fewest good rows.
        row_change_ratio: How far their number may move from that of the load before, as a share; None: any distance.
        extra_columns: What columns mean that are not declared.
        quarantined: Share of rows that may be refused.
    """

    min_rows: int
    row_change_ratio: float | None
    extra_columns: Literal["ignore", "warn", "fail"]
    quarantined: float

    async def verdicts(self, connection: asyncpg.Connection, ledger: Ledger, snapshot: FileSnapshot) -> list[Verdict]:
        """All checks of a landed file, in the order in which they are worth reading."""
        piece, outcomes, told = snapshot.piece, snapshot.outcomes, snapshot.account
        good, extra = outcomes.data, list(told["extra_columns"])
        last = await connection.fetchrow(statement("files/rows_before.sql"), str(piece.table), piece.key)
        before = None if last is None else last["rows_new"]
        allowed = await ledger.override(connection, str(piece.table), piece.key, VOLUME_GUARD)
        pass_ = "" if allowed is None else " It may pass for once, as `datalake allow` recorded."
        if last is not None and last["snapshot_sha256"] == snapshot.manifest.sha256:
            allowed, pass_ = "loaded", " The table shows it already."
        parts = (outcomes.data, outcomes.absent, outcomes.quarantined)
        return [
            Verdict(
                "balance",
                told["read"] == sum(parts) == snapshot.manifest.rows,
                f"{told['read']:,} rows read = {parts[0]:,} good + {parts[1]:,} dropped + {parts[2]:,} quarantined.",
                numbers={"read": told["read"], "good": good, "dropped": parts[1], "quarantined": parts[2]},
            ),
            Verdict(
                "min_rows",
                good >= self.min_rows or allowed is not None,
                f"{good:,} good rows; at least {self.min_rows:,} are expected.{pass_}",
                numbers={"good": good, "min_rows": self.min_rows},
            ),
            self._change(good, before, allowed, pass_),
            Verdict(
                "quarantined_share",
                outcomes.quarantined <= self.quarantined * outcomes.asked or allowed is not None,
                f"{outcomes.quarantined:,} of {outcomes.asked:,} rows are in quarantine; "
                f"at most {self.quarantined:.1%} may be.{pass_}",
                numbers={"quarantined": outcomes.quarantined, "read": outcomes.asked},
            ),
            Verdict(
                "extra_columns",
                not extra or self.extra_columns == "ignore",
                f"Columns of the file that are not declared: {', '.join(extra[:20]) or 'none'}.",
                blocks=self.extra_columns == "fail",
                numbers={"extra": len(extra)},
            ),
        ]

    def _change(self, good: int, before: int | None, allowed: str | None, pass_: str) -> Verdict:
        if before is None or self.row_change_ratio is None:
            return Verdict("row_change_ratio", passed=True, summary="There is nothing to compare with.")
        most = self.row_change_ratio * before
        return Verdict(
            "row_change_ratio",
            abs(good - before) <= most or allowed is not None,
            f"{good:,} good rows after {before:,} at the load before; "
            f"their number may change by {self.row_change_ratio:.0%}.{pass_}",
            numbers={"good": good, "before": before},
        )


async def use_permission(connection: asyncpg.Connection, snapshot: FileSnapshot) -> None:
    """Use up the permission to pass, in the transaction of the load that it was given for.

    Args:
        connection: A connection inside that transaction.
        snapshot: What is loaded.
    """
    place = (str(snapshot.piece.table), snapshot.piece.key, VOLUME_GUARD)
    await connection.execute(statement("files/use_permission.sql"), *place)


def refuse(verdicts: Sequence[Verdict], where: str) -> None:
    """Stop a load whose file does not pass.

    Raises:
        VolumeGuardError: Some check that blocks does not hold.
    """
    if broken := [verdict for verdict in verdicts if verdict.blocks and not verdict.passed]:
        raise VolumeGuardError(
            " ".join(verdict.summary for verdict in broken),
            where=where,
            todo="Make sure with the source that the file is right, then permit this one load with "
            '`datalake allow ASSET PARTITION volume --reason "..."` and materialise it again.',
        )
