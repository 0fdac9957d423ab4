"""The Parquet IO manager as Dagster runs it: every test materialises assets and looks at what they got."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from datalake_assets.keys import TableName
from datalake_assets.storage.parquet import MissingPartitionError, ParquetStore, SchemaMismatchError, StorageError
from datalake_assets.storage.parquet_io_manager import ParquetIOManager, arrow_schema, arrow_type, table_schema

COURSES = dg.AssetKey(["course_landing", "course_data"])
DATASET = TableName("course_landing", "course_data")
DAYS = dg.DailyPartitionsDefinition(start_date="2024-09-01", end_date="2024-09-06")
TABLE = pa.table({"crse_id": ["101", "102", "103"], "units": [1, 2, 3]})

pytestmark = [
    # Beta parts of Dagster that the partitioned assets here need.
    pytest.mark.filterwarnings("ignore:Class `MultiToSingleDimensionPartitionMapping`"),
    pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`"),
]


@dataclass
class Lake:
    location: str
    instance: dg.DagsterInstance


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """One for all tests: making its tables takes longer than a run, and no test reads what another did."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def lake(tmp_path: Path, instance: dg.DagsterInstance) -> Lake:
    return Lake(str(tmp_path / "lake"), instance)


@pytest.fixture
def store(lake: Lake) -> ParquetStore:
    return ParquetStore(lake.location)


def courses(value: Any, returns: Any = Any, **options: Any) -> dg.AssetsDefinition:
    """An asset that returns a value, or what it makes of its context."""

    def make(context: dg.AssetExecutionContext) -> Any:
        return value(context) if callable(value) else value

    make.__annotations__["return"] = returns
    return dg.asset(key=COURSES, **options)(make)


