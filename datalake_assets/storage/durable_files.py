"""Files that are either wholly there or not there, on a local disk and in an object store.

What belongs here: the steps by which bytes become visible under a name and survive a crash (temporary name,
fsync, rename, fsync of the folder; one put in an object store), the signs by which a dead writer's leftovers
are told from a living writer's work, and how such files are read back. What the bytes mean, which file is the
current one and how a failure is explained to an operator belong to `parquet.py`; here an `OSError` stays one.

Keys are paths relative to the root, with `/` between their parts.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, cast

from upath import UPath

TEMPORARY_SUFFIX = ".part"
LOCK_NAME = ".lock"
CHUNK_BYTES = 1 << 20
LOCK_DEADLINE_S = 60.0


class Space(NamedTuple):
    """Free and total bytes of the disk that a file is written to."""

    free: int
    total: int


def files_at(location: str | UPath) -> "Files":
    """The files at a local path or at any URL that fsspec knows."""
    root = UPath(location)
    if root.protocol in {"", "file", "local"}:
        return LocalFiles(Path(root.path))
    return ObjectFiles(root)


class LocalFiles:
    """Files on a local disk.

    A temporary file is locked (`flock`) by its writer for as long as the writer lives, so a leftover is known
    by its free lock: no age has to be guessed, and a process number that was given out again cannot mislead.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def uri(self, key: str) -> str:
        """The absolute path."""
        return str(self.path(key))

    def path(self, key: str) -> Path:
        """The absolute path."""
        return self._root / key

    def space(self) -> Space:
        """The room on the disk of the root, or of its nearest folder that exists."""
        folder = self._root
        while not folder.exists():
            folder = folder.parent
        usage = shutil.disk_usage(folder)
        return Space(usage.free, usage.total)

    def new(self, folder: str) -> "NewLocalFile":
        """Begin a file under a temporary name in its final folder, so that keeping it is one rename.

        Only within `publishing`: a collector could prune the new folder, or take the file for a leftover
        before its writer has locked it.
        """
        _make_folder(self.path(folder))
        return NewLocalFile(self._root, self.path(folder))

    def read(self, key: str) -> bytes:
        """All bytes of a small file."""
        return self.path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        """The file, open for random reads."""
        return self.path(key).open("rb")

    def fetch(self, key: str, seen: Callable[[bytes], object]) -> BinaryIO:
        """The open file after one pass over it; a rename meanwhile cannot change what was opened."""
        file = self.open(key)
        try:
            while chunk := file.read(CHUNK_BYTES):
                seen(chunk)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def walk(self, folder: str) -> Iterator[str]:
        """The keys of all files below a folder."""
        for parent, _, names in os.walk(self.path(folder), onerror=_raise_unless_gone):
            for name in names:
                yield (Path(parent) / name).relative_to(self._root).as_posix()

    def age_s(self, key: str) -> float:
        """Seconds since the last change."""
        return time.time() - self.path(key).stat().st_mtime

    def touch(self, key: str) -> None:
        """Set the time of the last change to now; a file that is gone has none."""
        with suppress(FileNotFoundError):
            os.utime(self.path(key))

    def remove(self, key: str) -> bool:
        """Remove a file; whether it was there."""
        try:
            self.path(key).unlink()
        except FileNotFoundError:
            return False
        return True

    def prune(self, folder: str, top: str) -> None:
        """Remove a folder, and those above it up to `top`, as far as they are empty."""
        path, last = self.path(folder), self.path(top)
        while path != last:
            try:
                path.rmdir()
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    return
                raise
            path = path.parent

    def abandoned(self, key: str) -> bool:
        """Whether nobody holds the lock of a temporary file."""
        try:
            descriptor = os.open(self.path(key), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return _locked(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(descriptor)

    @contextmanager
    def publishing(self, folder: str) -> Iterator[None]:
        """Hold the lock file of the folder together with other publishers."""
        with self._lock(folder, fcntl.LOCK_SH):
            yield

    @contextmanager
    def collecting(self, folder: str) -> Iterator[None]:
        """Hold the lock file of the folder alone."""
        with self._lock(folder, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, folder: str, kind: int) -> Iterator[None]:
        # A file rather than the folder itself: network file systems lock files only.
        _make_folder(self.path(folder))
        path = self.path(folder) / LOCK_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            deadline = time.monotonic() + LOCK_DEADLINE_S
            while not _locked(descriptor, kind):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} is held by another process for {LOCK_DEADLINE_S:.0f} s")
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)


