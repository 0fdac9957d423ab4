"""Reading a response body: bounded on the wire and after decompression, and never silently cut.

httpx returns what a truncated gzip stream gave before it broke off, without an error (measured: 96 of 100
lines), and lets a small body unpack into any amount of memory. So the raw bytes are taken from it and
unpacked here, and handed on as they come. Deadlines and statuses do not belong here (see `http.py`), and neither
does what a body means.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final, Protocol, Self

from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError

PIECE_BYTES: Final = 256 * 1024
"""The most that is unpacked at a time."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class BodyReader:
    """Undoes the content encoding of one body, piece by piece.

    Args:
        encoding: The answer's `Content-Encoding`.
        limit: Most bytes to accept, counted on the wire and again after decompression.
        where: The request, for errors.

    Raises:
        PermanentSourceError: The encoding is none that was offered.
    """

    def __init__(self, *, encoding: str, limit: int, where: str) -> None:
        encoding = encoding.strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise PermanentSourceError(
                f"The answer is encoded as {encoding[:40]!r}, but only gzip was offered.",
                where=where,
                todo="Have the source, or the proxy before it, honour Accept-Encoding.",
            )
        self.proves_its_end = encoding not in {"", "identity"}
        self._member = zlib.decompressobj(_GZIP) if self.proves_its_end else None
        self._limit = limit
        self._where = where
        self._bytes_in = 0
        self._bytes_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack what came from the wire.

        Raises:
            PermanentSourceError: The body is too large, or not what its encoding says.
        """
        self._bytes_in += len(data)
        self._refuse_beyond_limit(self._bytes_in)
        if self._member is None:
            yield data
            return
        while data:
            if self._member.eof:  # a gzip stream may consist of several members
                self._member = zlib.decompressobj(_GZIP)
            yield from self._inflate(self._member, data)
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> Iterator[bytes]:
        """Unpack what is left and prove that the stream ended where it should.

        Raises:
            TransientSourceError: The compressed stream ends before its trailer: the body was cut.
        """
        member = self._member
        if member is None:
            return
        while not member.eof and (rest := list(self._inflate(member, b""))):
            yield from rest
        if not member.eof:
            raise TransientSourceError(
                "The answer is cut: its gzip stream ends before the trailer.",
                where=self._where,
                todo="A proxy or gateway may be cutting answers off; run the load again later.",
            )

    def _inflate(self, member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
        try:
            piece = member.decompress(data, PIECE_BYTES)
        except zlib.error:
            raise PermanentSourceError(
                "The answer says it is gzip, but its bytes are not.",
                where=self._where,
                todo="Ask the operator of the source; a proxy may be rewriting its answers.",
            ) from None
        self._bytes_out += len(piece)
        self._refuse_beyond_limit(self._bytes_out)
        if piece:
            yield piece

    def _refuse_beyond_limit(self, size: int) -> None:
        if size > self._limit:
            raise too_large(self._limit, self._where)


class Verifies(Protocol):
    """Says whether a body is the source's own."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise a `SourceError` if it is not."""
        ...


class BodyStream:
    """The decoded body of one answer, piece by piece, in the order of the wire; it can be read once.

    Args:
        raw: The bytes as they come from the wire.
        reader: Undoes their encoding.
        headers: The answer's headers, names in lower case.
        proves_its_end: Whether the transport notices that a body was cut.
        request_id: Sent with the request, and the attempt's number behind it.
        shown_url: The address asked, fit to be shown.
        where: Request, address, attempt and request id as one text, for errors.
        attempt: Number of this attempt, from 1.
        status: The answer's status.
        signature: What the answer's own signature is checked with, if it has one.

    Attributes:
        whole: False until the end was reached; then, whether the transport proved that the body is complete
            (length, chunks or gzip trailer). A body that only ends because the connection was closed proves nothing.
        bytes_in: Bytes that came over the wire so far.
    """

    def __init__(
        self,
        raw: AsyncIterator[bytes],
        reader: BodyReader,
        *,
        headers: Mapping[str, str],
        proves_its_end: bool,
        request_id: str,
        shown_url: str,
        where: str,
        attempt: int,
        status: int = 200,
        signature: Verifies | None = None,
    ) -> None:
        self.headers = headers
        self.request_id = request_id
        self.shown_url = shown_url
        self.where = where
        self.attempt = attempt
        self.status = status
        self._signature = signature
        self.whole = False
        self.bytes_in = 0
        self._raw = raw
        self._reader = reader
        self._proves_its_end = proves_its_end or reader.proves_its_end
        self._pieces = self._unpacked()
        self._start: list[bytes] = []
        self._held: deque[bytes] = deque()
        self._failure: SourceError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._start:
            return self._start.pop()
        if self._held:
            await asyncio.sleep(0)  # whoever waits for the wire goes first, as if this came from it
            return self._held.popleft()
        if self._failure is not None:
            raise self._failure
        return await anext(self._pieces)

    def verify(self, body: bytes) -> None:
        """Believe a body that was held whole, or refuse it.

        Raises:
            SourceError: Its signature is missing or wrong.
        """
        if self._signature is None:
            return
        try:
            self._signature.verify(self.headers, body)
        except SourceError as error:
            error.where = self.where
            if self.whole:
                raise
        else:
            return
        raise TransientSourceError(
            "The answer does not fit its signature, and nothing shows that all of it came.",
            where=self.where,
            todo="A proxy or gateway may be cutting answers off; run the load again later.",
        )

    async def start(self, is_enough: Callable[[bytes], bool]) -> bytes:
        """The beginning of the body, as much as is enough or all there is; it is read again afterwards."""
        start = b""
        while not is_enough(start):
            try:
                start += await anext(self._pieces)
            except StopAsyncIteration:
                break
        if start:
            self._start = [start]
        return start

    async def hold(self, most: int) -> bool:
        """Fetch the body before it is read, or as much of it as may be held.

        A reader that works long on each piece keeps the source no longer busy than the body takes on the wire. A
        failure on the way is met by the reader, behind what came before it.

        Args:
            most: Bytes after which the rest is left on the wire.

        Returns:
            Whether nothing is left there.
        """
        size = sum(map(len, self._start))
        try:
            while size < most:
                self._held.append(await anext(self._pieces))
                size += len(self._held[-1])
        except StopAsyncIteration:
            return True
        except SourceError as failure:
            self._failure = failure
            return True
        return False

    async def _unpacked(self) -> AsyncIterator[bytes]:
        async for data in self._raw:
            self.bytes_in += len(data)
            for piece in self._reader.feed(data):
                yield piece
        for piece in self._reader.finish():
            yield piece
        self.whole = self._proves_its_end


def too_large(limit: int, where: str) -> PermanentSourceError:
    """The refusal of a body beyond its bound."""
    return PermanentSourceError(
        f"The answer is larger than the {limit} bytes allowed for it, so it was not read to its end.",
        where=where,
        todo="If the source has really grown that much, raise the body bound of its request policy.",
    )
