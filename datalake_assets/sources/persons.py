"""Person documents by the batch, asked in two ways that give the same answer: documents by id, and what was amiss.

`PersonApi` speaks to the university's own API (NDJSON), `SnapLogicPersons` to the older pipeline (a JSON array). Both
judge the envelope line by line: what cannot be used costs itself, what was not asked for is refused, and a stream
that breaks keeps what came before. What is kept of a document is made of it as soon as it is read, because a batch of
parsed documents takes ten times the room of their texts. Which persons are asked, in which batches and how often, is
for `person_load.py`; what a document means, and the removal of its sensitive keys, for the lake.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import SecretStr

from datalake_assets.exact_json import DuplicateKeys, JsonError, JsonValue, dumps_ascii, loads
from datalake_assets.sources.bodies import BodyStream
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError
from datalake_assets.sources.http import DEFAULT_USER_AGENT, HttpSource, HttpStats
from datalake_assets.sources.json_items import CutJsonError, JsonParts
from datalake_assets.sources.kinds import JSON, NDJSON
from datalake_assets.sources.ndjson import LONGEST_LINE_BYTES, Line, read_lines
from datalake_assets.sources.policies import PERSON_BATCH, RequestPolicy

Take = Callable[[JsonValue, str], Any]
"""Makes of a document, and of the pointer to where it came from, what is kept of it."""

HELD_BYTES: Final = 8 * 1024 * 1024
"""How much of an answer is fetched before the first document is worked on; a batch has about 2 MB."""

PERSON_ID: Final = re.compile(r"U[0-9]{8}")
"""The university's person id."""

OBJECTS: Final = ("student", "affiliate", "faculty", "employee")
"""The parts of a person that are asked for."""


