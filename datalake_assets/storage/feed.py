"""A blocking iterator seen from an event loop: drawn in a thread, so that deadlines hold while it reads.

What is drawn, and what becomes of it, does not belong here.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SourceError(Exception):
    """Carries an error of the iterator past everything that would take it for an error of the reader.

    Args:
        error: What the iterator raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Feed(Generic[T]):
    """Items of a blocking iterator, drawn one ahead in a thread of its own.

    What the iterator does overlaps with what is done with its items. The thread is a daemon: an iterator that
    never returns cannot keep the process alive.

    Args:
        source: What to iterate over; it is started, advanced and closed in the thread.
    """

    def __init__(self, source: Iterable[T]) -> None:
        self._source = source
        self._requests: queue.SimpleQueue[asyncio.Future[tuple[bool, Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._draw, name="postgres-feed", daemon=True).start()
        self._next = self._ask()

    async def has_more(self) -> bool:
        """Whether there is another item; waits for the iterator to know.

        Raises:
            SourceError: The iterator failed.
        """
        more, _ = await asyncio.shield(self._next)
        return more

    async def portion(self, items: int, seconds: float) -> AsyncIterator[T]:
        """The next items, until there are so many or so much time has passed; at least one if there is any.

        Args:
            items: Largest number of items.
            seconds: Longest time, in seconds.

        Raises:
            SourceError: The iterator failed.
        """
        end = self._loop.time() + seconds
        for place in range(items):
            if place > 0:
                await asyncio.wait({self._next}, timeout=max(0.0, end - self._loop.time()))
                if not self._next.done():
                    return
            more, item = await asyncio.shield(self._next)
            if not more:
                return
            self._next = self._ask()
            yield item

    async def close(self, patience_s: float = 1.0) -> None:
        """End the iterator, and wait shortly for that; one that is stuck is left behind.

        Args:
            patience_s: Longest time to wait, in seconds.
        """
        if not self._next.cancel() and not self._next.cancelled():
            self._next.exception()  # looked at, so that asyncio does not report it as forgotten
        self._requests.put(None)
        await asyncio.wait({self._ended}, timeout=patience_s)

    def _ask(self) -> "asyncio.Future[tuple[bool, Any]]":
        answer: asyncio.Future[tuple[bool, Any]] = self._loop.create_future()
        self._requests.put(answer)
        return answer

    def _draw(self) -> None:
        iterator: Iterator[T] | None = None
        while (answer := self._requests.get()) is not None:
            try:
                iterator = iter(self._source) if iterator is None else iterator
                result = (True, next(iterator))
            except StopIteration:
                self._tell(answer, (False, None))
            except BaseException as error:
                self._tell(answer, SourceError(error))
            else:
                self._tell(answer, result)
        if (close := getattr(iterator, "close", None)) is not None:
            with contextlib.suppress(Exception):  # nobody waits for the iterator any more
                close()
        self._tell(self._ended, None)

    def _tell(self, answer: "asyncio.Future[Any]", outcome: Any) -> None:
        def settle() -> None:
            if answer.done():
                return
            if isinstance(outcome, SourceError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who asked
            self._loop.call_soon_threadsafe(settle)
