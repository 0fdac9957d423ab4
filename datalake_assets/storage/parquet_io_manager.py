"""The Dagster IO manager of the Parquet lake: what an asset returns is published, what it asks for is read.

What belongs here: how an asset key, a partition key and a type annotation map to datasets, partitions and
frames; how a declared `dagster/column_schema` maps to Arrow types; what the UI is told. How revisions are
kept is in `parquet.py`. Tables in PostgreSQL have an IO manager of their own.

See https://docs.dagster.io/guides/build/io-managers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, get_args, get_origin

import dagster as dg
import pyarrow as pa
from pydantic import Field

from datalake_assets.keys import TableName
from datalake_assets.storage.parquet import (
    Manifest,
    MissingPartitionError,
    ParquetStore,
    SchemaMismatchError,
    StorageError,
)

if TYPE_CHECKING:  # takes 0.1 s, which a run that hands no frames around need not wait for
    import polars as pl

FRAME_ROWS = 8192
DEFAULT_DIMENSION = "partition"

# The types that a `dg.TableColumn` may declare: Arrow's own names, and the SQL names of the same things.
ARROW_TYPES: Mapping[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        *(pa.date32(), pa.time64("us"), pa.duration("us"), pa.null()),
        *(pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns")),
    )
} | {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "json": pa.string(),
    "jsonb": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "interval": pa.duration("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
}
# The same for types with arguments.
_ARROW_TYPE_PATTERNS: Sequence[tuple[str, Callable[..., pa.DataType]]] = (
    (r"(?:decimal128|decimal|numeric)\((\d+), ?(\d+)\)", lambda p, s: pa.decimal128(int(p), int(s))),
    (r"fixed_size_binary\[(\d+)\]", lambda width: pa.binary(int(width))),
    (r"timestamp\[(s|ms|us|ns), tz=([\w/+:-]+)\]", lambda unit, zone: pa.timestamp(unit, tz=zone)),
    (r"list<(?:item|element): (.+)>", lambda item: pa.list_(arrow_type(item))),
    (r"large_list<(?:item|element): (.+)>", lambda item: pa.large_list(arrow_type(item))),
)


class ParquetIOManager(dg.ConfigurableIOManager):
    """Keeps the outputs of assets in the Parquet lake and loads them again.

    **Outputs**: `pa.Table`, `pa.RecordBatchReader`, an iterator of `pa.RecordBatch`, `pl.DataFrame` or
    `pl.LazyFrame`; the last four are streamed. Dagster takes a generator for a stream of events, so return an
    iterator as `dg.Output(batches)`. Where the asset declares `dagster/column_schema`, the output must have
    exactly these columns; a column may come in another representation of the declared type (polars knows only
    large strings), never as another type.

    **Inputs** come as the annotation says: `pl.LazyFrame` (also without annotation), `pl.DataFrame`,
    `pa.Table` or `pa.RecordBatchReader`. Several upstream partitions come as one frame, in order of their
    keys, or as a `dict[str, …]` from partition key to frame. All of them must be published. `columns` in the
    metadata of the `dg.AssetIn` limits what is read.

    **Partitions**: multi-partition keys give one folder level per dimension. The one dimension of any other
    partition is named by the asset's metadata `partition_dimension`, by default `partition`. One run may keep
    one partition: assets need `BackfillPolicy.multi_run(1)`, Dagster's default.
    """

    location: str = Field(
        description="Folder of the lake, or the URL of an object store that fsspec knows, e.g. s3://bucket/lake."
    )

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish what an asset returned as the current revision of its partition."""
        dataset = _dataset(context.asset_key)
        partition = _output_partition(context)
        declared = context.definition_metadata.get("dagster/column_schema")
        if isinstance(declared, dg.TableSchemaMetadataValue):
            declared = declared.schema
        schema, batches = stream(obj, None if declared is None else arrow_schema(declared))
        store = ParquetStore(self.location)
        manifest = store.publish(
            dataset,
            partition,
            schema,
            batches,
            run_id=context.run_id,
            created_at=datetime.now(UTC),
            account={},
        )
        context.add_output_metadata(
            {
                f"dagster/{'partition_' if partition else ''}row_count": manifest.rows,
                "dagster/column_schema": declared or table_schema(schema),
                # The dataset's address, the same for all partitions: the asset's page shows the latest one.
                "dagster/uri": store.uri(dataset),
                "path": dg.MetadataValue.path(store.data_uri(manifest)),
                "lake/bytes": manifest.bytes,
                "lake/sha256": manifest.sha256,
            }
        )

    def load_input(self, context: dg.InputContext) -> object:
        """Load the partitions of the upstream asset that this run needs, as the annotation asks."""
        store = ParquetStore(self.location)
        dataset = _dataset(context.asset_key)
        frame, by_partition = _wanted(context.dagster_type.typing_type, dataset)
        columns = context.definition_metadata.get("columns")
        manifests = _current(store, dataset, _input_partitions(context))
        if by_partition:
            return {key: _load(frame, store, [manifest], columns) for key, manifest in manifests.items()}
        return _load(frame, store, list(manifests.values()), columns)


