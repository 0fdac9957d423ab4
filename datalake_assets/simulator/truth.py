"""The truth: what the lake must hold after the days that it landed.

A model of its own, told by faults and population and never by parsing what was sent: documents are written,
keys that a complete answer no longer holds are removed, keys of rows that cannot be kept stay as they were,
days without a trustworthy answer are skipped. How a client gets to its answer stands in `exchange.py`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, Final

from datalake_assets.simulator.canonical import canonical_text, cleaned, digest
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.exchange import PATIENCE, Outcome, Patience, sound_outcome
from datalake_assets.simulator.frame import Endpoint
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.presets import FaultPlan
from datalake_assets.simulator.rows import Row

Key = tuple[str, ...]

KINDS: Final = ("term",)


@dataclass(frozen=True)
class Document:
    """A document that can be kept.

    Attributes:
        fields: What it says.
        digest: By which it is compared.
        order: The order in which its members came.
    """

    fields: dict[str, Json]
    digest: str
    order: tuple[str, ...]


@dataclass
class Snapshot:
    """One landed day: what can be kept, and what is known of the rest.

    Attributes:
        documents: Documents that can be kept, by key, in the order of the answer.
        quarantined: Keys of documents that cannot be kept.
        refused: How many documents cannot be kept.
        unkeyed: How many of those do not tell their key.
        proves_all: Whether the answer shows that no row is missing.
    """

    documents: dict[Key, Document] = field(default_factory=dict)
    quarantined: set[Key] = field(default_factory=set)
    refused: int = 0
    unkeyed: int = 0
    proves_all: bool = True

    @property
    def kept_by(self) -> str:
        """Why absent keys are not removed; empty if they are."""
        if self.unkeyed:
            return "nothing is removed: a row does not tell its key"
        return "" if self.proves_all else "nothing is removed: neither count nor numbers show that all rows came"


def snapshot(rows: Sequence[Row], *, proves_all: bool = True) -> Snapshot:
    """Sort the rows of a trustworthy answer."""
    found = Snapshot(proves_all=proves_all)
    groups: dict[Key, dict[str, Document]] = {}
    for row in rows:
        if not row.trouble:
            document = Document(row.document, digest(row.document), tuple(row.document))
            groups.setdefault(row.key, {}).setdefault(document.digest, document)
            continue
        found.refused += 1
        if row.keyed:
            found.quarantined.add(row.key)
        else:
            found.unkeyed += 1
    for key, documents in groups.items():
        if key in found.quarantined:
            found.refused += len(documents)
        else:
            found.documents[key] = _first(documents.values())
            found.refused += len(documents) - 1
    return found


def _first(documents: Collection[Document]) -> Document:
    """The first in the order of canonical texts, so that it does not depend on the order of the answer."""
    if len(documents) == 1:
        return next(iter(documents))
    return min(documents, key=lambda document: canonical_text(cleaned(document.fields)).encode())


class Ledger:
    """The state of the lake, and how it came about, day by day."""

    def __init__(self) -> None:
        self.state: dict[Key, Document] = {}
        self.history: list[dict[str, Any]] = []
        self.active_terms: list[dict[str, str]] | None = None
        self.active_terms_day: date | None = None
        self.active_terms_problem: str | None = "nothing was landed"
        self._sent_before: dict[Key, Document] = {}

    def land(self, day: date, landed: Snapshot) -> dict[str, Any]:
        """Take in one day.

        Returns:
            The counts of that day.
        """
        counts = {"new": 0, "changed": 0, "removed": 0, "unchanged": 0}
        for key, document in landed.documents.items():
            before = self.state.get(key)
            if before is not None and before.digest == document.digest:
                counts["unchanged"] += 1
                continue
            counts["changed" if before else "new"] += 1
            self._record(key, day, "U" if before else "I", document.digest)
            self.state[key] = document
        if not landed.kept_by:
            for key in [key for key in self.state if key not in landed.documents and key not in landed.quarantined]:
                counts["removed"] += 1
                self._record(key, day, "D", None)
                del self.state[key]
        reordered = self._count_reordered(landed)
        self._select_active_terms(day)
        return {
            "obtainable": True,
            "why": landed.kept_by,
            **counts,
            "quarantined": landed.refused,
            "reordered": reordered,
        }

    def _record(self, key: Key, day: date, operation: str, digest_now: str | None) -> None:
        change = {"key": list(key), "day": day.isoformat(), "operation": operation, "digest": digest_now}
        self.history.append(change)

    def _count_reordered(self, landed: Snapshot) -> int:
        """Unchanged documents whose members, or whose place among the others, came in another order."""
        before, now = self._sent_before, landed.documents
        self._sent_before = now
        places_before = [key for key in before if key in now]
        places_now = [key for key in now if key in before]
        return sum(
            now[key].digest == before[key].digest and (key != other or now[key].order != before[key].order)
            for key, other in zip(places_now, places_before, strict=True)
        )

    def _select_active_terms(self, day: date) -> None:
        career = "UGRD"
        documents = sorted(
            ((key[1], document.fields) for key, document in self.state.items() if key[0] == career),
            key=lambda pair: pair[0],
        )
        current = [place for place, (_, fields) in enumerate(documents) if _text(fields, "CURRENT_IND") == "Y"]
        if len(current) != 1:
            self.active_terms_problem = f"{len(current) or 'no'} undergraduate terms are current"
            return
        chosen = _active_places([_text(fields, "DESCR") for _, fields in documents], current[0])
        self.active_terms = [{"acad_career": career, "strm": documents[place][0]} for place in chosen]
        self.active_terms_day, self.active_terms_problem = day, None


def _active_places(descriptions: Sequence[str], current: int) -> list[int]:
    def is_summer(place: int) -> bool:
        return 0 <= place < len(descriptions) and "Summer" in descriptions[place]

    places = [current - 1, current, current + 1]
    if not is_summer(current):
        places.append(current - 2 if is_summer(current - 1) else current + 2)
    return sorted(place for place in places if 0 <= place < len(descriptions))


def _text(fields: dict[str, Json], name: str) -> str:
    value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""


class Truth:
    """The truth about one simulator.

    Args:
        endpoints: The endpoints that a lake may ask.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        # Long rehearsals ask for the same days again and again.
        self._landing = lru_cache(maxsize=2048)(self._landing_of)

    def after(
        self, kind: str, days: Iterable[date], endpoint: str, plan: FaultPlan, patience: Patience = PATIENCE
    ) -> dict[str, Any]:
        """What the lake must hold after landing these days, in the order of their dates.

        Args:
            kind: The kind of document.
            days: The days that were asked for; those without a trustworthy answer are skipped.
            endpoint: The endpoint that is asked.
            plan: The faults in force; those of earlier days too, whatever was in force when they were asked.
            patience: What the client puts up with.

        Raises:
            SimulatorError: There is no such endpoint, or it does not answer for that kind.
        """
        if endpoint not in self._endpoints:
            raise SimulatorError(f"endpoint is {endpoint!r}.", allowed=self._endpoints)
        ledger = Ledger()
        accounts: dict[str, dict[str, Any]] = {}
        landed: list[str] = []
        for day in sorted(set(days)):
            outcome, landing = self._landing(kind, day, endpoint, plan, patience)
            if landing is None:
                accounts[day.isoformat()] = _skipped(outcome)
            else:
                landed.append(day.isoformat())
                accounts[day.isoformat()] = {**ledger.land(day, landing), "attempts": outcome.attempts}
        return {
            "kind": kind,
            "endpoint": endpoint,
            "landed_days": landed,
            "days": accounts,
            "keys": [{"key": list(key), "digest": ledger.state[key].digest} for key in sorted(ledger.state)],
            "active_terms": ledger.active_terms,
            "active_terms_day": ledger.active_terms_day.isoformat() if ledger.active_terms_day else None,
            "active_terms_problem": ledger.active_terms_problem,
            "history": sorted(ledger.history, key=lambda change: (change["day"], change["key"])),
        }

    def _landing_of(
        self, kind: str, day: date, endpoint: str, plan: FaultPlan, patience: Patience
    ) -> tuple[Outcome, Snapshot | None]:
        """What a sound client gets on a day, and what of it can be kept."""
        asked = self._endpoints[endpoint]
        question = asked.question_about(kind)
        if question is None:
            raise SimulatorError(f"{endpoint} does not answer for {kind!r}.", allowed=KINDS)
        outcome = sound_outcome(asked, question, day, plan.on(day), plan.fault_seed, patience)
        return outcome, None if outcome.rows is None else snapshot(outcome.rows, proves_all=outcome.proves_all)


def _skipped(outcome: Outcome) -> dict[str, Any]:
    counts = dict.fromkeys(("new", "changed", "removed", "unchanged", "quarantined", "reordered"), 0)
    return {"obtainable": False, "why": outcome.why, **counts, "attempts": outcome.attempts}
