"""What is read of an answer of either person API: documents by id, and what was amiss, line by line or item by item.

What cannot be used costs itself, what was not asked for is refused, and a stream that breaks keeps what came before.
What is kept of a document is made of it as soon as it is read, because a batch of parsed documents takes ten times the
room of their texts. All of it may be done in another process. How an answer is asked for, and what may be shown of it,
is for `persons.py`.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from datalake_assets.exact_json import DuplicateKeys, JsonError, JsonValue, dumps_ascii, loads
from datalake_assets.sources.errors import TransientSourceError
from datalake_assets.sources.json_items import CutJsonError, JsonParts
from datalake_assets.sources.ndjson import LONGEST_LINE_BYTES, Line, read_lines

PERSON_ID: Final = re.compile(r"U[0-9]{8}")
"""The university's person id."""

Form = Literal["lines", "array"]
"""How documents stand in an answer."""

Take = Callable[[JsonValue, str], Any]
"""Makes of a document, and of the pointer to where it came from, what is kept of it; fit to be pickled where another
process is to call it."""


@dataclass(frozen=True)
class UnusableLine:
    """Part of an answer that is no document of anybody.

    Attributes:
        number: The line, or the place in the array, from 1.
        rule: `not_json`, `line_too_long`, `line_not_utf8`, `line_not_object`, `line_without_type`, `duplicate_key`,
            `record_not_object` or `record_without_id`.
        reason: The same as a sentence, without the content.
    """

    number: int
    rule: str
    reason: str


@dataclass
class Gathered:
    """What was read of one answer; what the source said is here as it stood there, not fit to be shown.

    Attributes:
        documents: By id, what was kept of the documents of those that were asked for; several if they differ.
        refused: By id, what the source said instead of a document.
        unusable: What is no document of anybody.
        empty: How many empty objects there were in place of documents.
        foreign: How many documents are of persons that were not asked for; they were not kept.
        unknown_types: How many lines there were of each type that is neither `record` nor `error`.
        complaints: Errors that name none of the persons.
        cut: Whether the answer ended within a value.
        unreadable: What is wrong with an answer that is no JSON from some place on; empty for others.
        failure: What ended the stream before its time.
    """

    documents: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    refused: dict[str, str] = field(default_factory=dict, repr=False)
    unusable: list[UnusableLine] = field(default_factory=list)
    empty: int = 0
    foreign: int = 0
    unknown_types: Counter[str] = field(default_factory=Counter, repr=False)
    complaints: list[str] = field(default_factory=list, repr=False)
    cut: bool = False
    unreadable: str = ""
    failure: TransientSourceError | None = None


async def gather(form: Form, pieces: AsyncIterable[bytes], asked: Sequence[str], take: Take, pointer: str) -> Gathered:
    """Read an answer.

    Args:
        form: Whether it is lines or an array.
        pieces: The decoded body, as it comes.
        asked: Ids of those that were asked for.
        take: Makes of each document what is kept of it.
        pointer: Source, address and request id.
    """
    reader = _Reader(asked, lambda document: take(document, pointer))
    try:
        await (_read_lines if form == "lines" else _read_array)(pieces, reader)
    except TransientSourceError as failure:
        reader.gathered.failure = failure
    return reader.gathered


def gather_held(
    form: Form, pieces: Sequence[bytes], asked: Sequence[str], take: Take, pointer: str, *, is_broken: bool
) -> Gathered:
    """Read an answer whose body is at hand; see `gather`.

    Args:
        form: Whether it is lines or an array.
        pieces: The decoded body.
        asked: Ids of those that were asked for.
        take: Makes of each document what is kept of it.
        pointer: Source, address and request id.
        is_broken: Whether the stream ended before its time; the failure itself is known to the caller.
    """

    async def each() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if is_broken:
            raise TransientSourceError("The stream ended before its time.")

    gathered = asyncio.run(gather(form, each(), asked, take, pointer))
    gathered.failure = None
    return gathered


