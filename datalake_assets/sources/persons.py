"""Person documents by the batch, asked in two ways that give the same answer: documents by id, and what was amiss.

`PersonApi` speaks to the university's own API (NDJSON), `SnapLogicPersons` to the older pipeline (a JSON array). What
is read of their answers is in `person_answers.py`; which persons are asked, in which batches and how often, is for
`person_load.py`; what a document means, and the removal of its sensitive keys, for the lake.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import SecretStr

from datalake_assets.exact_json import JsonValue
from datalake_assets.sources.bodies import BodyStream
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError
from datalake_assets.sources.http import DEFAULT_USER_AGENT, HttpSource, HttpStats
from datalake_assets.sources.kinds import JSON, NDJSON
from datalake_assets.sources.person_answers import (
    PERSON_ID,
    Form,
    Gathered,
    Take,
    UnusableLine,
    gather,
    gather_held,
)
from datalake_assets.sources.policies import PERSON_BATCH, RequestPolicy
from datalake_assets.worker import Worker

HELD_BYTES: Final = 8 * 1024 * 1024
"""How much of an answer is fetched before the first document is worked on; a batch has about 2 MB."""

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

    def __init__(self, http: HttpSource, worker: Worker | None) -> None:
        self._http = http
        self._worker = worker

    @property
    def concurrency(self) -> int:
        """How many batches it may be asked for at the same time."""
        return self._http.policy.concurrency

    async def _ask(
        self,
        batch: Sequence[PersonRequest],
        body: JsonValue,
        take: Take,
        form: Form,
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
            gathered = await self._gathered(stream, form, ids, take, pointer)
            if gathered.unreadable and not gathered.documents:
                raise PermanentSourceError(
                    f"The answer is not readable: {gathered.unreadable}",
                    where=stream.where,
                    todo="Ask the operator of the source with the request id.",
                    status=200,
                )
            if gathered.failure is not None and not gathered.documents:
                raise gathered.failure
            answer = _answer(
                gathered,
                ids,
                show=lambda said: show(said.encode("utf-8", errors="replace"), _SHOWN_CHARACTERS),
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

    async def _gathered(
        self, stream: BodyStream, form: Form, ids: tuple[str, ...], take: Take, pointer: str
    ) -> Gathered:
        """What is read of an answer: by the second process, if there is one and the answer is of usual size."""
        is_all = await stream.hold(HELD_BYTES)
        if self._worker is None or not is_all:
            return await gather(form, stream, ids, take, pointer)
        pieces: list[bytes] = []
        failure: TransientSourceError | None = None
        try:
            async for piece in stream:
                pieces.append(piece)
        except TransientSourceError as error:
            failure = error
        is_broken = failure is not None
        gathered = await self._worker.run(gather_held, form, pieces, ids, take, pointer, is_broken=is_broken)
        gathered.failure = failure
        return gathered


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
        worker: Reads the answers; None: this process does.
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
        worker: Worker | None = None,
    ) -> None:
        super().__init__(
            HttpSource(
                "the person API",
                url,
                policy=policy,
                headers={"x-api-key": key},
                ca_bundle=ca_bundle,
                user_agent=user_agent,
            ),
            worker,
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
        return await self._ask(batch, body, take, "lines", params=self._params, accept=NDJSON)


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
        worker: Reads the answers; None: this process does.
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
        worker: Worker | None = None,
    ) -> None:
        super().__init__(
            HttpSource(
                "SnapLogic's person pipeline",
                url,
                policy=policy,
                headers={"x-api-key": key},
                ca_bundle=ca_bundle,
                user_agent=user_agent,
            ),
            worker,
        )
        self._params = {"objects": f"[{','.join(map(_literal_name, objects))}]", "csEnv": cs_env}

    async def fetch(self, batch: Sequence[PersonRequest], take: Take) -> BatchAnswer:
        """Ask for one batch; see `Persons.fetch`."""
        rows = [row for request in batch for row in _literal_rows(request)]
        asked = {"uidCarTerm": f"[{','.join(rows)}]"}
        return await self._ask(batch, asked, take, "array", params=self._params)


def _answer(
    gathered: Gathered,
    asked: tuple[str, ...],
    *,
    show: Callable[[str], str],
    pointer: str,
    whole: bool,
    seconds: float,
    bytes_in: int,
) -> BatchAnswer:
    """The account of an answer; persons that the source refused count as refused, documents or not."""
    documents = {id_: tuple(found) for id_, found in gathered.documents.items() if id_ not in gathered.refused}
    refused = {id_: show(said) or _SILENCE for id_, said in gathered.refused.items()}
    unknown_types: Counter[str] = Counter()
    for name, count in gathered.unknown_types.items():
        unknown_types[show(name)[:_TYPE_CHARACTERS]] += count
    is_cut = gathered.cut or gathered.failure is not None
    return BatchAnswer(
        asked=asked,
        documents=documents,
        refused=refused,
        unusable=tuple(gathered.unusable),
        empty=gathered.empty,
        foreign=gathered.foreign,
        unknown_types=unknown_types,
        complaints=tuple(show(said) or _SILENCE for said in gathered.complaints),
        partial=not set(asked) <= documents.keys() | refused.keys() and (is_cut or not whole),
        pointer=pointer,
        seconds=seconds,
        bytes_in=bytes_in,
    )


_SHOWN_CHARACTERS: Final = 200
_TYPE_CHARACTERS: Final = 40
_SILENCE: Final = "nothing more"


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
