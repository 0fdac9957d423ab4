"""What every client of a source system is: something over one `HttpSource`, open within an async context.

What is asked, and what an answer means, belongs to the client of each source; how it is asked is in `http.py`.
"""

from types import TracebackType
from typing import Self

from datalake_assets.sources.http import HttpSource, HttpStats


class SourceClient:
    """A client of one source; it sets `_http`, and is used as an async context manager."""

    _http: HttpSource

    @property
    def stats(self) -> HttpStats:
        """What the source has cost so far."""
        return self._http.stats

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)
