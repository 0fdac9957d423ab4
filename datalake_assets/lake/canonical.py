"""The canonical form of a document, and its digest: when two documents count as equal.

Objects are compared without order of members; arrays without order of elements (sources shuffle them between
calls), except the paths an entity names; numbers by value; `null`, `{}`, `[]`, `""` and absence all differ.
This is a form of our own, not RFC 8785. What is removed from a document before it is compared does not belong
here (see `documents.py`).
"""

from collections.abc import Collection
from decimal import Decimal
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
    return orjson.dumps(_normal(document, frozenset(ordered), ()), option=orjson.OPT_SORT_KEYS)


def _normal(value: JsonValue, ordered: frozenset[tuple[str, ...]], path: tuple[str, ...]) -> JsonValue:
    if isinstance(value, dict):
        if not ordered:
            return {key: _normal(member, ordered, path) for key, member in value.items()}
        return {key: _normal(member, ordered, (*path, key)) for key, member in value.items()}
    if isinstance(value, list):
        if ordered and path in ordered:
            return [_normal(item, ordered, path) for item in value]
        texts = [orjson.dumps(_normal(item, ordered, path), option=orjson.OPT_SORT_KEYS) for item in value]
        texts.sort()
        return [orjson.Fragment(text) for text in texts]
    if isinstance(value, Decimal):
        return orjson.Fragment(_number(value))
    return value


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
