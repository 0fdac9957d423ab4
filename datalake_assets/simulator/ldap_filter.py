"""Filters of LDAP searches (RFC 4515), as far as they are asked: and, or, not, presence, and equality with `*`.

What can be searched stands in `vds.py`. Values are compared without regard to letter case, as directories do.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Final

Attributes = Mapping[str, tuple[str, ...]]
Matches = Callable[[Attributes], bool]

_DEEPEST: Final = 20
_COMPARISON: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*)=([^()\\]*)")


class FilterError(Exception):
    """A text is no filter."""


def read_filter(text: str) -> Matches:
    """Read a filter; parentheses around a single comparison may be left out.

    Raises:
        FilterError: It is none.
    """
    if not text.startswith("("):
        return _comparison(text)
    matches, rest = _read(text, 0)
    if rest:
        raise FilterError
    return matches


def _read(text: str, depth: int) -> tuple[Matches, str]:
    """One filter in parentheses, and what follows it."""
    if not text.startswith("(") or depth > _DEEPEST:
        raise FilterError
    sign = text[1:2]
    if sign not in ("&", "|", "!"):
        inside, closing, rest = text[1:].partition(")")
        if not closing:
            raise FilterError
        return _comparison(inside), rest
    parts, rest = [], text[2:]
    while rest.startswith("("):
        part, rest = _read(rest, depth + 1)
        parts.append(part)
    if not rest.startswith(")") or not parts or (sign == "!" and len(parts) != 1):
        raise FilterError
    return _combined(sign, parts), rest[1:]


def _combined(sign: str, parts: list[Matches]) -> Matches:
    if sign == "!":
        return lambda attributes: not parts[0](attributes)
    if sign == "&":
        return lambda attributes: all(part(attributes) for part in parts)
    return lambda attributes: any(part(attributes) for part in parts)


def _comparison(text: str) -> Matches:
    found = _COMPARISON.fullmatch(text)
    if found is None or not found[2]:
        raise FilterError
    name, value = found[1].lower(), found[2].lower()
    if value == "*":
        return lambda attributes: bool(attributes.get(name))
    # Of fnmatch's signs only the star means something to LDAP.
    pattern = re.compile(translate(value.replace("[", "[[]").replace("?", "[?]")))
    return lambda attributes: any(pattern.match(item.lower()) for item in attributes.get(name, ()))
