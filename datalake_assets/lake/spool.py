"""Answered requests of an unfinished load, kept so that a retry asks only for the rest.

What is spooled is judged already, so nothing sensitive touches the disk. A spool lives from the first answer of
a load to the commit of its receipt; snapshots are in `landing.py`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b

from datalake_assets.clock import Clock
from datalake_assets.entities import Entity
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.landing import SourceAccount, landing_schema, read_answers, write_answers
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.storage.parquet import ParquetStore


@dataclass(frozen=True)
class Asked:
    """A source's answer, judged.

    Attributes:
        answers: One or more per key.
        source: What it took.
        named_all: The source proved that it named every key there is; else nothing is removed by absence.
    """

    answers: Iterable[Answer]
    source: SourceAccount
    named_all: bool


class Spool:
    """Answers of one entity by request, on local disk."""

    def __init__(self, store: ParquetStore, entity: Entity) -> None:
        self._store = store
        self._entity = entity
        self._schema = landing_schema(entity)

    def put(self, piece: LoadSlice, request: str, asked: Asked, *, run_id: str, clock: Clock) -> None:
        """Keep the answer to one request.

        Args:
            piece: The partition being loaded.
            request: What was asked; only its hash is kept.
            asked: The answer.
            run_id: Who asked.
            clock: For the moment of writing.
        """
        self._store.publish(
            self._entity.landing,
            _dimensions(piece, request),
            self._schema,
            write_answers(iter(asked.answers), self._schema),
            run_id=run_id,
            created_at=clock.now(),
            account={"named_all": asked.named_all, "source": asdict(asked.source)},
        )

    def get(self, piece: LoadSlice, request: str) -> Asked | None:
        """The answer to a request, or None if it was not answered yet."""
        manifest = self._store.current(self._entity.landing, _dimensions(piece, request))
        if manifest is None:
            return None
        return Asked(
            answers=read_answers(self._entity, self._store.read(manifest)),
            source=SourceAccount(**manifest.account["source"]),
            named_all=manifest.account["named_all"],
        )

    def clear(self, piece: LoadSlice) -> None:
        """Forget every answer of a partition; its receipt is committed."""
        self._store.remove(self._entity.landing, piece.dimensions)


def _dimensions(piece: LoadSlice, request: str) -> dict[str, str]:
    return {**piece.dimensions, "request": blake2b(request.encode(), digest_size=8).hexdigest()}
