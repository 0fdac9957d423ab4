"""The courses of a term, from SnapLogic: one answer of any size, handed on course by course while it arrives.

The client proves that an answer is whole and of the term that was asked; an answer without a course is none. A course
that cannot be read costs itself. What a course means, and its key, belong to `entities.py` and `lake/`.
"""

import contextlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from pydantic import SecretStr

from datalake_assets.exact_json import DuplicateKeys, JsonError, JsonValue, loads
from datalake_assets.sources.bodies import BodyStream
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError
from datalake_assets.sources.exchange import kind_of
from datalake_assets.sources.http import DEFAULT_USER_AGENT, HttpSource
from datalake_assets.sources.json_items import Bracket, CutJsonError, JsonParts, Part, Path
from datalake_assets.sources.policies import COURSE_TERM, MiB, RequestPolicy

COURSES_AT_ONCE: Final = 500
"""Most courses that are handed over at a time."""


@dataclass(frozen=True, slots=True)
class CourseItem:
    """One course of an answer.

    Attributes:
        ordinal: Its place in the answer from 1, over all groups, empty objects counted.
        value: The course with the `termDetails` of its group; None if it is unusable.
        rule: Why it is unusable: `control_character`, `not_an_object` or `too_large`; None if it is not.
        reason: The same as a sentence without values.
    """

    ordinal: int
    value: JsonValue = field(repr=False)
    rule: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class CourseAccount:
    """What came of one term.

    Attributes:
        courses: Courses handed over, unusable ones included.
        empty_objects: `{}` in the place of a course or of a group: SnapLogic sends some. They may stand for nothing,
            or for a course that is now missing from the answer.
        groups: Groups, one per academic career.
        pointer: Endpoint, term and request id, fit to be kept beside every course; no personal data.
        bytes_in: Size of the answer on the wire.
        seconds: From the first request to the last course, waits included.
        attempts: Requests sent until the answer came whole.
    """

    courses: int
    empty_objects: int
    groups: int
    pointer: str
    bytes_in: int
    seconds: float
    attempts: int


Take = Callable[[Sequence[CourseItem]], Awaitable[None]]


