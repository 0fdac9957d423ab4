"""A proxy between a test and PostgreSQL that can change, swallow or hold back what passes."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from datalake_assets.storage.postgres import PostgresAddress

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


def unchanged(data: bytes) -> bytes:
    return data


@asynccontextmanager
async def proxied(
    address: PostgresAddress,
    *,
    to_client: Callable[[bytes], bytes] = unchanged,
    to_server: Callable[[bytes], bytes] = unchanged,
    tls: ssl.SSLContext | None = None,
    tcp: bool = False,
) -> AsyncIterator[PostgresAddress]:
    """An address that leads to the server through two filters; over TCP, with TLS if a context is given.

    A filter that raises an OSError cuts both connections.
    """
    handlers: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        while data := await reader.read(65536):
            writer.write(change(data))
            await writer.drain()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        server: asyncio.StreamWriter | None = None
        try:
            if tcp:
                first = await reader.readexactly(8)
                if first == SSL_REQUEST:
                    writer.write(b"S" if tls else b"N")
                    await writer.drain()
                    first = b""
                    if tls:
                        await writer.start_tls(tls)
            else:
                first = b""
            if address.is_socket:
                upstream, server = await asyncio.open_unix_connection(f"{address.host}/.s.PGSQL.{address.port}")
            else:
                upstream, server = await asyncio.open_connection(address.host, address.port)
            server.write(first)
            pumps = [
                asyncio.ensure_future(pump(reader, server, to_server)),
                asyncio.ensure_future(pump(upstream, writer, to_client)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in pumps:
                    one.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client went away, which is what some tests are about
        finally:
            for side in (server, writer):
                if side is not None:
                    side.transport.abort()
            handlers.discard(task)

    with tempfile.TemporaryDirectory(prefix="proxy-") as folder:
        if tcp:
            listener = await asyncio.start_server(handle, "127.0.0.1", 0)
            port = listener.sockets[0].getsockname()[1]
            target = replace(address, host="127.0.0.1", port=port, sslmode=None)
        else:
            listener = await asyncio.start_unix_server(handle, Path(folder) / f".s.PGSQL.{address.port}")
            target = replace(address, host=folder, sslmode=None)
        try:
            yield target
        finally:
            listener.close()
            for task in list(handlers):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*handlers, return_exceptions=True)
