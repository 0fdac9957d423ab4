"""The Parquet store with readers, writers and collectors at the same time."""

import fcntl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from datalake_assets.keys import TableName
from datalake_assets.storage import durable_files
from datalake_assets.storage.parquet import Manifest, ParquetStore, StorageError

DATASET = TableName("course_landing", "course_data")
SLICE = {"load_date": "2024-09-03", "term": "2248"}
SCHEMA = pa.schema([("revision", pa.int64()), ("row", pa.int64())])
NOW = datetime(2024, 9, 3, tzinfo=UTC)


def rows(revision: int, count: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, count, 50):
        numbers = list(range(start, min(start + 50, count)))
        yield pa.RecordBatch.from_pydict({"revision": [revision] * len(numbers), "row": numbers}, schema=SCHEMA)


def publish(store: ParquetStore, revision: int, content: Iterator[pa.RecordBatch] | None = None) -> Manifest:
    content = rows(revision, 100 + revision) if content is None else content
    return store.publish(
        DATASET,
        SLICE,
        SCHEMA,
        content,
        run_id="run",
        created_at=NOW,
        account={"revision": revision},
        row_group_rows=40,
    )


def revision_of(store: ParquetStore, manifest: Manifest | None) -> int:
    """The one revision that every row belongs to."""
    assert manifest is not None
    table = pa.Table.from_batches(store.read(manifest))
    revision = manifest.account["revision"]
    assert table.column("revision").unique().to_pylist() == [revision]
    assert table.column("row").to_pylist() == list(range(100 + revision))
    return int(revision)


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(str(tmp_path))


@pytest.mark.parametrize(("kind", "publications"), [("local", 200), ("object store", 60)])
def test_readers_during_many_publications_always_see_a_whole_revision(
    tmp_path: Path, kind: str, publications: int
) -> None:
    store = ParquetStore(str(tmp_path) if kind == "local" else f"memory://{uuid.uuid4().hex}")
    # Open files of fsspec's memory file system share one position, so it stands only one reader at a time.
    reader_count = 2 if kind == "local" else 1
    publish(store, 0)
    done = threading.Event()

    def reading() -> list[int]:
        seen = []
        while not done.is_set():
            seen.append(revision_of(store, store.current(DATASET, SLICE)))
        return seen

    def collecting() -> int:
        removed = 0
        while not done.wait(0.05):
            removed += len(store.collect(keep=lambda _: False, older_than_s=1.0))
        return removed

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(reading) for _ in range(reader_count)]
        collector = pool.submit(collecting)
        try:
            for revision in range(1, publications + 1):
                publish(store, revision)
        finally:
            done.set()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen), "a reader went back in time"
            assert len(set(seen)) > 2
        collector.result()
    assert revision_of(store, store.current(DATASET, SLICE)) == publications


def test_the_last_writer_to_finish_is_current_whole(store: ParquetStore) -> None:
    """Not the last to start: it may be the one that a retry has overtaken."""

    def overtaken() -> Iterator[pa.RecordBatch]:
        first, *rest = rows(1, 101)
        yield first
        assert revision_of(store, publish(store, 2)) == 2
        assert revision_of(store, store.current(DATASET, SLICE)) == 2
        yield from rest

    slow = publish(store, 1, overtaken())
    assert store.current(DATASET, SLICE) == slow
    assert revision_of(store, slow) == 1


def test_writers_of_one_partition_never_mix(store: ParquetStore) -> None:
    def writing(first: int) -> list[Manifest]:
        return [publish(store, revision) for revision in range(first, first + 25)]

    with ThreadPoolExecutor(3) as pool:
        published = [manifest for made in pool.map(writing, (0, 1000, 2000)) for manifest in made]

    assert revision_of(store, store.current(DATASET, SLICE)) in {24, 1024, 2024}
    for manifest in published:
        kept = store.revision(DATASET, SLICE, manifest.sha256)
        assert revision_of(store, kept) == manifest.account["revision"]


def test_a_collector_never_takes_what_is_being_published_again(store: ParquetStore) -> None:
    """The same rows make the same name, so an old revision's file may become the current one at any moment."""
    publish(store, 0)
    done = threading.Event()

    def collecting() -> int:
        removed = 0
        while not done.wait(0.002):
            removed += len(store.collect(keep=lambda _: False, older_than_s=-1))
        return removed

    with ThreadPoolExecutor(1) as pool:
        collector = pool.submit(collecting)
        try:
            for turn in range(100):
                publish(store, turn % 2)
                store.verify(store.current(DATASET, SLICE) or pytest.fail("nothing is current"))
        finally:
            done.set()
        assert collector.result() > 10


def test_nothing_is_begun_while_a_collector_is_at_work(store: ParquetStore, tmp_path: Path) -> None:
    """It could take a new file for a leftover before its writer has locked it, or prune the new folder."""
    publish(store, 0)
    with ThreadPoolExecutor(1) as pool, (tmp_path / DATASET.path / ".lock").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        publishing = pool.submit(publish, store, 1)
        with pytest.raises(TimeoutError):
            publishing.result(timeout=0.2)
        assert list(tmp_path.rglob("*.part")) == []
        fcntl.flock(held, fcntl.LOCK_UN)
        assert revision_of(store, publishing.result()) == 1


def test_a_collector_that_holds_its_lock_for_ever_is_named(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process must not make every load of the dataset hang without a word."""
    former = publish(store, 0)
    monkeypatch.setattr(durable_files, "LOCK_DEADLINE_S", 0.05)
    with (tmp_path / DATASET.path / ".lock").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"Could not publish .*\.lock is held by another process"):
            publish(store, 1)
    assert store.current(DATASET, SLICE) == former
    assert revision_of(store, publish(store, 1)) == 1


def test_a_partition_that_is_removed_while_it_is_published_is_there_or_not(store: ParquetStore) -> None:
    done = threading.Event()

    def removing() -> None:
        while not done.wait(0.002):
            store.remove(DATASET, SLICE)

    with ThreadPoolExecutor(1) as pool:
        remover = pool.submit(removing)
        try:
            for turn in range(60):
                publish(store, turn)
        finally:
            done.set()
        remover.result()
    publish(store, 60)
    assert revision_of(store, store.current(DATASET, SLICE)) == 60
