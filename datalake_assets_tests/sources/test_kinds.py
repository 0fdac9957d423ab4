import pytest

from datalake_assets.sources.kinds import JSON, XML, wrong_kind
from datalake_assets.sources.redaction import Redactor

BOM = b"\xef\xbb\xbf"
NDJSON = ("application/x-ndjson",)


def verdict(body: bytes, media: str | None, accept: tuple[str, ...] = JSON) -> str:
    headers = {} if media is None else {"content-type": media}
    wrong = wrong_kind(body, headers, accept, Redactor(["canary-key"]))
    return "" if wrong is None else wrong.what


@pytest.mark.parametrize(
    ("body", "media", "accept"),
    [
        (b"{}", "application/json", JSON),
        (b"[]", "Application/JSON; charset=utf-8", JSON),
        (BOM + b"\r\n {}", "application/json", JSON),
        (b"{}", None, JSON),
        (b"{}", "text/plain", JSON),
        (b"{}", "application/problem+json", JSON),
        (b"<IBResponse/>", "text/xml", (*JSON, *XML)),
        (b"{}\n{}\n", "application/x-ndjson", NDJSON),
    ],
)
def test_an_answer_of_the_kind_asked_for_passes(body: bytes, media: str | None, accept: tuple[str, ...]) -> None:
    assert verdict(body, media, accept) == ""


@pytest.mark.parametrize(
    ("body", "media", "accept", "what"),
    [
        (b"", "application/json", JSON, "an empty body where JSON was asked."),
        (BOM + b"\n", "application/json", JSON, "an empty body where JSON was asked."),
        (b"<HTML>x", "application/json", JSON, 'an HTML page where JSON was asked. It begins: "<HTML>x"'),
        (b"<!-- a --> <!doctype HTML>", None, JSON, "an HTML page where JSON was asked."),
        (b"{}", "text/html", JSON, "an HTML page where JSON was asked."),
        (b"<html>", "text/xml", (*JSON, *XML), "an HTML page where JSON was asked."),
        (BOM + b"<?xml?>canary-key", "text/xml", JSON, 'XML where JSON was asked. It begins: "<?xml?>***"'),
        (b"{}", "image/png", JSON, "something it calls 'image/png' where JSON was asked."),
        (b"{}", "a/canary-key", JSON, "something it calls 'a/***' where JSON was asked."),
        (b"\xff\xfe{\0}\0", "application/json", JSON, "something that does not begin like JSON."),
        (b"null", "application/json", JSON, "something that does not begin like JSON."),
        (b"{}", "application/json", NDJSON, "something it calls 'application/json' where application/x-ndjson"),
    ],
)
def test_what_is_not_of_the_kind_asked_for_is_named(
    body: bytes, media: str | None, accept: tuple[str, ...], what: str
) -> None:
    assert verdict(body, media, accept).startswith(what)


def test_at_most_two_hundred_characters_are_quoted() -> None:
    assert len(verdict(b"<html>" + b"x" * 9999, None)) < 260


@pytest.mark.parametrize(
    ("body", "is_login_page"),
    [(b'<html><input type="password">', True), (b"<html><input TYPE = 'Password'>", True), (b"<html>503", False)],
)
def test_a_login_page_is_told_from_other_pages(body: bytes, is_login_page: bool) -> None:
    wrong = wrong_kind(body, {}, JSON, Redactor())
    assert wrong is not None
    assert wrong.is_login_page is is_login_page


def test_a_page_of_comments_does_not_keep_the_judge_busy() -> None:
    """A pattern that may split the comments in two to the n ways would never come back."""
    assert verdict(b"<!---->" * 290 + b"<x", None).startswith("XML where JSON was asked.")