class NewLocalFile:
    """A file under a temporary name; it is removed unless `keep` shows it under its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._kept = False
        self._path = folder / f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
        self._file: BufferedWriter = BufferedWriter(FileIO(self._path, "x"), CHUNK_BYTES)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._file.close()
            self._path.unlink()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._kept:
                self._path.unlink(missing_ok=True)
        except OSError as failure:
            if error is None:
                raise
            error.add_note(f"The temporary file {self._path} could not be removed: {failure.strerror}.")
        finally:
            # Closing the buffer itself would once more write what a full disk has refused.
            self._file.raw.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)

    def seal(self) -> None:
        """Bring every byte to the disk, so that `keep` has nothing left to run out of space for."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def keep(self, key: str) -> None:
        """Show the sealed file under its name, in place of what stood there, in one step that lasts."""
        target = self._root / key
        self._path.replace(target)
        self._kept = True
        _sync_folder(target.parent)


class ObjectFiles:
    """Objects behind an fsspec file system whose puts are atomic, as those of S3, GCS and Azure are.

    A new object is spooled on the local disk, because its name is known only when its last byte is; nothing
    unfinished is ever uploaded. Object stores know no locks: `publishing` and `collecting` do not exclude
    each other, and what protects a revision that is published again at that moment is its age.
    """

    def __init__(self, root: UPath) -> None:
        self._root = root
        self.filesystem: Any = root.fs

    def uri(self, key: str) -> str:
        """The URL."""
        return (self._root / key).as_uri() if key else self._root.as_uri()

    def path(self, key: str) -> str:
        """The path as the file system spells it, without protocol."""
        return (self._root / key).path

    def space(self) -> Space:
        """The room in the folder of the spool; the store itself has no limit that could be asked for."""
        usage = shutil.disk_usage(tempfile.gettempdir())
        return Space(usage.free, usage.total)

    def new(self, folder: str) -> "NewObject":
        """Begin an object in a local spool; object stores need no folder."""
        del folder
        return NewObject(self)

    def read(self, key: str) -> bytes:
        """All bytes of a small object."""
        return cast(bytes, self.filesystem.cat_file(self.path(key)))

    def open(self, key: str) -> BinaryIO:
        """The object, read by ranges."""
        return cast(BinaryIO, self.filesystem.open(self.path(key), "rb"))

    def fetch(self, key: str, seen: Callable[[bytes], object]) -> BinaryIO:
        """A local copy that vanishes when it is closed: what was seen is what will be read."""
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - handed to the caller, who closes it
        try:
            with self.open(key) as remote:
                while chunk := remote.read(CHUNK_BYTES):
                    seen(chunk)
                    copy.write(chunk)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def walk(self, folder: str) -> Iterator[str]:
        """The keys of all objects below a folder, from a fresh listing."""
        self.filesystem.invalidate_cache()
        start = len(self.path("").rstrip("/")) + 1
        for path in self.filesystem.find(self.path(folder)):
            yield path[start:]

    def age_s(self, key: str) -> float:
        """Seconds since the object was put."""
        self.filesystem.invalidate_cache()
        return time.time() - float(self.filesystem.modified(self.path(key)).timestamp())

    def touch(self, key: str) -> None:
        """Put a small object again; one that is gone stays so."""
        with suppress(FileNotFoundError):
            self.filesystem.pipe_file(self.path(key), self.read(key))

    def remove(self, key: str) -> bool:
        """Remove an object; whether it was there."""
        try:
            self.filesystem.rm_file(self.path(key))
        except FileNotFoundError:
            return False
        return True

    def prune(self, folder: str, top: str) -> None:
        """Nothing to do: object stores have no folders."""
        del folder, top

    def abandoned(self, key: str) -> bool:
        """Never: an unfinished object does not exist."""
        del key
        return False

    @contextmanager
    def publishing(self, folder: str) -> Iterator[None]:
        """Nothing to hold."""
        del folder
        yield

    @contextmanager
    def collecting(self, folder: str) -> Iterator[None]:
        """Nothing to hold."""
        del folder
        yield


class NewObject:
    """An object that is spooled locally and put by `keep`, or not at all."""

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files
        descriptor, name = tempfile.mkstemp(suffix=TEMPORARY_SUFFIX)
        self._path = Path(name)
        self._file = BufferedWriter(FileIO(descriptor, "w"), CHUNK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.raw.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)

    def seal(self) -> None:
        """Bring every byte to the spool, so that `keep` has nothing left to run out of space for."""
        self._file.flush()

    def keep(self, key: str) -> None:
        """Put the sealed object under its name, in place of what stood there."""
        filesystem, path = self._files.filesystem, self._files.path(key)
        sent = self._path.stat().st_size
        if sent <= CHUNK_BYTES:
            filesystem.pipe_file(path, self._path.read_bytes())  # one request, so never seen half
        else:
            filesystem.put_file(str(self._path), path)
        filesystem.invalidate_cache()
        stored = filesystem.info(path)["size"]
        if sent != stored:
            raise OSError(f"{self._files.uri(key)} holds {stored} bytes after {sent} were sent")


Files = LocalFiles | ObjectFiles
NewFile = NewLocalFile | NewObject


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