def materialize(lake: Lake, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    resources = {"io_manager": ParquetIOManager(location=lake.location)}
    return dg.materialize(assets, resources=resources, instance=lake.instance, **options)


def read(store: ParquetStore, partition: Mapping[str, str]) -> list[dict[str, Any]]:
    manifest = store.current(DATASET, partition)
    assert manifest is not None
    return pa.Table.from_batches(store.read(manifest), store.schema(manifest)).to_pylist()


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(COURSES.to_python_identifier())
    return {key: value.value for key, value in event.metadata.items()}


# --------------------------------------------------------------------------------------------- outputs


def record_batches() -> Iterator[pa.RecordBatch]:
    yield from TABLE.to_batches(max_chunksize=2)


@pytest.mark.parametrize(
    ("value", "returns"),
    [
        (lambda _: TABLE, pa.Table),
        (lambda _: pa.RecordBatchReader.from_batches(TABLE.schema, record_batches()), pa.RecordBatchReader),
        (lambda _: dg.Output(record_batches()), dg.Output),
        (lambda _: iter(TABLE.to_batches()), Any),
        (lambda _: pl.from_arrow(TABLE), pl.DataFrame),
        (lambda _: pl.LazyFrame({"crse_id": ["101", "102", "103"], "units": [1, 2, 3]}), pl.LazyFrame),
    ],
    ids=["Table", "RecordBatchReader", "generator", "iterator", "DataFrame", "LazyFrame"],
)
def test_every_kind_of_output_is_published(lake: Lake, store: ParquetStore, value: Any, returns: Any) -> None:
    materialize(lake, courses(value, returns))
    assert read(store, {}) == TABLE.to_pylist()


def test_a_long_lazy_frame_keeps_its_rows_in_order(lake: Lake, store: ParquetStore) -> None:
    count = 50_000
    materialize(lake, courses(pl.LazyFrame({"n": range(count)}).with_columns(double=pl.col("n") * 2)))
    manifest = store.current(DATASET, {})
    assert manifest is not None
    frame = store.scan(manifest).collect()
    assert frame["n"].to_list() == list(range(count))
    assert frame["double"].sum() == count * (count - 1)


def test_a_query_that_fails_half_way_publishes_nothing(lake: Lake, store: ParquetStore) -> None:
    materialize(lake, courses(TABLE))
    query = pl.LazyFrame({"n": range(100_000)}).select(
        pl.when(pl.col("n") < 90_000).then(pl.lit("1")).otherwise(pl.lit("x")).cast(pl.Int64, strict=True)
    )
    with pytest.raises(pl.exceptions.InvalidOperationError):
        materialize(lake, courses(query))
    assert read(store, {}) == TABLE.to_pylist()


@pytest.mark.parametrize("value", ["rows", 7, [{"crse_id": "101"}], {"crse_id": ["101"]}])
def test_what_is_not_a_table_is_refused(lake: Lake, value: Any) -> None:
    with pytest.raises(StorageError, match=rf"returned {type(value).__name__}, which is not a table.*pa\.Table"):
        materialize(lake, courses(value))


def test_an_iterator_without_a_batch_needs_a_declared_schema(lake: Lake, store: ParquetStore) -> None:
    with pytest.raises(StorageError, match=r"its columns are unknown.*dagster/column_schema"):
        materialize(lake, courses(lambda _: iter(())))

    declared = {"dagster/column_schema": table_schema(TABLE.schema)}
    materialize(lake, courses(lambda _: iter(()), metadata=declared))
    manifest = store.current(DATASET, {})
    assert manifest is not None
    assert (manifest.rows, manifest.columns) == (0, (("crse_id", "string"), ("units", "int64")))


def test_an_asset_key_that_is_no_table_name_is_refused(lake: Lake) -> None:
    @dg.asset
    def lonely() -> pa.Table:
        return TABLE

    with pytest.raises(StorageError, match=r"asset lonely cannot be kept.*two parts, schema and table"):
        materialize(lake, lonely)


def test_the_ui_is_told_what_was_published(lake: Lake, store: ParquetStore) -> None:
    told = metadata(materialize(lake, courses(TABLE)))
    manifest = store.current(DATASET, {})
    assert manifest is not None
    assert told["dagster/row_count"] == 3
    assert told["dagster/uri"] == store.uri(DATASET)
    assert told["path"] == store.data_uri(manifest)
    assert told["lake/bytes"] == manifest.bytes
    assert told["lake/sha256"] == manifest.sha256
    assert [(column.name, column.type) for column in told["dagster/column_schema"].columns] == [
        ("crse_id", "string"),
        ("units", "int64"),
    ]
    assert "dagster/partition_row_count" not in told


def test_the_rows_of_a_partition_are_not_told_as_those_of_the_table(lake: Lake) -> None:
    told = metadata(materialize(lake, courses(TABLE, partitions_def=DAYS), partition_key="2024-09-03"))
    assert told["dagster/partition_row_count"] == 3
    assert "dagster/row_count" not in told


def test_the_run_is_named_in_the_manifest(lake: Lake, store: ParquetStore) -> None:
    result = materialize(lake, courses(TABLE))
    manifest = store.current(DATASET, {})
    assert manifest is not None
    assert manifest.run_id == result.run_id
    published = datetime.datetime.fromisoformat(manifest.created_at)
    assert abs(datetime.datetime.now(datetime.UTC) - published) < datetime.timedelta(minutes=5)


# ------------------------------------------------------------------------------------- declared schema


DECLARED = dg.TableSchema(
    columns=[
        dg.TableColumn("crse_id", "text", description="Course", constraints=dg.TableColumnConstraints(nullable=False)),
        dg.TableColumn("units", "bigint"),
    ]
)


def test_a_declared_schema_is_enforced(lake: Lake, store: ParquetStore) -> None:
    declaring = {"metadata": {"dagster/column_schema": DECLARED}}
    materialize(lake, courses(TABLE, **declaring))

    floats = TABLE.set_column(1, "units", pa.array([1.0, 2.0, 3.0]))
    with pytest.raises(SchemaMismatchError, match="column 'units': expected int64, found double"):
        materialize(lake, courses(floats, **declaring))
    with pytest.raises(SchemaMismatchError, match="column 'crse_id': expected no nulls, found 3"):
        materialize(lake, courses(TABLE.set_column(0, "crse_id", pa.nulls(3, pa.string())), **declaring))
    with pytest.raises(SchemaMismatchError, match="column 'extra' is not declared"):
        materialize(lake, courses(TABLE.append_column("extra", pa.array([1, 2, 3])), **declaring))
    assert read(store, {}) == TABLE.to_pylist()


def test_a_declaration_keeps_its_descriptions_in_the_ui(lake: Lake) -> None:
    told = metadata(materialize(lake, courses(TABLE, metadata={"dagster/column_schema": DECLARED})))
    assert told["dagster/column_schema"] == DECLARED


def test_a_frame_is_brought_to_the_declared_representation(lake: Lake, store: ParquetStore) -> None:
    """Polars has one text and one binary type; a declaration in Arrow's smaller ones is not a contradiction."""
    declared = dg.TableSchema(
        columns=[
            dg.TableColumn("text", "string"),
            dg.TableColumn("digest", "fixed_size_binary[4]"),
            dg.TableColumn("kind", "string"),
            dg.TableColumn("when", "timestamptz"),
            dg.TableColumn("amount", "numeric(10, 2)"),
        ]
    )
    frame = pl.DataFrame(
        {
            "text": ["ä", None],
            "digest": [b"0123", None],
            "kind": ["a", "b"],
            "when": [datetime.datetime(2024, 9, 3, tzinfo=datetime.UTC), None],
            "amount": ["1.25", None],
        }
    ).with_columns(pl.col("kind").cast(pl.Categorical), pl.col("amount").cast(pl.Decimal(10, 2)))
    materialize(lake, courses(frame, metadata={"dagster/column_schema": declared}))

    manifest = store.current(DATASET, {})
    assert manifest is not None
    assert store.schema(manifest).equals(arrow_schema(declared))
    assert store.scan(manifest).collect()["text"].to_list() == ["ä", None]


def test_bytes_of_another_length_than_declared_are_refused(lake: Lake, store: ParquetStore) -> None:
    declared = dg.TableSchema(columns=[dg.TableColumn("digest", "fixed_size_binary[16]")])
    with pytest.raises(SchemaMismatchError, match=r"column 'digest' does not fit .* fixed_size_binary\[16\]"):
        materialize(lake, courses(pa.table({"digest": [b"short"]}), metadata={"dagster/column_schema": declared}))
    assert store.current(DATASET, {}) is None


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("string", pa.string()),
        ("double", pa.float64()),
        ("float", pa.float32()),
        ("date32[day]", pa.date32()),
        ("date", pa.date32()),
        ("timestamp[ms]", pa.timestamp("ms")),
        ("timestamp[us, tz=America/New_York]", pa.timestamp("us", tz="America/New_York")),
        ("timestamp[us, tz=+01:00]", pa.timestamp("us", tz="+01:00")),
        ("decimal128(38, 9)", pa.decimal128(38, 9)),
        ("numeric(10,2)", pa.decimal128(10, 2)),
        ("fixed_size_binary[16]", pa.binary(16)),
        ("list<item: list<item: int32>>", pa.list_(pa.list_(pa.int32()))),
        ("jsonb", pa.string()),
    ],
)
def test_a_declared_type_is_known_by_arrows_name_or_the_sql_name(declared: str, expected: pa.DataType) -> None:
    assert arrow_type(declared) == expected


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StorageError, match=r"type 'number' is not known.*int64.*decimal128\(p, s\)"):
        arrow_type("number")


