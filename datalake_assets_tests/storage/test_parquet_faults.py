"""The Parquet store under kills, disk errors, full disks, flipped bits and litter.

Each step of a publication is hit in turn, in a child process, until a publication gets through unharmed:
by strace at the system calls where it may attach, and always by stand-ins for `os.fsync` and `os.replace`.
"""

import errno
import gc
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datalake_assets.keys import TableName
from datalake_assets.storage import durable_files
from datalake_assets.storage.parquet import DamagedFileError, Manifest, ParquetStore, StorageError

DATASET = TableName("person_landing", "person_data")
DAY = {"load_date": "2024-09-03"}
SCHEMA = pa.schema([("key", pa.int64()), ("document", pa.large_binary())])
NOW = datetime(2024, 9, 3, tzinfo=UTC)

SUCCEEDED, REFUSED = 0, 3

# Children are forked from a server that has this module loaded and no threads: a fork of the test process,
# where polars and Arrow run threads, may hang, and a fresh interpreter for each step would take too long.
forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload([__name__])


def noise(key: int, size: int) -> bytes:
    """The same bytes for the same key, which no compression makes smaller."""
    return hashlib.shake_128(str(key).encode()).digest(size)


def rows(first: int, count: int = 1000, size: int = 100) -> Iterator[pa.RecordBatch]:
    for start in range(first, first + count, 100):
        keys = range(start, min(start + 100, first + count))
        documents = pa.array([noise(key, size) for key in keys], pa.large_binary())
        yield pa.RecordBatch.from_arrays([pa.array(keys, pa.int64()), documents], schema=SCHEMA)


def publish(store: ParquetStore, first: int, content: Iterator[pa.RecordBatch] | None = None) -> Manifest:
    content = rows(first) if content is None else content
    return store.publish(DATASET, DAY, SCHEMA, content, run_id=f"run-{first}", created_at=NOW, account={"first": first})


def assert_whole(store: ParquetStore, manifest: Manifest | None) -> Manifest:
    """What is current can be read to the last row, and its rows are those of one publication."""
    assert manifest is not None
    keys = [key for batch in store.read(manifest) for key in batch.column("key").to_pylist()]
    first = manifest.account["first"]
    assert keys == list(range(first, first + manifest.rows))
    return manifest


def names(store: ParquetStore) -> list[str]:
    return sorted(path.name for path in Path(store.uri(DATASET, DAY)).iterdir())


def temporaries(store: ParquetStore) -> list[str]:
    return [name for name in names(store) if name.endswith(".part")]


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(str(tmp_path / "lake"))


# ---------------------------------------------------------------------------------- children to be hit


