"""Files by address: streamed to a temporary file, byte for byte as their source keeps them.

A file comes with the SHA-256 of its bytes and the version that its source named; a source that still has a known
version sends nothing. What broke on the way is continued where it broke, if the source proves that it still sends the
same bytes, and begun anew if it does not. Compression and contents of a file are for whoever reads it.
"""

import hashlib
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from datalake_assets.sources.bodies import BodyStream
from datalake_assets.sources.errors import PermanentSourceError, RedirectedError, TransientSourceError
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.kinds import ANYTHING
from datalake_assets.sources.validators import NotModified, Validators

_MOST_REDIRECTS: Final = 3
_STATUSES: Final = frozenset({200, 206, 304, 416})


@dataclass(frozen=True)
class FetchedFile:
    """A whole file on this machine, there as long as its context.

    Attributes:
        path: Where it is.
        bytes: Its size.
        sha256: Of its bytes.
        validators: The version that the source named.
        pointer: Source, address and request id, fit to be kept.
    """

    path: Path
    bytes: int
    sha256: str
    validators: Validators
    pointer: str


@asynccontextmanager
async def fetched(
    source: HttpSource, path: str, *, unless: Validators | None = None, folder: Path | None = None
) -> AsyncGenerator[FetchedFile | NotModified]:
    """Fetch a file for the length of the block.

    Args:
        source: An open source; its policy bounds size and time.
        path: Appended to the source's base address.
        unless: The version that is known already.
        folder: Where the temporary file is made; the system's own folder if None.

    Raises:
        SourceError: The file could not be had whole.
    """
    holder = Path(tempfile.mkdtemp(prefix="fetched-", dir=folder))
    try:
        yield await _Download(holder / "file", path, unless).run(source)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


class _Download:
    """One file on its way."""

    def __init__(self, target: Path, path: str, unless: Validators | None) -> None:
        self._target = target
        self._path = path
        self._unless = unless
        self._pointer = ""
        self._version = Validators()
        self._size = 0
        self._hash = hashlib.sha256()

    async def run(self, source: HttpSource) -> FetchedFile | NotModified:
        address = self._path
        # Those that were redirected to stay open until the end, the first one is not ours to close.
        async with AsyncExitStack() as places:
            for _ in range(_MOST_REDIRECTS + 1):
                try:
                    return await self._ask(source, address)
                except RedirectedError as redirect:
                    if redirect.location is None:
                        raise
                    address = redirect.location
                    source = await places.enter_async_context(source.without_credentials(address))
        raise PermanentSourceError(
            f"{source.name} redirects more than {_MOST_REDIRECTS} times.",
            where=self._path,
            todo="Set the source's address to the one that answers itself.",
        )

    async def _ask(self, source: HttpSource, address: str) -> FetchedFile | NotModified:
        self._pointer = f"{source.name} {self._path}"
        with self._target.open("wb") as target:
            self._begin_anew(target)
            return await source.receive(
                "GET",
                address,
                key=self._path,
                accept=ANYTHING,
                headers=self._headers,
                statuses=_STATUSES,
                as_sent=True,
                read=lambda stream: self._take(stream, target),
            )

    def _headers(self) -> dict[str, str]:
        """What is asked for: the rest of what came, or news."""
        if self._size and (proof := self._version.strong):
            return {"Range": f"bytes={self._size}-", "If-Range": proof}
        return self._unless.asks_for_news if self._unless else {}

    async def _take(self, stream: BodyStream, target: IO[bytes]) -> FetchedFile | NotModified:
        pointer = f"{self._pointer}, request id {stream.request_id}"
        if stream.status == 304:
            return NotModified(pointer)
        version = Validators.of(stream.headers)
        if stream.status != 200:
            self._refuse_unless_the_rest(stream, version)
        else:
            self._begin_anew(target)
        self._version = version
        async for piece in stream:
            target.write(piece)
            self._hash.update(piece)
            self._size += len(piece)
        if not stream.whole:
            raise TransientSourceError(
                "The file came without a length and without an end that could be recognised; it may be cut.",
                where=stream.where,
                todo="Ask the source's operator to have Content-Length sent.",
            )
        return FetchedFile(self._target, self._size, self._hash.hexdigest(), version, pointer)

    def _refuse_unless_the_rest(self, stream: BodyStream, version: Validators) -> None:
        begins = stream.headers.get("content-range", "").startswith(f"bytes {self._size}-")
        if stream.status == 206 and self._size and begins and version.etag == self._version.etag:
            return
        self._version = Validators()  # the next attempt begins anew
        raise TransientSourceError(
            "The source did not go on with the file where it broke off.",
            where=stream.where,
            todo="Run the load again; the file is begun anew.",
        )

    def _begin_anew(self, target: IO[bytes]) -> None:
        target.seek(0)
        target.truncate()
        self._size, self._hash = 0, hashlib.sha256()