def test_a_schema_survives_the_way_through_dagster() -> None:
    schema = pa.schema(
        [
            pa.field("key", pa.int32(), nullable=False),
            pa.field("digest", pa.binary(16)),
            pa.field("document", pa.large_binary()),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("at", pa.timestamp("us", tz="UTC")),
        ]
    )
    assert arrow_schema(table_schema(schema)).equals(schema)


# ---------------------------------------------------------------------------------------------- inputs


def downstream(annotation: Any, got: list[Any], **options: Any) -> dg.AssetsDefinition:
    """An asset that notes what it is given."""
    into = options.pop("into", {})

    def take(courses: Any) -> None:
        got.append(courses.read_all() if isinstance(courses, pa.RecordBatchReader) else courses)

    take.__annotations__["courses"] = annotation
    ins = {"courses": dg.AssetIn(key=COURSES, **into)}
    return dg.asset(key=["course_raw", "course_data"], ins=ins, **options)(take)


@pytest.mark.parametrize("annotation", [pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader, Any])
def test_a_plain_asset_is_loaded_as_annotated(lake: Lake, annotation: Any) -> None:
    got: list[Any] = []
    materialize(lake, courses(TABLE), downstream(annotation, got))

    (loaded,) = got
    expected = {pa.RecordBatchReader: pa.Table, Any: pl.LazyFrame}.get(annotation, annotation)
    assert isinstance(loaded, expected)
    if isinstance(loaded, pl.LazyFrame):
        loaded = loaded.collect()
    assert (loaded.to_dicts() if isinstance(loaded, pl.DataFrame) else loaded.to_pylist()) == TABLE.to_pylist()


@pytest.mark.parametrize("annotation", [pl.LazyFrame, pa.Table])
def test_only_the_columns_asked_for_are_loaded(lake: Lake, annotation: Any) -> None:
    got: list[Any] = []
    materialize(lake, courses(TABLE), downstream(annotation, got, into={"metadata": {"columns": ["units"]}}))
    (loaded,) = got
    if isinstance(loaded, pl.LazyFrame):
        loaded = loaded.collect().to_arrow()
    assert loaded.to_pydict() == {"units": [1, 2, 3]}


