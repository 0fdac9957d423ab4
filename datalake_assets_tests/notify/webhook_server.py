"""A webhook for code that has an event loop of its own, such as a command or a sensor."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from datalake_assets_tests.sources.fault_server import FaultServer, Reply, serving


@contextmanager
def webhook(*replies: Reply) -> Iterator[FaultServer]:
    """A server in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = serving(*replies)
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(5)
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
