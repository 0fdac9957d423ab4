"""Files as snapshots in the Parquet lake: every row that was read, what became of it, and an account that balances.

A file is judged while it is landed, so that tables and analytical copies are a function of the snapshot alone. Rows
that were dropped or quarantined stay in it with their line. A file that has not changed since it was landed by the same
declaration is not landed again. How files are read is in `files.py`, where they come from the caller's business.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc

from datalake_assets.clock import Clock
from datalake_assets.keys import TableName
from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.declared import Column
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.files import FileColumn, Format, RowFile, row_schema
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.outcomes import Outcome, Outcomes
from datalake_assets.lake.quarantine import mirror_answers
from datalake_assets.lake.row_rules import RowRules, Rule
from datalake_assets.lake.slices import LoadError
from datalake_assets.sources.url_files import FetchedFile
from datalake_assets.sources.validators import NotModified, Validators
from datalake_assets.storage.parquet import DamagedFileError, Manifest, ParquetStore
from datalake_assets.storage.postgres import scrubbing

DROPPED: Final = "dropped"
"""`outcome` of a row that a rule leaves out: the declaration says that it is nothing."""

WITHOUT_MONTH: Final = date(1970, 1, 1)
"""Date of a partition that has none, where one must be told."""

_STATE: Final = ("outcome", "rule", "reason", "document")

Fetch = Callable[[Validators | None], AbstractAsyncContextManager[FetchedFile | NotModified]]
"""Brings the file of a partition, unless it is the version that is known."""


@dataclass(frozen=True)
class Dimension:
    """One value by which files are told apart; a column of the table, and a name that rules may use.

    Attributes:
        name: Name of the column.
        value: Text of a kind of file, or the first day of its month.
    """

    name: str
    value: str | date


@dataclass(frozen=True)
class FilePiece:
    """One file as it is declared: the unit of loading.

    Attributes:
        table: Where its rows go.
        landing: Where its snapshot goes.
        name: What it is called in messages and in quarantine.
        key: The partition key; empty for a table of a single file.
        dimensions: The values of the partition.
        columns: What is read of it.
        format: How it is written.
        rules: What becomes of its rows.
    """

    table: TableName
    landing: TableName
    name: str
    key: str
    dimensions: tuple[Dimension, ...]
    columns: tuple[FileColumn, ...]
    format: Format
    rules: tuple[Rule, ...] = ()

    @property
    def folders(self) -> dict[str, str]:
        """The partition as folders of the lake."""
        return {each.name: str(each.value) for each in self.dimensions}

    @property
    def declared(self) -> tuple[Column, ...]:
        """The columns without what they are called in the file."""
        return tuple(each.column for each in self.columns)

    @property
    def load_date(self) -> date:
        """The month, where there is one."""
        return next((each.value for each in self.dimensions if isinstance(each.value, date)), WITHOUT_MONTH)

    @property
    def declaration(self) -> str:
        """Hash of what the snapshot depends on besides the bytes of the file."""
        said = repr((self.columns, self.format, self.rules, self.dimensions))
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.table}, partition {self.key}" if self.key else str(self.table)


@dataclass(frozen=True)
class FileSnapshot:
    """A landed file.

    Attributes:
        piece: Which one.
        manifest: Where the rows are and how to prove them.
        outcomes: The account; `absent` are the rows that a rule dropped.
    """

    piece: FilePiece
    manifest: Manifest
    outcomes: Outcomes

    @property
    def account(self) -> Mapping[str, Any]:
        """What was told when it was landed."""
        return self.manifest.account

    def receipt(self, run_id: str) -> Receipt:
        """The account as a receipt of the landing dataset."""
        return Receipt(
            asset=str(self.piece.landing),
            partition=self.piece.key,
            run_id=run_id,
            load_date=self.piece.load_date,
            outcomes=self.outcomes,
            complete=True,
            rows_total=self.manifest.rows,
            snapshot_sha256=self.manifest.sha256,
            bytes_in=self.account["bytes"],
        )


@dataclass(frozen=True)
class LandedFile:
    """What landing a file came to."""

    snapshot: FileSnapshot
    note: str
    is_new: bool


class MissingFileError(LoadError):
    """A file was never landed."""


def local_file(path: Path) -> Fetch:
    """A file that is on this machine already, as `FileLanding.land` wants it."""

    @asynccontextmanager
    async def fetch(unless: Validators | None) -> AsyncIterator[FetchedFile | NotModified]:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        yield FetchedFile(path, path.stat().st_size, sha256, Validators(), path.name)

    return fetch


class FileLanding:
    """Lands files and reads what was landed.

    Args:
        store: The Parquet lake.
        ledger: Attempts and receipts.
        clock: For the moment of publication.
    """

    def __init__(self, store: ParquetStore, ledger: Ledger, clock: Clock) -> None:
        self._store, self._ledger, self._clock = store, ledger, clock

    async def land(self, connection: asyncpg.Connection, piece: FilePiece, run_id: str, fetch: Fetch) -> LandedFile:
        """Fetch a file and publish its snapshot, unless the one that is there is still right.

        Args:
            connection: A connection of its own, outside any transaction.
            piece: Which file.
            run_id: Who loads it.
            fetch: Brings it.

        Raises:
            LoadError: The file cannot be trusted, or another attempt at it has begun.
            SourceError: It could not be had.
        """
        with scrubbing(piece.where):
            attempt = await self._ledger.begin(connection, str(piece.landing), piece.key, run_id)
        kept = self.current(piece)
        if kept is not None and not (kept.account["declaration"] == piece.declaration and self._is_there(kept)):
            kept = None
        known = None if kept is None else Validators(kept.account["etag"], kept.account["last_modified"])
        async with fetch(known or None) as found:
            reach("mid_request")
            if kept is not None and (isinstance(found, NotModified) or found.sha256 == kept.account["file_sha256"]):
                landed = LandedFile(kept, f"{piece.name} has not changed since it was landed.", is_new=False)
            elif isinstance(found, NotModified):
                raise LoadError(
                    "The source says that a file is unchanged that was never asked about.",
                    where=piece.where,
                    todo="Run the load again; if it repeats, tell the source's operator.",
                )
            else:
                landed = await asyncio.to_thread(self._publish, piece, found, run_id)
        reach("after_landing")
        with scrubbing(piece.where):
            async with connection.transaction():
                await self._ledger.check_fence(connection, str(piece.landing), piece.key, attempt)
                place = (str(piece.table), piece.load_date, piece.key)
                await mirror_answers(connection, place, self.quarantined(landed.snapshot), run_id)
                await self._ledger.write(connection, landed.snapshot.receipt(run_id), attempt)
                self._store.promote(landed.snapshot.manifest)
        return landed

    def current(self, piece: FilePiece) -> FileSnapshot | None:
        """The snapshot of a file, or None if it was never landed."""
        manifest = self._store.current(piece.landing, piece.folders)
        return None if manifest is None else _snapshot(piece, manifest)

    def require(self, piece: FilePiece) -> FileSnapshot:
        """The snapshot of a file.

        Raises:
            MissingFileError: It was never landed.
        """
        if (snapshot := self.current(piece)) is None:
            raise MissingFileError(
                "There is no snapshot to load from.", where=piece.where, todo=f"Materialise {piece.landing} first."
            )
        return snapshot

    def rows(self, snapshot: FileSnapshot) -> Iterator[pa.RecordBatch]:
        """Line and declared columns of the good rows, from the file proved against its manifest.

        Raises:
            LoadError: The snapshot was made by another declaration.
        """
        piece = snapshot.piece
        if snapshot.account["declaration"] != piece.declaration:
            raise LoadError(
                "The declaration has changed since the file was landed.",
                where=piece.where,
                todo=f"Materialise {piece.landing} again, and what lies below it.",
            )
        names = ["line", *(column.name for column in piece.declared)]
        for batch in self._store.read(snapshot.manifest, columns=[*names, "outcome"]):
            is_good = pc.equal(batch.column("outcome"), Outcome.DATA.value)
            yield batch.select(names) if pc.all(is_good).as_py() else batch.filter(is_good).select(names)

    def quarantined(self, snapshot: FileSnapshot) -> Iterator[Answer]:
        """The rows that could not be kept."""
        if not snapshot.outcomes.quarantined:
            return
        for batch in self._store.read(snapshot.manifest, columns=["line", *_STATE]):
            refused = batch.filter(pc.equal(batch.column("outcome"), Outcome.QUARANTINED.value))
            for row in refused.to_pylist():
                yield Answer(
                    key=(row["line"],),
                    outcome=Outcome.QUARANTINED,
                    source=f"{snapshot.piece.name} line {row['line']}",
                    document=row["document"],
                    rule=row["rule"],
                    reason=row["reason"],
                )

    def uri(self, snapshot: FileSnapshot) -> str:
        """Where the snapshot's data file is."""
        return self._store.data_uri(snapshot.manifest)

    def _is_there(self, snapshot: FileSnapshot) -> bool:
        """Whether there is a data file for what a manifest says; it is proved when it is read."""
        try:
            self._store.schema(snapshot.manifest)
        except DamagedFileError:
            return False
        return True

    def _publish(self, piece: FilePiece, found: FetchedFile, run_id: str) -> LandedFile:
        file = RowFile(found.path, piece.name, piece.format, piece.columns)
        rules = RowRules(piece.rules, piece.declared, {each.name: pa.scalar(each.value) for each in piece.dimensions})
        counts: Counter[str] = Counter()
        by_rule: Counter[str] = Counter()

        def counted() -> Iterator[pa.RecordBatch]:
            for batch in _with_outcomes(rules.apply(file.batches())):
                for name, counter in (("outcome", counts), ("rule", by_rule)):
                    for each in batch.column(name).value_counts().to_pylist():
                        counter.update({each["values"]: each["counts"]} if each["values"] else {})
                yield batch

        def account() -> dict[str, Any]:
            return {
                "read": sum(counts.values()),
                "data": counts[Outcome.DATA],
                "dropped": counts[DROPPED],
                "quarantined": counts[Outcome.QUARANTINED],
                "by_rule": dict(sorted(by_rule.items())),
                "blank_lines": file.blank,
                "extra_columns": file.extra,
                "declaration": piece.declaration,
                "file": piece.name,
                "file_sha256": found.sha256,
                "bytes": found.bytes,
                **asdict(found.validators),
            }

        manifest = self._store.publish(
            piece.landing,
            piece.folders,
            landing_schema(piece.columns),
            counted(),
            run_id=run_id,
            created_at=self._clock.now(),
            account=account,
            keep_current=True,
        )
        return LandedFile(_snapshot(piece, manifest), f"{piece.name} was landed.", is_new=True)