@pytest.mark.parametrize("annotation", [list, pl.Series, dict[str, int], str])
def test_an_annotation_that_cannot_be_served_is_refused(lake: Lake, annotation: Any) -> None:
    with pytest.raises(StorageError, match=r"cannot hand out course_landing\.course_data as .*pl\.LazyFrame"):
        materialize(lake, courses(TABLE), downstream(annotation, []))


def test_a_partition_is_loaded_by_the_run_of_the_same_partition(lake: Lake, store: ParquetStore) -> None:
    day_of = courses(lambda context: pa.table({"day": [context.partition_key]}), partitions_def=DAYS)
    got: list[Any] = []
    for day in ("2024-09-02", "2024-09-03"):
        materialize(lake, day_of, downstream(pa.Table, got, partitions_def=DAYS), partition_key=day)

    assert [table.to_pydict() for table in got] == [{"day": ["2024-09-02"]}, {"day": ["2024-09-03"]}]
    assert store.partitions(DATASET) == [{"partition": "2024-09-02"}, {"partition": "2024-09-03"}]


def partitioned(**options: Any) -> dg.AssetsDefinition:
    return courses(lambda context: pa.table({"day": [context.partition_key]}), partitions_def=DAYS, **options)


def test_the_one_dimension_has_the_name_that_the_asset_gives_it(lake: Lake, store: ParquetStore) -> None:
    named = partitioned(metadata={"partition_dimension": "load_date"})
    got: list[Any] = []
    materialize(lake, named, downstream(pa.Table, got, partitions_def=DAYS), partition_key="2024-09-03")
    assert store.partitions(DATASET) == [{"load_date": "2024-09-03"}]
    assert got[0].to_pydict() == {"day": ["2024-09-03"]}


WEEK = dg.TimeWindowPartitionMapping(start_offset=-2, end_offset=0)


def fill(lake: Lake, *days: str, **options: Any) -> dg.AssetsDefinition:
    asset = partitioned(**options)
    for day in days:
        materialize(lake, asset, partition_key=day)
    return asset


@pytest.mark.parametrize("annotation", [pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader])
def test_several_mapped_partitions_come_as_one_frame_in_order(lake: Lake, annotation: Any) -> None:
    upstream = fill(lake, "2024-09-03", "2024-09-01", "2024-09-02")
    got: list[Any] = []
    mapped = downstream(annotation, got, into={"partition_mapping": WEEK}, partitions_def=DAYS)
    materialize(lake, upstream, mapped, selection=[mapped], partition_key="2024-09-03")
    frame = got[0].collect() if annotation is pl.LazyFrame else got[0]
    days = frame["day"].to_list() if isinstance(frame, pl.DataFrame) else frame.column("day").to_pylist()
    assert days == ["2024-09-01", "2024-09-02", "2024-09-03"]


def test_several_mapped_partitions_come_one_by_one_as_a_dict(lake: Lake) -> None:
    upstream = fill(lake, "2024-09-01", "2024-09-02", "2024-09-03")
    got: list[Any] = []
    mapped = downstream(dict[str, pa.Table], got, into={"partition_mapping": WEEK}, partitions_def=DAYS)
    materialize(lake, upstream, mapped, selection=[mapped], partition_key="2024-09-03")
    assert {key: table.to_pylist() for key, table in got[0].items()} == {
        day: [{"day": day}] for day in ("2024-09-01", "2024-09-02", "2024-09-03")
    }


def test_a_missing_partition_is_an_error_with_path_and_advice(lake: Lake, store: ParquetStore) -> None:
    """Reading two of three days as if they were all would be green on partial data."""
    upstream = fill(lake, "2024-09-01", "2024-09-03")
    got: list[Any] = []
    mapped = downstream(pa.Table, got, into={"partition_mapping": WEEK}, partitions_def=DAYS)
    with pytest.raises(MissingPartitionError) as caught:
        materialize(lake, upstream, mapped, selection=[mapped], partition_key="2024-09-03")
    assert caught.value.what == (
        "1 of the 3 partitions of course_landing.course_data that this run reads are not published: 2024-09-02."
    )
    assert caught.value.where == store.uri(DATASET, {"partition": "2024-09-02"})
    assert "Materialise course_landing/course_data" in caught.value.todo
    assert got == []


def test_an_asset_that_was_never_materialised_is_an_error_with_path_and_advice(lake: Lake, store: ParquetStore) -> None:
    upstream, reader = courses(TABLE), downstream(pa.Table, [])
    with pytest.raises(MissingPartitionError, match=r"course_landing\.course_data is not published\.") as caught:
        materialize(lake, upstream, reader, selection=[reader])
    assert caught.value.where == store.uri(DATASET)


