"""A server on loopback that breaks HTTP on purpose, byte by byte.

Raw sockets, because a web framework would not lie about lengths, cut gzip streams or drip. It shares nothing
with the clients under test and nothing with the simulator. What the faults prove stands in the tests.
"""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass
class Request:
    """What arrived: header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Wire:
    """The connection a reply writes to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closing: bool = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def client_left(self) -> None:
        """Stay silent until the client gives up."""
        while await self.reader.read(65536):
            pass
        self.closing = True

    def close(self) -> None:
        self.closing = True

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.closing = True


Reply = Callable[[Request, Wire], Awaitable[None]]


@dataclass
class FaultServer:
    """Answers the n-th request with the n-th reply; the last one serves all that follow."""

    replies: list[Reply]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _connections: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        wire, number = Wire(reader, writer), self._connections
        try:
            while not wire.closing:
                await self._serve(wire, number)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client left, which many tests are about, or the test is over
        finally:
            writer.transport.abort() if wire.closing and writer.is_closing() else writer.close()
            self._tasks.discard(task)

    async def _serve(self, wire: Wire, connection: int) -> None:
        head = (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await wire.reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, target, headers, body, connection)
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await reply(request, wire)
        finally:
            self._at_once -= 1


def serving(*replies: Reply, tls: ssl.SSLContext | None = None) -> FaultServer:
    return FaultServer(list(replies), tls)


def head(
    status: int = 200, headers: dict[str, str] | None = None, content_type: str | None = "application/json"
) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(
    body: Any = b"{}",
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    content_type: str | None = "application/json",
    after_s: float = 0,
) -> Reply:
    """A sound answer with its length; anything but bytes is sent as JSON."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_: Request, wire: Wire) -> None:
        await asyncio.sleep(after_s)
        sized = {"Content-Length": str(len(payload)), **(headers or {})}
        await wire.send(head(status, sized, content_type) + payload)

    return reply


def close_delimited(body: bytes, headers: dict[str, str] | None = None) -> Reply:
    """No length and no chunks: the body ends where the connection does."""

    async def reply(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Connection": "close", **(headers or {})}) + body)
        wire.close()

    return reply


def length_lie(body: bytes, declared: int) -> Reply:
    """`Content-Length` names more, or less, than what is sent."""

    async def reply(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": str(declared)}) + body)
        wire.close()

    return reply


def chunks(*pieces: bytes, ended: bool = True, headers: dict[str, str] | None = None) -> Reply:
    """A chunked body, with or without the last chunk."""

    async def reply(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Transfer-Encoding": "chunked", **(headers or {})}))
        for piece in pieces:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if ended:
            await wire.send(b"0\r\n\r\n")
        else:
            wire.close()

    return reply


def gzipped(body: bytes, cut: int = 0) -> Reply:
    """A gzip body, `cut` bytes short of its end, whose length is that of what is sent."""
    packed = gzip.compress(body)
    return answer(packed[: len(packed) - cut], headers={"Content-Encoding": "gzip"})


def drip(body: bytes, every_s: float, status: int = 200) -> Reply:
    """One byte at a time: never silent for long, never done."""

    async def reply(_: Request, wire: Wire) -> None:
        await wire.send(head(status, {"Content-Length": str(len(body))}))
        for byte in body:
            await wire.send(bytes([byte]))
            await asyncio.sleep(every_s)

    return reply


async def silence(_: Request, wire: Wire) -> None:
    await wire.client_left()


async def hang_up(_: Request, wire: Wire) -> None:
    wire.close()


async def reset(_: Request, wire: Wire) -> None:
    wire.reset()


async def reset_in_body(_: Request, wire: Wire) -> None:
    await wire.send(head(headers={"Content-Length": "1000"}) + b'{"data": [')
    await asyncio.sleep(0.05)
    wire.reset()


async def nonsense(_: Request, wire: Wire) -> None:
    await wire.send(b"220 mail.example ESMTP ready\r\n\r\n")
    wire.close()
