"""The ideal of a day: what a lake must hold of people and courses that were asked for whatever there is of them.

Each document is told as it is sent, with the faults in it that change what it says. One that is withheld, or that
nobody can read, is told as it would be without faults: what failed or was quarantined on the way is told by the account
of the lake, and whoever compares both finds records that were lost without a word. The walk through days of the terms
stands in `truth.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol, TypeVar, runtime_checkable

from datalake_assets.simulator.canonical import canonical_text, cleaned, digest
from datalake_assets.simulator.courses import CoursePopulation
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.exchange import Patience, sound_outcome
from datalake_assets.simulator.faults import Fault, strike
from datalake_assets.simulator.frame import Endpoint
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.people import People
from datalake_assets.simulator.person_records import ROWS_KEY, PersonRecords
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.rows import numbered
from datalake_assets.simulator.snaplogic_course import SnapLogicCourse
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets.simulator.truth import Key, Ledger, snapshot

Document = dict[str, Json]
About = Callable[[date], Document]

_ANY_SIZE: Final = Patience(body_mb=float("inf"))
"""Courses of a term are read as they come, however many bytes they take."""


@dataclass(frozen=True)
class Asked:
    """Which documents are asked for.

    Attributes:
        day: On which day.
        scope: The part, such as a term; None: all.
        endpoint: The endpoint that the lake asks; None: the first of those that answer for the kind.
        faults: The faults in force.
        fault_seed: What their draws are keyed with.
    """

    day: date
    scope: str | None = None
    endpoint: str | None = None
    faults: tuple[Fault, ...] = ()
    fault_seed: int = 0


class Ideal(Protocol):
    """All documents of a kind."""

    @property
    def kind(self) -> str:
        """The kind of document."""
        ...

    def of(self, asked: Asked) -> Iterable[tuple[Key, Document]]:
        """Every document, by key.

        Raises:
            SimulatorError: There is no such part or endpoint, or a part has to be named.
        """
        ...


@runtime_checkable
class Digested(Protocol):
    """An ideal that remembers digests, so that it need not put every document together again."""

    def digests(self, asked: Asked) -> Iterable[tuple[Key, str]]:
        """The digest of every document, by key."""
        ...


class Ideals:
    """The ideals of all kinds.

    Args:
        ideals: One for each kind.
        about: What is told of a day beside its documents, by kind.
    """

    def __init__(self, ideals: Iterable[Ideal], about: Mapping[str, About]) -> None:
        self._ideals = {ideal.kind: ideal for ideal in ideals}
        self._about = about

    @property
    def kinds(self) -> list[str]:
        """Every kind."""
        return list(self._ideals)

    def told(self, kind: str, asked: Asked, *, documents: bool = False) -> Document:
        """The ideal of a kind on a day.

        Args:
            kind: The kind.
            asked: The day, and what matters of it.
            documents: Whether the documents are told too, without their sensitive keys.

        Raises:
            SimulatorError: There is no such kind, part or endpoint.
        """
        if kind not in self._ideals:
            raise SimulatorError(f"kind is {kind!r}.", allowed=self._ideals)
        ideal = self._ideals[kind]
        digests: Iterable[tuple[Key, str]]
        if isinstance(ideal, Digested):
            digests = ideal.digests(asked)
        else:
            digests = ((key, digest(document)) for key, document in ideal.of(asked))
        keys: list[Json] = [{"key": list(key), "digest": text} for key, text in sorted(digests)]
        told: Document = {"kind": kind, "day": asked.day.isoformat(), "keys": keys, **self._about[kind](asked.day)}
        if documents:
            told["documents"] = {"/".join(key): cleaned(document) for key, document in ideal.of(asked)}
        return told


class PersonIdeal:
    """The people, each with all terms and all teaching.

    Of faults with `first_n` the first attempt is told, and those are left out that strike some batches only.

    Args:
        people: The people.
        documents: What is said of them.
        records: What is sent of them.
        endpoints: Those that send it.
    """

    kind = "person"

    def __init__(
        self, people: People, documents: PersonDocuments, records: PersonRecords, endpoints: Sequence[Endpoint]
    ) -> None:
        self._people = people
        self._documents = documents
        self._records = records
        self._endpoints = endpoints
        self._digests: dict[str, tuple[tuple[int, str], str]] = {}

    def of(self, asked: Asked) -> Iterator[tuple[Key, Document]]:
        """The document of everybody who is there."""
        altered = self._altered(asked)
        for person in self._people.on(asked.day):
            yield (person.id,), altered.get(person.id) or self._documents.true_document(person.id, asked.day)

    def digests(self, asked: Asked) -> Iterator[tuple[Key, str]]:
        """The digest of everybody who is there."""
        altered = self._altered(asked)
        for person in self._people.on(asked.day):
            sent = altered.get(person.id)
            yield (person.id,), self._digest(person.id, asked.day) if sent is None else digest(sent)

    def _altered(self, asked: Asked) -> dict[str, Document]:
        if asked.scope is not None:
            raise SimulatorError(
                f"People have no terms of their own, and {asked.scope!r} is named.", allowed=["no term"]
            )
        endpoint = _named(asked.endpoint, self._endpoints)
        known = [fault for fault in asked.faults if fault.knob in endpoint.knobs]
        struck = strike(known, asked.fault_seed, endpoint, "", asked.day, 1, ROWS_KEY)
        sent = self._records.altered(asked.day, struck)
        return {person_id: kept for person_id, found in sent.items() if (kept := _kept(found)) is not None}

    def _digest(self, person_id: str, day: date) -> str:
        state = self._documents.state(person_id, day)
        known = self._digests.get(person_id)
        if known is None or known[0] != state:
            self._digests[person_id] = known = state, digest(self._documents.true_document(person_id, day))
        return known[1]


class CourseIdeal:
    """The courses of a term.

    Args:
        courses: The courses.
        endpoint: The endpoint that sends them.
    """

    kind = "course"

    def __init__(self, courses: CoursePopulation, endpoint: SnapLogicCourse) -> None:
        self._courses = courses
        self._endpoint = endpoint

    def of(self, asked: Asked) -> list[tuple[Key, Document]]:
        """Every course of a term with what is told of its term; without a trustworthy answer those that there are."""
        if asked.scope is None:
            raise SimulatorError("Courses are told term by term, and no term is named.", allowed=["term=2258"])
        endpoint = _named(asked.endpoint, [self._endpoint])
        unspoilt: dict[Key, Document] = dict(self._courses.ideal(asked.day, asked.scope))
        question = endpoint.question(asked.scope)
        outcome = sound_outcome(endpoint, question, asked.day, asked.faults, asked.fault_seed, _ANY_SIZE)
        if outcome.rows is None:
            return list(unspoilt.items())
        sent: dict[Key, list[Document]] = {}
        for row in outcome.rows:
            documents = sent.setdefault(row.key, [])
            if row.keyed:
                documents.append({**row.document, "termDetails": unspoilt[row.key]["termDetails"]})
        return [(key, _kept(sent[key]) or document) for key, document in unspoilt.items() if key in sent]


def counted_sources(people: People) -> About:
    """How many people each source names on a day, each counted once."""

    def about(day: date) -> dict[str, Json]:
        there = people.on(day)
        return {
            "population": {
                "peoplesoft": sum(person.student or person.dorm for person in there),
                "sap": sum(person.employee for person in there),
                "vds": sum(person.faculty or person.staff for person in there),
            }
        }

    return about


def active_terms(terms: TermPopulation) -> About:
    """The codes of the active terms of a day; none on a day without a current term, or with several."""

    def about(day: date) -> dict[str, Json]:
        ledger = Ledger()
        ledger.land(day, snapshot(numbered([(term.key, term.fields) for term in terms.on(day)])))
        return {"terms": [term["strm"] for term in ledger.active_terms or []]}

    return about


_AnyEndpoint = TypeVar("_AnyEndpoint", bound=Endpoint)


def _named(name: str | None, endpoints: Sequence[_AnyEndpoint]) -> _AnyEndpoint:
    found = endpoints[0] if name is None else next((one for one in endpoints if one.name == name), None)
    if found is None:
        raise SimulatorError(f"endpoint is {name!r}.", allowed=[one.name for one in endpoints])
    return found


def _kept(documents: Iterable[Document]) -> Document | None:
    """The document that is kept of several: the first in canonical order; None if none of them is JSON."""
    by_text = {text: document for document in documents if (text := _text_if_json(document)) is not None}
    return by_text[min(by_text)] if by_text else None


def _text_if_json(document: Document) -> str | None:
    try:
        return canonical_text(cleaned(document))
    except ValueError:
        return None