def publish_in_child(location: str, first: int, told: Connection, prepare: Callable[[], None] | None) -> None:
    told.recv()
    if prepare is not None:
        prepare()
    try:
        publish(ParquetStore(location), first)
    except StorageError:
        os._exit(REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(SUCCEEDED)


@contextmanager
def child(
    store: ParquetStore, first: int, prepare: Callable[[], None] | None = None
) -> Iterator[tuple[BaseProcess, Connection]]:
    told, tell = forked.Pipe(duplex=False)
    location = store.uri(DATASET).removesuffix(f"/{DATASET.path}")
    process = forked.Process(target=publish_in_child, args=(location, first, told, prepare))
    process.start()
    try:
        yield process, tell
    finally:
        process.kill()
        process.join()
        process.close()
        told.close()
        tell.close()


def exit_code(process: BaseProcess, tell: Connection) -> int:
    tell.send("go")
    process.join(30)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


class Struck:
    """Replaces an `os` function in the child; strikes at its n-th call."""

    def __init__(self, name: str, nth: int, strike: str) -> None:
        self.name = name
        self.left = nth
        self.strike = strike

    def __call__(self) -> None:
        genuine = getattr(os, self.name)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if self.strike == "SIGKILL":
                    os.kill(os.getpid(), signal.SIGKILL)
                code = getattr(errno, self.strike)
                raise OSError(code, os.strerror(code))
            return genuine(*args, **kwargs)

        setattr(os, self.name, stand_in)


@contextmanager
def strace(process: BaseProcess, calls: str, fault: str) -> Iterator[None]:
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", os.devnull, "-e", f"inject={calls}:{fault}", "-p", str(process.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        if "attached" not in (line := tracer.stderr.readline()):
            pytest.skip(f"strace may not attach here: {line.strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


def check_and_recover(store: ParquetStore, former: Manifest, code: int) -> None:
    """Whatever was hit: old or new, whole; and a retry ends as if nothing had happened."""
    assert code in {SUCCEEDED, REFUSED, -signal.SIGKILL}
    current = assert_whole(store, store.current(DATASET, DAY))
    assert current == former or current.account == {"first": 5000}
    if code != -signal.SIGKILL:
        assert temporaries(store) == []
    litter = [name for name in names(store) if not name.endswith((".parquet", ".json", ".part"))]
    assert litter == []

    retried = publish(store, 5000)
    assert assert_whole(store, store.current(DATASET, DAY)) == retried
    store.collect(keep=lambda _: False, older_than_s=-1)
    assert names(store) == sorted([retried.file, f"{retried.revision}.json", "current.json"])


STEPS = [("write", 3), ("fsync", 6), ("rename,renameat,renameat2", 3)]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize(("calls", "at_least"), STEPS, ids=[calls for calls, _ in STEPS])
def test_a_fault_at_any_system_call_leaves_a_whole_revision(
    store: ParquetStore, calls: str, at_least: int, fault: str
) -> None:
    for nth in range(1, 20):
        former = publish(store, 0)
        with child(store, 5000) as (process, tell), strace(process, calls, f"{fault}:when={nth}"):
            code = exit_code(process, tell)
        check_and_recover(store, former, code)
        if code == SUCCEEDED:
            assert nth > at_least, f"only {nth - 1} of the {at_least} calls were hit"
            return
    pytest.fail("the publication never got through")


@pytest.mark.parametrize("strike", ["SIGKILL", "EIO"])
@pytest.mark.parametrize(("name", "at_least"), [("fsync", 6), ("replace", 3)])
def test_a_fault_at_any_fsync_or_rename_leaves_a_whole_revision(
    store: ParquetStore, name: str, at_least: int, strike: str
) -> None:
    for nth in range(1, 20):
        former = publish(store, 0)
        with child(store, 5000, Struck(name, nth, strike)) as (process, tell):
            code = exit_code(process, tell)
        check_and_recover(store, former, code)
        if code == SUCCEEDED:
            assert nth > at_least, f"only {nth - 1} of the {at_least} calls were hit"
            return
    pytest.fail("the publication never got through")


def test_a_publication_into_a_new_partition_is_seen_whole_or_not_at_all(store: ParquetStore) -> None:
    for nth in range(1, 20):
        shutil.rmtree(store.uri(DATASET), ignore_errors=True)
        with child(store, 5000, Struck("fsync", nth, "SIGKILL")) as (process, tell):
            code = exit_code(process, tell)
        current = store.current(DATASET, DAY)
        if current is not None:
            assert_whole(store, current)
        if code == SUCCEEDED:
            return
    pytest.fail("the publication never got through")


# ------------------------------------------------------------------------------------ failures in place


class SourceBrokeError(Exception):
    pass


@pytest.mark.parametrize("error", [SourceBrokeError("page 7"), OSError(errno.ENOSPC, "not ours"), KeyboardInterrupt()])
def test_an_exception_of_the_batches_comes_out_as_it_is_and_changes_nothing(
    store: ParquetStore, error: BaseException
) -> None:
    """A full disk of the source must not be reported as a full lake."""
    former = publish(store, 0)
    before = names(store)

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from rows(5000)
        raise error

    with pytest.raises(type(error)) as caught:
        publish(store, 5000, breaking())
    assert caught.value is error
    assert names(store) == before
    assert assert_whole(store, store.current(DATASET, DAY)) == former


def test_an_exception_while_the_account_is_made_changes_nothing(store: ParquetStore) -> None:
    def broken() -> dict[str, Any]:
        raise SourceBrokeError

    with pytest.raises(SourceBrokeError):
        store.publish(DATASET, DAY, SCHEMA, rows(0), run_id="r", created_at=NOW, account=broken)
    assert names(store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_with_folder_and_free_space(small_disk: Path) -> None:
    store = ParquetStore(str(small_disk / "lake"))
    former = publish(store, 0)
    with pytest.raises(
        StorageError, match=r"the disk is full, \d+ of 4194304 bytes are free.*Where: /.*/load_date=2024-09-03"
    ) as caught:
        publish(store, 5000, rows(5000, 60_000))
    assert "Free some space" in caught.value.todo
    assert assert_whole(store, store.current(DATASET, DAY)) == former


def test_a_disk_that_is_full_at_any_byte_costs_nothing_but_the_publication(small_disk: Path) -> None:
    """Also where the rows still fit and only the manifest does not: nothing may stay behind and fill the disk."""
    store = ParquetStore(str(small_disk / "lake"))
    former = publish(store, 0)
    before = names(store)
    filler = small_disk / "filler"
    for pages in range(100):
        filler.touch()
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(free - pages * 4096))
        try:
            publish(store, 5000)
        except StorageError:
            filler.unlink()
            assert names(store) == before
            assert assert_whole(store, store.current(DATASET, DAY)) == former
        else:
            assert pages > former.bytes // 4096
            return
    pytest.fail("the publication never got through")


def test_a_write_that_is_refused_at_any_byte_is_reported_once(
    store: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups, footer and manifests are written by different hands; each must hear of it, and only once."""
    former = publish(store, 0)
    before = names(store)
    monkeypatch.setattr(durable_files, "CHUNK_BYTES", 16)  # nothing waits in a buffer
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = publish(ParquetStore("memory://measured"), 5000).bytes
    for limit in [*range(0, size, size // 20), *range(size - 2000, size, 50)]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(StorageError, match=r"Could not publish .*: File too large") as caught:
                publish(store, 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.__context__ is None
        assert names(store) == before
    gc.collect()  # a writer that was not closed well complains only now
    assert assert_whole(store, store.current(DATASET, DAY)) == former


def test_a_lake_that_may_not_be_written_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the lake should be")
    with pytest.raises(StorageError, match=r"Could not publish .*: (File exists|Not a directory)"):
        publish(ParquetStore(str(tmp_path / "lake")), 0)


# -------------------------------------------------------------------------------------- damage and litter


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def some_bits(data: bytes, count: int) -> range:
    """That many bits all over the data, of every position within a byte, the first and last bytes included."""
    step = len(data) * 8 // count
    return range(0, len(data) * 8, step - 1 + step % 2)


def test_every_flipped_bit_of_a_data_file_is_found(store: ParquetStore) -> None:
    """Polars and default Arrow read such a file without a word."""
    manifest = publish(store, 0)
    path = Path(store.data_uri(manifest))
    genuine = path.read_bytes()
    for bit in some_bits(genuine, 400):
        path.write_bytes(flipped(genuine, bit))
        with pytest.raises(DamagedFileError) as caught:
            store.verify(manifest)
        assert manifest.sha256 in str(caught.value), f"bit {bit}"
        with pytest.raises(DamagedFileError):
            next(store.read(manifest))
        with pytest.raises(DamagedFileError):
            store.scan(manifest)
    path.write_bytes(genuine)
    store.verify(manifest)


def test_every_flipped_bit_of_a_manifest_is_found_or_means_nothing(store: ParquetStore) -> None:
    """A flipped digit of the account would otherwise be believed."""
    manifest = publish(store, 0)
    path = Path(store.uri(DATASET, DAY)) / "current.json"
    genuine = path.read_bytes()
    found = tried = 0
    for bit in some_bits(genuine, 400):
        path.write_bytes(flipped(genuine, bit))
        try:
            assert store.current(DATASET, DAY) == manifest, f"bit {bit}"
        except DamagedFileError:
            found += 1
        tried += 1
    assert found > 0.9 * tried


def test_a_flipped_bit_in_a_page_is_found_even_when_nobody_verifies(store: ParquetStore) -> None:
    manifest = publish(store, 0)
    path = Path(store.data_uri(manifest))
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = path.read_bytes()
    path.write_bytes(flipped(data, (column.dictionary_page_offset + column.total_compressed_size // 2) * 8))
    with pytest.raises(DamagedFileError, match="expected readable Parquet"):
        list(store.read(manifest, verify=False))


def test_a_damaged_file_is_reported_with_what_was_expected_what_was_found_and_advice(
    store: ParquetStore,
) -> None:
    manifest = publish(store, 0)
    path = Path(store.data_uri(manifest))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError) as caught:
        store.verify(manifest)
    assert caught.value.where == str(path)
    assert f"expected {manifest.bytes} bytes with SHA-256 {manifest.sha256}" in caught.value.what
    assert "found 1000 bytes with SHA-256" in caught.value.what
    assert "Materialise the partition again" in caught.value.todo

    path.unlink()
    for reading in (store.verify, store.scan, store.schema, lambda m: list(store.read(m, verify=False))):
        with pytest.raises(DamagedFileError, match="found no file"):
            reading(manifest)


def test_a_row_count_that_is_not_the_files_is_found(store: ParquetStore) -> None:
    manifest = publish(store, 0)
    wrong = Manifest(**{**vars(manifest), "rows": manifest.rows + 1})
    with pytest.raises(DamagedFileError, match="expected 1001 rows, found 1000 rows"):
        store.verify(wrong)


def test_a_damaged_revision_cannot_be_promoted(store: ParquetStore) -> None:
    first, second = publish(store, 0), publish(store, 5000)
    Path(store.data_uri(first)).write_bytes(b"")
    with pytest.raises(DamagedFileError):
        store.promote(first)
    assert store.current(DATASET, DAY) == second
    assert temporaries(store) == []


def test_publishing_again_repairs_a_damaged_pointer_and_a_damaged_file(store: ParquetStore) -> None:
    manifest = publish(store, 0)
    (Path(store.uri(DATASET, DAY)) / "current.json").write_bytes(b"{}")
    Path(store.data_uri(manifest)).write_bytes(b"")
    with pytest.raises(DamagedFileError):
        store.current(DATASET, DAY)
    publish(store, 0)
    assert assert_whole(store, store.current(DATASET, DAY)) == manifest


def test_litter_in_the_folders_is_ignored(store: ParquetStore) -> None:
    """A glob over the folder would fail on the truncated file, or read the stranger's rows."""
    manifest = publish(store, 0)
    genuine = Path(store.data_uri(manifest))
    folder = genuine.parent
    (folder / "stranger.parquet").write_bytes(genuine.read_bytes())
    (folder / f"{'0' * 32}.parquet").write_bytes(genuine.read_bytes()[:500])
    (folder / f"{'1' * 32}.parquet").write_bytes(b"")
    (folder / f"{'2' * 32}.json").write_bytes(b"\x00garbage")
    (folder / ".x.part").write_bytes(b"PAR1")
    (folder.parent / "load_date=2024-09-04").mkdir()
    (folder.parent / "backup").mkdir()
    for name in ("load_date=%2", "load_date=a%2fb", "load_date", "%41=x"):
        (folder.parent / name).mkdir()
        shutil.copy(folder / "current.json", folder.parent / name)
    unreadable = Path(os.fsdecode(os.fsencode(folder.parent) + b"/load_date=\xff"))
    unreadable.mkdir()
    shutil.copy(folder / "current.json", unreadable)
    foreign = Path(store.uri(TableName("x", "y"))).parent.parent / "a%2Fb" / "c"
    foreign.mkdir(parents=True)
    shutil.copy(folder / "current.json", foreign)
    shutil.copytree(folder, folder.parent / "backup" / folder.name)
    shutil.copytree(folder, folder.parent / "load_date=2024-09-03~")

    assert store.partitions(DATASET) == [DAY]
    assert assert_whole(store, store.current(DATASET, DAY)) == manifest
    assert store.scan(manifest).collect().height == manifest.rows
    assert [Path(path).name for path in store.collect(keep=lambda _: True)] == [".x.part"]


# ------------------------------------------------------------------------------------------ dead writers


def test_the_temporary_of_a_dead_writer_is_collected_and_that_of_a_living_one_is_not(
    store: ParquetStore,
) -> None:
    publish(store, 0)
    with child(store, 5000, Struck("fsync", 1, "SIGKILL")) as (process, tell):
        assert exit_code(process, tell) == -signal.SIGKILL
    left = temporaries(store)
    assert len(left) == 3

    def collecting() -> Iterator[pa.RecordBatch]:
        yield from rows(9000)
        removed = store.collect(keep=lambda _: True, older_than_s=-1)
        assert sorted(Path(path).name for path in removed) == left
        assert len(temporaries(store)) == 3

    assert_whole(store, publish(store, 9000, collecting()))
    assert temporaries(store) == []


# --------------------------------------------------------------------------------------- bounded memory

MEGABYTE = 1 << 20


def measure_in_child(location: str, count: int, answer: Connection) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    store = ParquetStore(location)
    assert_whole(store, publish(store, 0, rows(0, 500, 20_000)))
    before = peak()
    manifest = publish(store, 0, rows(0, count, 20_000))
    published = peak()
    read = sum(batch.num_rows for batch in store.read(manifest))
    answer.send((manifest.bytes, read, published - before, peak() - before))


def test_memory_is_bounded_whatever_the_size_of_the_stream(store: ParquetStore) -> None:
    """20,000 incompressible documents of 20 KB: 400 MB, of which a fraction may be held at a time."""
    receive, answer = forked.Pipe(duplex=False)
    location = store.uri(DATASET).removesuffix(f"/{DATASET.path}")
    process = forked.Process(target=measure_in_child, args=(location, 20_000, answer))
    process.start()
    try:
        assert receive.poll(60), "the child gives no answer"
        size, read, published, peak = receive.recv()
    finally:
        process.kill()
        process.join()
    assert size > 380 * MEGABYTE
    assert read == 20_000
    assert published < 250 * MEGABYTE
    assert peak < 250 * MEGABYTE
