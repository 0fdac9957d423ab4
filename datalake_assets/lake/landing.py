"""Snapshots of what a source answered for one partition: written once, whole, and proved before use.

A snapshot holds one row per key asked for, whatever its outcome, and an account that must balance. How an
answer is judged is in `documents.py`; files and their publication are in `storage/parquet.py`; what becomes of
a snapshot in the database is in `raw.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from datetime import date
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datalake_assets.clock import Clock
from datalake_assets.entities import Entity
from datalake_assets.lake.canonical import ContentHash
from datalake_assets.lake.documents import Answer, Key, repeated_keys, settle_duplicates
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.outcomes import Outcome, Outcomes
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.storage.parquet import Manifest, ParquetStore

BATCH_ROWS = 2_000
"""Rows handled at once: about 20 MB of 9 KB documents."""


class NoSnapshotError(LoadError):
    """There is no snapshot of the partition."""


@dataclass(frozen=True)
class SourceAccount:
    """What it took to get an answer.

    Attributes:
        requests: Requests sent, repetitions included.
        retries: How many of them were repetitions.
        bytes_in: Bytes on the wire.
        duration_s: How long it took; of requests side by side, each for itself.
        rejected: Documents that nobody had asked for; they are counted and never kept.
    """

    requests: int = 0
    retries: int = 0
    bytes_in: int = 0
    duration_s: float = 0.0
    rejected: int = 0

    def __add__(self, other: "SourceAccount") -> "SourceAccount":
        return SourceAccount(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "SourceAccount") -> "SourceAccount":
        return SourceAccount(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Snapshot:
    """A published snapshot.

    Attributes:
        slice: The partition.
        manifest: Where the data is and how to prove it.
        outcomes: The balanced account.
        named_all: The source proved that it named every key there is.
        complete: It did, and every document tells its key, so that a key the snapshot lacks is gone.
        source: What it took to get the answer.
        content: Hash of keys, outcomes and digests, whatever their order; None for a snapshot of an earlier version.
    """

    slice: LoadSlice
    manifest: Manifest
    outcomes: Outcomes
    named_all: bool
    complete: bool
    source: SourceAccount
    content: str | None

    @property
    def sha256(self) -> str:
        """Identity of the snapshot's content."""
        return self.manifest.sha256

    def receipt(self, run_id: str) -> Receipt:
        """The account of the snapshot as a receipt of the landing table."""
        return Receipt(
            asset=str(self.slice.entity.landing),
            partition=self.slice.partition,
            run_id=run_id,
            load_date=self.slice.load_date,
            scope=self.slice.scope_text,
            outcomes=self.outcomes,
            complete=self.complete,
            rows_total=self.manifest.rows,
            snapshot_sha256=self.sha256,
            requests=self.source.requests,
            retries=self.source.retries,
            bytes_in=self.source.bytes_in,
            duration_s=self.source.duration_s,
        )


class Landing:
    """Snapshots of one entity in a Parquet store."""

    def __init__(self, store: ParquetStore, entity: Entity) -> None:
        self._store = store
        self.entity = entity
        self.schema = landing_schema(entity)

    def publish(
        self,
        piece: LoadSlice,
        answers: Iterable[Answer],
        *,
        complete: bool,
        source: SourceAccount,
        run_id: str,
        clock: Clock,
        keep_current: bool = False,
    ) -> Snapshot:
        """Write answers as a snapshot; see `publish_rows`.

        Args:
            piece: The partition.
            answers: One or more per key, in any order; consumed as a stream.
            complete: See `publish_rows`.
            source: What it took.
            run_id: Who writes it.
            clock: For the moment of writing.
            keep_current: See `publish_rows`.
        """
        return self.publish_rows(
            piece,
            write_answers(iter(answers), self.schema),
            complete=complete,
            source=source,
            run_id=run_id,
            clock=clock,
            keep_current=keep_current,
        )

    def publish_rows(
        self,
        piece: LoadSlice,
        batches: Iterable[pa.RecordBatch],
        *,
        complete: bool,
        source: SourceAccount,
        run_id: str,
        clock: Clock,
        keep_current: bool = False,
    ) -> Snapshot:
        """Write a snapshot and make it the partition's current one.

        Args:
            piece: The partition.
            batches: Answers as rows of the schema; consumed as a stream.
            complete: The source proved that it named every key. An answer whose key is unknown takes that back:
                it could be any of the keys that seem to be missing.
            source: What it took.
            run_id: Who writes it.
            clock: For the moment of writing.
            keep_current: Leave the current snapshot as it is until `promote`: who writes may not be the one who may
                commit.
        """
        counts = dict.fromkeys(Outcome, 0)
        content = ContentHash()
        unkeyed = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal unkeyed
            for batch in batches:
                for found in batch.column("outcome").value_counts().to_pylist():
                    counts[Outcome(found["values"])] += found["counts"]
                keys = keys_of(self.entity, batch)
                unkeyed += sum(None in key for key in keys)
                content.add(zip(keys, *(batch.column(name).to_pylist() for name in ("outcome", "digest")), strict=True))
                yield batch

        def account() -> dict[str, Any]:
            return {
                "asked": sum(counts.values()),
                **{outcome.value: count for outcome, count in counts.items()},
                "named_all": complete,
                "complete": complete and not unkeyed,
                "content": content.hexdigest(),
                **asdict(source),
            }

        manifest = self._store.publish(
            self.entity.landing,
            piece.dimensions,
            self.schema,
            counted(),
            run_id=run_id,
            created_at=clock.now(),
            account=account,
            keep_current=keep_current,
        )
        return _snapshot(piece, manifest)

    def promote(self, snapshot: Snapshot) -> None:
        """Make a written snapshot the partition's current one."""
        self._store.promote(snapshot.manifest)

    def pieces(self, load_date: date) -> list[LoadSlice]:
        """The partitions of a date that were landed: one, or one for each scope."""
        return [
            LoadSlice(self.entity, load_date, tuple(dimensions[name] for name in self.entity.scope))
            for dimensions in self._store.partitions(self.entity.landing)
            if dimensions.get("load_date") == load_date.isoformat()
        ]

    def current(self, piece: LoadSlice) -> Snapshot | None:
        """The partition's snapshot, or None if it was never landed."""
        manifest = self._store.current(self.entity.landing, piece.dimensions)
        return None if manifest is None else _snapshot(piece, manifest)

    def require(self, piece: LoadSlice) -> Snapshot:
        """The partition's snapshot.

        Raises:
            NoSnapshotError: It was never landed.
        """
        snapshot = self.current(piece)
        if snapshot is None:
            raise NoSnapshotError(
                "There is no snapshot to load from.",
                where=f"{self.entity.landing}, partition {piece.partition}",
                todo="Materialise the landing partition on its day; a day that was missed cannot be fetched later, and "
                "the next day's load brings the tables up to date.",
            )
        return snapshot

    def revision(self, piece: LoadSlice, sha256: str) -> Snapshot:
        """A snapshot that the partition has or had, by its SHA-256."""
        return _snapshot(piece, self._store.revision(self.entity.landing, piece.dimensions, sha256))

    def uri(self, snapshot: Snapshot) -> str:
        """Where the snapshot's data file is."""
        return self._store.data_uri(snapshot.manifest)

    def read(self, snapshot: Snapshot, columns: Iterable[str], *, verify: bool = True) -> Iterator[pa.RecordBatch]:
        """Stream some columns of a snapshot, after proving its file against the manifest unless told otherwise."""
        return bounded(self._store.read(snapshot.manifest, columns=list(columns), verify=verify))

    def answers(self, snapshot: Snapshot) -> Iterator[Answer]:
        """Stream a snapshot as answers, in the order of the file."""
        return read_answers(self.entity, self.read(snapshot, self.schema.names))


