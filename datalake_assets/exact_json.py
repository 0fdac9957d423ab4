"""JSON without loss: what a source wrote is what is digested, stored and compared.

Numbers keep their digits (never a float), duplicate keys and values that JSON does not know are kept as marks
that condemn only the document they stand in, and documents that PostgreSQL's jsonb refuses are named before
they reach it. What a document means, and its digest, do not belong here (see `lake/canonical.py`).
"""

import json
import re
from decimal import Decimal, DecimalException
from typing import Any, Final

import orjson

from datalake_assets.errors import DatalakeError

JsonValue = Any
"""dict, list, str, int, bool, None, or `Decimal` for a number that is no small integer."""

MAX_DEPTH: Final = 100
"""Nesting beyond which a document is refused; PostgreSQL itself fails at about 20,000 levels."""

_SMALL_INTEGER_DIGITS: Final = 18
"""Integers up to here fit 64 bits, which `orjson` can write; longer ones keep their literal."""

_JSONB_INTEGER_DIGITS: Final = 131_072
_JSONB_FRACTION_DIGITS: Final = 16_383
"""Limits of `numeric`, which jsonb numbers are (PostgreSQL documentation, 8.1 Numeric Types)."""


class JsonError(DatalakeError):
    """A text is not JSON at all."""


class DuplicateKeys(dict[str, JsonValue]):
    """An object in which a key stood more than once; the last value is kept, the object is condemned."""


class NotJson:
    """A value that cannot be held: NaN, an infinity, a number or a nesting beyond all bounds."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return f"NotJson({self.what!r})"


def loads(data: bytes, *, control_characters: bool = False) -> JsonValue:
    """Parse a JSON text without losing anything of it.

    Args:
        data: The text in UTF-8, with or without a byte order mark.
        control_characters: Accept raw control characters inside strings, as PeopleSoft's writer emits them.

    Raises:
        JsonError: The text is no UTF-8 or no JSON; the message gives the position, never the content.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(f"The text is not UTF-8: byte {error.start} of {len(data)} is not valid.") from None
    if _is_shallow(data) and (value := _plain_value(data, text)) is not None:
        return value
    decoder = json.JSONDecoder(
        object_pairs_hook=_object,
        parse_float=_number,
        parse_int=_integer,
        parse_constant=NotJson,
        strict=not control_characters,
    )
    if _depth_exceeds(text, MAX_DEPTH):
        text = _cut_deep_values(text, MAX_DEPTH)
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(
            f"The text is not JSON: {error.msg} at character {error.pos} of {len(text)} "
            f"(line {error.lineno}, column {error.colno})."
        ) from None
    return value


def loads_sound(data: bytes) -> JsonValue:
    """Parse a text that is known to have no `defects`, as PostgreSQL and `dumps` write them; four times as fast.

    Args:
        data: The text in UTF-8.
    """
    return _SOUND.decode(data.decode())


def dumps(value: JsonValue) -> bytes:
    """Write a value as compact JSON in UTF-8; the value must have no `defects`."""
    return orjson.dumps(value, default=_write_number)


def dumps_sound(value: JsonValue) -> bytes | None:
    """Write a value as `dumps` does, or tell by None that it may have `defects`; takes a tenth of looking for them."""
    try:
        text = orjson.dumps(value, default=_write_sound_number, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:
        return None
    return None if b"\\u0000" in text else text


def dumps_ascii(value: JsonValue) -> bytes:
    """Write any parsed value, defects included, as ASCII text that can be kept for inspection.

    What condemns a value is kept with it: parsed again, the text has the same defect, so that nothing altered can
    pass for what the source wrote.
    """
    return _ascii(value).encode("ascii")


def defects(value: JsonValue) -> str | None:
    """Name the first thing that makes a document unfit to be kept, or return None.

    The words are stable rule names: `duplicate_key`, `not_a_number`, `nesting_too_deep`, `nul_character`,
    `lone_surrogate`, `number_too_large`.
    """
    if isinstance(value, str):
        return _text_defect(value)
    if isinstance(value, dict):
        if isinstance(value, DuplicateKeys):
            return "duplicate_key"
        for key, member in value.items():
            if defect := _text_defect(key) or defects(member):
                return defect
        return None
    if isinstance(value, list):
        for item in value:
            if defect := defects(item):
                return defect
        return None
    if isinstance(value, Decimal):
        return _number_defect(value)
    if isinstance(value, NotJson):
        return {_DEEP: "nesting_too_deep", _LARGE: "number_too_large"}.get(value.what, "not_a_number")
    return None


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        return DuplicateKeys(members)
    for mark in _MARKS & members.keys():
        if mark != _DUPLICATE:
            return NotJson(mark)  # type: ignore[return-value]
        del members[_DUPLICATE]
        return DuplicateKeys(members)
    return members


def _number(text: str) -> Decimal | NotJson:
    try:
        return Decimal(text)
    except DecimalException:
        return NotJson(_LARGE)


def _integer(text: str) -> int | Decimal | NotJson:
    return int(text) if len(text) <= _SMALL_INTEGER_DIGITS else _number(text)


_SOUND: Final = json.JSONDecoder(parse_float=Decimal, parse_int=_integer)
_PLAIN: Final = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=NotJson)


