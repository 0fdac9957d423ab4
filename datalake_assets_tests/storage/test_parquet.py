"""The Parquet store without faults: what is published is read back, exactly, and nothing else counts.

Crashes, full disks and damaged files are in `test_parquet_faults.py`, races in `test_parquet_races.py`.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datalake_assets.keys import TableName
from datalake_assets.storage import durable_files, parquet
from datalake_assets.storage.parquet import (
    DamagedFileError,
    Manifest,
    MissingPartitionError,
    ParquetStore,
    SchemaMismatchError,
    StorageError,
)

DATASET = TableName("term_landing", "term_data")
DAY = {"load_date": "2024-09-03"}
SCHEMA = pa.schema(
    [
        pa.field("strm", pa.string(), nullable=False),
        pa.field("digest", pa.binary(16)),
        pa.field("document", pa.large_binary()),
    ]
)
NOW = datetime(2024, 9, 3, 5, 0, tzinfo=UTC)


def rows(*keys: str) -> list[dict[str, Any]]:
    return [{"strm": key, "digest": b"0123456789abcdef", "document": f"{{{key}}}".encode()} for key in keys]


def batches(*groups: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    return (pa.RecordBatch.from_pylist(list(group), schema=SCHEMA) for group in groups)


def publish(
    store: ParquetStore,
    content: Iterable[pa.RecordBatch],
    partition: Mapping[str, str] = DAY,
    schema: pa.Schema = SCHEMA,
    **options: Any,
) -> Manifest:
    options = {"run_id": "run-1", "created_at": NOW, "account": {"asked": 2}} | options
    return store.publish(DATASET, partition, schema, content, **options)


def content(store: ParquetStore, manifest: Manifest) -> list[dict[str, Any]]:
    return pa.Table.from_batches(store.read(manifest), store.schema(manifest)).to_pylist()


def make_old(path: str | Path) -> None:
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(path, (long_ago, long_ago))


@pytest.fixture
def local(tmp_path: Path) -> ParquetStore:
    return ParquetStore(str(tmp_path / "lake"))


@pytest.fixture(params=["local", "file URL", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ParquetStore:
    """The same promises hold in a folder and behind fsspec."""
    locations = {
        "local": str(tmp_path / "a lake [*]"),
        "file URL": (tmp_path / "lake").as_uri(),
        "object store": f"memory://{uuid.uuid4().hex}/lake",
    }
    return ParquetStore(locations[request.param])


# ------------------------------------------------------------------------------------ publish and read


def test_what_is_published_is_read_back(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241", "2248"), rows("2251")))

    assert content(store, manifest) == rows("2241", "2248", "2251")
    assert store.schema(manifest).equals(SCHEMA)
    assert store.current(DATASET, DAY) == manifest


def test_a_manifest_says_what_was_published(store: ParquetStore) -> None:
    eastern = timezone(timedelta(hours=-4))
    manifest = publish(store, batches(rows("2241", "2248")), created_at=NOW.astimezone(eastern))

    assert manifest.dataset == "term_landing/term_data"
    assert manifest.table == DATASET
    assert manifest.partition == DAY
    assert manifest.rows == 2
    assert manifest.file == f"{manifest.sha256[:32]}.parquet"
    assert manifest.columns == (
        ("strm", "string"),
        ("digest", "fixed_size_binary[16]"),
        ("document", "large_binary"),
    )
    assert manifest.created_at == "2024-09-03T05:00:00+00:00"
    assert (manifest.run_id, manifest.account) == ("run-1", {"asked": 2})


def test_the_layout_is_the_one_that_is_promised(local: ParquetStore, tmp_path: Path) -> None:
    manifest = publish(local, batches(rows("2241")), {"term": "2248", "load_date": "2024-09-03"})

    folder = tmp_path / "lake/term_landing/term_data/load_date=2024-09-03/term=2248"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [manifest.file, f"{manifest.sha256[:32]}.json", "current.json"]
    )
    assert (folder / "current.json").read_bytes() == manifest.to_json()
    assert (folder / manifest.file).stat().st_size == manifest.bytes


def test_the_order_in_which_dimensions_are_named_makes_no_difference(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")), {"term": "2248", "load_date": "2024-09-03"})
    assert store.current(DATASET, {"load_date": "2024-09-03", "term": "2248"}) == manifest


def test_a_dataset_without_partitions_is_one_partition(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")), {})
    assert store.current(DATASET, {}) == manifest
    assert store.partitions(DATASET) == [{}]


def test_no_rows_are_a_revision_too(store: ParquetStore) -> None:
    """An empty answer is not a missing one."""
    manifest = publish(store, batches())
    assert manifest.rows == 0
    assert content(store, manifest) == []
    assert store.schema(manifest).equals(SCHEMA)
    assert store.scan(manifest).collect().shape == (0, 3)


def test_a_partition_that_was_never_published_has_no_current_revision(store: ParquetStore) -> None:
    assert store.current(DATASET, DAY) is None
    assert store.partitions(DATASET) == []


def test_columns_are_read_by_name_in_the_order_asked_for(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")))
    (batch,) = store.read(manifest, ["document", "strm"])
    assert batch.schema.names == ["document", "strm"]


def test_an_unknown_column_is_named_together_with_the_known_ones(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")))
    with pytest.raises(StorageError, match=r"no column 'sid'.*strm, digest, document"):
        list(store.read(manifest, ["sid"]))


def test_a_scan_is_lazy_and_holds_the_same_rows(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241", "2248")))
    frame = store.scan(manifest)
    assert isinstance(frame, pl.LazyFrame)
    assert frame.filter(pl.col("strm") == "2248").select("document").collect().rows() == [(b"{2248}",)]


def test_a_partition_folder_adds_no_column_to_a_scan(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")), {"strm": "not the column", "load_date": "2024-09-03"})
    assert store.scan(manifest).collect().to_dict(as_series=False)["strm"] == ["2241"]
    assert store.scan(manifest).collect_schema().names() == SCHEMA.names


def test_an_older_revision_stays_readable(store: ParquetStore) -> None:
    first = publish(store, batches(rows("2241")))
    second = publish(store, batches(rows("2248")))

    assert store.current(DATASET, DAY) == second
    older = store.revision(DATASET, DAY, first.sha256)
    assert older == first
    assert content(store, older) == rows("2241")


def test_an_unknown_revision_is_an_error_with_advice(store: ParquetStore) -> None:
    known = publish(store, batches(rows("2241")))
    for sha256 in ("0" * 64, known.sha256[:32] + "0" * 32):
        with pytest.raises(MissingPartitionError, match="has no revision"):
            store.revision(DATASET, DAY, sha256)


def test_a_revision_can_be_kept_beside_the_current_one_and_be_promoted(store: ParquetStore) -> None:
    first = publish(store, batches(rows("2241")))
    second = publish(store, batches(rows("2248")), keep_current=True)

    assert store.current(DATASET, DAY) == first
    assert content(store, second) == rows("2248")
    store.promote(second)
    assert store.current(DATASET, DAY) == second
    assert store.revision(DATASET, DAY, first.sha256) == first


def test_a_lake_that_was_moved_is_read_at_its_new_place(tmp_path: Path) -> None:
    """A manifest that held absolute paths would tie a backup to one machine."""
    manifest = publish(ParquetStore(str(tmp_path / "old")), batches(rows("2241")))
    (tmp_path / "old").rename(tmp_path / "new")
    assert content(ParquetStore(str(tmp_path / "new")), manifest) == rows("2241")


def test_a_relative_location_survives_a_change_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = ParquetStore("lake")
    manifest = publish(relative, batches(rows("2241")))
    monkeypatch.chdir("/")
    assert relative.current(DATASET, DAY) == manifest


def test_large_objects_go_another_way_into_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_files, "CHUNK_BYTES", 100)
    store = ParquetStore(f"memory://{uuid.uuid4().hex}")
    manifest = publish(store, batches(rows("2241", "2248")))
    assert manifest.bytes > 100
    assert content(store, manifest) == rows("2241", "2248")


def test_an_object_that_arrives_cut_short_never_becomes_current(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ParquetStore(f"memory://{uuid.uuid4().hex}")
    former = publish(store, batches(rows("2241")))
    whole = MemoryFileSystem.pipe_file

    def cut(filesystem: MemoryFileSystem, path: str, data: bytes) -> None:
        whole(filesystem, path, data[:-1] if path.endswith(".parquet") else data)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", cut)
    with pytest.raises(StorageError, match=r"\.parquet holds \d+ bytes after \d+ were sent"):
        publish(store, batches(rows("2248")))
    assert store.current(DATASET, DAY) == former


@pytest.mark.parametrize("location", ["nosuch://bucket/lake", "nosuch://key:secret@host/lake"])
def test_a_store_of_an_unknown_kind_is_refused_with_advice(location: str) -> None:
    with pytest.raises(StorageError, match=r"cannot be opened.*nosuch.*install the fsspec package") as caught:
        ParquetStore(location)
    assert "secret" not in str(caught.value)


# --------------------------------------------------------------------------------- the declared schema


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"a": pa.array([1], pa.int32())}, r"column 'a': expected int64, found int32"),
        ({"a": pa.array(["1"])}, r"column 'a': expected int64, found string"),
        ({"a": pa.array([None], pa.int64())}, r"column 'a': expected no nulls, found 1"),
        ({"b": pa.array([1])}, r"column 'b' is not declared; column 'a': expected once, found 0 times"),
        ({"a": pa.array([1]), "b": pa.array([1])}, r"column 'b' is not declared"),
    ],
)
def test_a_batch_that_differs_from_the_declared_schema_is_refused(
    store: ParquetStore, found: dict[str, pa.Array], sentence: str
) -> None:
    declared = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    good = pa.RecordBatch.from_arrays([pa.array([1])], schema=declared)

    with pytest.raises(SchemaMismatchError, match=rf"term_landing\.term_data .*{sentence}"):
        publish(store, [good, pa.RecordBatch.from_pydict(found)], schema=declared)
    assert store.current(DATASET, DAY) is None


def test_columns_in_another_order_are_refused(store: ParquetStore) -> None:
    declared = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    with pytest.raises(SchemaMismatchError, match="expected the order a, b, found b, a"):
        publish(store, [pa.RecordBatch.from_pydict({"b": [1], "a": [1]})], schema=declared)


def test_the_declared_nullability_is_what_is_stored(store: ParquetStore) -> None:
    declared = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    manifest = publish(store, [pa.RecordBatch.from_pydict({"a": [1]})], schema=declared)
    assert store.schema(manifest).field("a").nullable is False


def test_a_time_without_a_zone_is_refused(store: ParquetStore) -> None:
    with pytest.raises(StorageError, match="needs a zone"):
        publish(store, batches(rows("2241")), created_at=NOW.replace(tzinfo=None))


def test_the_account_is_asked_for_after_the_last_batch(store: ParquetStore) -> None:
    counted = 0

    def counting() -> Iterator[pa.RecordBatch]:
        nonlocal counted
        for batch in batches(rows("2241"), rows("2248", "2251")):
            counted += batch.num_rows
            yield batch

    manifest = publish(store, counting(), account=lambda: {"data": counted, "failed": 0})
    assert manifest.account == {"data": 3, "failed": 0}


@pytest.mark.parametrize("account", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}, {"x": "\ud800"}])
def test_an_account_that_is_not_json_is_refused_before_anything_is_visible(
    store: ParquetStore, account: dict[str, Any]
) -> None:
    with pytest.raises(StorageError, match="not plain JSON"):
        publish(store, batches(rows("2241")), account=account)
    assert store.current(DATASET, DAY) is None


def test_a_manifest_equals_its_own_json_whatever_the_account_was_made_of(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")), account={"pair": (1, 2), "ratio": 0.1, 3: "three"})
    assert manifest.account == {"pair": [1, 2], "ratio": 0.1, "3": "three"}
    assert store.current(DATASET, DAY) == manifest


# ------------------------------------------------------------------------------- row groups and digest


def test_row_groups_are_bounded_by_rows(local: ParquetStore) -> None:
    manifest = publish(local, batches(rows(*map(str, range(25)))), row_group_rows=10)
    metadata = pq.ParquetFile(local.data_uri(manifest)).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [10, 10, 5]


def test_row_groups_are_bounded_by_bytes(local: ParquetStore) -> None:
    """A million documents of 20 KB would otherwise be one row group of 2.6 GB per 131,072 rows."""
    document = os.urandom(1 << 20)
    wide = pa.schema([("document", pa.large_binary())])
    batch = pa.RecordBatch.from_arrays([pa.array([document] * 40, pa.large_binary())], schema=wide)
    manifest = publish(local, [batch, batch], schema=wide)

    metadata = pq.ParquetFile(local.data_uri(manifest)).metadata
    sizes = [metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)]
    assert manifest.rows == 80
    assert max(sizes) <= parquet.ROW_GROUP_BYTES
    assert len(sizes) == 6


def test_a_row_larger_than_a_row_group_is_kept_in_one_of_its_own(local: ParquetStore) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", 100)
        long = rows("x" * 500)
        manifest = publish(local, batches(rows("1") + long + rows("2"), long))
    assert content(local, manifest) == rows("1") + long + rows("2") + long


# Timing on a busy machine says nothing about the store.
quickly = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(st.characters(codec="utf-8"), max_size=20)
cells = st.fixed_dictionaries(
    {
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "flag": st.none() | st.booleans(),
        "text": st.none() | texts,
        "blob": st.none() | st.binary(max_size=60),
        "digest": st.none() | st.binary(min_size=16, max_size=16),
    }
)
CELLS = pa.schema(
    [
        ("number", pa.int64()),
        ("flag", pa.bool_()),
        ("text", pa.string()),
        ("blob", pa.large_binary()),
        ("digest", pa.binary(16)),
    ]
)


@quickly
@given(st.lists(cells, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 12))
def test_the_same_rows_make_the_same_file_however_they_are_cut_into_batches(
    values: list[dict[str, Any]], cuts: list[int], row_group_rows: int
) -> None:
    """Otherwise every repetition of a load would add a revision, and no digest could prove equality."""
    store = ParquetStore(f"memory://{uuid.uuid4().hex}")
    whole = pa.RecordBatch.from_pylist(values, schema=CELLS)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    pieces = [
        pa.RecordBatch.from_pylist(values[start:end], schema=CELLS) if start % 2 else whole.slice(start, end - start)
        for start, end in pairwise(edges)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", 300)
        options: dict[str, Any] = {"schema": CELLS, "row_group_rows": row_group_rows}
        first = publish(store, [whole], **options)
        second = publish(store, pieces, **options)

    assert second.sha256 == first.sha256
    assert content(store, second) == values


def test_batches_make_no_difference_where_a_column_takes_many_pages_either(local: ParquetStore) -> None:
    """The writer looks at the size of a page after so many rows of one array, not of the row group."""
    documents = [os.urandom(1) * 20_000 for _ in range(600)]
    wide = pa.schema([("document", pa.large_binary())])
    whole = pa.RecordBatch.from_arrays([pa.array(documents, pa.large_binary())], schema=wide)
    pieces = [whole.slice(start, 7) for start in range(0, 600, 7)]
    assert publish(local, pieces, schema=wide).sha256 == publish(local, [whole], schema=wide).sha256


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        pa.array([{"a": "x"}, None, {"a": None}], pa.struct([("a", pa.string())])),
        pa.array(["x", None, "x"]).dictionary_encode(),
        pa.array([None, None, None], pa.null()),
        pa.array([datetime(2024, 9, 3, tzinfo=UTC), None, None], pa.timestamp("us", tz="UTC")),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_every_kind_come_back(store: ParquetStore, column: pa.Array) -> None:
    batch = pa.RecordBatch.from_arrays([column], names=["value"])
    manifest = publish(store, [batch, batch], schema=batch.schema, row_group_rows=2)
    read = pa.Table.from_batches(store.read(manifest), store.schema(manifest))
    assert read.column("value").to_pylist() == column.to_pylist() * 2
    assert store.schema(manifest).equals(batch.schema)


# ----------------------------------------------------------------------------------------------- names


names = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "..",
        ".",
        "",
        "a/b",
        "../../etc",
        "%2F",
        "%",
        "a=b",
        "~",
        "C:\\x",
        "2248 ",
        "ä",
        "\x00",
        "NUL",
        "*",
        "?",
    ]
)


@quickly
@given(st.dictionaries(names, names, max_size=3))
def test_any_partition_round_trips_through_its_folder(partition: dict[str, str]) -> None:
    store = ParquetStore(f"memory://{uuid.uuid4().hex}/lake")
    manifest = publish(store, batches(rows("2241")), partition)

    assert store.partitions(DATASET) == [partition]
    assert store.current(DATASET, partition) == manifest
    root, _, folder = store.uri(DATASET, partition).partition("/lake/")
    assert root.startswith("memory://")
    for part in folder.split("/"):
        assert part not in {"", ".", ".."}
        assert set(part) <= set("%=.-_") | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    assert unquote(folder.partition("/")[0]) == DATASET.schema


@quickly
@given(st.lists(st.dictionaries(names, names, max_size=2), min_size=2, max_size=2, unique_by=str))
def test_two_partitions_never_share_a_folder(pair: list[dict[str, str]]) -> None:
    store = ParquetStore("memory://lake")
    one, other = (store.uri(DATASET, partition) for partition in pair)
    assert (one == other) == (pair[0] == pair[1])


def test_hostile_names_stay_inside_the_lake(local: ParquetStore, tmp_path: Path) -> None:
    dataset = TableName("..", ".")
    partition = {"../up": "/etc/passwd", "load_date": ".."}
    manifest = local.publish(dataset, partition, SCHEMA, batches(), run_id="r", created_at=NOW, account={})
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
    assert Path(local.data_uri(manifest)).resolve().is_relative_to(tmp_path / "lake")
    assert local.current(dataset, partition) == manifest


@pytest.mark.parametrize("dataset", [TableName("a", ""), TableName("", "b"), TableName("a/..", "b")])
def test_what_is_not_two_words_is_no_dataset(local: ParquetStore, dataset: TableName) -> None:
    with pytest.raises(StorageError, match="is not the name of a dataset"):
        local.current(dataset, {})


def test_a_name_that_no_file_system_takes_is_refused_with_its_folder(local: ParquetStore) -> None:
    with pytest.raises(StorageError, match=r"Could not publish .*File name too long.*Where: .*term_data"):
        publish(local, batches(), {"load_date": "x" * 300})
    with pytest.raises(StorageError, match="without surrogates"):
        publish(local, batches(), {"load_date": "\ud800"})


def test_all_partitions_of_a_dataset_are_listed(store: ParquetStore) -> None:
    days = [{"load_date": f"2024-09-{day:02}", "term": "2248"} for day in range(1, 6)]
    for day in reversed(days):
        publish(store, batches(rows("2241")), day)
    publish(store, batches(rows("2241")), {"load_date": "2024-10-01", "term": "1"}, keep_current=True)
    assert store.partitions(DATASET) == days
    assert store.partitions(TableName("term_landing", "term")) == []


# ------------------------------------------------------------------------------------------- manifests


def changed(manifest: Manifest, **fields: Any) -> bytes:
    return json.dumps({**json.loads(manifest.to_json()), **fields}).encode()


def test_a_manifest_round_trips_through_json(store: ParquetStore) -> None:
    manifest = publish(store, batches(rows("2241")))
    assert Manifest.from_json(manifest.to_json(), "x.json") == manifest
    assert hash(Manifest.from_json(manifest.to_json(), "x.json")) == hash(manifest)


@pytest.mark.parametrize(
    ("fields", "flaw"),
    [
        ({"surprise": 1}, r"surprise: .*"),
        ({"rows": "2"}, r"rows: .*integer"),
        ({"rows": -1}, r"rows: .*greater than or equal to 0"),
        ({"rows": True}, r"rows: .*integer"),
        ({"sha256": "abc"}, r"sha256: .*pattern"),
        ({"dataset": "term"}, r"dataset: .*pattern"),
        ({"partition": ["load_date"]}, r"partition: .*"),
        ({"partition": {"load_date": 3}}, r"partition.load_date: .*string"),
        ({"columns": [["a"]]}, r"columns.0"),
        ({"account": None}, r"account: .*"),
        ({"file": "../../etc/passwd"}, r"its file is not named after its sha256"),
        ({"rows": 3}, r"its checksum does not fit its content"),
        ({"checksum": None}, r"its checksum does not fit its content"),
    ],
)
def test_a_manifest_of_another_shape_is_refused_by_name(local: ParquetStore, fields: dict[str, Any], flaw: str) -> None:
    manifest = publish(local, batches(rows("2241", "2248")))
    with pytest.raises(DamagedFileError, match=rf"current\.json is not a manifest .*{flaw}.*Where: /lake/current"):
        Manifest.from_json(changed(manifest, **fields), "/lake/current.json")


def test_a_manifest_that_lacks_a_field_is_refused_by_name(local: ParquetStore) -> None:
    manifest = json.loads(publish(local, batches(rows("2241"))).to_json())
    for name in manifest:
        lacking = {key: value for key, value in manifest.items() if key != name}
        with pytest.raises(DamagedFileError, match=rf"{name}"):
            Manifest.from_json(json.dumps(lacking).encode(), "x.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"1"])
def test_what_is_not_an_object_is_no_manifest(data: bytes) -> None:
    with pytest.raises(DamagedFileError, match=r"x\.json is not a manifest"):
        Manifest.from_json(data, "x.json")


def test_a_manifest_in_the_wrong_folder_is_refused(local: ParquetStore) -> None:
    """A folder copied by hand must not pass as another day."""
    publish(local, batches(rows("2241")))
    folder = Path(local.uri(DATASET, DAY))
    folder.rename(folder.with_name("load_date=2024-09-04"))
    with pytest.raises(DamagedFileError, match=r"it is about .*load_date=2024-09-03"):
        local.current(DATASET, {"load_date": "2024-09-04"})


# ------------------------------------------------------------------------------------------- removing


def test_the_partitions_with_the_given_values_are_removed_with_all_their_revisions(store: ParquetStore) -> None:
    for term in ("2241", "2248"):
        for request in ("1", "2"):
            for key in ("first", "second"):
                publish(store, batches(rows(key)), {"day": "1", "request": request, "term": term})
    other = publish(store, batches(rows("2241")), {"day": "2", "request": "1", "term": "2248"})

    removed = store.remove(DATASET, {"day": "1", "term": "2248"})

    assert len(removed) == 2 * 5
    assert [partition["term"] for partition in store.partitions(DATASET)] == ["2241", "2241", "2248"]
    assert content(store, other) == rows("2241")
    assert store.current(DATASET, {"day": "1", "request": "1", "term": "2248"}) is None
    assert store.remove(DATASET, {"day": "1", "term": "2248"}) == []


def test_a_removed_partition_leaves_no_empty_folders(local: ParquetStore) -> None:
    """A spool makes thousands of them a day."""
    publish(local, batches(rows("2241")), {"day": "1", "request": "1"})
    publish(local, batches(rows("2241")), {"day": "1", "request": "2"})
    local.remove(DATASET, {"request": "1"})
    assert [path.name for path in Path(local.uri(DATASET)).glob("day=1/*")] == ["request=2"]
    local.remove(DATASET, {"day": "1"})
    assert list(Path(local.uri(DATASET)).glob("day=*")) == []


def test_a_strangers_file_survives_the_removal_of_its_partition(local: ParquetStore) -> None:
    publish(local, batches(rows("2241")))
    note = Path(local.uri(DATASET, DAY)) / "README.md"
    note.write_text("by hand")
    local.remove(DATASET, DAY)
    assert [path.name for path in note.parent.iterdir()] == ["README.md"]


# ------------------------------------------------------------------------------------------ collecting


def test_a_superseded_revision_is_collected_once_it_is_old_enough(local: ParquetStore) -> None:
    first = publish(local, batches(rows("2241")))
    second = publish(local, batches(rows("2248")))

    assert local.collect(keep=lambda _: False) == []
    make_old(Path(local.data_uri(first)).with_suffix(".json"))
    removed = local.collect(keep=lambda _: False)

    assert sorted(Path(path).name for path in removed) == sorted([first.file, first.file[:32] + ".json"])
    assert content(local, second) == rows("2248")
    with pytest.raises(MissingPartitionError):
        local.revision(DATASET, DAY, first.sha256)


def test_the_age_of_a_revision_begins_when_it_is_superseded(local: ParquetStore) -> None:
    """A revision that was current for a month may have readers a second after it was replaced."""
    first = publish(local, batches(rows("2241")))
    for path in Path(local.uri(DATASET, DAY)).iterdir():
        make_old(path)
    publish(local, batches(rows("2248")))
    assert local.collect(keep=lambda _: False) == []
    assert content(local, first) == rows("2241")


def test_a_superseded_revision_stays_while_it_is_kept(store: ParquetStore) -> None:
    first = publish(store, batches(rows("2241")), run_id="keep me")
    second = publish(store, batches(rows("2248")))
    third = publish(store, batches(rows("2251")))

    removed = store.collect(keep=lambda manifest: manifest.run_id == "keep me", older_than_s=-1)

    assert sorted(removed) == sorted([store.data_uri(second), store.data_uri(second).replace(".parquet", ".json")])
    assert content(store, first) == rows("2241")
    assert content(store, third) == rows("2251")


def test_the_current_revision_is_never_collected(store: ParquetStore) -> None:
    first = publish(store, batches(rows("2241")))
    publish(store, batches(rows("2248")))
    again = publish(store, batches(rows("2241")))
    assert again.sha256 == first.sha256

    store.collect(keep=lambda _: False, older_than_s=-1)
    assert content(store, again) == rows("2241")
    assert store.partitions(DATASET) == [DAY]


def test_only_the_dataset_asked_for_is_collected(store: ParquetStore) -> None:
    for table in ("term_data", "term_data_2"):
        for key in ("2241", "2248"):
            store.publish(
                TableName("term_landing", table),
                DAY,
                SCHEMA,
                batches(rows(key)),
                run_id="r",
                created_at=NOW,
                account={},
            )
    removed = store.collect(DATASET, keep=lambda _: False, older_than_s=-1)
    assert len(removed) == 2
    assert all("/term_data/" in path for path in removed)
    assert len(store.collect(keep=lambda _: False, older_than_s=-1)) == 2


def test_files_that_the_store_did_not_make_are_left_alone(local: ParquetStore) -> None:
    publish(local, batches(rows("2241")))
    folder = Path(local.uri(DATASET, DAY))
    elsewhere = folder.parent / "notes"
    elsewhere.mkdir()
    strangers = [
        folder / "README.md",
        folder / "x.parquet",
        folder / "x.json",
        elsewhere / ("0" * 32 + ".json"),
    ]
    for path in strangers:
        path.write_text("by hand")
        make_old(path)
    assert local.collect(keep=lambda _: False, older_than_s=-1) == []
    assert all(path.exists() for path in strangers)


def test_a_data_file_without_manifest_is_collected_once_it_is_old_enough(local: ParquetStore) -> None:
    """What a writer leaves that dies between the two renames."""
    publish(local, batches(rows("2241")))
    orphan = Path(local.uri(DATASET, DAY)) / ("0" * 32 + ".parquet")
    orphan.write_bytes(b"half")
    assert local.collect(keep=lambda _: True) == []
    make_old(orphan)
    assert local.collect(keep=lambda _: True) == [str(orphan)]


def test_a_revision_with_a_damaged_manifest_is_left_for_a_human(local: ParquetStore) -> None:
    first = publish(local, batches(rows("2241")))
    publish(local, batches(rows("2248")))
    Path(local.data_uri(first)).with_suffix(".json").write_bytes(b"{}")
    assert local.collect(keep=lambda _: False, older_than_s=-1) == []
    assert Path(local.data_uri(first)).exists()


def test_nothing_is_collected_where_the_current_revision_is_unknown(local: ParquetStore) -> None:
    first = publish(local, batches(rows("2241")))
    second = publish(local, batches(rows("2248")))
    (Path(local.uri(DATASET, DAY)) / "current.json").write_bytes(b"{")
    with pytest.raises(DamagedFileError, match=r"current\.json"):
        local.collect(keep=lambda _: False, older_than_s=-1)
    assert content(local, first) == rows("2241")
    assert content(local, second) == rows("2248")
