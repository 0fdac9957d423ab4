"""Large datasets: pages read in a second process, and rows copied while later pages are fetched.

The rows go into partitions that belong to no table, in one transaction that ends after the snapshot was published; a
load of that snapshot by the same declaration takes them instead of reading the snapshot again. Whatever is not as
usual, or fails, ends this and costs nothing but time: the load then reads the snapshot. So it may give up, but never
decide anything; what a page or a row must be is judged in `datasets.py` and by nobody else.
"""

import asyncio
import logging
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Final, Self

import asyncpg
import pyarrow as pa

from datalake_assets.errors import DatalakeError
from datalake_assets.lake.datasets import Dataset, MadePage, Noticed, TypedRows, read_page, rows_of
from datalake_assets.lake.replacement import (
    AHEAD,
    Origin,
    copy_into_part,
    create_part,
    drop_prepared,
    part_of,
    tell_prepared,
)
from datalake_assets.sources.api_pages import Page, Paging, SoundPage
from datalake_assets.storage.postgres import scrubbing
from datalake_assets.worker import Worker, WorkerError

WORTH_BYTES: Final = 16 * 2**20
"""A dataset of smaller pages is loaded before a second process has started."""

_PAGES_WAITING: Final = 4
_PAGE_DEADLINE_S: Final = 120.0
_LOG: Final = logging.getLogger(__name__)

Connect = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]


class Ahead:
    """Work on one landing of a dataset, done while it is fetched; use it as an asynchronous context manager.

    Args:
        dataset: The dataset.
        paging: Where records are in its pages.
        connect: Opens a connection of its own.
        worth_bytes: Bytes of pages from which on it is worth it.
    """

    def __init__(self, dataset: Dataset, paging: Paging, connect: Connect, worth_bytes: int = WORTH_BYTES) -> None:
        self._dataset = dataset
        self._paging = paging
        self._connect = connect
        self._worth_bytes = worth_bytes
        self._bytes = 0
        self._worker: Worker | None = None
        self._stack = ExitStack()
        self._early: list[pa.RecordBatch] = []
        self._rows: asyncio.Queue[TypedRows | Origin] = asyncio.Queue(_PAGES_WAITING)
        self._copying: asyncio.Task[None] | None = None
        # Rows that are added to those of earlier loads cannot be swapped in.
        self._prepares = dataset.mode == "replace"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._give_up()
        await asyncio.to_thread(self._stack.close)

    async def read(self, body: bytes, number: int) -> SoundPage | None:
        """Read a page in the second process, once there are enough of them; None if that is to be done here.

        Args:
            body: The page.
            number: Its place.
        """
        self._bytes += len(body)
        if self._bytes < self._worth_bytes:
            return None
        try:
            if self._worker is None:
                self._worker = await asyncio.to_thread(self._stack.enter_context, Worker())
            extracts = self._dataset.extracts if self._prepares else None
            async with asyncio.timeout(_PAGE_DEADLINE_S):
                return await self._worker.run(read_page, body, number, self._paging, extracts)
        except (WorkerError, TimeoutError) as error:
            _LOG.warning("The second process is of no use, so this one does its work: %s", error)
            self._worth_bytes = sys.maxsize
            await self._give_up()
            return None

    async def take(self, batch: pa.RecordBatch, page: Page) -> None:
        """Prepare what a load will make of a page.

        Args:
            batch: Its records as they are landed.
            page: The page.
        """
        if not self._prepares:
            return
        if self._worker is None:
            self._early.append(batch)
            return
        if self._copying is None:
            self._copying = asyncio.create_task(self._copy())
            for each in self._early:
                await self._hand_over(await self._typed(each))
            self._early.clear()
        made: MadePage | None = None if page.elsewhere is None else page.elsewhere.made
        await self._hand_over(await self._typed(batch) if made is None else made.rows)

    async def finish(self, origin: Origin) -> None:
        """Leave what is prepared to the load; called when the snapshot is published.

        Args:
            origin: What the load will be made from.
        """
        if self._prepares and self._copying is not None:
            await self._put(origin)
            await asyncio.wait({self._copying})
            if self._prepares:
                self._tell_failure()

    async def _typed(self, batch: pa.RecordBatch) -> TypedRows | None:
        if self._worker is None or not self._prepares:
            return None
        try:
            async with asyncio.timeout(_PAGE_DEADLINE_S):
                return await self._worker.run(rows_of, batch, self._dataset.extracts)
        except (WorkerError, TimeoutError) as error:
            _LOG.warning("The second process is of no use, so this one does its work: %s", error)
            return None

    async def _hand_over(self, rows: TypedRows | None) -> None:
        if rows is None:
            await self._give_up()
        elif self._prepares:
            await self._put(rows)

    async def _put(self, item: TypedRows | Origin) -> None:
        assert self._copying is not None  # noqa: S101 - made before anything is put
        putting = asyncio.create_task(self._rows.put(item))
        await asyncio.wait({putting, self._copying}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():  # nobody takes anything any more
            putting.cancel()
        if self._copying.done() and not isinstance(item, Origin):
            self._tell_failure()
            await self._give_up()

    async def _give_up(self) -> None:
        """Prepare nothing; what is there goes with its transaction."""
        self._prepares = False
        self._early.clear()
        if self._copying is not None and not self._copying.done():
            self._copying.cancel()
            await asyncio.wait({self._copying})

    def _tell_failure(self) -> None:
        if self._copying is not None and not self._copying.cancelled() and (error := self._copying.exception()):
            said = error if isinstance(error, DatalakeError) else type(error).__name__
            _LOG.warning("Nothing could be prepared, so the load takes longer: %s", said)

    async def _copy(self) -> None:
        dataset = self._dataset
        parts = {table: part_of(table.name, AHEAD, uuid.uuid4().hex[:8]) for table in dataset.tables}
        noticed = {table: Noticed() for table in dataset.tables}
        copied = dict.fromkeys(dataset.tables, 0)
        with scrubbing(", ".join(map(str, parts.values()))):
            async with self._connect() as connection:
                async with connection.transaction():
                    for table, part in parts.items():
                        await create_part(connection, part, table.columns)
                    while not isinstance(item := await self._rows.get(), Origin):
                        for table, (rows, seen) in zip(dataset.tables, item, strict=True):
                            noticed[table].add(seen)
                            if rows is not None:
                                copied[table] += await copy_into_part(connection, parts[table], table, [rows])
                    for table, part in parts.items():
                        told = {"rows": copied[table], "noticed": noticed[table].to_json()}
                        await tell_prepared(connection, part, item, **told)
                await drop_prepared(connection, dataset.tables, keep=item)