def test_partitions_with_different_columns_are_not_read_as_one_frame(lake: Lake) -> None:
    upstream = fill(lake, "2024-09-01", "2024-09-02")
    wider = courses(lambda _: pa.table({"day": ["x"], "more": [1]}), partitions_def=DAYS)
    materialize(lake, wider, partition_key="2024-09-03")
    for annotation in (pl.LazyFrame, pa.Table):
        mapped = downstream(annotation, [], into={"partition_mapping": WEEK}, partitions_def=DAYS)
        with pytest.raises(SchemaMismatchError, match="different columns"):
            materialize(lake, upstream, mapped, selection=[mapped], partition_key="2024-09-03")


def test_one_output_for_several_partitions_is_refused_with_the_way_out(lake: Lake, store: ParquetStore) -> None:
    every_day = courses(TABLE, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    tags = {
        "dagster/asset_partition_range_start": "2024-09-01",
        "dagster/asset_partition_range_end": "2024-09-03",
    }
    with pytest.raises(StorageError, match=r"covers 3 partitions.*BackfillPolicy\.multi_run\(1\)"):
        materialize(lake, every_day, tags=tags)
    assert store.partitions(DATASET) == []


# ----------------------------------------------------------------------------------- multi-dimensional


TERMS = dg.DynamicPartitionsDefinition(name="term")
SLICES = dg.MultiPartitionsDefinition({"load_date": DAYS, "term": TERMS})


def slices(lake: Lake) -> dg.AssetsDefinition:
    lake.instance.add_dynamic_partitions("term", ["2248", "2251"])
    asset = courses(
        lambda context: pa.table({"term": [context.partition_key.keys_by_dimension["term"]]}), partitions_def=SLICES
    )
    for term in ("2251", "2248"):
        key = dg.MultiPartitionKey({"load_date": "2024-09-03", "term": term})
        materialize(lake, asset, partition_key=key)
    return asset


def test_each_dimension_is_a_folder_level(lake: Lake, store: ParquetStore) -> None:
    slices(lake)
    assert store.partitions(DATASET) == [
        {"load_date": "2024-09-03", "term": "2248"},
        {"load_date": "2024-09-03", "term": "2251"},
    ]
    assert (Path(lake.location) / "course_landing/course_data/load_date=2024-09-03/term=2248/current.json").exists()


def test_the_slices_of_a_day_are_loaded_in_order(lake: Lake) -> None:
    """Dagster names the partitions of a mapping in the order of a set."""
    upstream = slices(lake)
    mapping = dg.MultiToSingleDimensionPartitionMapping("load_date")
    for annotation in (pl.DataFrame, dict[str, pl.DataFrame]):
        got: list[Any] = []
        of_a_day = downstream(annotation, got, into={"partition_mapping": mapping}, partitions_def=DAYS)
        materialize(lake, upstream, of_a_day, selection=[of_a_day], partition_key="2024-09-03")
        if annotation is pl.DataFrame:
            assert got[0]["term"].to_list() == ["2248", "2251"]
        else:
            assert {key: frame["term"].to_list() for key, frame in got[0].items()} == {
                "2024-09-03|2248": ["2248"],
                "2024-09-03|2251": ["2251"],
            }


def test_a_mapping_without_any_partition_needs_a_dict(lake: Lake) -> None:
    without = dg.MultiPartitionsDefinition({"load_date": DAYS, "term": dg.DynamicPartitionsDefinition(name="no term")})
    none_yet = courses(TABLE, partitions_def=without)
    mapping = dg.MultiToSingleDimensionPartitionMapping("load_date")
    got: list[Any] = []
    as_dict = downstream(dict[str, pa.Table], got, into={"partition_mapping": mapping}, partitions_def=DAYS)
    materialize(lake, none_yet, as_dict, selection=[as_dict], partition_key="2024-09-03")
    assert got == [{}]

    as_frame = downstream(pa.Table, got, into={"partition_mapping": mapping}, partitions_def=DAYS)
    with pytest.raises(MissingPartitionError, match="yields no upstream partition"):
        materialize(lake, none_yet, as_frame, selection=[as_frame], partition_key="2024-09-03")


def test_an_object_store_serves_as_well(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    lake = Lake(f"memory://{tmp_path.name}/lake", instance)
    got: list[Any] = []
    materialize(lake, courses(TABLE), downstream(pl.LazyFrame, got))
    assert got[0].filter(pl.col("units") > 1).collect().rows() == [("102", 2), ("103", 3)]
