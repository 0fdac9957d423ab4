"""The Parquet lake: whole, verified revisions of dataset partitions, in a folder or an object store.

What belongs here: the layout (`<schema>/<table>/<dim>=<value>/…`), the manifest of a revision, publishing
(the declared schema enforced, streamed in bounded row groups, hashed while written), verified reading, and
the collecting of what nobody names any more. How bytes become visible and survive a crash is in
`durable_files.py`; what the rows mean is the callers' business, and Dagster's view of all this is in
`parquet_io_manager.py`.

A data file counts only if a manifest names it: nothing here lists or globs data files in order to read them.
"""

import builtins
import errno
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from upath import UPath

from datalake_assets.errors import DatalakeError
from datalake_assets.keys import TableName
from datalake_assets.storage.durable_files import TEMPORARY_SUFFIX, LocalFiles, NewFile, files_at

if TYPE_CHECKING:
    import polars as pl

CURRENT_NAME = "current.json"
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 16 << 20
SUPERSEDED_FOR_S = 24 * 3600.0

_REVISION_NAME = re.compile(r"(?P<revision>[0-9a-f]{32})\.(?:json|parquet)")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_REMAKE = (
    "Do not use the file. Materialise the partition again, restore the file from a backup, or make an older "
    "revision current with ParquetStore.promote()."
)


class StorageError(DatalakeError):
    """The lake could not keep, find or vouch for something."""


class SchemaMismatchError(StorageError):
    """Rows do not have the columns that were declared for them."""


class MissingPartitionError(StorageError):
    """A partition or revision was asked for that is not published."""


class DamagedFileError(StorageError):
    """A data file is not what its manifest says, or a manifest is not one."""


