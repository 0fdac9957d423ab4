"""A second process for work on documents that would keep Python busy while sources or the server wait for it.

What is done there, and what is sent there and back, is for the caller; it must be importable and fit to be pickled.
The process ends with its input, so it outlives nobody, however its parent ended.

    python -m datalake_assets.worker
"""

import asyncio
import gc
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import IO, Any, Final, Self, TypeVar, cast

from datalake_assets.errors import DatalakeError

T = TypeVar("T")

_OBJECTS_BETWEEN_COLLECTIONS: Final = 100_000
"""Parsed documents hold thousands of objects and no cycles, for which Python would look all the time."""


class WorkerError(DatalakeError):
    """Work could not be done in the second process."""


class Worker:
    """One process that does one piece of work after the other; use it as a context manager."""

    def __enter__(self) -> Self:
        # One thread waits for the process: whoever gives up waiting leaves no answer to the next one.
        self._thread = ThreadPoolExecutor(1, "worker")
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of our own
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing that it is still at is wanted any more.
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.communicate()

    async def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function there.

        Raises:
            WorkerError: It failed, or the process has ended.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._call, partial(function, *arguments, **options)
        )

    def _call(self, work: "partial[T]") -> T:
        asked, answered = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        try:
            pickle.dump(work, asked, pickle.HIGHEST_PROTOCOL)
            asked.flush()
            is_done, result = pickle.load(answered)  # noqa: S301 - written by our own child
        except (EOFError, OSError, pickle.UnpicklingError):
            raise WorkerError(
                "The second process ended before its work was done.",
                where=work.func.__qualname__,
                todo="See whether the machine ran out of memory, then run the load again.",
            ) from None
        if not is_done:
            raise WorkerError(
                f"The second process failed: {result}.",
                where=work.func.__qualname__,
                todo="This is a mistake in the project; report it with this text.",
            )
        return cast(T, result)


def main() -> None:
    """Do what is asked on standard input, until it ends."""
    asked, answered = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # Whoever interrupts a load by keyboard means its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            work = pickle.load(asked)  # noqa: S301 - written by our own parent
        except EOFError:
            return
        try:
            reply = True, work()
        except Exception as error:  # told to the parent, without its words: they may quote a document
            reply = False, f"{type(error).__name__} at {_place(error)}"
        try:
            pickle.dump(reply, answered, pickle.HIGHEST_PROTOCOL)
            answered.flush()
        except BrokenPipeError:
            return


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


if __name__ == "__main__":
    main()