def landing_schema(entity: Entity) -> pa.Schema:
    """Columns of a snapshot: the key, then outcome, digest, document, rule, reason and source pointer."""
    return pa.schema(
        [pa.field(column.name, pa.int32() if column.type == "integer" else pa.string()) for column in entity.key]
        + [
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("digest", pa.binary(16)),
            pa.field("document", pa.large_binary()),
            pa.field("rule", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("source", pa.string(), nullable=False),
        ]
    )


def settle_rows(keys: Iterable[Key], batches: Iterable[pa.RecordBatch], entity: Entity) -> Iterator[pa.RecordBatch]:
    """Leave one row of landing a key, as `settle_duplicates` does.

    Memory holds the keys, and of documents only those whose key comes more than once: these come last.

    Args:
        keys: The key of every row; read to the end before the first batch.
        batches: The rows.
        entity: What they are about.
    """
    repeated = repeated_keys(keys)
    aside: list[Answer] = []
    for batch in batches:
        if repeated:
            is_repeated = pa.array([key in repeated for key in keys_of(entity, batch)], pa.bool_())
            aside += read_answers(entity, [batch.filter(is_repeated)])
            yield batch.filter(pc.invert(is_repeated))
        else:
            yield batch
    yield from write_answers(settle_duplicates(aside, entity), landing_schema(entity))


def keys_of(entity: Entity, batch: pa.RecordBatch) -> list[Key]:
    """The key of every row of a batch."""
    return list(zip(*(batch.column(name).to_pylist() for name in entity.key_names), strict=True))


def read_answers(entity: Entity, batches: Iterable[pa.RecordBatch]) -> Iterator[Answer]:
    """Turn batches of `landing_schema` into answers."""
    keys = len(entity.key)
    names = (*entity.key_names, "outcome", "source", "digest", "document", "rule", "reason")
    for batch in bounded(batches):
        columns = [batch.column(name).to_pylist() for name in names]
        for row in zip(*columns, strict=True):
            yield Answer(row[:keys], Outcome(row[keys]), *row[keys + 1 :])


def read_outcomes(entity: Entity, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Key, Outcome]]:
    """Key and outcome of every row of batches that hold just these columns."""
    for batch in batches:
        for key, outcome in zip(keys_of(entity, batch), batch.column("outcome").to_pylist(), strict=True):
            yield key, Outcome(outcome)


def bounded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `BATCH_ROWS`: as Python objects they take many times their size."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def write_answers(answers: Iterator[Answer], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Turn answers into batches of `landing_schema`."""
    while rows := [
        (*a.key, a.outcome.value, a.digest, a.document, a.rule, a.reason, a.source) for a in islice(answers, BATCH_ROWS)
    ]:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _snapshot(piece: LoadSlice, manifest: Manifest) -> Snapshot:
    account = manifest.account
    outcomes = Outcomes(
        asked=account["asked"],
        **{outcome.value: account[outcome.value] for outcome in Outcome},
    )
    if outcomes.asked != manifest.rows:
        raise LoadError(
            f"The account of the snapshot speaks of {outcomes.asked} keys, its file holds {manifest.rows} rows.",
            where=f"{manifest.dataset}, partition {piece.partition}, file {manifest.file}",
            todo="Do not load it; materialise the landing partition again on its day.",
        )
    return Snapshot(
        slice=piece,
        manifest=manifest,
        outcomes=outcomes,
        named_all=account["named_all"],
        complete=account["complete"],
        source=SourceAccount(**{field.name: account[field.name] for field in fields(SourceAccount)}),
        content=account.get("content"),
    )
