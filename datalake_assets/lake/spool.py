"""Answered requests of an unfinished load, kept so that a retry asks only for the rest.

What is spooled is judged already, so nothing sensitive touches the disk. A spool lives from the first answer of
a load to the commit of its receipt; snapshots are in `landing.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Final

import pyarrow as pa

from datalake_assets.clock import Clock
from datalake_assets.keys import TableName
from datalake_assets.lake.documents import Answer, Key
from datalake_assets.lake.landing import (
    SourceAccount,
    keys_of,
    landing_schema,
    read_answers,
    read_outcomes,
    write_answers,
)
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.storage.parquet import Manifest, ParquetStore

ANSWERS: Final = "answers"
_FINISHED: Final = "finished"


@dataclass(frozen=True)
class Asked:
    """A source's answer, judged.

    Attributes:
        answers: One or more per key.
        source: What it took.
        named_all: The source proved that it named every key there is; else nothing is removed by absence.
    """

    answers: Iterable[Answer]
    source: SourceAccount = field(default_factory=SourceAccount)
    named_all: bool = False


@dataclass(frozen=True)
class Filled:
    """How a load that asked for everything ended.

    Attributes:
        named_all: The source proved that it named every key there is.
        only: The request of this attempt whose parts are all that counts; None: every answer of every attempt.
    """

    named_all: bool
    only: str | None = None


class Spool:
    """Answers of one load by request, on local disk.

    Args:
        store: Where they are kept.
        piece: The partition being loaded.
        run_id: Who asks.
        clock: For the moment of writing.
        attempt: Number of the attempt at the partition; of two answers about a key the later attempt's counts.
        after: The last attempt that was committed: what was spooled up to it is over.
        kind: What the answers are about; answers of another kind than the snapshot's rows are notes of the load.
    """

    def __init__(
        self,
        store: ParquetStore,
        piece: LoadSlice,
        *,
        run_id: str,
        clock: Clock,
        attempt: int = 0,
        after: int = 0,
        kind: str = ANSWERS,
    ) -> None:
        self._store = store
        self._piece = piece
        self._run_id = run_id
        self._clock = clock
        self._attempt = attempt
        self._after = after
        self._kind = kind
        self._appended = 0
        self._schema = landing_schema(piece.entity)

    def notes(self, kind: str) -> "Spool":
        """Answers of another kind of the same load, such as what was asked on the way to the snapshot's rows."""
        return Spool(
            self._store,
            self._piece,
            run_id=self._run_id,
            clock=self._clock,
            attempt=self._attempt,
            after=self._after,
            kind=kind,
        )

    def put(self, request: str, asked: Asked) -> None:
        """Keep the answer to one request.

        Args:
            request: What was asked; only its hash is kept.
            asked: The answer.
        """
        self._publish(self._dimensions(request), asked)

    def append(self, asked: Asked, *, request: str = "") -> None:
        """Keep a further answer of this attempt, or a further part of one.

        Args:
            asked: The answer.
            request: What it answers, where only parts of one request may count in the end.
        """
        self._publish(self._dimensions(f"attempt {self._attempt} {request}", part=self._appended), asked)
        self._appended += 1

    def get(self, request: str) -> Asked | None:
        """The answer to a request that was put, or None if it was not answered yet."""
        parts = self._parts_of(request)
        return self._asked(parts[0]) if parts else None

    def answers(self) -> Iterator[Answer]:
        """Every answer, streamed; of a key that several requests answered, what the latest said."""
        return read_answers(self._piece.entity, self.rows())

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """`answers` as rows of landing.

        Args:
            columns: The columns to read, those of the key among them; all if None.
        """
        requests = self._requests()
        seen: set[Key] = set()
        for parts in requests:
            of_request: set[Key] = set()
            for part in parts:
                for batch in self._store.read(part, columns=columns):
                    if len(requests) > 1:
                        keys = keys_of(self._piece.entity, batch)
                        of_request.update(keys)
                        batch = batch.filter(pa.array([key not in seen for key in keys], pa.bool_()))
                    yield batch
            seen |= {key for key in of_request if None not in key}

    def keys(self) -> Iterator[Key]:
        """The key of every one of `answers`."""
        entity = self._piece.entity
        return (key for batch in self.rows(entity.key_names) for key in keys_of(entity, batch))

    def answered(self) -> set[Key]:
        """Keys that need not be asked for again: whatever their outcome, unless no trustworthy answer came."""
        entity = self._piece.entity
        outcomes: dict[Key, Outcome] = {}
        for key, outcome in read_outcomes(entity, self.rows([*entity.key_names, "outcome"])):
            outcomes.setdefault(key, outcome)
        return {key for key, outcome in outcomes.items() if outcome is not Outcome.FAILED}

    def source(self) -> SourceAccount:
        """What it took to get all answers, over every attempt."""
        return sum((self._asked(manifest).source for parts in self._requests() for manifest in parts), SourceAccount())

    def finish(self, filled: Filled) -> None:
        """Note that everything was asked for."""
        only = None if filled.only is None else _name(f"attempt {self._attempt} {filled.only}")
        noted = self.notes(_FINISHED)
        noted._publish(noted._dimensions(_FINISHED), Asked((), named_all=filled.named_all), only=only)

    def finished(self) -> Asked | None:
        """All answers that count, or None if some were not asked for yet."""
        noted = self.notes(_FINISHED)._parts_of(_FINISHED)
        return Asked(self.answers(), self.source(), named_all=noted[0].account["named_all"]) if noted else None

    def clear(self) -> None:
        """Forget everything of this attempt and of those before it, notes included; a later one may have begun."""
        for attempt in {int(found["attempt"]) for found in self._spooled(begun=True)}:
            if attempt <= self._attempt:
                self._store.remove(self._landing, {**self._piece.dimensions, "attempt": f"{attempt:05d}"})

    @property
    def _landing(self) -> TableName:
        return self._piece.entity.landing

    def _publish(self, dimensions: dict[str, str], asked: Asked, only: str | None = None) -> None:
        self._store.publish(
            self._landing,
            dimensions,
            self._schema,
            write_answers(iter(asked.answers), self._schema),
            run_id=self._run_id,
            created_at=self._clock.now(),
            account={
                "named_all": asked.named_all,
                "source": asdict(asked.source),
                "only": only,
            },
        )

    def _asked(self, manifest: Manifest) -> Asked:
        return Asked(
            answers=read_answers(self._piece.entity, self._store.read(manifest)),
            source=SourceAccount(**manifest.account["source"]),
            named_all=manifest.account["named_all"],
        )

    def _spooled(self, *, begun: bool = False) -> list[Mapping[str, str]]:
        """Where there is anything of the partition, of any attempt and kind; with `begun` also what is not whole."""
        here = self._piece.dimensions.items()
        return [found for found in self._store.partitions(self._landing, begun=begun) if here <= found.items()]

    def _by_request(self) -> dict[str, list[Manifest]]:
        """The parts of every request of this kind; of one that several attempts asked, those of the latest."""
        latest: dict[str, tuple[int, list[Mapping[str, str]]]] = {}
        for dimensions in self._spooled():
            attempt, request = int(dimensions["attempt"]), dimensions["request"]
            if attempt <= self._after or dimensions["kind"] != self._kind:
                continue
            if request not in latest or latest[request][0] < attempt:
                latest[request] = (attempt, [])
            if latest[request][0] == attempt:
                latest[request][1].append(dimensions)
        # What is gone meanwhile was forgotten by a later attempt that is committed: then this one will not be.
        return {
            request: [part for place in places if (part := self._store.current(self._landing, place))]
            for request, (_, places) in latest.items()
        }

    def _parts_of(self, request: str) -> list[Manifest]:
        return self._by_request().get(_name(request), [])

    def _requests(self) -> list[list[Manifest]]:
        """The parts of every answered request that counts, those of the latest attempt first."""
        requests = self._by_request()
        noted = self.notes(_FINISHED)._parts_of(_FINISHED) if self._kind == ANSWERS else []
        only = noted[0].account["only"] if noted else None
        return sorted(
            (parts for request, parts in requests.items() if parts and only in {None, request}),
            key=lambda parts: (parts[0].partition["attempt"], parts[0].partition["request"]),
            reverse=True,
        )

    def _dimensions(self, request: str, *, part: int = 0) -> dict[str, str]:
        return {
            **self._piece.dimensions,
            "attempt": f"{self._attempt:05d}",
            "kind": self._kind,
            "request": _name(request),
            "part": f"{part:05d}",
        }


def _name(request: str) -> str:
    """How a request is called on disk: it may name people."""
    return blake2b(request.encode(), digest_size=8).hexdigest()