class CourseApi(SourceClient):
    """SnapLogic's course task; use it as an async context manager.

    Args:
        base_url: Full address of the task.
        key: API key.
        cs_env: Campus Solutions environment to ask for.
        policy: What a request may cost.
        held_bytes: Most bytes that are held of one course, and of the courses of one group that come before its
            `termDetails`.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        *,
        cs_env: str,
        policy: RequestPolicy = COURSE_TERM,
        held_bytes: int = 64 * MiB,
        ca_bundle: str | FilePath | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self._http = HttpSource(
            "SnapLogic course",
            base_url,
            policy=policy,
            headers={"x-api-key": key},
            ca_bundle=ca_bundle,
            user_agent=user_agent,
        )
        self._cs_env = cs_env
        self._held_bytes = held_bytes

    async def fetch_term(self, strm: str, take: Take, *, restart: Callable[[], Awaitable[None]]) -> CourseAccount:
        """Ask for every course of a term and hand them over as they arrive.

        What was handed over counts only when this returns. Where it raises, or calls `restart`, the answer was not
        whole and everything taken so far must be forgotten.

        Args:
            strm: Code of the term, e.g. `2258`.
            take: Given the courses in the order of the answer, at most `COURSES_AT_ONCE` at a time. It is part of
                the attempt, whose deadline goes on meanwhile.
            restart: Called before an attempt is repeated that may have handed over something.

        Raises:
            TransientSourceError: The source failed, or cut its answer, on every attempt.
            PermanentSourceError: The source refused, or its answer cannot be trusted: not JSON, of another term, an
                error, or without any course.
        """
        if not _STRM.fullmatch(strm):
            raise PermanentSourceError(f"{strm!r} is not the code of a term.", todo="Correct it.")
        started = time.monotonic()
        reading: _Reading | None = None

        async def read(stream: BodyStream) -> CourseAccount:
            nonlocal reading
            if reading is not None:
                await restart()
            reading = _Reading(self._http, strm, stream, take, self._held_bytes)
            return await reading.to_the_end(started)

        return await self._http.receive(
            "GET", params={"term": strm, "csEnv": self._cs_env}, key=f"term {strm}", read=read
        )


class _Reading:
    """One attempt at one answer: from its parts to courses, and to the proof that it is whole."""

    def __init__(self, http: HttpSource, strm: str, stream: BodyStream, take: Take, held_bytes: int) -> None:
        self._http = http
        self._strm = strm
        self._stream = stream
        self._take = take
        self._held_bytes = held_bytes
        self._is_list = False
        self._group = _Group()
        self._waiting: list[CourseItem] = []
        self._waiting_bytes = 0
        self._ordinal = 0
        self._courses = self._empty_objects = self._groups = 0

    async def to_the_end(self, started: float) -> CourseAccount:
        """Hand over every course, then vouch for the answer."""
        async with contextlib.aclosing(self._parts()) as parts:
            async for part in parts:
                for item, size in self._items(part):
                    self._waiting.append(item)
                    self._waiting_bytes += size
                    if len(self._waiting) == COURSES_AT_ONCE or self._waiting_bytes >= _BYTES_AT_ONCE:
                        await self._hand_over()
        if not self._courses and not self._waiting:
            raise self._refusal(
                "holds no course at all",
                f"It has {self._groups} groups and {self._empty_objects} empty objects.",
            )
        await self._hand_over()
        return CourseAccount(
            courses=self._courses,
            empty_objects=self._empty_objects,
            groups=self._groups,
            pointer=f"{self._http.name} term {self._strm}, {self._stream.shown_url}, "
            f"request id {self._stream.request_id}",
            bytes_in=self._stream.bytes_in,
            seconds=time.monotonic() - started,
            attempts=self._stream.attempt,
        )

    async def _hand_over(self) -> None:
        if self._waiting:
            taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._courses += len(taken)
            await self._take(taken)

    async def _parts(self) -> AsyncGenerator[Part]:
        parts = JsonParts(_OPENED, longest=self._held_bytes)
        try:
            async for piece in self._stream:
                for part in parts.feed(piece):
                    yield part
        except JsonError as error:
            raise self._refusal("is not readable", error.what) from None
        try:
            for part in parts.finish():
                yield part
        except JsonError as error:
            # A whole text that is no JSON would be the same again; one that was cut would not.
            if self._stream.whole and not isinstance(error, CutJsonError):
                raise self._refusal("is not readable", error.what) from None
            raise TransientSourceError(
                f"The answer of {self._http.name} to term {self._strm} ended early. {error.what}",
                where=self._stream.where,
                todo="SnapLogic ends a task after 15 minutes, and a proxy may end it sooner; run the load again later.",
                status=200,
            ) from None

    def _items(self, part: Part) -> Iterator[tuple[CourseItem, int]]:
        """The courses that a part completes, and their sizes."""
        if part.path == () and part.raw in (b"[", b"]"):
            self._is_list = True
            return
        match part.kind, part.path[1:] if self._is_list else part.path:
            case "opened", ():
                self._group = _Group()
            case "closed", ():
                self._end_group()
            case _, ():
                raise self._refusal("has something else where a group of courses belongs")
            case "opened", ("courses",):
                self._once("courses")
            case "closed", ("courses",):
                pass
            case _, ("courses",):
                raise self._refusal("has something else where the list 'courses' belongs")
            case _, ("courses", _):
                yield from self._course(part)
            case _, ("termDetails",):
                self._once("termDetails")
                self._group.details = self._checked(part)
                for waiting in self._group.early:
                    yield from self._item(*waiting)
                self._group.early.clear()
            case _, (str(name),):
                self._once(name)
                if name in _SPEAKING:
                    self._group.said[name] = self._shown(part)

    def _course(self, part: Part) -> Iterator[tuple[CourseItem, int]]:
        self._ordinal += 1
        group = self._group
        if group.details is not None:
            yield from self._item(self._ordinal, part.raw, part.size)
            return
        group.early.append((self._ordinal, part.raw, part.size))
        group.early_bytes += len(part.raw or b"")
        if group.early_bytes > self._held_bytes:
            raise self._refusal(
                f"has more than {self._held_bytes} bytes of courses before the termDetails of their group",
                "They cannot be told to belong to the term, and no more of them are held.",
            )

    def _item(self, ordinal: int, raw: bytes | None, size: int) -> Iterator[tuple[CourseItem, int]]:
        if raw is None:
            reason = f"The course is longer than the {self._held_bytes} bytes that are held of one."
            yield CourseItem(ordinal, None, "too_large", reason), 0
            return
        try:
            course = loads(raw)
        except JsonError as error:
            yield self._unreadable(ordinal, raw, error), 0
            return
        if course == {}:
            self._empty_objects += 1
        elif not isinstance(course, dict):
            yield CourseItem(ordinal, None, "not_an_object", f"The course is {kind_of(course)}, not an object."), 0
        else:
            value = {**course, "termDetails": self._group.details}
            yield CourseItem(ordinal, DuplicateKeys(value) if isinstance(course, DuplicateKeys) else value), size

    def _unreadable(self, ordinal: int, raw: bytes, error: JsonError) -> CourseItem:
        """A course whose text is wrong; wherever it may have hidden where it ends, the answer cannot be trusted."""
        try:
            loads(raw, control_characters=True)
        except JsonError:
            raise self._refusal("is not readable", f"Of course {ordinal}: {error.what}") from None
        reason = "A text of the course holds a control character that is not escaped."
        return CourseItem(ordinal, None, "control_character", reason)

    def _checked(self, part: Part) -> Mapping[str, JsonValue]:
        """The details of a term, which must be the one that was asked."""
        try:
            details = None if part.raw is None else loads(part.raw)
        except JsonError as error:
            raise self._refusal("has termDetails that are not readable", error.what) from None
        term = details.get("term") if isinstance(details, dict) else None
        code = term.get("code") if isinstance(term, dict) else None
        if not isinstance(details, dict) or not isinstance(code, str | int) or isinstance(code, bool):
            raise self._refusal("has a group whose termDetails name no term")
        if str(code).strip() != self._strm:
            shown = self._http.redactor.excerpt(str(code).encode("utf-8", errors="replace"), _SHOWN_CHARACTERS)
            raise self._refusal(f"has a group of the term {shown!r}")
        return details

    def _end_group(self) -> None:
        group = self._group
        if not group.members:
            self._empty_objects += 1
            return
        said = {name: text for name, text in group.said.items() if text}
        missing = [name for name in ("termDetails", "courses") if name not in group.members]
        if said and (missing or not said.keys().isdisjoint(_COMPLAINING)):
            raise self._refusal("holds an error", f"It said: {'; '.join(said.values())}.")
        if missing:
            raise self._refusal(f"has a group without {missing[0]!r}")
        self._groups += 1

    def _once(self, name: str) -> None:
        if name in self._group.members:
            raise self._refusal("has a group that names a member twice")
        self._group.members.add(name)

    def _shown(self, part: Part) -> str:
        """What an error document says, fit to be read in an error; nothing for null and the like."""
        text = (part.raw or b"").strip(b'"')
        return "" if text in (b"", b"null", b"false", b"{}", b"[]") else self._http.redactor.excerpt(text, 200)

    def _refusal(self, what: str, detail: str = "") -> PermanentSourceError:
        """An answer that cannot be trusted; `what` continues "The answer of ... to ..."."""
        return PermanentSourceError(
            f"The answer of {self._http.name} to term {self._strm} {what}. {detail}".rstrip(),
            where=self._stream.where,
            todo="Nothing of it was kept. Ask the operator of SnapLogic with the request id.",
            status=200,
        )


@dataclass
class _Group:
    """What is known of the group that is being read."""

    details: Mapping[str, JsonValue] | None = None
    members: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    early: list[tuple[int, bytes | None, int]] = field(default_factory=list)
    early_bytes: int = 0


_STRM: Final = re.compile(r"[0-9]{4}")
_SHOWN_CHARACTERS: Final = 40
_BYTES_AT_ONCE: Final = 8 * MiB
"""Courses of so many bytes are handed over even if they are few."""

_SPEAKING: Final = frozenset({"error", "reason", "message", "http_status_code", "response_map"})
"""Members in which SnapLogic says what is wrong: its error view, and the platform itself."""

_COMPLAINING: Final = frozenset({"error", "http_status_code"})
"""Those of them that a sound group never has."""

_LIST: Final[tuple[Bracket, ...]] = (b"[",)
_OBJECT: Final[tuple[Bracket, ...]] = (b"{",)
_OPENED: Final[Mapping[Path, tuple[Bracket, ...]]] = {
    (): _LIST + _OBJECT,
    (None,): _OBJECT,
    (None, "courses"): _LIST,
    ("courses",): _LIST,
}
"""A list of groups, or a single group, which some pipelines send bare."""