# ------------------------------------------------------------------------------------------ partitions


def _dataset(key: dg.AssetKey) -> TableName:
    if len(key.path) != 2:
        raise StorageError(
            f"The asset {key.to_user_string()} cannot be kept in the lake.",
            todo="Give it a key of two parts, schema and table.",
        )
    return TableName(*key.path)


def _output_partition(context: dg.OutputContext) -> Mapping[str, str]:
    if not context.has_asset_partitions:
        return {}
    keys = list(context.asset_partition_keys)
    if len(keys) != 1:
        raise StorageError(
            f"One output covers {len(keys)} partitions, and the lake keeps each partition by itself.",
            where=context.asset_key.to_user_string(),
            todo="Set backfill_policy=dg.BackfillPolicy.multi_run(1) on the asset: one run per partition.",
        )
    return _partition(keys[0], context.definition_metadata)


def _input_partitions(context: dg.InputContext) -> Mapping[str, Mapping[str, str]]:
    if not context.has_asset_partitions:
        return {"": {}}
    upstream = context.upstream_output
    metadata = upstream.definition_metadata if upstream is not None else {}
    # Dagster hands them over in no particular order.
    return {key: _partition(key, metadata) for key in sorted(context.asset_partition_keys)}


def _partition(key: str, metadata: Mapping[str, Any]) -> Mapping[str, str]:
    if isinstance(key, dg.MultiPartitionKey):
        return dict(key.keys_by_dimension)
    return {str(metadata.get("partition_dimension", DEFAULT_DIMENSION)): key}


def _current(
    store: ParquetStore, dataset: TableName, partitions: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Manifest]:
    found = {key: store.current(dataset, partition) for key, partition in partitions.items()}
    missing = [key for key, manifest in found.items() if manifest is None]
    if missing:
        some = ", ".join(missing[:5]) + (", …" if missing[5:] else "")
        raise MissingPartitionError(
            f"{len(missing)} of the {len(found)} partitions of {dataset} that this run reads are not published: {some}."
            if some
            else f"{dataset} is not published.",
            where=store.uri(dataset, partitions[missing[0]]),
            todo=f"Materialise {dataset.path} for it first. If that was done, check that this run reads the same lake.",
        )
    return {key: manifest for key, manifest in found.items() if manifest is not None}


# ---------------------------------------------------------------------------------------------- inputs


def _wanted(annotation: Any, dataset: TableName) -> tuple[type, bool]:
    """The kind of frame that an input asks for, and whether it wants one for each partition."""
    import polars as pl

    by_partition = get_origin(annotation) is dict
    frame = get_args(annotation)[1] if by_partition else annotation
    if frame in (Any, None):
        frame = pl.LazyFrame
    if frame not in (pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader):
        raise StorageError(
            f"The lake cannot hand out {dataset} as {annotation}.",
            todo="Annotate the input as pl.LazyFrame, pl.DataFrame, pa.Table or pa.RecordBatchReader, or as "
            "dict[str, …] of one of them.",
        )
    return frame, by_partition


def _load(
    frame: type, store: ParquetStore, manifests: Sequence[Manifest], columns: Sequence[str] | None
) -> "pl.LazyFrame | pl.DataFrame | pa.Table | pa.RecordBatchReader":
    import polars as pl

    if not manifests:
        raise MissingPartitionError(
            "The partition mapping of this input yields no upstream partition.",
            todo="Correct the mapping, or annotate the input as a dict, which may be empty.",
        )
    for manifest in manifests[1:]:
        if manifest.columns != manifests[0].columns:
            raise SchemaMismatchError(
                f"Partitions of {manifest.dataset} have different columns and cannot be read as one frame.",
                where=f"{store.data_uri(manifests[0])} and {store.data_uri(manifest)}",
                todo="Materialise the older of them again, or annotate the input as dict[str, …].",
            )
    if frame in (pl.LazyFrame, pl.DataFrame):
        scans = [store.scan(manifest) for manifest in manifests]
        lazy = pl.concat(scans)
        if columns is not None:
            lazy = lazy.select(columns)
        return lazy if frame is pl.LazyFrame else lazy.collect()
    schema = store.schema(manifests[0])
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    batches = chain.from_iterable(store.read(manifest, columns) for manifest in manifests)
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    return reader.read_all() if frame is pa.Table else reader


