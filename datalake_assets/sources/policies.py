"""What a request to each source may cost, in time, attempts and memory: the client policy, source by source.

Numbers and their reasons only; what happens when one of them is reached is in `http.py`, `throttle.py` and
`backoff.py`.
"""

from dataclasses import dataclass, replace
from typing import Final

MiB: Final = 1024 * 1024
GiB: Final = 1024 * MiB


@dataclass(frozen=True, kw_only=True)
class RequestPolicy:
    """What a request may cost, in time, attempts and memory.

    Args:
        connect_s: Longest wait for a connection.
        read_s: Longest silence; httpx applies it between two chunks, so it bounds no total.
        total_s: Wall-clock deadline of one attempt, from the moment it is sent to its last byte.
        attempts: Attempts in all, the first included.
        concurrency: Requests to the source at the same time; a source that is throttling is given fewer.
        body_bytes: Bound of a body, on the wire and after decompression.
        backoff_base_s: Upper end of the first random wait; it doubles with every attempt.
        backoff_cap_s: Upper end of every random wait.
        retry_after_cap_s: Longest `Retry-After` waited for; a source that asks for more has failed.
        max_500: How many answers with status 500 are asked again: they are seldom transient.
        breaker_failures: After so many requests in a row that failed for good, nothing more is asked.
        logon_wait_s: How long the first request goes alone. Refusals of a logon come at once; a source that is
            silent for so long is taken to be at work.
        retry_floor: Retries that a source is always granted...
        retry_share: ...and how many more for each request: a source that fails everywhere gets no storm of them.
    """

    connect_s: float
    read_s: float
    total_s: float
    attempts: int
    concurrency: int
    body_bytes: int
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 60.0
    retry_after_cap_s: float = 900.0
    max_500: int = 2
    breaker_failures: int = 10
    logon_wait_s: float = 60.0
    retry_floor: int = 20
    retry_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("connect_s", "read_s", "total_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a request needs some time.")
        for name in ("attempts", "concurrency", "body_bytes", "breaker_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in (
            "backoff_base_s",
            "backoff_cap_s",
            "retry_after_cap_s",
            "max_500",
            "logon_wait_s",
            "retry_floor",
            "retry_share",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it cannot be negative.")

    def with_backoff(self, factor: float) -> "RequestPolicy":
        """The same policy with other waits of its own; what a source asks for with `Retry-After` is waited in full."""
        return replace(self, backoff_base_s=self.backoff_base_s * factor, backoff_cap_s=self.backoff_cap_s * factor)


# The client policy, source by source. Where a number was measured or documented elsewhere, it says so.
TERM_QUERY: Final = RequestPolicy(connect_s=10, read_s=60, total_s=120, attempts=4, concurrency=1, body_bytes=16 * MiB)
"""All terms of all careers in one request. The predecessor gave up after 30 s."""

PEOPLESOFT_IDS: Final = RequestPolicy(
    connect_s=10, read_s=120, total_s=300, attempts=4, concurrency=5, body_bytes=256 * MiB
)
"""Ids of people from PeopleSoft. These queries are slow: the predecessor raised 30 s of silence to 120 s."""

SAP_IDS: Final = RequestPolicy(connect_s=10, read_s=120, total_s=300, attempts=4, concurrency=5, body_bytes=256 * MiB)
"""Ids of employees from SAP, in one answer like those of PeopleSoft."""

VDS_PAGE: Final = RequestPolicy(connect_s=10, read_s=120, total_s=300, attempts=4, concurrency=5, body_bytes=64 * MiB)
"""One page of ids from VDS; the deadline holds per page."""

PERSON_TERMS: Final = RequestPolicy(connect_s=5, read_s=30, total_s=60, attempts=5, concurrency=10, body_bytes=4 * MiB)
"""The terms of one person. 30 s of silence, 5 attempts and 10 at a time are the predecessor's numbers."""

COURSE_TERM: Final = RequestPolicy(
    connect_s=10, read_s=300, total_s=1200, attempts=3, concurrency=2, body_bytes=2 * GiB
)
"""All courses of one term. SnapLogic documents that it cuts a triggered task after 15 minutes ("Timeouts"),
so a deadline of 20 never cuts an answer that could still come. The bound is for a body spooled to disk."""

PERSON_BATCH: Final = RequestPolicy(
    connect_s=10,
    read_s=600,
    total_s=1200,
    attempts=4,
    concurrency=5,
    body_bytes=4 * GiB,
    backoff_base_s=10.0,
    backoff_cap_s=300.0,
    logon_wait_s=0.1,
)
"""One batch of person documents, silent for minutes until the first is ready: the others do not wait for it.
SnapLogic documents 10 triggered tasks at a time ("API usage"), beyond which it answers 429. The bound is for a
body read line by line."""

HAWK_PAGE: Final = RequestPolicy(connect_s=10, read_s=60, total_s=120, attempts=4, concurrency=1, body_bytes=64 * MiB)
"""One page of a Hawk dataset, held whole because its signature covers all of it."""

API_PAGE: Final = HAWK_PAGE
"""One page of any other API dataset: the same numbers."""

URL_FILE: Final = RequestPolicy(connect_s=10, read_s=60, total_s=1800, attempts=4, concurrency=2, body_bytes=8 * GiB)
"""One file, streamed to a disk. A month of taxi trips has 25 MB, the largest of them half a GB."""

NOTIFICATION: Final = RequestPolicy(connect_s=5, read_s=10, total_s=15, attempts=1, concurrency=1, body_bytes=MiB)
"""One message to a webhook, within a sensor's tick of a minute; what is not taken is sent again at a later tick."""
