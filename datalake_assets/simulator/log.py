"""The log of requests, and the count of attempts: all that a running simulator remembers.

Tests read from it how a client behaved: how often it asked, how many requests at a time, with which headers,
whom it asked about, and whether it let a secret into an address. Keys appear as hashes; persons by their ids,
which are invented. Answers never depend on the log, but on the number of the attempt that it counts.
"""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

from datalake_assets.simulator.frame import Question, Received

_KEPT: Final = 10_000
_FLAGGED: Final = ("authorization", "x-api-key", "x-sim-token", "content-type", "accept-encoding", "cookie")


@dataclass
class Entry:
    """One request.

    Attributes:
        ordinal: Its place in the order of arrival, from 1.
        day: The day that was shown.
        endpoint: The endpoint; None if the address led nowhere.
        key: Hash of the request key; None if the request was refused.
        attempt: Its number for this endpoint, key and day; None if the request was refused.
        method: The method.
        path: The path without the query.
        status: The status that was sent or meant; None while the answer is on its way.
        bytes: Bytes of the body that were handed to the socket.
        faults: Names of the faults that struck.
        people: Ids of the persons it asked about.
        headers: Which of the telling headers it carried.
        user_agent: How the client calls itself.
        secret_in_url: A secret stood in the address.
    """

    ordinal: int
    day: str
    endpoint: str | None
    key: str | None
    attempt: int | None
    method: str
    path: str
    status: int | None
    bytes: int
    faults: tuple[str, ...]
    people: tuple[str, ...]
    headers: dict[str, bool]
    user_agent: str | None
    secret_in_url: bool


class RequestLog:
    """The requests since the start or the last reset, the newest 10,000 of them in full.

    Args:
        secrets: What must never stand in an address.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._ordinal = 0
        self._in_flight: Counter[str] = Counter()
        self._high_water: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._people: dict[str, Counter[str]] = {}
        self.forget_attempts()

    def forget_attempts(self) -> None:
        """Count attempts from 1 again."""
        self._attempts: Counter[tuple[str, str, date]] = Counter()

    def next_attempt(self, endpoint: str, key: str, day: date) -> int:
        """The number of this attempt of a request, from 1."""
        self._attempts[endpoint, key, day] += 1
        return self._attempts[endpoint, key, day]

    def begin(self, received: Received, endpoint: str | None, day: date) -> Entry:
        """Note that a request arrived."""
        self._ordinal += 1
        entry = Entry(
            ordinal=self._ordinal,
            day=day.isoformat(),
            endpoint=endpoint,
            key=None,
            attempt=None,
            method=received.method,
            path="" if self._tells_secret(received.path) else received.path,
            status=None,
            bytes=0,
            faults=(),
            people=(),
            headers={name: any(name == given for given, _ in received.headers) for name in _FLAGGED},
            user_agent=received.header("user-agent"),
            secret_in_url=self._tells_secret(received.target),
        )
        self._entries.append(entry)
        name = endpoint or "elsewhere"
        self._in_flight[name] += 1
        self._high_water[name] = max(self._high_water[name], self._in_flight[name])
        self._totals[name] += 1
        return entry

    def name_request(self, entry: Entry, question: Question, attempt: int, faults: tuple[str, ...]) -> None:
        """Note what a request asked for and which faults struck it."""
        entry.key = blake2b(question.key.encode(), digest_size=8).hexdigest()
        entry.attempt, entry.faults, entry.people = attempt, faults, question.people
        if entry.people:
            self._people.setdefault(entry.endpoint or "elsewhere", Counter()).update(entry.people)

    def end(self, entry: Entry, size: int) -> None:
        """Note that an answer is out."""
        entry.bytes = size
        self._in_flight[entry.endpoint or "elsewhere"] -= 1

    def as_json(self) -> dict[str, Any]:
        """The log."""
        return {
            "endpoints": {
                name: {"requests": total, "high_water": self._high_water[name]}
                for name, total in sorted(self._totals.items())
            },
            "people": self._people,
            "requests": [vars(entry) for entry in self._entries],
        }

    def _tells_secret(self, address: str) -> bool:
        return any(secret in address or secret in unquote(address) for secret in self._secrets)