class _Reader:
    """Sorts what stands in one answer."""

    def __init__(self, asked: Sequence[str], take: Callable[[JsonValue], Any]) -> None:
        self.gathered = Gathered()
        self._asked = frozenset(asked)
        self._take = take
        self._kept: dict[str, list[Callable[[], JsonValue]]] = {}

    def unusable(self, number: int, rule: str, reason: str) -> None:
        """Count a part of the answer that is no document of anybody."""
        self.gathered.unusable.append(UnusableLine(number, rule, reason))

    def error(self, value: JsonValue) -> None:
        """An error of the source: it is about the persons that it names, or about the batch."""
        named = self._asked.intersection(_NAMED.findall(dumps_ascii(value).decode()))
        for id_ in named:
            self.gathered.refused[id_] = _said(value)
        if not named:
            self.gathered.complaints.append(_said(value))

    def document(self, number: int, document: JsonValue, again: Callable[[], JsonValue]) -> None:
        """Keep a document of a person that was asked for, once.

        Args:
            number: The line, or the place in the array.
            document: The document.
            again: Reads it once more, if there is another one of the person.
        """
        if not isinstance(document, dict):
            self.unusable(number, "record_not_object", "The record is not an object.")
            return
        if not document:
            self.gathered.empty += 1
            return
        id_ = document.get("personid")
        id_ = id_.strip() if isinstance(id_, str) else None
        if not id_:
            self.unusable(number, "record_without_id", "The record has no personid that is a text.")
        elif id_ not in self._asked:
            self.gathered.foreign += 1
        else:
            kept = self._kept.setdefault(id_, [])
            # Compared as written: to Python, `true` and `1` would be equal.
            if not kept or dumps_ascii(document) not in (dumps_ascii(other()) for other in kept):
                kept.append(again)
                self.gathered.documents.setdefault(id_, []).append(self._take(document))


async def _read_lines(pieces: AsyncIterable[bytes], reader: _Reader) -> None:
    async with aclosing(read_lines(pieces)) as lines:
        async for line in lines:
            # A last line without its end is as good as any other if it is JSON; if persons are missing, it was cut.
            reader.gathered.cut = not line.ended
            _take_line(line, reader)


def _take_line(line: Line, reader: _Reader) -> None:
    if line.rule is not None:
        reader.unusable(line.number, line.rule, line.reason)
        return
    if not line.data or line.data.isspace():
        return  # sent to keep the connection alive
    try:
        value = loads(line.data)
    except JsonError as error:
        reader.unusable(line.number, "not_json", error.what)
        return
    if not isinstance(value, dict):
        reader.unusable(line.number, "line_not_object", "The line is not an object.")
    elif isinstance(value, DuplicateKeys):
        reader.unusable(line.number, "duplicate_key", "The line names a field twice.")
    elif not isinstance(kind := value.get("type"), str):
        if _said(value):
            reader.error(value)
        else:
            reader.unusable(line.number, "line_without_type", "The line does not say of which type it is.")
    elif kind == "record":
        reader.document(line.number, value.get("data"), lambda: loads(line.data)["data"])
    elif kind == "error":
        reader.error(value)
    else:
        reader.gathered.unknown_types[kind] += 1


async def _read_array(pieces: AsyncIterable[bytes], reader: _Reader) -> None:
    parts = JsonParts({(): (b"[",)}, longest=LONGEST_LINE_BYTES)
    number = 0
    try:
        async for piece in pieces:
            for part in parts.feed(piece):
                if part.kind == "value":
                    number += 1
                    _take_item(number, part.raw, reader)
        for part in parts.finish():
            if part.kind == "value":
                number += 1
                _take_item(number, part.raw, reader)
    except CutJsonError:
        reader.gathered.cut = True
    except JsonError as error:
        reader.gathered.unreadable = error.what
        if reader.gathered.documents:
            reader.unusable(number + 1, "not_json", error.what)
            reader.gathered.cut = True


def _take_item(number: int, raw: bytes | None, reader: _Reader) -> None:
    if raw is None:
        reader.unusable(number, "line_too_long", f"The item has more than the {LONGEST_LINE_BYTES} bytes held.")
        return
    try:
        value = loads(raw)
    except JsonError as error:
        reader.unusable(number, "not_json", error.what)
        return
    if isinstance(value, dict) and "personid" not in value and _said(value):
        reader.error(value)
    else:
        reader.document(number, value, lambda: loads(raw))


_NAMED: Final = re.compile(rf"\b{PERSON_ID.pattern}\b")
_SPEAKING: Final = ("message", "error", "reason", "detail", "resolution")
"""Members in which gateways and pipelines say what is wrong."""


def _said(value: JsonValue) -> str:
    """What an error says, at the top or one level down."""
    if not isinstance(value, dict):
        return ""
    inner = [value, *(value[name] for name in ("error", "data") if isinstance(value.get(name), dict))]
    return "; ".join(
        said for part in inner for name in _SPEAKING if isinstance(said := part.get(name), str) and said.strip()
    )
