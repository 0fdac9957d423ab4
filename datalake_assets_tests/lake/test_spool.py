"""Answers of an unfinished load: kept whole, found by their request, forgotten when the load is done."""

from datetime import date
from pathlib import Path

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked, Filled, Spool
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.lake.lakes import CLOCK, answer, outcome, term

DAY = LoadSlice(TERM, date(2026, 1, 1))
NEXT_DAY = LoadSlice(TERM, date(2026, 1, 2))


def spool_of(folder: Path, piece: LoadSlice = DAY, attempt: int = 1) -> Spool:
    return Spool(ParquetStore(str(folder)), piece, run_id="run-1", clock=CLOCK, attempt=attempt)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return spool_of(tmp_path)


def asked(*answers: Answer, named_all: bool = True) -> Asked:
    return Asked(answers, SourceAccount(requests=2, retries=1, bytes_in=99, duration_s=0.5), named_all)


def test_an_answer_is_found_again_as_it_was(spool: Spool) -> None:
    answers = (answer(term("2251")), outcome("2255", Outcome.FAILED), answer({"poison": "\0"}))
    spool.put("BU_TERM_QRY", asked(*answers, named_all=False))
    found = spool.get("BU_TERM_QRY")
    assert found is not None
    assert tuple(found.answers) == answers
    assert (found.named_all, found.source) == (False, asked().source)


def test_a_request_that_was_not_answered_has_no_answer(spool: Spool, tmp_path: Path) -> None:
    spool.put("first", asked(answer(term("2251"))))
    assert spool.get("second") is None
    assert spool_of(tmp_path, NEXT_DAY).get("first") is None


def test_requests_of_one_day_are_kept_apart(spool: Spool) -> None:
    spool.put("first", asked(answer(term("2251"))))
    spool.put("second", asked(answer(term("2255"))))
    for request, strm in (("first", "2251"), ("second", "2255")):
        found = spool.get(request)
        assert found is not None
        assert [row.key for row in found.answers] == [("UGRD", strm)]


def test_only_the_day_that_is_done_is_forgotten(spool: Spool, tmp_path: Path) -> None:
    spool.put("first", asked(answer(term("2251"))))
    spool.put("second", asked(answer(term("2255"))))
    spool.notes("terms").put("first", asked(answer(term("2251"))))
    spool_of(tmp_path, NEXT_DAY).put("first", asked(answer(term("2258"))))
    spool.clear()
    assert spool.get("first") is None
    assert spool.get("second") is None
    assert spool_of(tmp_path, NEXT_DAY).get("first") is not None
    assert not [path for path in tmp_path.rglob("*.parquet") if "2026-01-01" in str(path)]


def test_what_a_killed_attempt_had_not_finished_goes_with_the_rest(tmp_path: Path) -> None:
    spool_of(tmp_path).put("first", asked(answer(term("2251"))))
    (pointer,) = tmp_path.rglob("current.json")
    pointer.unlink()
    assert list(tmp_path.rglob("*.parquet"))
    spool_of(tmp_path, attempt=2).clear()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_what_a_later_attempt_keeps_is_not_forgotten_with_an_earlier_one(tmp_path: Path) -> None:
    """A run commits, the next begins and is answered, and only then does the first forget its spool."""
    first, second = spool_of(tmp_path, attempt=1), spool_of(tmp_path, attempt=2)
    first.put("query", asked(answer(term("2251"))))
    second.put("query", asked(answer(term("2255"))))
    second.append(asked(answer(term("2258"))))
    first.clear()
    assert keys(second) == [("UGRD", "2255"), ("UGRD", "2258")]


def test_of_a_request_that_two_attempts_asked_the_later_answer_counts_as_a_whole(tmp_path: Path) -> None:
    """Both were whole answers; what only the earlier one names was gone when the later one was given."""
    spool_of(tmp_path, attempt=1).put("query", asked(answer(term("2251")), answer(term("2255"))))
    spool_of(tmp_path, attempt=2).put("query", asked(answer(term("2255"))))
    assert keys(spool_of(tmp_path)) == [("UGRD", "2255")]


def test_forgetting_what_was_never_kept_is_no_error(spool: Spool) -> None:
    spool.clear()


def test_nothing_of_a_request_or_of_a_sensitive_key_touches_the_disk(spool: Spool, tmp_path: Path) -> None:
    """Invariant 6: a request may name people, and a document is cleaned before it is spooled."""
    spool.put("ids U12345678", asked(answer(term("2251", SSN="123-45-6789", x={"finAid": "canary-1"}))))
    for path in tmp_path.rglob("*"):
        assert "U12345678" not in str(path)
        if path.is_file():
            content = path.read_bytes()
            assert b"U12345678" not in content
            assert b"123-45-6789" not in content
            assert b"canary-1" not in content
    found = spool.get("ids U12345678")
    assert found is not None
    assert b"canary-1" not in next(iter(found.answers)).document  # type: ignore[operator]