def landing_schema(columns: Sequence[FileColumn]) -> pa.Schema:
    """Columns of a snapshot: the line, the declared columns, and outcome, rule, reason and document of the row."""
    fields = list(row_schema(columns))
    return pa.schema([*fields[:-3], pa.field("outcome", pa.string(), nullable=False), *fields[-3:]])


def _with_outcomes(judged: Iterable[tuple[pa.RecordBatch, pa.Array]]) -> Iterator[pa.RecordBatch]:
    for batch, dropped in judged:
        kept_out = pc.if_else(dropped, DROPPED, Outcome.QUARANTINED.value)
        outcome = pc.if_else(batch.column("rule").is_null(), Outcome.DATA.value, kept_out)
        at = batch.num_columns - 3
        schema = batch.schema.insert(at, pa.field("outcome", pa.string(), nullable=False))
        yield pa.RecordBatch.from_arrays([*batch.columns[:at], outcome, *batch.columns[at:]], schema=schema)


def _snapshot(piece: FilePiece, manifest: Manifest) -> FileSnapshot:
    account = manifest.account
    outcomes = Outcomes(
        asked=manifest.rows,
        data=account["data"],
        absent=account["dropped"],
        quarantined=account["quarantined"],
    )
    return FileSnapshot(piece, manifest, outcomes)