# --------------------------------------------------------------------------------------------- outputs


def stream(obj: object, declared: pa.Schema | None) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """The schema and the batches of what an asset returned.

    Args:
        obj: One of the outputs that `ParquetIOManager` lists.
        declared: The schema that the asset declares, if any; columns are brought to its representation.

    Raises:
        StorageError: It is none of these, or an iterator without a batch has no schema.
    """
    import polars as pl

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    if isinstance(obj, pl.DataFrame | pl.LazyFrame):
        schema = pl.DataFrame(schema=obj.collect_schema()).to_arrow().schema
        batches = _frame_batches(obj)
    elif isinstance(obj, pa.Table):
        schema, batches = obj.schema, obj.to_batches()
    elif isinstance(obj, pa.RecordBatchReader):
        schema, batches = obj.schema, obj
    elif isinstance(obj, Iterator):
        first = next(obj, None)
        if first is None and declared is None:
            raise StorageError(
                "The asset yielded no batch, so its columns are unknown.",
                todo="Declare dagster/column_schema in the asset's metadata, or return a pa.RecordBatchReader.",
            )
        schema, batches = (declared, []) if first is None else (first.schema, chain([first], obj))
    else:
        raise StorageError(
            f"The asset returned {type(obj).__name__}, which is not a table.",
            todo="Return a pa.Table, a pa.RecordBatchReader, an iterator of pa.RecordBatch, a pl.DataFrame "
            "or a pl.LazyFrame.",
        )
    if declared is None:
        return schema, batches
    return declared, (_represented(batch, declared) for batch in batches)


def _frame_batches(frame: "pl.DataFrame | pl.LazyFrame") -> Iterator[pa.RecordBatch]:
    import polars as pl

    if isinstance(frame, pl.DataFrame):
        parts: Iterable[pl.DataFrame] = frame.iter_slices(FRAME_ROWS)
    else:
        parts = frame.collect_batches(chunk_size=FRAME_ROWS, lazy=True)
    for part in parts:
        yield from part.to_arrow().to_batches()


def _represented(batch: pa.RecordBatch, declared: pa.Schema) -> pa.RecordBatch:
    """Bring columns to the declared representation of their type; anything else is left to be refused."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        position = declared.get_field_index(name)
        kind = declared.field(position).type if position >= 0 else column.type
        if _family(kind) == _family(column.type) is not None:
            try:
                column = column.cast(kind)
            except pa.ArrowInvalid:
                # Arrow's own text may quote the value.
                raise SchemaMismatchError(
                    f"A value of column {name!r} does not fit the declared type {kind}.",
                    where=f"a batch of {batch.num_rows} rows",
                    todo="Correct the declaration, or cast the rows before they are returned.",
                ) from None
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _family(kind: pa.DataType) -> str | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes"
    return "bytes" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None


# --------------------------------------------------------------------------------------------- schemas


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type that a `dg.TableColumn` declares, by Arrow's name for it or the SQL name.

    Raises:
        StorageError: The name is not known.
    """
    if name in ARROW_TYPES:
        return ARROW_TYPES[name]
    for pattern, make in _ARROW_TYPE_PATTERNS:
        if match := re.fullmatch(pattern, name):
            return make(*match.groups())
    raise StorageError(
        f"The column type {name!r} is not known.",
        todo=f"Declare one of {', '.join(ARROW_TYPES)}, decimal128(p, s), fixed_size_binary[n], "
        "timestamp[unit, tz=zone], list<item: type>.",
    )


def arrow_schema(declared: dg.TableSchema) -> pa.Schema:
    """The Arrow schema that a `dagster/column_schema` declares."""
    return pa.schema(
        [
            pa.field(column.name, arrow_type(column.type), nullable=column.constraints.nullable)
            for column in declared.columns
        ]
    )


def table_schema(schema: pa.Schema) -> dg.TableSchema:
    """The `dagster/column_schema` of an Arrow schema; the inverse of `arrow_schema`."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type), constraints=dg.TableColumnConstraints(nullable=field.nullable))
            for field in schema
        ]
    )
