"""Answers of an unfinished load: kept whole, found by their request, forgotten when the load is done."""

from datetime import date
from pathlib import Path

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked, Spool
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.lake.lakes import CLOCK, answer, outcome, term

DAY = LoadSlice(TERM, date(2026, 1, 1))
NEXT_DAY = LoadSlice(TERM, date(2026, 1, 2))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(ParquetStore(str(tmp_path)), TERM)


def asked(*answers: Answer, named_all: bool = True) -> Asked:
    return Asked(answers, SourceAccount(requests=2, retries=1, bytes_in=99, duration_s=0.5), named_all)


def put(spool: Spool, piece: LoadSlice, request: str, what: Asked) -> None:
    spool.put(piece, request, what, run_id="run-1", clock=CLOCK)


def test_an_answer_is_found_again_as_it_was(spool: Spool) -> None:
    answers = (answer(term("2251")), outcome("2255", Outcome.FAILED), answer({"poison": "\0"}))
    put(spool, DAY, "BU_TERM_QRY", asked(*answers, named_all=False))
    found = spool.get(DAY, "BU_TERM_QRY")
    assert found is not None
    assert tuple(found.answers) == answers
    assert (found.named_all, found.source) == (False, asked().source)


def test_a_request_that_was_not_answered_has_no_answer(spool: Spool) -> None:
    put(spool, DAY, "first", asked(answer(term("2251"))))
    assert spool.get(DAY, "second") is None
    assert spool.get(NEXT_DAY, "first") is None


def test_requests_of_one_day_are_kept_apart(spool: Spool) -> None:
    put(spool, DAY, "first", asked(answer(term("2251"))))
    put(spool, DAY, "second", asked(answer(term("2255"))))
    for request, strm in (("first", "2251"), ("second", "2255")):
        found = spool.get(DAY, request)
        assert found is not None
        assert [row.key for row in found.answers] == [("UGRD", strm)]


def test_only_the_day_that_is_done_is_forgotten(spool: Spool, tmp_path: Path) -> None:
    put(spool, DAY, "first", asked(answer(term("2251"))))
    put(spool, DAY, "second", asked(answer(term("2255"))))
    put(spool, NEXT_DAY, "first", asked(answer(term("2258"))))
    spool.clear(DAY)
    assert spool.get(DAY, "first") is None
    assert spool.get(DAY, "second") is None
    assert spool.get(NEXT_DAY, "first") is not None
    assert not [path for path in tmp_path.rglob("*.parquet") if "2026-01-01" in str(path)]


def test_forgetting_what_was_never_kept_is_no_error(spool: Spool) -> None:
    spool.clear(DAY)


def test_nothing_of_a_request_or_of_a_sensitive_key_touches_the_disk(spool: Spool, tmp_path: Path) -> None:
    """Invariant 6: a request may name people, and a document is cleaned before it is spooled."""
    put(spool, DAY, "ids U12345678", asked(answer(term("2251", SSN="123-45-6789", x={"finAid": "canary-1"}))))
    for path in tmp_path.rglob("*"):
        assert "U12345678" not in str(path)
        if path.is_file():
            content = path.read_bytes()
            assert b"U12345678" not in content
            assert b"123-45-6789" not in content
            assert b"canary-1" not in content
    found = spool.get(DAY, "ids U12345678")
    assert found is not None
    assert b"canary-1" not in next(iter(found.answers)).document  # type: ignore[operator]