@dataclass(frozen=True)
class Manifest:
    """What one revision of one partition consists of, and the only way to its data.

    Attributes:
        dataset: `schema/table`.
        partition: Dimension to value; empty for a dataset without partitions.
        file: Name of the data file: the first half of its SHA-256, and `.parquet`.
        rows: Number of rows in the data file.
        bytes: Size of the data file.
        sha256: SHA-256 of the data file.
        columns: Name and Arrow type of each column, in order.
        created_at: When it was published, ISO 8601 in UTC. It orders nothing.
        run_id: The run that published it.
        account: What the publisher has to say about the rows: any JSON object.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    dataset: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
    partition: Mapping[str, str] = field(hash=False)
    file: str
    rows: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(gt=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    columns: tuple[tuple[str, str], ...]
    created_at: str
    run_id: str
    account: dict[str, Any] = field(hash=False)

    @property
    def table(self) -> TableName:
        """The dataset as a name."""
        return TableName(*self.dataset.split("/"))

    @property
    def revision(self) -> str:
        """What the names of the data file and of the manifest beside it begin with."""
        return self.sha256[:32]

    def to_json(self) -> builtins.bytes:
        """The manifest as JSON, with a checksum of itself."""
        content = asdict(self)
        return _json({**content, "checksum": _checksum(content)}, indent=1)

    @classmethod
    def from_json(cls, data: builtins.bytes, file: str) -> "Manifest":
        """Read a manifest, or refuse it.

        Args:
            data: What the file holds.
            file: Where it was read, for the error.

        Raises:
            DamagedFileError: It lacks a field, has one too many, or is not what was once written.
        """
        try:
            content = json.loads(data)
            if not isinstance(content, dict):
                raise ValueError("it is not an object")
            checksum = content.pop("checksum", None)
            manifest = _MANIFEST.validate_json(_json(content))
            if manifest.file != f"{manifest.revision}.parquet":
                raise ValueError("its file is not named after its sha256")
            if checksum != _checksum(content):
                raise ValueError("its checksum does not fit its content")
        except ValidationError as error:
            flaws = [
                f"{'.'.join(str(part) for part in flaw['loc'])}: {flaw['msg']}"
                for flaw in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            raise _damaged_manifest(file, "; ".join(flaws)) from None
        except ValueError as error:
            raise _damaged_manifest(file, str(error)) from None
        return manifest


_MANIFEST = TypeAdapter(Manifest)


class ParquetStore:
    """Publishes and reads revisions of dataset partitions.

    Any number of processes may publish, read and collect at the same time. Of two publishers of one partition
    the last one to finish is current, whole; a reader that holds a manifest keeps reading that revision.

    Args:
        location: A local folder, or a URL that fsspec knows (`s3://bucket/lake`) of a store with atomic puts.

    Raises:
        StorageError: No such kind of store is known here.
    """

    def __init__(self, location: str | UPath) -> None:
        try:
            self._files = files_at(location)
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"The lake cannot be opened: {error}.",
                where=str(location).partition("://")[0],
                todo="Correct the location, or install the fsspec package of its store, e.g. s3fs, gcsfs or adlfs.",
            ) from error

    # ---------------------------------------------------------------------------------------- publishing

    def publish(
        self,
        dataset: TableName,
        partition: Mapping[str, str],
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        *,
        run_id: str,
        created_at: datetime,
        account: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        row_group_rows: int = ROW_GROUP_ROWS,
        keep_current: bool = False,
    ) -> Manifest:
        """Write a revision of a partition and make it the current one.

        Memory is bounded by one row group, whatever the number of rows. The same rows in the same order make
        the same file, however they were cut into batches (columns of nested types apart), so publishing them
        again adds no revision. Whatever fails on the way, the batches included, leaves the lake as it was.

        Args:
            dataset: The dataset; its folder is made when missing.
            partition: Dimension to value; empty for a dataset without partitions.
            schema: The declared columns; every batch must have exactly these.
            batches: The rows.
            run_id: The run that publishes.
            created_at: Now, with a zone.
            account: Kept in the manifest. A callable is asked after the last batch, when counts are known.
            row_group_rows: The most rows of one row group; it ends earlier at 16 MiB.
            keep_current: Store the revision beside the current one, to be made current by `promote`, or to
                be collected.

        Raises:
            SchemaMismatchError: A batch does not have the declared columns.
            StorageError: The file could not be written, e.g. because the disk is full.
        """
        folder = _folder(dataset, partition)
        published = f"publish {_title(dataset, partition)}"
        if created_at.tzinfo is None:
            raise StorageError("A revision's time of publication needs a zone.", where=folder)

        def explain(error: OSError) -> StorageError:
            return self._explained(error, published, folder)

        with ExitStack() as stack:
            with self._explaining(published, folder), self._files.publishing(_folder(dataset, {})):
                data, record, pointer = (stack.push(self._files.new(folder)) for _ in range(3))
            sink = _DataSink(data, explain)
            checked = (_checked(batch, schema, dataset) for batch in batches)
            rows = _write(sink, schema, _row_groups(checked, schema, row_group_rows))
            manifest = Manifest(
                dataset=dataset.path,
                partition=dict(sorted(partition.items())),
                file=f"{sink.sha256[:32]}.parquet",
                rows=rows,
                bytes=sink.size,
                sha256=sink.sha256,
                columns=tuple((column.name, str(column.type)) for column in schema),
                created_at=created_at.astimezone(UTC).isoformat(),
                run_id=run_id,
                account=_plain_json(account() if callable(account) else account, folder),
            )
            with self._explaining(published, folder):
                # Everything that may run out of space is on the disk before the first name becomes visible.
                for file in (record, pointer):
                    file.write(manifest.to_json())
                for file in (data, record, pointer):
                    file.seal()
                with self._files.publishing(_folder(dataset, {})):
                    data.keep(f"{folder}/{manifest.file}")
                    record.keep(f"{folder}/{manifest.revision}.json")
                    if not keep_current:
                        self._point_to(pointer, folder, manifest)
        return manifest

    def promote(self, manifest: Manifest) -> None:
        """Make a revision that is still there the current one.

        Raises:
            DamagedFileError: Its data file is missing or not what the manifest says.
        """
        folder = _folder(manifest.table, manifest.partition)
        with (
            self._explaining(f"promote a revision of {_title(manifest.table, manifest.partition)}", folder),
            self._files.publishing(_folder(manifest.table, {})),
            self._files.new(folder) as pointer,
        ):
            self.verify(manifest)
            pointer.write(manifest.to_json())
            pointer.seal()
            self._point_to(pointer, folder, manifest)

    def _point_to(self, pointer: NewFile, folder: str, manifest: Manifest) -> None:
        key = f"{folder}/{CURRENT_NAME}"
        # A damaged pointer names nothing whose age could matter; it is about to be replaced by a good one.
        with suppress(DamagedFileError):
            former = self._manifest(key)
            if former is not None and former.sha256 != manifest.sha256:
                # The age of a manifest is the time since its revision was last current: see collect().
                self._files.touch(f"{folder}/{former.revision}.json")
        pointer.keep(key)

    # ------------------------------------------------------------------------------------------- finding

    def current(self, dataset: TableName, partition: Mapping[str, str]) -> Manifest | None:
        """The manifest of the current revision, or None if the partition was never published."""
        return self._manifest_of(dataset, partition, CURRENT_NAME)

    def revision(self, dataset: TableName, partition: Mapping[str, str], sha256: str) -> Manifest:
        """The manifest of one revision, current or not.

        Raises:
            MissingPartitionError: It was never published, or is collected.
        """
        manifest = self._manifest_of(dataset, partition, f"{sha256[:32]}.json")
        if manifest is None or manifest.sha256 != sha256:
            raise MissingPartitionError(
                f"{_title(dataset, partition)} has no revision {sha256}.",
                where=self.uri(dataset, partition),
                todo="It was never published here, or it is collected; use the current revision.",
            )
        return manifest

    def partitions(self, dataset: TableName, *, begun: bool = False) -> list[Mapping[str, str]]:
        """The partitions that have a current revision, in order of their folders.

        Args:
            dataset: The dataset.
            begun: Also those of which a writer, who may be dead, has published nothing yet.
        """
        with self._explaining(f"list the partitions of {dataset}", dataset.path):
            folders = self._folders(dataset)
        return [partition for (_, partition), names in folders if begun or CURRENT_NAME in names]

    def uri(self, dataset: TableName, partition: Mapping[str, str] | None = None) -> str:
        """The address of a dataset's folder, or of a partition's."""
        return self._files.uri(_folder(dataset, partition or {}))

    def data_uri(self, manifest: Manifest) -> str:
        """The address of a revision's data file."""
        return self._files.uri(_data_key(manifest))

    def _manifest_of(self, dataset: TableName, partition: Mapping[str, str], name: str) -> Manifest | None:
        folder = _folder(dataset, partition)
        with self._explaining(f"read the manifest of {_title(dataset, partition)}", folder):
            manifest = self._manifest(f"{folder}/{name}")
        if manifest is not None and (manifest.table, manifest.partition) != (dataset, dict(partition)):
            raise _damaged_manifest(
                self._files.uri(f"{folder}/{name}"),
                f"it is about {_title(manifest.table, manifest.partition)}",
            )
        return manifest

    def _manifest(self, key: str) -> Manifest | None:
        try:
            data = self._files.read(key)
        except FileNotFoundError:
            return None
        return Manifest.from_json(data, self._files.uri(key))

    def _folders(self, dataset: TableName | None) -> list[tuple[tuple[TableName, Mapping[str, str]], list[str]]]:
        names = defaultdict(list)
        for key in self._files.walk("" if dataset is None else _folder(dataset, {})):
            folder, _, name = key.rpartition("/")
            names[folder].append(name)
        # Folders that publish() would not have made are none of the store's.
        return [(place, names[folder]) for folder in sorted(names) if (place := _place(folder)) is not None]

    # ------------------------------------------------------------------------------------------- reading

    def read(
        self, manifest: Manifest, columns: Sequence[str] | None = None, verify: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a revision in their order, in batches of no more than a row group.

        Args:
            manifest: The revision.
            columns: The columns to read, in this order; all if None.
            verify: Compare the data file with the manifest before the first batch. Without it, a flipped bit
                is still found by the checksums of the pages that are read.

        Raises:
            DamagedFileError: The data file is missing or not what the manifest says.
        """
        names = _selected(manifest, columns)
        with self._opened(manifest, verify=verify) as parquet:
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(row_groups=[group], columns=names):
                    yield batch.select(names)

    def scan(self, manifest: Manifest) -> "pl.LazyFrame":
        """The rows of a revision as a lazy frame, after the data file was compared with the manifest.

        In an object store the comparison costs one download; the frame then reads the ranges that it needs.
        """
        import polars as pl  # takes 0.2 s, which runs that stream batches need not wait for

        self.verify(manifest)
        path = self._files.path(_data_key(manifest))
        if isinstance(self._files, LocalFiles):
            return pl.scan_parquet(path, glob=False)
        return pl.scan_pyarrow_dataset(ds.dataset(path, filesystem=self._files.filesystem, format="parquet"))

    def schema(self, manifest: Manifest) -> pa.Schema:
        """The Arrow schema of a revision."""
        with self._opened(manifest, verify=False) as parquet:
            return parquet.schema_arrow

    def verify(self, manifest: Manifest) -> None:
        """Compare size, SHA-256 and number of rows of the data file with the manifest.

        Raises:
            DamagedFileError: They differ, or the file is missing.
        """
        with self._opened(manifest, verify=True):
            pass

    @contextmanager
    def _opened(self, manifest: Manifest, *, verify: bool) -> Iterator[pq.ParquetFile]:
        uri = self.data_uri(manifest)
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._data_file(manifest, verify=verify))
                parquet = stack.enter_context(pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True))
                rows = parquet.metadata.num_rows
                if rows != manifest.rows:
                    raise _damaged_data(uri, f"{manifest.rows} rows", f"{rows} rows")
                yield parquet
            except FileNotFoundError as error:
                raise _damaged_data(uri, f"{manifest.bytes} bytes", "no file") from error
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise self._explained(error, "read the file", _data_key(manifest)) from error
                # Arrow's own text about a damaged page may quote what it found there.
                raise _damaged_data(uri, "readable Parquet", type(error).__name__) from None

    def _data_file(self, manifest: Manifest, *, verify: bool) -> BinaryIO:
        key = _data_key(manifest)
        if not verify:
            return self._files.open(key)
        seen = _Fingerprint()
        file = self._files.fetch(key, seen.update)
        found, expected = (seen.size, seen.sha256), (manifest.bytes, manifest.sha256)
        if found != expected:
            file.close()
            raise _damaged_data(
                self._files.uri(key),
                "{} bytes with SHA-256 {}".format(*expected),
                "{} bytes with SHA-256 {}".format(*found),
            )
        return file

    # -------------------------------------------------------------------------------------------- removing

    def remove(self, dataset: TableName, dimensions: Mapping[str, str]) -> list[str]:
        """Remove every partition that has these values in these dimensions, with all its revisions.

        Args:
            dataset: The dataset.
            dimensions: Some or all dimensions of the partitions; empty for all partitions of the dataset.

        Returns:
            The addresses of the files removed.
        """
        removed: list[str] = []
        with self._explaining(f"remove {_title(dataset, dimensions)}", _folder(dataset, {})):
            for (_, partition), names in self._folders(dataset):
                if not dimensions.items() <= partition.items():
                    continue
                folder = _folder(dataset, partition)
                with self._files.collecting(_folder(dataset, {})):
                    # The pointer goes first: from then on there is no partition, whatever is left of its files.
                    for name in sorted(names, key=lambda name: name != CURRENT_NAME):
                        key = f"{folder}/{name}"
                        ours = name == CURRENT_NAME or _REVISION_NAME.fullmatch(name)
                        if ours or (name.endswith(TEMPORARY_SUFFIX) and self._files.abandoned(key)):
                            self._files.remove(key)
                            removed.append(self._files.uri(key))
                    self._files.prune(folder, _folder(dataset, {}))
        return removed

    def collect(
        self,
        dataset: TableName | None = None,
        *,
        keep: Callable[[Manifest], bool],
        older_than_s: float = SUPERSEDED_FOR_S,
    ) -> list[str]:
        """Remove what dead writers left behind and the superseded revisions that nobody keeps.

        What `current.json` names is never removed, nor a file that the store did not make, nor a revision
        whose manifest is damaged. On a local disk, publishing and collecting exclude each other. In an object
        store only the age protects a revision that is being published again: collect with a generous one.

        Args:
            dataset: The dataset to collect, or None for the whole lake.
            keep: Says of a superseded revision whether it stays.
            older_than_s: How long a revision must have been superseded, so that readers who hold its manifest
                can finish.

        Returns:
            The addresses of the files removed.
        """
        what = str(dataset or "the lake")
        removed: list[str] = []
        with self._explaining(f"collect {what}", "" if dataset is None else _folder(dataset, {})):
            for (table, partition), names in self._folders(dataset):
                folder = _folder(table, partition)
                revisions = {match["revision"] for name in names if (match := _REVISION_NAME.fullmatch(name))}
                litter = [f"{folder}/{name}" for name in names if name.endswith(TEMPORARY_SUFFIX)]
                if not litter and CURRENT_NAME in names and len(revisions) == 1:
                    continue
                with self._files.collecting(_folder(table, {})):
                    for key in filter(self._files.abandoned, litter):
                        self._files.remove(key)
                        removed.append(self._files.uri(key))
                    current = self.current(table, partition)
                    for revision in sorted(revisions - {current.revision if current else None}):
                        removed += self._collect_revision(folder, revision, keep, older_than_s)
        return removed

    def _collect_revision(
        self, folder: str, revision: str, keep: Callable[[Manifest], bool], older_than_s: float
    ) -> list[str]:
        record, data = f"{folder}/{revision}.json", f"{folder}/{revision}.parquet"
        try:
            manifest = self._manifest(record)
        except DamagedFileError:
            return []
        if self._files.age_s(data if manifest is None else record) < older_than_s:
            return []
        if manifest is not None and keep(manifest):
            return []
        # The manifest goes first: a crash in between leaves a file without a name, not a name without a file.
        gone = [key for key in (record, data) if self._files.remove(key)]
        return [self._files.uri(key) for key in gone]

    # -------------------------------------------------------------------------------------------- errors

    @contextmanager
    def _explaining(self, purpose: str, folder: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explained(error, purpose, folder) from error

    def _explained(self, error: OSError, purpose: str, folder: str) -> StorageError:
        where = self._files.uri(folder)
        if error.errno not in _FULL_DISK:
            return StorageError(
                f"Could not {purpose}: {error.strerror or error}.",
                where=where,
                todo="See to the disk or the store, then run again; what was current before still is.",
            )
        space = self._files.space()
        return StorageError(
            f"Could not {purpose}: the disk is full, {space.free} of {space.total} bytes are free.",
            where=where,
            todo="Free some space, or collect superseded revisions, then run again; what was current before still is.",
        )


class _Fingerprint:
    """Size and SHA-256 of bytes that pass by."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def update(self, data: builtins.bytes) -> None:
        self._hash.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _DataSink(io.RawIOBase):
    """The file object that a Parquet writer gets: a new file that is hashed while it is written."""

    def __init__(self, file: NewFile, explain: Callable[[OSError], StorageError]) -> None:
        self._file = file
        self._explain = explain
        self._seen = _Fingerprint()

    @property
    def size(self) -> int:
        return self._seen.size

    @property
    def sha256(self) -> str:
        return self._seen.sha256

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._seen.size

    def write(self, data: Any) -> int:
        # Here and not around the writer: an OSError of the batches' own source is not the lake's.
        try:
            self._file.write(data)
        except OSError as error:
            raise self._explain(error) from error
        self._seen.update(data)
        return len(data)


def _write(sink: _DataSink, schema: pa.Schema, groups: Iterable[pa.Table]) -> int:
    rows = 0
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=group.num_rows)
            rows += group.num_rows
    return rows


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema, most_rows: int) -> Iterator[pa.Table]:
    """Cut a stream where the next row would not fit; where batches begin and end makes no difference."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        start = before = 0
        sizes = pc.cumulative_sum(_row_sizes(batch))
        while start < batch.num_rows:
            fitting = pc.sum(pc.less_equal(sizes, before + ROW_GROUP_BYTES - size)).as_py() - start
            take = min(fitting, most_rows - rows)
            if take <= 0 and pending:
                yield pa.Table.from_batches(pending).combine_chunks()
                pending, rows, size = [], 0, 0
                continue
            end = start + max(take, 1)
            pending.append(batch.slice(start, end - start))
            after = sizes[end - 1].as_py()
            rows, size = rows + end - start, size + after - before
            start, before = end, after
    if pending:
        yield pa.Table.from_batches(pending, schema).combine_chunks()


def _row_sizes(batch: pa.RecordBatch) -> pa.Array:
    """About how many bytes each row takes; a function of the values alone, except for nested types."""
    fixed = 0
    sizes = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
    for column in batch.columns:
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind):
            lengths = pc.binary_length(column).cast(pa.int64())
            sizes = pc.add(sizes, pc.fill_null(lengths, 0))
            fixed += 4
        elif pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind):
            fixed += (kind.bit_width + 7) // 8
        else:
            fixed += -(-column.nbytes // max(batch.num_rows, 1))
    return pc.add(sizes, fixed)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _checked(batch: pa.RecordBatch, schema: pa.Schema, dataset: TableName) -> pa.RecordBatch:
    names = batch.schema.names
    flaws = [f"column {name!r} is not declared" for name in names if name not in schema.names]
    for column in schema:
        if names.count(column.name) != 1:
            flaws.append(f"column {column.name!r}: expected once, found {names.count(column.name)} times")
        elif (found := batch.column(column.name)).type != column.type:
            flaws.append(f"column {column.name!r}: expected {column.type}, found {found.type}")
        elif found.null_count and not column.nullable:
            flaws.append(f"column {column.name!r}: expected no nulls, found {found.null_count}")
    if not flaws and names != schema.names:
        flaws = [f"expected the order {', '.join(schema.names)}, found {', '.join(names)}"]
    if flaws:
        raise SchemaMismatchError(
            f"Rows for {dataset} do not have the declared columns: {'; '.join(flaws)}.",
            where=f"a batch of {batch.num_rows} rows",
            todo="Correct the declaration, or cast the rows before they are published.",
        )
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _selected(manifest: Manifest, columns: Sequence[str] | None) -> list[str]:
    known = [name for name, _ in manifest.columns]
    if columns is None:
        return known
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise StorageError(
            f"{_title(manifest.table, manifest.partition)} has no column {', '.join(map(repr, unknown))}.",
            where=manifest.file,
            todo=f"Ask for some of: {', '.join(known)}.",
        )
    return list(columns)


# ------------------------------------------------------------------------------------------------- names


def _title(dataset: TableName, partition: Mapping[str, str]) -> str:
    values = ", ".join(f"{dimension}={value}" for dimension, value in sorted(partition.items()))
    return f"{dataset} [{values}]" if values else str(dataset)


def _folder(dataset: TableName, partition: Mapping[str, str]) -> str:
    """The folder of a partition; dimensions stand in the order of their names."""
    if not all(part and "/" not in part for part in dataset):
        raise StorageError(f"{dataset.path!r} is not the name of a dataset: it needs a schema and a table.")
    dimensions = (f"{_segment(name)}={_segment(value)}" for name, value in sorted(partition.items()))
    return "/".join([_segment(dataset.schema), _segment(dataset.table), *dimensions])


def _place(folder: str) -> tuple[TableName, Mapping[str, str]] | None:
    """The inverse of `_folder`; None for a folder that it does not make, whatever its name."""
    names = folder.split("/")
    if len(names) < 2:
        return None
    dimensions = [name.partition("=") for name in names[2:]]
    dataset = TableName(unquote(names[0]), unquote(names[1]))
    partition = {unquote(dimension): unquote(value) for dimension, _, value in dimensions}
    try:
        return (dataset, partition) if _folder(dataset, partition) == folder else None
    except StorageError:
        return None


def _segment(text: str) -> str:
    """A part of a path that no file system gives a meaning of its own, e.g. `2248%2FUGRD`."""
    try:
        quoted = quote(text, safe="").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise StorageError("A name in the lake must be Unicode text without surrogates.") from error
    return quoted.replace(".", "%2E") if set(text) == {"."} else quoted


def _data_key(manifest: Manifest) -> str:
    return f"{_folder(manifest.table, manifest.partition)}/{manifest.file}"


# -------------------------------------------------------------------------------------------------- JSON


def _json(value: object, indent: int | None = None) -> bytes:
    sort = indent is None  # for the checksum; people read the fields in the order in which they are declared
    return json.dumps(value, indent=indent, sort_keys=sort, ensure_ascii=False, allow_nan=False).encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(content)).hexdigest()


def _plain_json(account: Mapping[str, Any], folder: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(_json(dict(account), indent=0))
    except (TypeError, ValueError) as error:
        raise StorageError(
            "The account of a revision is not plain JSON.",
            where=folder,
            todo="Let it hold strings, finite numbers, booleans, null, lists and objects only.",
        ) from error
    return plain


def _damaged_manifest(uri: str, flaw: str) -> DamagedFileError:
    what = f"{uri.rpartition('/')[2]} is not a manifest of this partition: {flaw}."
    return DamagedFileError(what, where=uri, todo=_REMAKE)


def _damaged_data(uri: str, expected: str, found: str) -> DamagedFileError:
    what = f"{uri.rpartition('/')[2]} is damaged: expected {expected}, found {found}."
    return DamagedFileError(what, where=uri, todo=_REMAKE)
