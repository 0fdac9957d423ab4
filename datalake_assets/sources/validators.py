"""What a source says of the version that it sent, and how it is asked whether that is still the one.

Used by everything that is loaded only when it has changed: pages of an API (`api_pages.py`) and files (`url_files.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Validators:
    """The version of something, as its source names it (RFC 9110, 8.8).

    Attributes:
        etag: `ETag`, weak or strong, as sent.
        last_modified: `Last-Modified`, as sent.
    """

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Validators":
        """Those of an answer; names of headers in lower case."""
        return cls(headers.get("etag"), headers.get("last-modified"))

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    @property
    def asks_for_news(self) -> dict[str, str]:
        """Headers by which a source that still has this version answers 304."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": None if self.etag else self.last_modified}
        return {name: value for name, value in asked.items() if value}

    @property
    def strong(self) -> str | None:
        """What proves that two answers are parts of the same bytes; a date or a weak tag does not."""
        return self.etag if self.etag and not self.etag.startswith("W/") else None


@dataclass(frozen=True)
class NotModified:
    """The source still has the version that was named.

    Attributes:
        pointer: Source, address and request id.
    """

    pointer: str
