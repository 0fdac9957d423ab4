"""How much of a source is asked at once, and how much again: slots that give way, a retry budget, one logon first.

Counting and waiting only: which failures are transient is said in `http.py`, after how many seconds a request is
repeated in `backoff.py`, and the numbers stand in `policies.py`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

THROTTLING_STATUSES: Final = frozenset({429, 503})
"""Statuses by which a source says that it is asked too much."""

_WINDOWS_TO_GROW: Final = 2
"""After so many times as many good answers as there are slots, one slot is tried in addition."""


class Slot:
    """Leave for one request, until it is given back or its context ends.

    Args:
        number: Told apart by it from all others that are held at the moment; the last one given back is given first.
        since: Told to `Slots.throttled` if the source refuses the request.
        free: Lets the next one have it.
    """

    def __init__(self, number: int, since: int, free: Callable[[int], None]) -> None:
        self.number = number
        self.since = since
        self._free: Callable[[int], None] | None = free

    def give_back(self) -> None:
        """The source is done with the request, whatever is still done here with its answer."""
        if self._free is not None:
            self._free(self.number)
            self._free = None


class Slots:
    """Requests that may be under way: halved when the source throttles, regained one by one.

    Args:
        most: Slots at the beginning, and never more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = most
        self._taken = 0
        self._successes = 0
        self._cuts = 0
        self._numbers = list(range(most))
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Hold a slot."""
        await self._take()
        slot = Slot(self._numbers.pop(), self._cuts, self._free)
        try:
            yield slot
        finally:
            slot.give_back()

    def throttled(self, since: int) -> None:
        """The source asked for less. Answers to requests that were sent before the last cut count as one."""
        if since != self._cuts:
            return
        self._cuts += 1
        self._successes = 0
        self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        """The source gave a good answer."""
        self._successes += 1
        if self.limit < self._most and self._successes >= _WINDOWS_TO_GROW * self.limit:
            self._successes = 0
            self.limit += 1
            self._hand_out()

    async def _take(self) -> None:
        if self._taken < self.limit:  # nobody is waiting then: a free slot is handed out at once
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # cancelled in the moment between its turn and its waking
                self._pass_on()
            raise

    def _free(self, number: int) -> None:
        self._numbers.append(number)
        self._pass_on()

    def _pass_on(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and self._taken < self.limit:
            turn = self._queue.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


class RetryBudget:
    """Retries in proportion to requests, so that a source that is failing is not asked several times as much.

    Args:
        floor: Retries granted in any case.
        share: How many more per request.
    """

    def __init__(self, *, floor: int, share: float) -> None:
        self._floor = floor
        self._share = share
        self._requests = 0
        self._retries = 0

    def request(self) -> None:
        """A request is made; its repetitions do not count."""
        self._requests += 1

    def grants_retry(self) -> bool:
        """Take one retry, if there is one left."""
        if self._retries >= self._floor + self._share * self._requests:
            return False
        self._retries += 1
        return True


class FirstAnswer:
    """Lets one request go alone until the source has answered, so that a wrong password costs one logon.

    Args:
        patience_s: After so long without a refusal the others no longer wait.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._is_open = False
        self._knocking: asyncio.Event | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the one before; at once, when the source has answered."""
        while not self._is_open and self._knocking is not None:
            await self._knocking.wait()
        if self._is_open:
            yield
            return
        mine = self._knocking = asyncio.Event()
        patience = asyncio.get_running_loop().call_later(self._patience_s, self.open)
        try:
            yield
        finally:
            patience.cancel()
            self._knocking = None
            mine.set()

    def open(self) -> None:
        """The source has answered: nobody waits any more."""
        self._is_open = True
        if self._knocking is not None:
            self._knocking.set()