@dataclass(frozen=True)
class PersonRequest:
    """One person, and the terms to ask for.

    Attributes:
        id: Of the university's form, so that nothing in it needs escaping anywhere.
        student_terms: Rows with at least `buid`, `acad_career` and `strm`.
        teaching_terms: Rows of `emplid` and `strm`.
    """

    id: str = field(repr=False)
    student_terms: tuple[Mapping[str, JsonValue], ...] = field(default=(), repr=False)
    teaching_terms: tuple[Mapping[str, JsonValue], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not PERSON_ID.fullmatch(self.id):
            raise ValueError("The id of a person is not U and eight digits.")

    @property
    def term_records(self) -> int:
        """How many terms are asked for; 0 asks for a document without terms."""
        return len(self.student_terms) + len(self.teaching_terms)


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


@dataclass(frozen=True, kw_only=True)
class BatchAnswer:
    """What a source said about the persons of one batch.

    Attributes:
        asked: Ids in the order of the request.
        documents: By id, what was made of the documents of those that were asked and answered. Several of one id
            come of documents that differ from each other.
        refused: By id, what the source said instead of a document.
        unusable: What is no document of anybody.
        empty: How many empty objects there were in place of documents.
        foreign: How many documents are of persons that were not asked for; they were not kept.
        unknown_types: How many lines there were of each type that is neither `record` nor `error`.
        complaints: Errors that name none of the persons.
        partial: Whether the answer ended early, so that what is missing was not denied.
        pointer: Source, address and request id; no personal data.
        seconds: From the first request to the last byte, waits included.
        bytes_in: Size of the body on the wire.
    """

    asked: tuple[str, ...] = field(repr=False)
    documents: Mapping[str, tuple[Any, ...]] = field(repr=False)
    refused: Mapping[str, str] = field(repr=False)
    unusable: tuple[UnusableLine, ...] = ()
    empty: int = 0
    foreign: int = 0
    unknown_types: Mapping[str, int] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    partial: bool
    pointer: str
    seconds: float
    bytes_in: int

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids that were asked for, and of which the answer says nothing."""
        return tuple(id_ for id_ in self.asked if id_ not in self.documents and id_ not in self.refused)


class Persons(Protocol):
    """Whoever can be asked for batches of persons."""

    @property
    def stats(self) -> HttpStats:
        """What the source has cost so far."""

    @property
    def concurrency(self) -> int:
        """How many batches it may be asked for at the same time."""

    async def fetch(self, batch: Sequence[PersonRequest], take: Take) -> BatchAnswer:
        """Ask for one batch, in which either all persons have terms or none has.

        Args:
            batch: Whom to ask for.
            take: Makes of each document what is kept of it.

        Raises:
            TransientSourceError: The source failed on every attempt, and gave no document before it did.
            PermanentSourceError: The source refused, or its answer holds no document and an error.
        """


class _BatchSource(SourceClient):
    """What both clients share: the source behind them, and one batch from the request to the answer."""

    def __init__(self, http: HttpSource) -> None:
        self._http = http

    @property
    def concurrency(self) -> int:
        """How many batches it may be asked for at the same time."""
        return self._http.policy.concurrency

    async def _ask(
        self,
        batch: Sequence[PersonRequest],
        body: JsonValue,
        take: Take,
        read_into: Callable[[BodyStream, "_Gathered"], Awaitable[None]],
        *,
        params: Mapping[str, str] | None = None,
        accept: tuple[str, ...] = JSON,
    ) -> BatchAnswer:
        if len({bool(request.term_records) for request in batch}) != 1:
            raise ValueError("A batch holds either persons with terms or persons without.")
        started = time.monotonic()
        ids = tuple(request.id for request in batch)
        show = self._http.redactor.knowing(ids).excerpt

        async def read(stream: BodyStream) -> BatchAnswer:
            pointer = f"{self._http.name}, {stream.shown_url}, request id {stream.request_id}-{stream.attempt}"
            gathered = _Gathered(
                ids,
                show=lambda said: show(said.encode("utf-8", errors="replace"), _SHOWN_CHARACTERS),
                take=lambda document: take(document, pointer),
            )
            await stream.hold(HELD_BYTES)
            try:
                await read_into(stream, gathered)
            except TransientSourceError:
                if not gathered.documents:
                    raise
                gathered.cut = True
            answer = gathered.answer(
                pointer=pointer,
                whole=stream.whole,
                seconds=time.monotonic() - started,
                bytes_in=stream.bytes_in,
            )
            if not answer.documents and answer.partial:
                raise TransientSourceError(
                    f"The answer of {self._http.name} ended early, before the first document.",
                    where=stream.where,
                    todo="A proxy or gateway may be cutting answers off; run the load again later.",
                    status=200,
                )
            if not answer.documents and answer.complaints:
                raise PermanentSourceError(
                    f"{self._http.name} answered with an error instead of documents: {answer.complaints[0]}",
                    where=stream.where,
                    todo="Ask the operator of the source with the request id.",
                    status=200,
                )
            return answer

        key = f"a batch of {len(ids)} persons"
        return await self._http.receive(
            "POST", params=params, json=body, key=key, accept=accept, personal=ids, read=read
        )


class PersonApi(_BatchSource):
    """The university's person API; use it as an async context manager.

    Request and lines are those of the predecessor's flows. Beside `record`, the types of lines are not documented:
    `error` condemns the persons it names, all others are counted by name. No line marks the end, so whether an answer
    is complete is judged by the persons it lacks.

    Args:
        url: Full address that batches are posted to.
        key: API key.
        policy: What a request may cost.
        objects: Parts of a person to ask for.
        cs_env: Environment of Campus Solutions, sent as `csEnv` if the API's operator wants it.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        *,
        policy: RequestPolicy = PERSON_BATCH,
        objects: Sequence[str] = OBJECTS,
        cs_env: str | None = None,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        super().__init__(
            HttpSource(
                "the person API",
                url,
                policy=policy,
                headers={"x-api-key": key},
                ca_bundle=ca_bundle,
                user_agent=user_agent,
            )
        )
        self._objects = list(objects)
        self._params = None if cs_env is None else {"csEnv": cs_env}

    async def fetch(self, batch: Sequence[PersonRequest], take: Take) -> BatchAnswer:
        """Ask for one batch; see `Persons.fetch`."""
        body: dict[str, Any] = {"objects": self._objects, "options": {"response_format": "ndjson"}}
        if records := sum(request.term_records for request in batch):
            body["options"]["batch_size"] = records + 1
            if student := [dict(term) for request in batch for term in request.student_terms]:
                body["student"] = {"uid_car_term": student}
            if teaching := [dict(term) for request in batch for term in request.teaching_terms]:
                body["faculty"] = {"emplid_term": teaching}
        else:
            body["buids"] = [request.id for request in batch]
        return await self._ask(batch, body, take, _read_lines, params=self._params, accept=NDJSON)


class SnapLogicPersons(_BatchSource):
    """The SnapLogic pipeline before the person API; use it as an async context manager.

    What is asked stands in a text in the form of a JavaScript literal; terms of teaching cannot be asked for. The
    answer is an array of documents, among them empty objects, and errors that the pipeline handled.

    Args:
        url: Full address of the triggered task.
        key: API key.
        cs_env: Environment of Campus Solutions, e.g. `prd`.
        policy: What a request may cost.
        objects: Parts of a person to ask for.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        *,
        cs_env: str,
        policy: RequestPolicy = PERSON_BATCH,
        objects: Sequence[str] = OBJECTS,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        super().__init__(
            HttpSource(
                "SnapLogic's person pipeline",
                url,
                policy=policy,
                headers={"x-api-key": key},
                ca_bundle=ca_bundle,
                user_agent=user_agent,
            )
        )
        self._params = {"objects": f"[{','.join(map(_literal_name, objects))}]", "csEnv": cs_env}

    async def fetch(self, batch: Sequence[PersonRequest], take: Take) -> BatchAnswer:
        """Ask for one batch; see `Persons.fetch`."""
        rows = [row for request in batch for row in _literal_rows(request)]
        asked = {"uidCarTerm": f"[{','.join(rows)}]"}
        return await self._ask(batch, asked, take, _read_array, params=self._params)


class _Gathered:
    """What was read of one answer so far."""

    def __init__(self, asked: tuple[str, ...], *, show: Callable[[str], str], take: Callable[[JsonValue], Any]) -> None:
        self.documents: dict[str, list[Any]] = {}
        self.empty = 0
        self.cut = False
        self._asked = asked
        self._known = frozenset(asked)
        self._show = show
        self._take = take
        self._kept: dict[str, list[Callable[[], JsonValue]]] = {}
        self._refused: dict[str, str] = {}
        self._unusable: list[UnusableLine] = []
        self._foreign = 0
        self._unknown_types: Counter[str] = Counter()
        self._complaints: list[str] = []

    def unusable(self, number: int, rule: str, reason: str) -> None:
        """Count a part of the answer that is no document of anybody."""
        self._unusable.append(UnusableLine(number, rule, reason))

    def unknown_type(self, name: str) -> None:
        """Count a line of a type that nobody documented."""
        self._unknown_types[self._show(name)[:_TYPE_CHARACTERS]] += 1

    def error(self, said: JsonValue) -> None:
        """An error of the source: it is about the persons that it names, or about the batch."""
        reason = self._show(_said(said)) or "nothing more"
        text = dumps_ascii(said).decode()
        named = self._known.intersection(_NAMED.findall(text))
        for id_ in named:
            self._refused[id_] = reason
        if not named:
            self._complaints.append(reason)

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
            self.empty += 1
            return
        id_ = document.get("personid")
        id_ = id_.strip() if isinstance(id_, str) else None
        if not id_:
            self.unusable(number, "record_without_id", "The record has no personid that is a text.")
        elif id_ not in self._known:
            self._foreign += 1
        else:
            kept = self._kept.setdefault(id_, [])
            # Compared as written: to Python, `true` and `1` would be equal.
            if not kept or dumps_ascii(document) not in (dumps_ascii(other()) for other in kept):
                kept.append(again)
                self.documents.setdefault(id_, []).append(self._take(document))

    def answer(self, *, pointer: str, whole: bool, seconds: float, bytes_in: int) -> BatchAnswer:
        """The account of the answer; persons that the source refused count as refused, documents or not."""
        documents = {id_: tuple(found) for id_, found in self.documents.items() if id_ not in self._refused}
        is_complete = self._known <= documents.keys() | self._refused.keys()
        return BatchAnswer(
            asked=self._asked,
            documents=documents,
            refused=self._refused,
            unusable=tuple(self._unusable),
            empty=self.empty,
            foreign=self._foreign,
            unknown_types=dict(self._unknown_types),
            complaints=tuple(self._complaints),
            partial=not is_complete and (self.cut or not whole),
            pointer=pointer,
            seconds=seconds,
            bytes_in=bytes_in,
        )


async def _read_lines(stream: BodyStream, gathered: _Gathered) -> None:
    async with aclosing(read_lines(stream)) as lines:
        async for line in lines:
            # A last line without its end is as good as any other if it is JSON; if persons are missing, it was cut.
            gathered.cut = not line.ended
            _take_line(line, gathered)


def _take_line(line: Line, gathered: _Gathered) -> None:
    if line.rule is not None:
        gathered.unusable(line.number, line.rule, line.reason)
        return
    if not line.data or line.data.isspace():
        return  # sent to keep the connection alive
    try:
        value = loads(line.data)
    except JsonError as error:
        gathered.unusable(line.number, "not_json", error.what)
        return
    if not isinstance(value, dict):
        gathered.unusable(line.number, "line_not_object", "The line is not an object.")
    elif isinstance(value, DuplicateKeys):
        gathered.unusable(line.number, "duplicate_key", "The line names a field twice.")
    elif not isinstance(kind := value.get("type"), str):
        if _said(value):
            gathered.error(value)
        else:
            gathered.unusable(line.number, "line_without_type", "The line does not say of which type it is.")
    elif kind == "record":
        gathered.document(line.number, value.get("data"), lambda: loads(line.data)["data"])
    elif kind == "error":
        gathered.error(value)
    else:
        gathered.unknown_type(kind)


async def _read_array(stream: BodyStream, gathered: _Gathered) -> None:
    parts = JsonParts({(): (b"[",)}, longest=LONGEST_LINE_BYTES)
    number = 0
    try:
        async for piece in stream:
            for part in parts.feed(piece):
                if part.kind == "value":
                    number += 1
                    _take_item(number, part.raw, gathered)
        for part in parts.finish():
            if part.kind == "value":
                number += 1
                _take_item(number, part.raw, gathered)
    except CutJsonError:
        gathered.cut = True
    except JsonError as error:
        if gathered.documents:
            gathered.unusable(number + 1, "not_json", error.what)
            gathered.cut = True
            return
        raise PermanentSourceError(
            f"The answer is not readable: {error.what}",
            where=stream.where,
            todo="Ask the operator of the source with the request id.",
            status=200,
        ) from None


def _take_item(number: int, raw: bytes | None, gathered: _Gathered) -> None:
    if raw is None:
        gathered.unusable(number, "line_too_long", f"The item has more than the {LONGEST_LINE_BYTES} bytes held.")
        return
    try:
        value = loads(raw)
    except JsonError as error:
        gathered.unusable(number, "not_json", error.what)
        return
    if isinstance(value, dict) and "personid" not in value and _said(value):
        gathered.error(value)
    else:
        gathered.document(number, value, lambda: loads(raw))


_SHOWN_CHARACTERS: Final = 200
_TYPE_CHARACTERS: Final = 40
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


def _literal_name(name: str) -> str:
    if not name.isalnum():
        raise ValueError(f"{name!r} is not the name of a part of a person.")
    return f"'{name}'"


def _literal_rows(request: PersonRequest) -> list[str]:
    """Rows as the pipeline evaluates them: names are bare, values are JSON, which JavaScript reads alike."""
    start = f'{{BUID:"{request.id}"'
    terms = [
        f"{start},ACAD_CAREER:{json.dumps(str(term['acad_career']))},STRM:{json.dumps(str(term['strm']))}}}"
        for term in request.student_terms
    ]
    return terms or [f"{start}}}"]
