import base64
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from datalake_assets.sources.redaction import HIDDEN, RedactingFilter, Redactor

SECRET = "canary /key+ö\"1'"


@given(
    st.text(min_size=4).filter(lambda text: "*" not in text and text.strip()),
    st.text(),
    st.text(),
    st.sampled_from([str, quote, quote_plus, json.dumps, repr, str.upper]),
)
def test_a_known_secret_is_in_no_text(secret: str, before: str, after: str, form: object) -> None:
    try:
        shown = form(secret)  # type: ignore[operator]
        cleaned = Redactor([SecretStr(secret)]).text(before + shown + after)
    except UnicodeEncodeError:
        return  # a lone surrogate, which no header and no address can carry
    assert secret not in cleaned.replace(before, "").replace(after, "")


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        quote_plus(SECRET).lower(),
    ],
)
def test_a_known_secret_is_hidden_in_every_form(shown: str) -> None:
    cleaned = Redactor([SECRET]).text(f"before {shown} after")
    assert cleaned.replace('"', "").replace("'", "") == f"before {HIDDEN} after"


@pytest.mark.parametrize("secret", ["Canary-Secret", "canary-secret", "Schlüssel"])
@pytest.mark.parametrize("around", ["{}", "é {}"])
def test_a_known_secret_is_hidden_whatever_its_case(secret: str, around: str) -> None:
    redactor = Redactor(["another one"]).knowing([secret])
    for shown in (secret, secret.upper(), secret.lower()):
        assert redactor.text(around.format(shown)) == around.format(HIDDEN)
    assert redactor.text(around.format("nothing")) == around.format("nothing")
    assert redactor.text(around.format(secret.replace("s", "\u017f"))) == around.format(HIDDEN), "a long s is an s"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Authorization: Basic dXNlcjpwYXNz\nHost: x", "Authorization: ***\nHost: x"),
        ("x-api-key=abc", "x-api-key=***"),
        ('{"X-API-Key": "abc", "a": 1}', '{"X-API-Key": "***", "a": 1}'),
        ("[(b'Set-Cookie', b'a=b; Path=/'), (b'Date', b'x')]", "[(b'Set-Cookie', b'***'), (b'Date', b'x')]"),
        ("'Proxy-Authorization': 'Basic x'", "'Proxy-Authorization': '***'"),
        ('Server-Authorization: Hawk mac="x"\nA: b', "Server-Authorization: ***\nA: b"),
        (r'{"authorization": "Hawk mac=\"x\"", "a": 1}', '{"authorization": "***", "a": 1}'),
        (r'"{\"cookie\": \"x\"}"', r'"{\"cookie\": ***'),
        ("Authorization failed, try again", "Authorization failed, try again"),
        ("cookie: a=b", "cookie: ***"),
        ("https://user:pass@h.example/p", "https://***@h.example/p"),
        ("https://user@h.example", "https://***@h.example"),
        ("GET /q?prompt_fieldvalue=U1,U2&maxrows=0 200", "GET /q?prompt_fieldvalue=***&maxrows=0 200"),
        ("/q?term=2258&csEnv=prd&email=a", "/q?term=2258&csEnv=prd&email=***"),
        ('"https://h/?token=abc" said', '"https://h/?token=***" said'),
        ("no terms for U12345678, u87654321", "no terms for ***, ***"),
        ("ssn 900-12-3456 of ann.lee@example.edu", "ssn *** of ***"),
        ("U123456789 and 1900-12-34567 stay", "U123456789 and 1900-12-34567 stay"),
        ("2258 rows, class 12345, Fall 2025", "2258 rows, class 12345, Fall 2025"),
    ],
)
def test_what_looks_secret_or_personal_is_hidden(text: str, cleaned: str) -> None:
    assert Redactor().text(text) == cleaned


def test_values_of_one_request_are_hidden_beside_the_secrets() -> None:
    redactor = Redactor([SecretStr("canary-key")]).knowing(["canary-person"])
    assert redactor.text("canary-key of canary-person") == "*** of ***"


def test_short_values_do_not_hide_the_whole_text() -> None:
    assert Redactor(["N", ""]).text("Nothing new, No") == "Nothing new, No"


def test_a_redactor_does_not_show_what_it_hides() -> None:
    assert "canary" not in repr(Redactor(["canary-key"]))


def test_an_excerpt_is_cleaned_before_it_is_cut() -> None:
    """A secret cut in two would be recognised by nobody, and half of it shown."""
    body = b"x" * 490 + b"canary-key-0123456789" + b"y" * 900
    excerpt = Redactor(["canary-key-0123456789"]).excerpt(body)
    assert len(excerpt) == 500
    assert excerpt == "x" * 490 + "***" + "y" * 7


def test_an_excerpt_stands_on_one_line() -> None:
    assert Redactor().excerpt(b" a\r\n\tb\x00\x1b[2Jc\xff ") == "a b [2Jc\N{REPLACEMENT CHARACTER}"


def test_nested_values_are_cleaned() -> None:
    value = {
        "X-Api-Key": "abc",
        "list": [1, None, True, b"canary-key", {"a": ("canary-key",)}],
        "o": KeyError("canary-key"),
    }
    assert Redactor(["canary-key"]).value(value) == {
        "X-Api-Key": "***",
        "list": [1, None, True, "***", {"a": ["***"]}],
        "o": "'***'",
    }


def chained_error() -> Exception:
    try:
        try:
            raise KeyError("canary-key of U12345678")
        except KeyError as error:
            raise ValueError("https://u:p@h/?id=7") from error
    except ValueError as error:
        return error


def test_every_link_of_an_exception_chain_is_cleaned() -> None:
    said = Redactor(["canary-key"]).exception(chained_error())
    assert "KeyError: '*** of ***'" in said
    assert "ValueError: https://***@h/?id=***" in said
    assert "The above exception was the direct cause" in said


@pytest.fixture
def logger() -> logging.Logger:
    logger = logging.getLogger("a test of redaction")
    logger.filters = [RedactingFilter(lambda: Redactor(["canary-key"]))]
    return logger


def test_log_records_are_cleaned_before_any_handler(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logger.info("asked %s with %r", "https://h/?id=7", {"k": "canary-key"}, extra={"sent": {"cookie": "x"}})
        logger.error("it broke", exc_info=chained_error(), stack_info=True)
    first, second = caplog.records
    assert first.getMessage() == "asked https://h/?id=*** with {'k': '***'}"
    assert vars(first)["sent"] == {"cookie": "***"}
    assert second.exc_info is None
    assert "KeyError: '*** of ***'" in caplog.text
    assert "canary" not in caplog.text.replace("test_log_records", "")


def test_a_record_that_cannot_be_formatted_still_passes_cleaned(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        logger.info("canary-key %d %d", "x")
    assert caplog.messages == ["*** %d %d"]
