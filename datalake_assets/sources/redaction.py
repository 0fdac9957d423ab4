"""The one place where secrets and personal data leave a text before anybody can read it.

Every text that came near a source passes here: error bodies, exceptions, log records, addresses. What is
known to be secret is removed by value, the rest by form: credential headers, user info and query parameters
of addresses, and what looks like a person's id. Removing sensitive keys from documents does not belong here
(see `lake/documents.py`).
"""

import base64
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

HIDDEN: Final = "***"
"""What stands where something was removed."""

SECRET_HEADERS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "server-authorization",
        "set-cookie",
        "x-api-key",
    }
)
"""Headers whose values are never shown, in lower case (reference: client policy, "Secrets")."""

SHOWN_PARAMETERS: Final = frozenset(
    {
        "csenv",
        "isconnectedquery",
        "json_resp",
        "maxrows",
        "page_size",
        "prompt_uniquepromptname",
        "term",
    }
)
"""Query parameters that name no person and open no door; the value of every other one is hidden, first of all
`prompt_fieldvalue`, which carries ids of people."""

BODY_EXCERPT_CHARACTERS: Final = 500
"""How much of an error body is worth showing (reference: client policy, "Secrets")."""

_SHORTEST_SECRET: Final = 4
"""Shorter values are not searched for: hiding every `N` of a text would hide the text."""

_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s\"']+@")
_PARAMETER: Final = re.compile(r"([?&;])([\w.\-%]+)=([^&;#\s\"'<>]*)")
_HEADER: Final = re.compile(
    rf"(?i)\b(?:{'|'.join(sorted(SECRET_HEADERS, key=len, reverse=True))})"
    # ...what stands between a name and its value in a header line, in JSON and in a Python repr...
    r"(?:\\?[\"']\s*[:=,]|\s*[:=])\s*"
    # ...and the value: to the closing quote if it has quotes, otherwise to the end of the line.
    r"(?:b?([\"'])(?P<quoted>(?:\\.|(?!\1)[^\r\n])*)|(?P<bare>[^\r\n]+))"
)
_PERSONAL: Final = re.compile(
    r"(?i)\bU\d{8}\b"  # the university's person id
    r"|\b\d{3}-\d{2}-\d{4}\b"  # social security number
    r"|\b[\w.+%\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63})+\b"  # electronic mail
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({})))


class Redactor:
    """Hides known secrets, and what looks like a secret or a person's id, in any text.

    Args:
        secrets: Values that must appear nowhere, in whatever encoding; values under 4 characters are ignored.
        forms: Other values as they may be written, of which the same holds.
    """

    def __init__(self, secrets: Iterable[SecretStr | str] = (), forms: frozenset[str] = frozenset()) -> None:
        self._values = frozenset(
            value.get_secret_value() if isinstance(value, SecretStr) else value for value in secrets
        )
        self._other_forms = forms

    @cached_property
    def _written(self) -> frozenset[str]:
        """The known values in every form."""
        own = (_forms(value) for value in self._values if len(value) >= _SHORTEST_SECRET)
        return self._other_forms.union(*own)

    @cached_property
    def _in_lower_case(self) -> frozenset[str]:
        return frozenset(map(str.lower, self._written))

    @cached_property
    def _known(self) -> re.Pattern[str]:
        longest_first = sorted(self._written, key=lambda form: (-len(form), form))
        return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def _may_stand_in(self, text: str) -> bool:
        """Whether a known value may stand in a text; few hold one, and the pattern takes a millisecond to make."""
        if not text.isascii():
            return bool(self._written)
        lower = text.lower()
        return any(form in lower or not form.isascii() for form in self._in_lower_case)

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values)"

    def knowing(self, values: Iterable[SecretStr | str]) -> "Redactor":
        """A redactor that hides these values as well, e.g. the ids of people in one request."""
        return Redactor(values, self._written)

    def text(self, text: str) -> str:
        """The text without anything that must not be read."""
        if self._may_stand_in(text):
            text = self._known.sub(HIDDEN, text)
        text = _USER_INFO.sub(f"{HIDDEN}@", text)
        text = _PARAMETER.sub(_shown_parameter, text)
        text = _HEADER.sub(_hidden_header, text)
        return _PERSONAL.sub(HIDDEN, text)

    def excerpt(self, body: bytes, characters: int = BODY_EXCERPT_CHARACTERS) -> str:
        """The beginning of a body on one line, cleaned before it is cut so that no secret is cut in two."""
        line = _UNPRINTABLE.sub(" ", body.decode("utf-8", errors="replace")).strip()
        return self.text(line)[:characters]

    def value(self, value: Any) -> Any:
        """The same for a nested value such as headers or the extra fields of a log record."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {
                self.value(key): HIDDEN if str(key).lower() in SECRET_HEADERS else self.value(member)
                for key, member in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", errors="replace"))
        return self.text(str(value))

    def exception(self, error: BaseException) -> str:
        """The traceback of an exception and of everything it came from."""
        return self.text("".join(traceback.format_exception(error)).rstrip())


class RedactingFilter(logging.Filter):
    """Cleans log records before any handler sees them: message, arguments, traceback and extra fields.

    Args:
        redactor: Says, for each record, what must not be read: it may depend on the request under way.
    """

    def __init__(self, redactor: Callable[[], Redactor]) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the record in place and let it pass."""
        redactor = self._redactor()
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A record whose arguments do not fit its format is worth its format.
            message = str(record.msg)
        record.msg = redactor.text(message)
        record.args = None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redactor.exception(record.exc_info[1])
        elif record.exc_text:
            record.exc_text = redactor.text(record.exc_text)
        record.exc_info = None
        if record.stack_info:
            record.stack_info = redactor.text(record.stack_info)
        for name in vars(record).keys() - _RECORD_FIELDS:
            setattr(record, name, redactor.value(getattr(record, name)))
        return True


def _shown_parameter(match: re.Match[str]) -> str:
    mark, name, value = match.groups()
    return f"{mark}{name}={value if name.lower() in SHOWN_PARAMETERS else HIDDEN}"


def _hidden_header(match: re.Match[str]) -> str:
    value = "bare" if match["quoted"] is None else "quoted"
    start, end = match.start(value) - match.start(), match.end(value) - match.start()
    return match[0][:start] + HIDDEN + match[0][end:]


def _forms(value: str) -> set[str]:
    """A value as it may stand in an address, in JSON, in a Python repr, in a Basic or data header."""
    return {
        value,
        quote(value, safe=""),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        base64.b64encode(value.encode()).decode(),
    }
