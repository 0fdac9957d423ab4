"""The canonical form of a document, and its digest: when two documents, and two sets of rows, count as equal.

Objects are compared without order of members; arrays without order of elements (sources shuffle them between
calls), except the paths an entity names; numbers by value; `null`, `{}`, `[]`, `""` and absence all differ.
This is a form of our own, not RFC 8785. What is removed from a document before it is compared does not belong
here (see `documents.py`).
"""

from collections.abc import Collection, Iterable
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import orjson

from datalake_assets.exact_json import JsonValue

DIGEST_BYTES: Final = 16

_PLAIN_INTEGER_DIGITS: Final = 30
"""Integers up to here are written as digits; beyond, digits and exponent keep the text short."""


def digest(document: JsonValue, ordered: Collection[tuple[str, ...]] = ()) -> bytes:
    """BLAKE2b of the canonical form, 16 bytes.

    Args:
        document: A value of `exact_json.loads` without defects.
        ordered: Paths (member names from the top; elements of arrays add nothing) whose arrays keep their order.
    """
    return blake2b(canonical(document, ordered), digest_size=DIGEST_BYTES).digest()


def canonical(document: JsonValue, ordered: Collection[tuple[str, ...]] = ()) -> bytes:
    """The canonical text of a value, in UTF-8.

    Members are sorted by key, elements of unordered arrays by their own canonical text. A number is written as
    plain digits if it is an integer of at most 30 digits, else as integer digits and exponent: 1.5 is `15e-1`.
    """
    return _text(_normal(document, frozenset(ordered), ()))


class ContentHash:
    """A hash of rows that does not depend on their order: the sum of the BLAKE2b of each, 32 bytes."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: Iterable[tuple[object, ...]]) -> None:
        """Add rows of texts, integers, bytes and None."""
        self._sum += sum(
            int.from_bytes(blake2b(repr(row).encode(), digest_size=_CONTENT_BYTES).digest()) for row in rows
        )

    def hexdigest(self) -> str:
        """The hash of all rows so far, as 64 hexadecimal digits."""
        return f"{self._sum % (1 << 8 * _CONTENT_BYTES):0{2 * _CONTENT_BYTES}x}"


_CONTENT_BYTES: Final = 32

_AS_IT_IS: Final = frozenset({str, int, bool, type(None)})
"""What most values are; a set of types is asked in a third of the time that a call takes."""


def _normal(value: JsonValue, ordered: frozenset[tuple[str, ...]], path: tuple[str, ...]) -> JsonValue:
    if isinstance(value, dict):
        normal = value
        for key, member in value.items():
            if type(member) not in _AS_IT_IS:
                if normal is value:
                    normal = dict(value)
                normal[key] = _normal(member, ordered, (*path, key) if ordered else path)
        return normal
    if isinstance(value, list):
        items = [item if type(item) in _AS_IT_IS else _normal(item, ordered, path) for item in value]
        if len(items) < 2 or path in ordered:
            return items
        return [orjson.Fragment(text) for text in sorted(map(_text, items))]
    if isinstance(value, Decimal):
        return orjson.Fragment(_number(value))
    return value


def _text(normal: JsonValue) -> bytes:
    return orjson.dumps(normal, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=4096)  # credits and grades are the same few; equal numbers have one text
def _number(value: Decimal) -> str:
    sign, digit_tuple, exponent = value.as_tuple()
    digits = "".join(map(str, digit_tuple)).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "0"
    power = int(exponent) + len(digits) - len(stripped)
    minus = "-" if sign else ""
    if power >= 0 and len(stripped) + power <= _PLAIN_INTEGER_DIGITS:
        return minus + stripped + "0" * power
    return f"{minus}{stripped}e{power}"
