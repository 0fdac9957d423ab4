"""From an answer to a committed snapshot: the rule of days, the spool, the receipt, the fence."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

import asyncpg
import pytest

from datalake_assets.clock import Clock
from datalake_assets.entities import TERM
from datalake_assets.keys import TableName
from datalake_assets.lake import quarantine
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.extraction import DayError, Extraction, Landed, ask_once
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.ledger import Ledger, SupersededError
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked, Filled, Spool
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresError
from datalake_assets_tests.lake.lakes import SmallLake, answer, outcome, term

pytestmark = pytest.mark.anyio

TODAY = date(2026, 1, 2)
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)
ASSET = str(TERM.landing)
QUERY = "BU_TERM_QRY"


class SourceIsDownError(Exception):
    """What a client raises when there is no trustworthy answer."""


@dataclass
class Source:
    """Answers, and remembers how often it was asked."""

    answers: Sequence[Answer] = (answer(term("2251")),)
    named_all: bool = True
    error: Exception | None = None
    meanwhile: Callable[[], Awaitable[object]] | None = None
    asked: int = 0

    async def __call__(self) -> Asked:
        self.asked += 1
        if self.error:
            raise self.error
        if self.meanwhile:
            await self.meanwhile()
        return Asked(self.answers, SourceAccount(requests=1, retries=2, bytes_in=10, duration_s=0.5), self.named_all)


async def land(
    lake: SmallLake, source: Source, day: date = TODAY, *, today: date = TODAY, run_id: str = "run-1"
) -> Landed:
    extraction = Extraction(lake.landing, lake.spools, lake.ledger, Clock(today))
    return await extraction.land(lake.connection, LoadSlice(TERM, day), run_id, fill=ask_once(QUERY, source))


def is_spooled(lake: SmallLake, day: date = TODAY) -> bool:
    spool = Spool(lake.spools, LoadSlice(TERM, day), run_id="test", clock=Clock())
    return spool.get(QUERY) is not None


def keys(lake: SmallLake, landed: Landed) -> list[tuple[object, ...]]:
    return [row.key for row in lake.landing.answers(landed.snapshot)]


# ------------------------------------------------------------------------------------------------- the account


async def test_an_answer_becomes_a_snapshot_with_its_receipt(lake: SmallLake) -> None:
    """Invariant 3: the receipt names every outcome, the snapshot it stands for, and what the source took."""
    source = Source([answer(term("2251")), outcome("2255", Outcome.FAILED), answer(term("2258", 17))], named_all=False)
    landed = await land(lake, source)
    columns = ("partition", "attempt", "run_id", "load_date", "asked", "data", "absent", "failed", "quarantined")
    assert await lake.rows(
        "ops.receipt", "asset", *columns, "complete", "rows_total", "snapshot_sha256", "retries"
    ) == [(ASSET, "2026-01-02", 1, "run-1", TODAY, 3, 1, 0, 1, 1, False, 3, landed.snapshot.sha256, 2)]
    assert landed.note == "Asked the source."
    assert landed.receipt.metadata()["lake/rows_quarantined"] == 1


async def test_the_quarantined_documents_of_an_answer_are_listed_with_its_receipt(lake: SmallLake) -> None:
    """Invariant 5: what could not be kept is found by an operator in the same moment as the rest is loaded."""
    await land(lake, Source([answer(term("2251")), answer(term("2255", 17))]))
    listed = await quarantine.listing(lake.connection)
    assert [(one.key, one.rule, one.load_date) for one in listed] == [(("UGRD", "2255"), "wrong_type", TODAY)]


async def test_a_day_landed_again_on_the_day_asks_again_and_replaces_its_snapshot(lake: SmallLake) -> None:
    source = Source()
    await land(lake, source)
    landed = await land(lake, replace(source, answers=[answer(term("2255"))]))
    assert keys(lake, landed) == [("UGRD", "2255")]
    assert lake.landing.require(LoadSlice(TERM, TODAY)).sha256 == landed.snapshot.sha256
    assert await lake.rows("ops.receipt", "attempt") == [(1,), (2,)]


# -------------------------------------------------------------------------------------------------- other days


async def test_a_past_day_keeps_its_snapshot_and_says_so(lake: SmallLake) -> None:
    """Sources answer for the present: asked today, they would write today's data into yesterday's partition."""
    first = await land(lake, Source(), today=TODAY)
    source = Source([answer(term("9999"))])
    kept = await land(lake, source, today=TOMORROW, run_id="run-2")
    assert source.asked == 0
    assert kept.snapshot.sha256 == first.snapshot.sha256
    assert kept.note == f"The day is over: its snapshot {first.snapshot.sha256[:12]} is kept as it was landed."
    assert kept.receipt == replace(first.receipt, run_id="run-1")
    assert await lake.rows("ops.receipt", "attempt") == [(1,)]


async def test_a_day_that_was_missed_fails_and_says_what_can_be_done(lake: SmallLake) -> None:
    source = Source()
    with pytest.raises(DayError) as refusal:
        await land(lake, source, YESTERDAY)
    assert str(refusal.value) == (
        "The day is over (today is 2026-01-02) without a snapshot; sources answer for the present only. Where: "
        "term_landing.term_data, partition 2026-01-01. What to do: Leave the partition missing: the next load brings "
        "the tables up to date, and the history shows its changes on the next landed day. A snapshot from a copy of "
        "the lake can be put back."
    )
    assert source.asked == 0
    assert await lake.rows("ops.load_attempt", "attempt") == []


async def test_a_day_that_has_not_come_fails(lake: SmallLake) -> None:
    source = Source()
    with pytest.raises(DayError) as refusal:
        await land(lake, source, TOMORROW)
    assert str(refusal.value) == (
        "The day has not come: today is 2026-01-02. Where: term_landing.term_data, partition 2026-01-03. What to do: "
        "Materialise it on its day."
    )
    assert source.asked == 0


# --------------------------------------------------------------------------------------------------- the spool


async def test_a_load_that_is_done_leaves_no_spool(lake: SmallLake) -> None:
    await land(lake, Source())
    assert not is_spooled(lake)


async def test_a_source_that_gives_no_answer_changes_nothing(lake: SmallLake) -> None:
    """Invariant 2: a failure is not an empty answer; an empty one once emptied the table (fault T1)."""
    before = await land(lake, Source())
    with pytest.raises(SourceIsDownError):
        await land(lake, Source(error=SourceIsDownError("no answer")))
    assert not is_spooled(lake)
    assert lake.landing.require(LoadSlice(TERM, TODAY)).sha256 == before.snapshot.sha256
    assert await lake.rows("ops.receipt", "attempt") == [(1,)]


async def test_the_retry_of_a_load_that_died_after_its_answer_does_not_ask_again(lake: SmallLake) -> None:
    """Invariant 4: a retry asks the source only for what was not answered yet."""
    source = Source()
    await refuse_receipts(lake)
    with pytest.raises(PostgresError):
        await land(lake, source)
    assert is_spooled(lake)
    await allow_receipts(lake)
    landed = await land(lake, source, run_id="run-2")
    assert source.asked == 1
    assert landed.note.startswith("Took the answer that an unfinished load had spooled")
    assert keys(lake, landed) == [("UGRD", "2251")]
    assert not is_spooled(lake)
    assert await lake.rows("ops.receipt", "attempt", "run_id", "requests") == [(2, "run-2", 1)]


async def test_the_answer_of_a_day_that_is_over_by_now_is_used_by_its_retry(lake: SmallLake) -> None:
    """Invariant 4: a load that died at 23:59 is finished at 00:01, with what was answered on its day."""
    await refuse_receipts(lake)
    with pytest.raises(PostgresError):
        await land(lake, Source(), today=TODAY)
    await allow_receipts(lake)
    source = Source([answer(term("9999"))])
    landed = await land(lake, source, today=TOMORROW)
    assert source.asked == 0
    assert keys(lake, landed) == [("UGRD", "2251")]


async def test_a_refused_receipt_leaves_no_quarantine_of_its_own(lake: SmallLake) -> None:
    """Invariant 4: the receipt and what it accounts for are one transaction."""
    await refuse_receipts(lake)
    with pytest.raises(PostgresError):
        await land(lake, Source([answer(term("2255", 17))]))
    await allow_receipts(lake)
    assert await quarantine.listing(lake.connection) == []


async def refuse_receipts(lake: SmallLake) -> None:
    await lake.connection.execute("alter table ops.receipt add constraint broken check (asked is null) not valid")


async def allow_receipts(lake: SmallLake) -> None:
    await lake.connection.execute("alter table ops.receipt drop constraint broken")


# --------------------------------------------------------------------------------------------------- the fence


async def test_an_attempt_that_was_superseded_while_it_asked_cannot_commit(lake: SmallLake) -> None:
    """Invariant 11: Dagster may believe a run dead and start another while the first still waits for the source."""

    async def another_begins() -> None:
        await lake.ledger.begin(lake.connection, ASSET, "2026-01-02", "run-2")

    before = await land(lake, Source())
    source = Source([answer(term("9999"))], meanwhile=another_begins)
    with pytest.raises(SupersededError) as refusal:
        await land(lake, source)
    assert "Attempt 2 is no longer the latest: run run-2 loads this slice now. Nothing was changed." in str(
        refusal.value
    )
    assert await lake.rows("ops.receipt", "attempt") == [(1,)]
    assert lake.landing.require(LoadSlice(TERM, TODAY)).sha256 == before.snapshot.sha256
    assert is_spooled(lake)


async def test_attempts_at_one_partition_are_numbered(lake: SmallLake) -> None:
    for _ in range(3):
        await land(lake, Source())
    attempts = [attempt for (attempt,) in await lake.rows("ops.receipt", "attempt")]
    assert attempts == [1, 2, 3]
    assert all(later == earlier + 1 for earlier, later in pairwise(attempts))


async def test_an_attempt_whose_spool_its_successor_has_forgotten_is_superseded_and_not_damaged(
    lake: SmallLake,
) -> None:
    """Invariant 11: nobody is sent to look for a broken disk because another run was faster."""

    async def fill(spool: Spool) -> Filled:
        spool.append(Asked([answer(term("2251"))]))
        spool.append(Asked([answer(term("2255"))]))
        answers = spool.answers()
        next(answers)
        await land(lake, Source(), run_id="run-2")
        return Filled(named_all=len(list(answers)) > 0)

    extraction = Extraction(lake.landing, lake.spools, lake.ledger, Clock(TODAY))
    with pytest.raises(SupersededError, match="run run-2 loads this slice now"):
        await extraction.land(lake.connection, LoadSlice(TERM, TODAY), "run-1", fill=fill)
    assert await lake.rows("ops.receipt", "run_id") == [("run-2",)]


async def test_an_attempt_that_begins_while_another_forgets_its_spool_does_not_land_the_rest_of_it(
    lake: SmallLake,
) -> None:
    """Invariant 1: what is left of a spool of two answers looks like a whole one."""
    piece = LoadSlice(TERM, TODAY)

    class Predecessor(ParquetStore):
        """Dies after it has forgotten one of its answers."""

        def remove(self, dataset: TableName, dimensions: Mapping[str, str]) -> list[str]:
            some = next(found for found in self.partitions(dataset) if found["kind"] == "answers")
            return super().remove(dataset, some)

    async def two_answers(spool: Spool) -> Filled:
        spool.append(Asked([answer(term("2251"))]))
        spool.append(Asked([answer(term("2255"))]))
        return Filled(named_all=True)

    class Late(Ledger):
        """Another run commits between this one's look at the spool and its beginning."""

        async def begin(self, connection: asyncpg.Connection, asset: str, partition: str, run_id: str) -> int:
            predecessor = Extraction(lake.landing, Predecessor(f"{lake.folder}-spool"), lake.ledger, Clock(TODAY))
            await predecessor.land(lake.connection, piece, "run-1", fill=two_answers)
            return await super().begin(connection, asset, partition, run_id)

    extraction = Extraction(lake.landing, lake.spools, Late(), Clock(TODAY))
    landed = await extraction.land(lake.connection, piece, "run-2", fill=two_answers)
    assert sorted(keys(lake, landed)) == [("UGRD", "2251"), ("UGRD", "2255")]
    assert landed.note == "Asked the source."