def _write_number(value: JsonValue) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _write_sound_number(value: JsonValue) -> orjson.Fragment:
    if isinstance(value, Decimal) and _number_defect(value) is None:
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not kept")


def _text_defect(text: str) -> str | None:
    if text.isascii():
        return "nul_character" if "\0" in text else None
    if "\0" in text:
        return "nul_character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "lone_surrogate"
    return None


def _number_defect(number: Decimal) -> str | None:
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return "not_a_number"
    integer_digits = len(digits) + exponent if number else 1
    if integer_digits > _JSONB_INTEGER_DIGITS or -exponent > _JSONB_FRACTION_DIGITS:
        return "number_too_large"
    return None


def _is_shallow(data: bytes) -> bool:
    """Whether a text is nested so little that nothing need be cut; most texts are, and this tells it quickly."""
    if b'\\"' in data:
        return False
    bare = data.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    for _ in range(MAX_DEPTH // 2):  # each time, one or two levels of every branch go
        if not bare:
            return True
        bare = bare.replace(b"[]", b"").replace(b"{}", b"")
    return False


def _plain_value(data: bytes, text: str) -> JsonValue:
    """The value of a text that names no member twice and is otherwise as most texts are; None if that is not known.

    Every member that the parser dropped is two quotes fewer when the value is written again, as long as no quote is
    written as a number.
    """
    if b"\\u00" in data and (b"\\u0022" in data or b"\\u0000" in data):
        return None
    try:
        value = _PLAIN.decode(text)
        written = orjson.dumps(value, default=_write_number)
    except (ValueError, TypeError):
        return None
    return value if written.count(b'"') == data.count(b'"') else None


# A string that never ends is taken up to the end of the text, so that the scan stays linear.
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'"[]{}'))
_DEEP: Final = "\0too deep"
_LARGE: Final = "\0too large"
_DUPLICATE: Final = "\0duplicate keys"
_MARKS: Final = frozenset({_DEEP, _LARGE, _DUPLICATE})
"""Members that stand for what a value could not be; NUL at their start keeps them apart from keys that are kept."""
_DEEP_TEXT: Final = json.dumps({_DEEP: True})


def _depth_exceeds(text: str, limit: int) -> bool:
    # A text with few brackets cannot be deep; this spares almost every text the scan.
    if text.count("[") + text.count("{") <= limit:
        return False
    # All but quotes and brackets is taken out first, and with it almost every string: five times as fast.
    bare = _ESCAPE.sub(b"", text.encode("utf-8", "surrogatepass")).translate(None, _NOT_STRUCTURE)
    text = bare.replace(b'""', b"").decode("ascii")
    depth = 0
    for match in _STRUCTURE.finditer(text):
        bracket = match.group()
        if bracket in "[{":
            depth += 1
            if depth > limit:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


def _cut_deep_values(text: str, limit: int) -> str:
    pieces: list[str] = []
    depth = kept = 0
    for match in _STRUCTURE.finditer(text):
        bracket = match.group()
        if bracket in "[{":
            depth += 1
            if depth == limit + 1:
                pieces.append(text[kept : match.start()])
        elif bracket in "]}":
            if depth == limit + 1:
                pieces.append(_DEEP_TEXT)
                kept = match.end()
            depth -= 1
    pieces.append(text[kept:] if depth <= limit else "")
    return "".join(pieces)


def _ascii(value: JsonValue) -> str:
    if isinstance(value, dict):
        members = [f"{json.dumps(key)}:{_ascii(member)}" for key, member in value.items()]
        if isinstance(value, DuplicateKeys):
            members.append(f"{json.dumps(_DUPLICATE)}:true")
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_ascii, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, NotJson):
        return json.dumps({value.what: True}) if value.what in _MARKS else value.what
    return json.dumps(value)
