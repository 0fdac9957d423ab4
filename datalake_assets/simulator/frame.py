"""What an endpoint is to the simulator: a request comes in, a question is read, an answer goes out.

An endpoint is one module that fulfils `Endpoint`; `app.py` lists them. Strictness (what is refused and how)
and the shape of answers belong to the endpoint; faults of status and transport, counting of attempts and the
log of requests are the same for all and do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.rows import Row


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire.

    Attributes:
        method: The method, as written.
        path: The decoded path.
        target: Path and query as they were sent.
        query: The raw query string.
        headers: Names in lower case, in order; a header may come twice.
        body: The body.
        places: Parts of the path that the route names.
    """

    method: str
    path: str
    target: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    places: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """The value of a header that came exactly once."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of the query, blank ones included."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def accepts_gzip(self) -> bool:
        """Whether a compressed answer is welcome."""
        return any("gzip" in value for name, value in self.headers if name == "accept-encoding")


@dataclass(frozen=True)
class Reply:
    """A response before it meets the wire.

    Attributes:
        status: The status.
        body: The body, not compressed.
        content_type: Its type.
        headers: Further headers.
        streamed: It goes out in chunks, without a length and not compressed.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    streamed: bool = False

    def with_headers(self, *headers: tuple[str, str]) -> "Reply":
        """The same reply with more headers."""
        return replace(self, headers=(*self.headers, *headers))


@dataclass(frozen=True)
class Question:
    """What a request asks for, once it has been found right.

    Attributes:
        key: The request key, by which attempts are counted and faults drawn.
        details: Whatever the endpoint needs to answer.
        people: Ids of the persons it asks about; the log tells them.
        rows_key: With it faults of rows are drawn, so that a row fares alike whatever it is asked together
            with; empty: with the request key.
    """

    key: str
    details: Mapping[str, object] = field(default_factory=dict)
    people: tuple[str, ...] = ()
    rows_key: str = ""


Trust = Literal["trusted", "again", "final"]


@dataclass(frozen=True)
class Verdict:
    """What a sound client makes of a response.

    Attributes:
        trust: It can be used; or it is worth another attempt; or it is wrong and will stay so.
        why: What is wrong with it.
        at_most: How many more attempts this kind of failure is worth; None: as many as the client has.
    """

    trust: Trust = "trusted"
    why: str = ""
    at_most: int | None = None


TRUSTED = Verdict()


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        reply: What is sent.
        rows: The rows in it.
        verdict: What a sound client makes of it, as far as the endpoint knows.
        proves_all: Whether it shows that no row is missing, so that absence means something.
        delay_s: How long the system works on it before its first byte.
    """

    reply: Reply
    rows: Sequence[Row] = ()
    verdict: Verdict = TRUSTED
    proves_all: bool = True
    delay_s: float = 0.0


class Endpoint(Protocol):
    """One address of one source system."""

    @property
    def name(self) -> str:
        """Name in scopes of faults and in the log."""
        ...

    @property
    def source(self) -> str:
        """The system behind it; `outage:<source>` and scopes name it."""
        ...

    @property
    def prefix(self) -> str:
        """Below this path, `lost` answers for addresses that lead nowhere."""
        ...

    @property
    def route(self) -> str:
        """Its path, in Starlette's notation."""
        ...

    @property
    def knobs(self) -> frozenset[str]:
        """The faults of bodies and rows that make sense here."""
        ...

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as the real system does."""
        ...

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """Answer as of a day, spoilt by the faults of bodies and rows that strike."""
        ...

    def failure(self, status: int) -> Reply:
        """How an error status looks here."""
        ...

    def lost(self, received: Received) -> Reply:
        """How an address that leads nowhere is answered."""
        ...

    def question_about(self, kind: str) -> Question | None:
        """The one question that yields the whole population of a kind, if this endpoint answers it."""
        ...


def page(status: int, title: str, text: str = "") -> Reply:
    """A web server's error page."""
    html = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1>{text}</body></html>"
    return Reply(status, html.encode(), "text/html; charset=utf-8")
