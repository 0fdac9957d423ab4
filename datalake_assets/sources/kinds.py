"""Is an answer of the kind that was asked for? Judged before anybody parses it.

Gateways send login pages, maintenance pages and fault documents with status 200; a parser would only say that
column 1 is wrong. What stands in an answer of the right kind is for the client of that source to judge.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from datalake_assets.sources.redaction import Redactor

JSON: Final = ("application/json", "text/json", "text/plain")
"""Media types accepted as JSON; what calls itself plain text must still begin like JSON."""

NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", *JSON)
"""Media types accepted as lines of JSON, none of which is registered; no line at all is an answer too."""

ANYTHING: Final = ("*/*",)
"""A file of any kind; a web page in its place is still refused."""

XML: Final = ("application/xml", "text/xml")

_START_BYTES: Final = 2048
_SHOWN_CHARACTERS: Final = 200
_PAGE_BYTES: Final = 64 * 1024

_JSON_TYPES: Final = frozenset(JSON)
_NDJSON_TYPES: Final = frozenset(NDJSON) - _JSON_TYPES
_XML_TYPES: Final = frozenset(XML)
_HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
_BLANK: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*")
_JSON_START: Final = re.compile(_BLANK.pattern + rb"[{\[]")
_HTML: Final = re.compile(rb"(?i)(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.DOTALL)
_PASSWORD_FIELD: Final = re.compile(rb"(?i)type\s*=\s*[\"']?password")


class WrongKind(NamedTuple):
    """Why an answer is not of the kind asked for."""

    what: str
    todo: str
    is_empty: bool = False
    is_login_page: bool = False


def _begins(start: bytes, redactor: Redactor) -> str:
    return f'It begins: "{redactor.excerpt(start, _SHOWN_CHARACTERS)}"'


def tells_its_kind(start: bytes) -> bool:
    """Whether the beginning of a body is enough for `wrong_kind`: all of a page, two bytes of JSON."""
    return len(start) >= _PAGE_BYTES or _JSON_START.match(start) is not None


def wrong_kind(
    body: bytes, headers: Mapping[str, str], accept: tuple[str, ...], redactor: Redactor
) -> WrongKind | None:
    """Name what is plainly wrong with an answer; None if it may be what was asked for.

    Args:
        body: The decoded body, or a beginning of it that tells its kind.
        headers: The answer's headers, names in lower case.
        accept: Media types asked for; `JSON`, `NDJSON` and `XML` are known here.
        redactor: Cleans what is quoted.

    Returns:
        A verdict whose text continues "The source answered with ...".
    """
    wants_json = not _JSON_TYPES.isdisjoint(accept)
    asked = "JSON" if wants_json else "a file" if accept == ANYTHING else " or ".join(accept)
    operator = "Ask the operator of the source with the request id; asking again would not help."
    blank = _BLANK.match(body)
    first = blank.end() if blank else 0
    start = body[first : first + _START_BYTES]
    if not start and not _NDJSON_TYPES.isdisjoint(accept):
        return None
    if not start:
        return WrongKind(f"an empty body where {asked} was asked.", operator, is_empty=True)
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in _HTML_TYPES or _HTML.match(start):
        return WrongKind(
            f"an HTML page where {asked} was asked. {_begins(start, redactor)}",
            "It is a login or maintenance page: check the address, the credentials and the source itself.",
            is_login_page=_PASSWORD_FIELD.search(body, 0, _PAGE_BYTES) is not None,
        )
    is_xml = start.startswith(b"<")
    if is_xml and _XML_TYPES.isdisjoint(accept):
        return WrongKind(f"XML where {asked} was asked. {_begins(start, redactor)}", operator)
    if media and media not in accept and accept != ANYTHING and not (wants_json and media.endswith("+json")):
        shown = redactor.text(media[:80])
        return WrongKind(f"something it calls {shown!r} where {asked} was asked.", operator)
    if wants_json and not is_xml and start[:1] not in (b"{", b"["):
        return WrongKind(f"something that does not begin like JSON. {_begins(start, redactor)}", operator)
    return None