# ---------------------------------------------------------------------------------------------- many requests


def keys(spool: Spool) -> list[tuple[object, ...]]:
    return sorted(row.key for row in spool.answers())


def test_the_answers_of_all_requests_and_parts_are_one_stream(spool: Spool) -> None:
    spool.append(asked(answer(term("2251"))))
    spool.append(asked(answer(term("2255"))))
    spool.put("second", asked(answer(term("2258"))))
    assert keys(spool) == [("UGRD", "2251"), ("UGRD", "2255"), ("UGRD", "2258")]
    assert spool.source() == SourceAccount(requests=6, retries=3, bytes_in=297, duration_s=1.5)


def test_two_answers_of_one_request_about_a_key_both_count(spool: Spool) -> None:
    """Fault C7: which of them is kept is decided when they are settled, not by where a part ends."""
    spool.append(asked(answer(term("2251", DESCR="one"))))
    spool.append(asked(answer(term("2251", DESCR="two"))))
    assert keys(spool) == [("UGRD", "2251"), ("UGRD", "2251")]


def test_of_two_attempts_at_a_key_the_later_counts(tmp_path: Path) -> None:
    for attempt, descr in ((2, "second"), (1, "first"), (10, "tenth")):
        spool_of(tmp_path, attempt=attempt).put(f"of {attempt}", asked(answer(term("2251", DESCR=descr))))
    (found,) = spool_of(tmp_path).answers()
    assert b"tenth" in (found.document or b"")


def test_a_key_without_a_trustworthy_answer_is_asked_for_again(spool: Spool) -> None:
    """Invariant 4: a retry asks for what was not answered, and for nothing else."""
    spool.put("first", asked(answer(term("2251")), outcome("2255", Outcome.FAILED), outcome("2258", Outcome.ABSENT)))
    spool.put("second", asked(answer(term("2261", 17))))
    assert spool.answered() == {("UGRD", "2251"), ("UGRD", "2258"), ("UGRD", "2261")}


def test_what_failed_first_and_was_answered_later_is_answered(tmp_path: Path) -> None:
    spool_of(tmp_path, attempt=1).put("of 1", asked(outcome("2251", Outcome.FAILED)))
    spool_of(tmp_path, attempt=2).put("of 2", asked(answer(term("2251"))))
    assert spool_of(tmp_path).answered() == {("UGRD", "2251")}
    assert [row.outcome for row in spool_of(tmp_path).answers()] == [Outcome.DATA]


def test_notes_of_a_load_are_no_answers(spool: Spool) -> None:
    spool.notes("terms").put("first", asked(answer(term("2251"))))
    assert keys(spool) == []
    assert keys(spool.notes("terms")) == [("UGRD", "2251")]


def test_a_load_is_finished_once_everything_was_asked_for(spool: Spool) -> None:
    spool.put("first", asked(answer(term("2251"))))
    assert spool.finished() is None
    spool.finish(Filled(named_all=False))
    finished = spool.finished()
    assert finished is not None
    assert not finished.named_all
    assert [row.key for row in finished.answers] == [("UGRD", "2251")]


def test_of_an_answer_that_was_cut_and_came_again_only_the_whole_one_counts(tmp_path: Path) -> None:
    """Fault C3: parts of a cut answer, of this attempt or of one that died, are no answer."""
    spool_of(tmp_path, attempt=1).append(asked(answer(term("2251", DESCR="of a dead attempt"))), request="try 1")
    spool = spool_of(tmp_path, attempt=2)
    spool.append(asked(answer(term("2255", DESCR="cut"))), request="try 1")
    spool.append(asked(answer(term("2258"))), request="try 2")
    spool.append(asked(answer(term("2261"))), request="try 2")
    spool.finish(Filled(named_all=True, only="try 2"))
    assert keys(spool) == [("UGRD", "2258"), ("UGRD", "2261")]


def test_what_an_attempt_spooled_after_a_later_one_was_committed_is_over(tmp_path: Path) -> None:
    """Invariant 11: an attempt that was superseded must not bring older answers into the next load."""
    late = spool_of(tmp_path, attempt=3)
    late.put("first", asked(answer(term("2251"))))
    late.finish(Filled(named_all=True))
    after = Spool(ParquetStore(str(tmp_path)), DAY, run_id="run-2", clock=CLOCK, attempt=5, after=4)
    assert after.get("first") is None
    assert after.finished() is None
    assert after.answered() == set()


def test_notes_of_a_load_that_was_committed_are_over_too(tmp_path: Path) -> None:
    """Else a load that died after its commit, before its spool was cleared, would answer for the next one."""
    spool_of(tmp_path, attempt=3).notes("terms").append(asked(answer(term("2251"))))
    after = Spool(ParquetStore(str(tmp_path)), DAY, run_id="run-2", clock=CLOCK, attempt=4, after=3)
    assert keys(after.notes("terms")) == []
