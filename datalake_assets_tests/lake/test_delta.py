"""What is new in a snapshot beside the one loaded before it: other rows and lost keys, nothing that was said before."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.delta import Delta, compare
from datalake_assets.lake.documents import Answer, Key
from datalake_assets.lake.landing import Landing, Snapshot, SourceAccount
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.lake.lakes import CLOCK, answer, outcome, shuffled, term

DAYS = (date(2026, 1, 1), date(2026, 1, 2))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(ParquetStore(str(tmp_path)), TERM)


def land(landing: Landing, day: date, answers: Sequence[Answer], *, complete: bool = True) -> Snapshot:
    piece = LoadSlice(TERM, day)
    return landing.publish(piece, answers, complete=complete, source=SourceAccount(), run_id="run", clock=CLOCK)


def compared(
    landing: Landing, before: Sequence[Answer], now: Sequence[Answer], *, complete: tuple[bool, bool] = (True, True)
) -> Delta | None:
    snapshots = [
        land(landing, day, answers, complete=is_complete)
        for day, answers, is_complete in zip(DAYS, (before, now), complete, strict=True)
    ]
    return compare(landing, snapshots[1], snapshots[0])


def keys(*strms: str) -> tuple[Key, ...]:
    return tuple(("UGRD", strm) for strm in strms)


TERMS = [answer(term(str(strm))) for strm in range(2251, 2259)]


@pytest.mark.parametrize("complete", [(True, True), (True, False), (False, False)])
def test_what_is_said_again_in_another_order_is_nothing_new(landing: Landing, complete: tuple[bool, bool]) -> None:
    answers = [*TERMS, outcome("2261", Outcome.FAILED), outcome("2262", Outcome.ABSENT)]
    delta = compared(landing, answers, shuffled(answers, 1), complete=complete)
    assert delta == Delta(bytes(10), (), 8)
    assert delta.is_empty


def test_the_files_need_not_be_read_to_see_that_nothing_is_new(landing: Landing, tmp_path: Path) -> None:
    before, now = (land(landing, day, TERMS) for day in DAYS)
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    assert compare(landing, now, before) == Delta(bytes(8), (), 8)


def test_only_other_documents_and_what_is_no_document_are_looked_at(landing: Landing) -> None:
    before = [*TERMS[:4], outcome("2261", Outcome.FAILED)]
    now = [TERMS[0], answer(term("2252", "Autumn")), TERMS[2], TERMS[5], outcome("2261", Outcome.FAILED)]
    delta = compared(landing, before, now, complete=(True, False))
    assert delta == Delta(b"\0\1\0\1\1", (), 2)
    assert not delta.is_empty


def test_of_a_complete_snapshot_the_keys_that_it_lacks_are_gone_whatever_they_were(landing: Landing) -> None:
    before = [*TERMS[:4], outcome("2261", Outcome.FAILED), outcome("2262", Outcome.QUARANTINED)]
    now = [TERMS[0], answer(term("2252", "Autumn")), outcome("2253", Outcome.FAILED)]
    delta = compared(landing, before, now)
    assert delta == Delta(b"\0\1\1", keys("2254", "2261", "2262"), 1)
    assert not delta.is_empty
    delta = compared(landing, TERMS[:2], TERMS[:1])
    assert delta is not None
    assert not delta.is_empty


def test_a_row_without_a_key_is_nobody_who_is_gone(landing: Landing) -> None:
    nameless = Answer(key=(None, None), outcome=Outcome.QUARANTINED, source="test", rule="no_key")
    delta = compared(landing, [*TERMS[:2], nameless], TERMS[:1], complete=(True, True))
    assert delta is None, "a snapshot that holds somebody unknown names not everybody"
    delta = compared(landing, TERMS[:2], [TERMS[0], nameless])
    assert delta == Delta(b"\0\1", (), 1)


def test_a_document_that_stood_beside_a_rival_is_not_gone_with_it(landing: Landing) -> None:
    """Of two different documents of a key one is kept, and the other one is quarantined beside it."""
    rival = outcome("2252", Outcome.QUARANTINED)
    assert compared(landing, [*TERMS[:2], rival], TERMS[:2]) == Delta(bytes(2), (), 2)
    assert compared(landing, [*TERMS[:2], rival], TERMS[:1]) == Delta(bytes(1), keys("2252"), 1)
    assert compared(landing, TERMS[:2], [*TERMS[:2], rival]) == Delta(b"\0\0\1", (), 2)


def test_what_neither_names_may_be_gone_too_if_only_the_later_is_complete(landing: Landing) -> None:
    assert compared(landing, TERMS, TERMS[:4], complete=(False, True)) is None
    assert compared(landing, TERMS, TERMS, complete=(False, True)) is None


def test_an_empty_snapshot_takes_everything(landing: Landing) -> None:
    assert compared(landing, TERMS[:2], []) == Delta(b"", keys("2251", "2252"), 0)
    assert compared(landing, [], TERMS[:2]) == Delta(b"\1\1", (), 0)


def test_snapshots_of_an_earlier_version_are_compared_row_by_row(landing: Landing) -> None:
    before, now = (land(landing, day, TERMS) for day in DAYS)
    object.__setattr__(before, "content", None)
    object.__setattr__(now, "content", None)
    assert compare(landing, now, before) == Delta(bytes(8), (), 8)
