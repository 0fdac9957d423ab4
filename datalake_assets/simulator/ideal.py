"""The ideal of a day: what there is to know of people and courses, faults disregarded.

What failed or was quarantined on the way is told by the account of the lake; whoever compares both finds
records that were lost without a word. The walk through days of the terms stands in `truth.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Protocol, runtime_checkable

from datalake_assets.simulator.canonical import cleaned, digest
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.people import People
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.rows import numbered
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets.simulator.truth import Key, Ledger, snapshot

About = Callable[[date], dict[str, Json]]


class Ideal(Protocol):
    """All documents of a kind."""

    @property
    def kind(self) -> str:
        """The kind of document."""
        ...

    def of(self, day: date, scope: str | None) -> Iterable[tuple[Key, dict[str, Json]]]:
        """Every document of a day, by key.

        Args:
            day: The day.
            scope: The part that is asked for, such as a term; None: all.

        Raises:
            SimulatorError: There is no such part, or one has to be named.
        """
        ...


@runtime_checkable
class Digested(Protocol):
    """An ideal that remembers digests, so that it need not put every document together again."""

    def digests(self, day: date, scope: str | None) -> Iterable[tuple[Key, str]]:
        """The digest of every document of a day, by key."""
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

    def told(self, kind: str, day: date, scope: str | None = None, *, documents: bool = False) -> dict[str, Json]:
        """The ideal of a kind on a day.

        Args:
            kind: The kind.
            day: The day.
            scope: The part that is asked for; None: all.
            documents: Whether the documents are told too, without their sensitive keys.

        Raises:
            SimulatorError: There is no such kind or part.
        """
        if kind not in self._ideals:
            raise SimulatorError(f"kind is {kind!r}.", allowed=self._ideals)
        ideal = self._ideals[kind]
        digests: Iterable[tuple[Key, str]]
        if isinstance(ideal, Digested):
            digests = ideal.digests(day, scope)
        else:
            digests = ((key, digest(document)) for key, document in ideal.of(day, scope))
        keys: list[Json] = [{"key": list(key), "digest": text} for key, text in sorted(digests)]
        told: dict[str, Json] = {"kind": kind, "day": day.isoformat(), "keys": keys, **self._about[kind](day)}
        if documents:
            told["documents"] = {"/".join(key): cleaned(document) for key, document in ideal.of(day, scope)}
        return told


class PersonIdeal:
    """The people, each with all terms and all teaching.

    Args:
        people: The people.
        documents: What is said of them.
    """

    kind = "person"

    def __init__(self, people: People, documents: PersonDocuments) -> None:
        self._people = people
        self._documents = documents
        self._digests: dict[str, tuple[tuple[int, str], str]] = {}

    def of(self, day: date, scope: str | None) -> Iterator[tuple[Key, dict[str, Json]]]:
        """The document of everybody who is there."""
        _has_no_parts(scope)
        return (((person.id,), self._documents.true_document(person.id, day)) for person in self._people.on(day))

    def digests(self, day: date, scope: str | None) -> Iterator[tuple[Key, str]]:
        """The digest of everybody who is there."""
        _has_no_parts(scope)
        return (((person.id,), self._digest(person.id, day)) for person in self._people.on(day))

    def _digest(self, person_id: str, day: date) -> str:
        state = self._documents.state(person_id, day)
        known = self._digests.get(person_id)
        if known is None or known[0] != state:
            self._digests[person_id] = known = state, digest(self._documents.true_document(person_id, day))
        return known[1]


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


def _has_no_parts(scope: str | None) -> None:
    if scope is not None:
        raise SimulatorError(f"People have no terms of their own, and {scope!r} is named.", allowed=["no term"])
