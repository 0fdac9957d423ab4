"""Snapshots: what was answered is what is read, the account balances, and a day that is missing says so."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer, settle_duplicates, unusable
from datalake_assets.lake.landing import (
    BATCH_ROWS,
    Landing,
    NoSnapshotError,
    Snapshot,
    SourceAccount,
    landing_schema,
    read_answers,
    settle_rows,
    write_answers,
)
from datalake_assets.lake.outcomes import Outcome, UnbalancedError
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.lake.tables import table_of
from datalake_assets.storage.parquet import DamagedFileError, MissingPartitionError, ParquetStore
from datalake_assets_tests.lake.lakes import CLOCK, answer, outcome, term

DAY = LoadSlice(TERM, date(2026, 1, 1))

EVERY_OUTCOME = [
    answer(term("2251")),
    answer(term("2255", "x" * 21)),
    outcome("2258", Outcome.ABSENT),
    outcome("2261", Outcome.FAILED),
]


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(str(tmp_path))


@pytest.fixture
def landing(store: ParquetStore) -> Landing:
    return Landing(store, TERM)


def publish(landing: Landing, answers: list[Answer], *, complete: bool = True, piece: LoadSlice = DAY) -> Snapshot:
    source = SourceAccount(requests=3, retries=1, bytes_in=500, duration_s=1.5)
    return landing.publish(piece, answers, complete=complete, source=source, run_id="run-1", clock=CLOCK)


def test_every_answer_is_read_back_as_it_was_given(landing: Landing) -> None:
    snapshot = publish(landing, EVERY_OUTCOME)
    assert list(landing.answers(snapshot)) == EVERY_OUTCOME


def test_the_account_counts_every_outcome_once(landing: Landing) -> None:
    """Invariant 3: asked = data + absent + failed + quarantined, from the rows themselves."""
    outcomes = publish(landing, EVERY_OUTCOME).outcomes
    assert (outcomes.asked, outcomes.data, outcomes.absent, outcomes.failed, outcomes.quarantined) == (4, 1, 1, 1, 1)


def test_rows_are_settled_as_they_stream_by_without_holding_the_documents_that_stand_alone() -> None:
    """Invariant 8: a hundred thousand documents of persons do not fit into memory beside each other."""
    answers = [answer(term(f"{number:04}")) for number in range(50)]
    answers += [answer(term("0007", "Other")), answer(term("0008")), unusable(TERM, "not_json", "", "row 52")]
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(answers), 10):
            read.append(start)
            yield from write_answers(iter(answers[start : start + 10]), landing_schema(TERM))

    settled: list[Answer] = []
    for batch in settle_rows([each.key for each in answers], batches(), TERM):
        settled += read_answers(TERM, [batch])
        held = min(10 * len(read), len(answers)) - len(settled)
        assert held <= 4, "the rows of two keys that come twice"
    assert settled == list(settle_duplicates(answers, TERM))
    assert [(each.key[1], each.outcome.value) for each in settled[-4:]] == [
        (None, "quarantined"),
        ("0007", "data"),
        ("0007", "quarantined"),
        ("0008", "data"),
    ]


def test_more_answers_than_fit_one_batch_are_all_kept(landing: Landing) -> None:
    answers = [answer(term(f"{number:04}")) for number in range(BATCH_ROWS * 2 + 1)]
    snapshot = publish(landing, answers)
    assert snapshot.outcomes.data == len(answers)
    assert [row.key for row in landing.answers(snapshot)] == [row.key for row in answers]


def test_an_empty_answer_is_a_snapshot_of_nothing(landing: Landing) -> None:
    snapshot = publish(landing, [])
    assert (snapshot.outcomes.asked, list(landing.answers(snapshot))) == (0, [])


def test_what_the_source_took_is_kept(landing: Landing) -> None:
    publish(landing, EVERY_OUTCOME)
    snapshot = landing.require(DAY)
    assert (snapshot.source.requests, snapshot.source.retries, snapshot.source.bytes_in) == (3, 1, 500)
    assert snapshot.manifest.run_id == "run-1"


@pytest.mark.parametrize(
    ("named_all", "unkeyed", "complete"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_a_document_without_its_key_takes_completeness_back(
    landing: Landing, named_all: bool, unkeyed: bool, complete: bool
) -> None:
    """Invariant 3: it may be any of the keys that seem to be missing, so none of them may be removed."""
    lost = [answer({"ACAD_CAREER": "UGRD", "DESCR": "Fall"})] if unkeyed else []
    snapshot = publish(landing, [*EVERY_OUTCOME, *lost], complete=named_all)
    assert (snapshot.named_all, snapshot.complete) == (named_all, complete)
    assert landing.require(DAY).complete is complete


def test_a_part_that_is_no_document_takes_completeness_back(landing: Landing) -> None:
    broken = unusable(TERM, "cut_line", "The line ends in the middle.", "test row 9")
    assert publish(landing, [broken]).complete is False


def test_the_newest_snapshot_of_a_day_is_current_and_the_older_one_stays_readable(landing: Landing) -> None:
    """Mending later dates reads the snapshot that a table was loaded from, current or not."""
    first = publish(landing, [answer(term("2251"))])
    second = publish(landing, [answer(term("2255"))])
    assert landing.require(DAY).sha256 == second.sha256
    assert [row.key for row in landing.answers(landing.revision(DAY, first.sha256))] == [("UGRD", "2251")]


def test_a_revision_that_is_gone_is_an_error(landing: Landing) -> None:
    publish(landing, EVERY_OUTCOME)
    with pytest.raises(MissingPartitionError, match="has no revision"):
        landing.revision(DAY, "0" * 64)


def test_equal_answers_make_the_same_snapshot(tmp_path: Path) -> None:
    """Invariant 1: the identity of a snapshot is its content, not the moment or the run that wrote it."""
    one, other = (Landing(ParquetStore(str(tmp_path / name)), TERM) for name in "12")
    first = publish(one, EVERY_OUTCOME)
    second = other.publish(
        DAY, iter(EVERY_OUTCOME), complete=True, source=SourceAccount(), run_id="another", clock=CLOCK
    )
    assert first.sha256 == second.sha256


def test_a_day_that_was_never_landed_says_what_can_be_done(landing: Landing) -> None:
    assert landing.current(DAY) is None
    with pytest.raises(NoSnapshotError) as refusal:
        landing.require(DAY)
    assert str(refusal.value) == (
        "There is no snapshot to load from. Where: term_landing.term_data, partition 2026-01-01. What to do: "
        "Materialise the landing partition on its day; a day that was missed cannot be fetched later, and the next "
        "day's load brings the tables up to date."
    )


def test_days_do_not_see_each_other(landing: Landing) -> None:
    publish(landing, EVERY_OUTCOME)
    assert landing.current(LoadSlice(TERM, date(2026, 1, 2))) is None


@pytest.mark.parametrize(
    ("lie", "error", "message"),
    [
        ({"asked": 5}, UnbalancedError, "The receipt does not balance: 5 keys asked"),
        ({"data": 2}, UnbalancedError, "The receipt does not balance: 4 keys asked, but 2 data"),
        ({"asked": 3, "failed": 0}, LoadError, "speaks of 3 keys, its file holds 4 rows"),
        ({"asked": 5, "data": 2}, LoadError, "speaks of 5 keys, its file holds 4 rows"),
    ],
)
def test_a_snapshot_whose_account_is_wrong_is_not_loaded(
    store: ParquetStore, landing: Landing, lie: dict[str, Any], error: type[LoadError], message: str
) -> None:
    """Invariant 3: a receipt that does not balance blocks everything below it."""
    manifest = publish(landing, EVERY_OUTCOME).manifest
    store.publish(
        TERM.landing,
        DAY.dimensions,
        landing.schema,
        store.read(manifest),
        run_id="run-2",
        created_at=CLOCK.now(),
        account={**manifest.account, **lie},
    )
    with pytest.raises(error, match=message):
        landing.require(DAY)


def test_a_damaged_file_is_never_read(landing: Landing) -> None:
    snapshot = publish(landing, EVERY_OUTCOME)
    path = Path(landing.uri(snapshot))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        list(landing.answers(snapshot))


def test_the_columns_of_a_snapshot_are_those_that_are_shown_for_it(landing: Landing) -> None:
    described = [(column.name, column.type, column.nullable) for column in table_of(TERM, "landing").columns]
    assert described == [(field.name, str(field.type), field.nullable) for field in landing.schema]
