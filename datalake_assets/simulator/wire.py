"""The wire: how a reply is put on a socket, honestly or not.

Honest replies and slow ones go through uvicorn. What uvicorn rightly refuses to send (false lengths, half
bodies, resets) is written to the connection's own transport, which is then closed. Which fault strikes is
decided elsewhere (`exchange.py`).
"""

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Literal

from uvicorn.protocols.http.h11_impl import H11Protocol

from datalake_assets.simulator.frame import Reply

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

TRANSPORT: Final = "simulator.transport"
_WORTH_COMPRESSING: Final = 1024
_DRIPS_PER_SECOND: Final = 20
_CHUNK: Final = 256 * 1024

Break = Literal[
    "",
    "reset_before_headers",
    "reset_mid_body",
    "length_more",
    "length_less",
    "cut_close_delimited",
    "cut_chunked",
    "cut_gzip",
]


@dataclass(frozen=True)
class Delivery:
    """How a reply is delivered.

    Attributes:
        delay_s: Silence before the first byte.
        stall_after: Bytes of the body after which it stalls; None: it does not.
        stall_s: How long it stalls.
        bytes_per_second: How fast the body drips; None: at once.
        broken: How the transport fails.
    """

    delay_s: float = 0.0
    stall_after: int | None = None
    stall_s: float = 0.0
    bytes_per_second: float | None = None
    broken: Break = ""


class WireProtocol(H11Protocol):
    """Uvicorn's HTTP protocol, with the transport of each connection at hand in the scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport."""
        super().connection_made(transport)
        # asyncio leaves it out on sockets that do not name their protocol; each answer's body would wait 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _GoneError(Exception):
    """The client hung up."""


def compressed(reply: Reply, *, welcome: bool) -> Reply:
    """The reply as gzip, if that is welcome and worth it."""
    if not welcome or reply.streamed or len(reply.body) < _WORTH_COMPRESSING:
        return reply
    # A fixed time keeps the bytes a function of the body.
    packed = Reply(reply.status, gzip.compress(reply.body, 1, mtime=0), reply.content_type, reply.headers)
    return packed.with_headers(("content-encoding", "gzip"), ("vary", "accept-encoding"))


async def deliver(reply: Reply, delivery: Delivery, scope: Mapping[str, Any], receive: Receive, send: Send) -> int:
    """Put a reply on the wire.

    Args:
        reply: What is sent.
        delivery: How it is sent.
        scope: The ASGI scope of a connection that `WireProtocol` serves.
        receive: The ASGI channel on which a client's end is noticed.
        send: The ASGI channel for honest replies.

    Returns:
        How many bytes of the body were handed to the socket.
    """
    wire = _Wire(reply, delivery, scope["state"][TRANSPORT], receive, send)
    try:
        await wire.pause(delivery.delay_s)
        if delivery.broken and delivery.broken != "cut_gzip":
            await wire.send_raw()
        else:
            await wire.send_whole()
    except _GoneError:
        return wire.sent
    return wire.sent


class _Wire:
    def __init__(
        self, reply: Reply, delivery: Delivery, transport: asyncio.Transport, receive: Receive, send: Send
    ) -> None:
        self.sent = 0
        self._reply = reply
        self._delivery = delivery
        self._transport = transport
        self._receive = receive
        self._send = send

    async def pause(self, seconds: float) -> None:
        """Wait, but not for a client that has hung up."""
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                raise _GoneError

    async def send_whole(self) -> None:
        """Send through uvicorn, which keeps HTTP in order."""
        body = self._reply.body
        if self._delivery.broken == "cut_gzip":
            body = body[: len(body) // 2]
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self._headers()]
        if not self._reply.streamed:
            headers.append((b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.start", "status": self._reply.status, "headers": headers})
        for piece, silence in self._pieces(body):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sent += len(piece)
            await self.pause(silence)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _pieces(self, body: bytes) -> list[tuple[bytes, float]]:
        """The parts of the body, each with the silence after it."""
        stall_after, rate = self._delivery.stall_after, self._delivery.bytes_per_second
        if rate is not None:
            size = max(1, int(rate / _DRIPS_PER_SECOND))
            return [(body[start : start + size], size / rate) for start in range(0, len(body), size)]
        if stall_after is not None:
            return [(body[:stall_after], self._delivery.stall_s), (body[stall_after:], 0.0)]
        if self._reply.streamed:
            return [(body[start : start + _CHUNK], 0.0) for start in range(0, len(body), _CHUNK)]
        return [(body, 0.0)]

    def _headers(self) -> list[tuple[str, str]]:
        return [("content-type", self._reply.content_type), *self._reply.headers]

    async def send_raw(self) -> None:
        """Write to the socket what no HTTP library would, and close it."""
        body, broken = self._reply.body, self._delivery.broken
        half = body[: len(body) // 2]
        if broken == "reset_before_headers":
            self._reset()
        elif broken == "reset_mid_body":
            self._write(half, ("content-length", str(len(body))))
            # The half body must leave before the reset, or the client sees a reset and nothing else.
            await self.pause(0.02)
            self._reset()
        elif broken == "length_more":
            self._write(body, ("content-length", str(len(body) + 100)))
        elif broken == "length_less":
            self._write(body, ("content-length", str(max(0, len(body) - 100))))
        elif broken == "cut_chunked":
            chunk = b"%x\r\n%b\r\n" % (len(half), half)
            self._write(chunk, ("transfer-encoding", "chunked"), count=len(half))
        else:
            self._write(half, ("connection", "close"))
        self._transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _write(self, body: bytes, *framing: tuple[str, str], count: int | None = None) -> None:
        lines = [f"HTTP/1.1 {self._reply.status} {HTTPStatus(self._reply.status).phrase}"]
        headers = [("date", formatdate(usegmt=True)), *self._headers(), *framing]
        lines += [f"{name}: {value}" for name, value in headers]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self.sent = len(body) if count is None else count

    def _reset(self) -> None:
        if self._transport.is_closing():
            return  # who asked has gone already
        raw = self._transport.get_extra_info("socket")
        # Closing with a linger time of zero makes the kernel send RST instead of FIN.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
