"""Writing JSON, and what only looks like it: texts that a well-behaved JSON library would refuse to write.

Documents are plain dicts, lists and values; `Verbatim` and `Unescaped` put text of any kind into them. Which
fault writes what belongs to `rows.py`, what two documents have in common to `canonical.py`.
"""

import json
from json.encoder import encode_basestring
from typing import TypeAlias, Union

Json: TypeAlias = Union[bool, int, str, "Verbatim", "list[Json]", "dict[str, Json]", None]


class Verbatim:
    """Text that is written as it stands: a number with its digits, or no JSON at all.

    Args:
        text: What is written.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Verbatim({self.text[:40]!r})"


class Unescaped(str):
    """A string whose control characters are written raw, as PeopleSoft's own JSON writer does."""

    __slots__ = ()


def write(value: Json) -> str:
    """The text of a value, without blanks."""
    if isinstance(value, Verbatim):
        return value.text
    if isinstance(value, Unescaped):
        return f'"{value}"'
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{write(key)}:{write(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(item) for item in value) + "]"
    return json.dumps(value)
