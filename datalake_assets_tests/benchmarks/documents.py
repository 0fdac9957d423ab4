"""Generated persons for loads: documents of about 9 KB, as the simulator tells them, in any number.

Rendering, parsing and digesting a person takes two milliseconds, so only `BODIES` persons are taken from the
simulator; all others are the same with an id of their own. Their digests are the real ones: the id stands once in a
canonical text, in no array, so that exchanging it there gives the canonical text of the other person. What is done
with the documents is in `loads.py` and `memory.py`.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from hashlib import blake2b
from typing import Final

from datalake_assets import exact_json
from datalake_assets.entities import PERSON
from datalake_assets.exact_json import JsonValue
from datalake_assets.lake.canonical import DIGEST_BYTES, canonical
from datalake_assets.lake.documents import Answer, judge
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import write
from datalake_assets.simulator.people import People
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.terms import TermPopulation

FIRST: Final = date(2026, 3, 2)
"""The day that is called 0."""

BODIES: Final = 997
"""Persons of the simulator; a prime, so that the hundredth who change on a day have bodies of every kind."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A JSON text of a person without the id."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, text: bytes, person_id: str) -> "_Template":
        before, after = text.split(f'"personid":"{person_id}"'.encode())
        return cls(before + b'"personid":"', b'"' + after)

    def of_person(self, person_id: str) -> bytes:
        return b"".join((self.before, person_id.encode(), self.after))


@dataclass(frozen=True, slots=True)
class _Body:
    """What persons with one body have in common: what is sent, the same shuffled, what is kept, what is digested."""

    sent: _Template
    shuffled: _Template
    kept: _Template
    canonical: _Template


class Documents:
    """Persons by number, from 0, and what becomes of them: on every day after day 0 another hundredth changes.

    Args:
        count: How many persons there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._bodies = _bodies(min(count, BODIES))

    def changed_on(self, day: int) -> range:
        """Those who change on a day after day 0."""
        return range((day - 1) % 100, self.count, 100)

    def answers(self, day: int, numbers: Iterable[int] | None = None) -> Iterator[Answer]:
        """Persons as they are on a day, as rows of landing.

        Args:
            day: The number of the day.
            numbers: Who; everybody if None.
        """
        for number in range(self.count) if numbers is None else numbers:
            body, person_id = self._bodies.of(number, version=(day + 99 - number % 100) // 100), id_of(number)
            yield Answer(
                key=(person_id,),
                outcome=Outcome.DATA,
                source="bench",
                digest=_hashed(body.canonical.of_person(person_id)),
                document=body.kept.of_person(person_id),
            )

    def sent(self, number: int, *, shuffled: bool = False) -> bytes:
        """A person as a source sends it on day 0, on request with every array in another order."""
        body = self._bodies.of(number, version=0)
        return (body.shuffled if shuffled else body.sent).of_person(id_of(number))


class _Bodies:
    """The persons of a simulator in which everybody changes every day, so that a day is a version; made when needed."""

    def __init__(self, persons: int) -> None:
        config = Config.of(
            {
                "scenario_start": FIRST,
                "persons": persons,
                "person_new_rate": 0,
                "person_removed_rate": 0,
                "person_change_rate": 1,
                "person_reorder_rate": 0,
                "numeric_restyle_rate": 0,
            }
        )
        people = People(config, TermPopulation(config))
        self._told = PersonDocuments(config, people)
        self._ids = [person.id for person in people.on(FIRST)]
        self._made: dict[tuple[int, int], _Body] = {}

    def of(self, number: int, version: int) -> _Body:
        """The body that a person has after so many changes."""
        place = number % len(self._ids), version
        if place not in self._made:
            self._made[place] = self._rendered(*place)
        return self._made[place]

    def _rendered(self, place: int, version: int) -> _Body:
        person_id = self._ids[place]
        sent = write(self._told.true_document(person_id, day(version))).encode()
        value = exact_json.loads(sent)
        answer = judge(PERSON, value, "bench")
        assert answer.document is not None, answer.reason
        text = canonical(exact_json.loads(answer.document), PERSON.ordered)
        assert answer.digest == _hashed(text), "A digest is no longer the hash of the canonical text."
        shuffled = exact_json.dumps(_shuffled(value, random.Random(place)))  # noqa: S311 - to be repeated, not secret
        return _Body(*(_Template.of(each, person_id) for each in (sent, shuffled, answer.document, text)))


_bodies = cache(_Bodies)


def day(number: int) -> date:
    """The date of a numbered day."""
    return FIRST + timedelta(days=number)


def _hashed(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


def id_of(number: int) -> str:
    """Ids come in no order, as answers to many requests at a time do; the factor has no divisor of 10."""
    return f"U8{number * 7_654_321 % 10_000_000:07d}"


def _shuffled(value: JsonValue, draw: random.Random) -> JsonValue:
    if isinstance(value, dict):
        return {name: _shuffled(member, draw) for name, member in value.items()}
    if isinstance(value, list):
        return [_shuffled(item, draw) for item in draw.sample(value, len(value))]
    return value
