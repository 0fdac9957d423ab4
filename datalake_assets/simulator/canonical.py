"""The form in which the truth compares documents, written from its description and from nothing else.

Sensitive keys are dropped at any depth; members are sorted by key, elements of arrays by their own text;
numbers are written by value. The digest is BLAKE2b of that text, 16 bytes. What a source sends stands in
`json_text.py`; which documents are compared, in `truth.py`.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from datalake_assets.simulator.json_text import Json, Unescaped, Verbatim

_SENSITIVE: Final = {"ssn", "socialsecuritynumber", "sexualorientation", "finaid", "finaidreceived"}
_NUMBER: Final = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
_ESCAPED: Final = re.compile('["\\\\\x00-\x1f]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_LONGEST_PLAIN_INTEGER: Final = 30


def digest(document: Json) -> str:
    """The digest of a document without its sensitive keys, in hexadecimal."""
    return blake2b(canonical_text(cleaned(document)).encode(), digest_size=16).hexdigest()


def cleaned(value: Json) -> Json:
    """The value without sensitive keys."""
    if isinstance(value, dict):
        return {key: cleaned(member) for key, member in value.items() if not _is_sensitive(key)}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    # How a text was written is none of its value.
    return str(value) if isinstance(value, Unescaped) else value


def canonical_text(value: Json) -> str:
    """The one text that all equal values have.

    Raises:
        ValueError: It holds what is no JSON.
    """
    # By type first: truths of many thousand documents are told while somebody waits.
    if type(value) is str:
        return _text(value)
    if isinstance(value, dict):
        # The order of code points is the order of bytes of UTF-8.
        return "{" + ",".join([f"{_name(name)}:{canonical_text(value[name])}" for name in sorted(value)]) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted([canonical_text(item) for item in value])) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _number(str(value))
    if isinstance(value, Verbatim):
        return _number(value.text)
    return _text(value)


def _text(value: str) -> str:
    return '"' + _ESCAPED.sub(_escape, value) + '"'


_name = lru_cache(maxsize=4096)(_text)
_is_sensitive = lru_cache(maxsize=4096)(lambda name: name.lower() in _SENSITIVE)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _number(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no number, so it has no canonical text")
    sign, whole, fraction, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or "0") - len(fraction)
    significant = digits.rstrip("0")
    power += len(digits) - len(significant)
    if not significant:
        return "0"
    if power >= 0 and len(significant) + power <= _LONGEST_PLAIN_INTEGER:
        return sign + significant + "0" * power
    return f"{sign}{significant}e{power}"
