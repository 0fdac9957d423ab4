import asyncpg
import pytest

from datalake_assets.storage.sqlstates import TRANSIENT, meaning

KNOWN = sorted(
    {
        error.sqlstate
        for error in vars(asyncpg.exceptions).values()
        if isinstance(error, type) and issubclass(error, asyncpg.PostgresError) and error.sqlstate
    }
)


def test_every_code_has_a_sentence_and_advice() -> None:
    assert len(KNOWN) > 200
    texts = {text for sqlstate in (*KNOWN, "", "ZZ999") for text in meaning(sqlstate)}
    assert [text for text in texts if not text.endswith(".") or not text[0].isupper()] == []


def test_a_code_of_its_own_comes_before_its_class() -> None:
    assert meaning("23505") != meaning("23000")
    assert meaning("23P01") == meaning("23000")
    assert meaning("ZZ999") == meaning("")


@pytest.mark.parametrize("sqlstate", ["53100", "42501", "23505", "22P02", "28P01", "58030", "XX001"])
def test_what_needs_somebody_to_act_is_not_repeated(sqlstate: str) -> None:
    assert sqlstate not in TRANSIENT


def test_transient_codes_exist() -> None:
    """A slip in a code would never match, and its retry never happen."""
    assert sorted(TRANSIENT - set(KNOWN)) == []
