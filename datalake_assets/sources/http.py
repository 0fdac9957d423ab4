"""How every source is asked over HTTP: one client per source, one policy, no way around it.

This is the only module that imports httpx. Deadlines, bounds, TLS, the circuit breaker and what an error says
are settled here; when a request is repeated in `backoff.py`, how a body is unpacked in `bodies.py`. What an
answer means belongs to the client of that source.
"""

import asyncio
import base64
import contextlib
import logging
import re
import socket
import ssl
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote, urlencode

import httpx
import orjson
import stamina
import stamina.instrumentation
from pydantic import SecretStr

from datalake_assets.sources.backoff import Backoff, retry_after_seconds
from datalake_assets.sources.bodies import BodyReader, too_large
from datalake_assets.sources.errors import (
    REFUSED_LOGON_STATUSES,
    TRANSIENT_STATUSES,
    PermanentSourceError,
    SourceError,
    TransientSourceError,
)
from datalake_assets.sources.kinds import JSON, wrong_kind
from datalake_assets.sources.redaction import BODY_EXCERPT_CHARACTERS, RedactingFilter, Redactor

MiB: Final = 1024 * 1024
GiB: Final = 1024 * MiB

_LOG: Final = logging.getLogger("datalake_assets.sources")

_REDACTOR: Final[ContextVar[Redactor | None]] = ContextVar("redactor of the request under way", default=None)
"""Tells the log filter the personal values of the request that the record is about."""

DEFAULT_USER_AGENT: Final = "datalake-assets"


@dataclass(frozen=True, kw_only=True)
class RequestPolicy:
    """What a request may cost, in time, attempts and memory.

    Args:
        connect_s: Longest wait for a connection.
        read_s: Longest silence; httpx applies it between two chunks, so it bounds no total.
        total_s: Wall-clock deadline of one attempt, from the moment it is sent to its last byte.
        attempts: Attempts in all, the first included.
        concurrency: Requests to the source at the same time.
        body_bytes: Bound of a body, on the wire and after decompression.
        backoff_base_s: Upper end of the first random wait; it doubles with every attempt.
        backoff_cap_s: Upper end of every random wait.
        retry_after_cap_s: Longest `Retry-After` waited for; a source that asks for more has failed.
        max_500: How many answers with status 500 are asked again: they are seldom transient.
        breaker_failures: After so many requests in a row that failed for good, nothing more is asked.
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

    def __post_init__(self) -> None:
        for name in ("connect_s", "read_s", "total_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a request needs some time.")
        for name in ("attempts", "concurrency", "body_bytes", "breaker_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("backoff_base_s", "backoff_cap_s", "retry_after_cap_s", "max_500"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it cannot be negative.")


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
)
"""One batch of person documents, silent until the first is ready. SnapLogic documents 10 triggered tasks at a
time ("API usage"), beyond which it answers 429. The bound is for a body spooled to disk."""

HAWK_PAGE: Final = RequestPolicy(connect_s=10, read_s=60, total_s=120, attempts=4, concurrency=1, body_bytes=64 * MiB)
"""One page of a Hawk dataset, held whole because its signature covers all of it."""


@dataclass
class HttpStats:
    """What a source has cost so far: attempts sent, how many of them were repetitions, bytes on the wire."""

    requests: int = 0
    retries: int = 0
    bytes_in: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete answer with status 200, and what it cost.

    Attributes:
        whole: Whether the transport proved that the body is complete (length, chunks or gzip trailer). A body
            that only ends because the connection was closed proves nothing.
        url: The address asked, fit to be shown.
        seconds: From the first attempt to the last byte, waits included.
        bytes_in: Size of the body on the wire.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool
    url: str
    request_id: str
    attempts: int
    seconds: float
    bytes_in: int


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One request as it is sent on every attempt, with what may be said about it."""

    method: str
    url: httpx.URL = field(repr=False)
    content: bytes | None = field(repr=False)
    accept: tuple[str, ...]
    key: str
    shown_url: str
    redactor: Redactor
    request_id: str
    started: float


class HttpSource:
    """One source system, asked within one policy; use it as an async context manager.

    Redirects are not followed (httpx would send `x-api-key` to another host), cookies are not kept, proxies
    and certificates named in the environment are ignored, and plain HTTP is accepted for loopback only.
    Nothing turns certificate checks off: `ca_bundle` is how a private authority is trusted.

    Until the source has answered once, requests go one at a time, so that a wrong password costs one logon
    and not as many as there are slots. A 401 or 403, a login page, a `Retry-After` beyond the cap, or too
    many failures in a row stop the source: later requests fail unsent, until a new one is opened.

    Args:
        name: What people call the source; stands in every error.
        base_url: Scheme, host and path that request paths are appended to.
        policy: What a request may cost.
        headers: Headers sent with every request; all values are treated as secrets.
        basic: User and password for Basic authentication.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        policy: RequestPolicy,
        headers: Mapping[str, SecretStr] | None = None,
        basic: tuple[str, SecretStr] | None = None,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self.name = name
        self.policy = policy
        self.stats = HttpStats()
        self._base_url = _checked_base_url(name, base_url)
        self._headers = dict(headers or {})
        secrets = list(self._headers.values())
        if basic is not None:
            authorization = _basic_authorization(name, *basic)
            secrets += [basic[1], SecretStr(authorization.get_secret_value().removeprefix("Basic "))]
            self._headers["Authorization"] = authorization
        for header, value in {**self._headers, "User-Agent": SecretStr(user_agent)}.items():
            _check_header(name, header, value)
        self._user_agent = user_agent
        self._ca_bundle = ca_bundle
        self.redactor = Redactor(secrets)
        self._slots = asyncio.Semaphore(policy.concurrency)
        self._logon = asyncio.Lock()
        self._admitted = False
        self._failures_in_a_row = 0
        self._stopped: SourceError | None = None
        self._client: httpx.AsyncClient | None = None
        self._log_filter = RedactingFilter(lambda: _REDACTOR.get() or self.redactor)

    def __repr__(self) -> str:
        return f"HttpSource({self.name!r}, {self._base_url.host!r})"

    async def __aenter__(self) -> Self:
        policy = self.policy
        self._client = httpx.AsyncClient(
            verify=_tls(self.name, self._base_url.scheme, self._ca_bundle),
            timeout=httpx.Timeout(
                connect=policy.connect_s, read=policy.read_s, write=policy.read_s, pool=policy.total_s
            ),
            limits=httpx.Limits(max_connections=policy.concurrency, max_keepalive_connections=policy.concurrency),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "gzip"},
            follow_redirects=False,
            trust_env=False,
        )
        for logger in _wire_loggers():
            logger.addFilter(self._log_filter)
        # Each retry is told here, cleaned; the library would tell it again, by whatever logger it finds installed.
        stamina.instrumentation.set_on_retry_hooks(())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        for logger in _wire_loggers():
            logger.removeFilter(self._log_filter)

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        key: str,
        accept: tuple[str, ...] = JSON,
        personal: Iterable[str] = (),
    ) -> Answer:
        """Ask once, and again while the failure is transient and attempts are left; the body is held whole.

        Every request is a read, POST included, so repeating one whose answer was lost is safe.

        Args:
            method: `GET` or `POST`.
            path: Appended to the base address; begins with `/`, or is an address on the same origin.
            params: Query parameters. Commas stay as they are, the way QAS expects its lists.
            json: Body to send as JSON.
            key: What the request is for, as shown in errors and logs; never a person's id.
            accept: Media types that the answer may have.
            personal: Values of this request that must appear in no text.

        Raises:
            TransientSourceError: The source failed on every attempt.
            PermanentSourceError: Asking again cannot help, or the source is stopped.
        """
        call = self._call(method, path, params, json, key, accept, self.redactor.knowing(personal))
        try:
            answer = await self._until_answered(call)
        except SourceError as failure:
            self._count(failure)
            raise
        self._failures_in_a_row = 0
        return answer

    def stop(self, failure: SourceError) -> None:
        """Send nothing more; later requests fail with the reason given here. The first reason stays."""
        if self._stopped is None:
            self._stopped = failure

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        json: Any,
        key: str,
        accept: tuple[str, ...],
        redactor: Redactor,
    ) -> _Call:
        url = self._url(path, params, redactor)
        return _Call(
            method=method,
            url=url,
            content=None if json is None else orjson.dumps(json),
            accept=accept,
            key=redactor.text(key),
            shown_url=redactor.text(str(url)),
            redactor=redactor,
            request_id=uuid.uuid4().hex,
            started=time.monotonic(),
        )

    async def _until_answered(self, call: _Call) -> Answer:
        policy = self.policy
        backoff = Backoff(
            base_s=policy.backoff_base_s,
            cap_s=policy.backoff_cap_s,
            retry_after_cap_s=policy.retry_after_cap_s,
            max_500=policy.max_500,
        )

        def again(failure: Exception) -> bool | float:
            wait_s = self._stopped is None and backoff(failure)
            if isinstance(failure, SourceError) and wait_s is not False and attempt.num < policy.attempts:
                told = f"{failure.what} It is asked again in {wait_s:.1f} s. Where: {failure.where}."
                _LOG.warning("%s", call.redactor.text(told))
            return wait_s

        # The wait between two attempts happens in the loop's head, when the slot has been given back.
        async for attempt in stamina.retry_context(on=again, attempts=policy.attempts, timeout=None):
            with attempt:
                return await self._in_turn(call, attempt.num)
        raise AssertionError("stamina ends by an answer or by raising the last failure")

    async def _in_turn(self, call: _Call, number: int) -> Answer:
        async with self._slots:
            if not self._admitted:
                async with self._logon:
                    if not self._admitted:
                        return await self._ask(call, number)
            return await self._ask(call, number)

    async def _ask(self, call: _Call, number: int) -> Answer:
        self._refuse_if_stopped(call)
        self.stats.requests += 1
        self.stats.retries += number > 1
        where = self._where(call, number)
        failure: SourceError
        under_way = _REDACTOR.set(call.redactor)
        try:
            async with asyncio.timeout(self.policy.total_s) as deadline:
                return await self._exchange(call, number, where, deadline)
        except TimeoutError:
            failure = TransientSourceError(
                f"{self.name} had not answered in full after {self.policy.total_s:g} seconds.",
                where=where,
                todo="See whether the source is slower than usual; its request policy holds the deadline.",
            )
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = self._transport_failure(error, call, where)
        finally:
            _REDACTOR.reset(under_way)
        # Raised outside the handlers: httpx's exception carries the request with its headers and its address.
        raise failure

    async def _exchange(self, call: _Call, number: int, where: str, deadline: asyncio.Timeout) -> Answer:
        if self._client is None:
            raise PermanentSourceError(f"{self.name} is not open; use it with `async with`.", where=where)
        async with self._client.stream(
            call.method, call.url, headers=self._request_headers(call, number), content=call.content
        ) as response:
            if response.status_code != 200:
                # Not even 204 or 206 will do: no body, or a part of one, is not what was asked for.
                # The status is known, its body has a deadline of its own: a slow 401 must stay a 401.
                deadline.reschedule(None)
                raise await self._refusal(response, call, where)
            answer = await self._read(response, call, number, where)
        self._check_kind(answer, call, where)
        self._admitted = True
        return answer

    async def _read(self, response: httpx.Response, call: _Call, number: int, where: str) -> Answer:
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.policy.body_bytes:
            raise too_large(self.policy.body_bytes, where)
        reader = BodyReader(
            encoding=response.headers.get("content-encoding", ""), limit=self.policy.body_bytes, where=where
        )
        pieces: list[bytes] = []
        async for data in response.aiter_raw():
            self.stats.bytes_in += len(data)
            pieces.extend(reader.feed(data))
        pieces.extend(reader.finish())
        chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        return Answer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=b"".join(pieces),
            whole=bool(declared) or chunked or reader.proves_its_end,
            url=call.shown_url,
            request_id=call.request_id,
            attempts=number,
            seconds=time.monotonic() - call.started,
            bytes_in=response.num_bytes_downloaded,
        )

    def _request_headers(self, call: _Call, number: int) -> dict[str, str]:
        # Never held in a variable: some tools print the variables of every frame of a traceback.
        return {
            **{name: value.get_secret_value() for name, value in self._headers.items()},
            **({} if call.content is None else {"Content-Type": "application/json"}),
            "Accept": ", ".join(call.accept),
            "X-Request-ID": f"{call.request_id}-{number}",
        }

    async def _refusal(self, response: httpx.Response, call: _Call, where: str) -> SourceError:
        """What an answer with a status other than 200 means; the stop it may call for is made here too."""
        status = response.status_code
        if response.has_redirect_location:
            return PermanentSourceError(
                f"{self.name} redirects to {_host_of(response.headers['location'])}; "
                "redirects are not followed, because they would carry the credentials along.",
                where=where,
                todo="Set the source's address to the one that answers itself.",
                status=status,
            )
        if status in REFUSED_LOGON_STATUSES:
            what = f"{self.name} refused the logon with status {status}."
            todo = (
                "Check the user and password, or the key, and whether it may be used from here. "
                "Nothing more is asked in this load, so that the account is not locked."
            )
            # Stopped before the body is read: until then, others would go on trying.
            self.stop(PermanentSourceError(what, where=where, todo=todo, status=status))
            said = await self._excerpt(response, call)
            return PermanentSourceError(f"{what} {said}", where=where, todo=todo, status=status)
        said = await self._excerpt(response, call)
        if status not in TRANSIENT_STATUSES:
            return PermanentSourceError(
                f"{self.name} answered with status {status}. {said}",
                where=where,
                todo="Check the address and what was asked for; asking again would not help.",
                status=status,
            )
        wait_s = retry_after_seconds(response.headers.get("retry-after"), response.headers.get("date"))
        failure = TransientSourceError(
            f"{self.name} answered with status {status}. {said}",
            where=where,
            todo=_LATER,
            status=status,
            retry_after_s=wait_s,
        )
        if wait_s is not None and wait_s > self.policy.retry_after_cap_s:
            failure = TransientSourceError(
                f"{self.name} answered with status {status} and asked to be left alone for {wait_s:.0f} "
                f"seconds, more than the {self.policy.retry_after_cap_s:g} that a load waits.",
                where=where,
                todo="A quota may be used up; run the load again after that time.",
                status=status,
                retry_after_s=wait_s,
            )
            self.stop(failure)
        return failure

    async def _excerpt(self, response: httpx.Response, call: _Call) -> str:
        """The beginning of an error body. The status is the news; a broken body takes nothing from it."""
        enough = 4 * BODY_EXCERPT_CHARACTERS
        body = b""
        try:
            reader = BodyReader(
                encoding=response.headers.get("content-encoding", ""),
                limit=MiB,
                where=call.key,
            )
            async with (
                asyncio.timeout(min(_ERROR_BODY_S, self.policy.read_s)),
                contextlib.aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as raw,
            ):
                async for data in raw:
                    self.stats.bytes_in += len(data)
                    for piece in reader.feed(data):
                        body = (body + piece)[:enough]
                    if len(body) == enough:
                        break
        except (httpx.HTTPError, httpx.StreamError, OSError, SourceError) as error:
            if not body:
                return f"Its body could not be read ({type(error).__name__})."
        said = call.redactor.excerpt(body)
        return f"It said: {said}" if said else "It said nothing more."

    def _transport_failure(self, error: Exception, call: _Call, where: str) -> SourceError:
        """What an exception of httpx means, told without it: it carries the request and its headers."""
        if (tls := _tls_failure(error)) is not None:
            return PermanentSourceError(
                f"The TLS connection to {self.name} was refused: {call.redactor.text(tls)}.",
                where=where,
                todo="Check the certificate and its name; a private authority belongs in the CA bundle.",
            )
        if any(isinstance(link, socket.gaierror) and link.errno != socket.EAI_AGAIN for link in _chain(error)):
            return PermanentSourceError(
                f"The host name of {self.name} is not known: {call.url.host}.",
                where=where,
                todo="Check the source's address and the name service of this machine.",
            )
        for kind, what in _TRANSIENT_TRANSPORT:
            if isinstance(error, kind):
                return TransientSourceError(what.format(name=self.name), where=where, todo=_LATER)
        return PermanentSourceError(
            f"The request to {self.name} could not be made ({type(error).__name__}).",
            where=where,
            todo="This is a mistake in the request and not in the source; report it with this text.",
        )

    def _check_kind(self, answer: Answer, call: _Call, where: str) -> None:
        wrong = wrong_kind(answer.body, answer.headers, call.accept, call.redactor)
        if wrong is None:
            return
        what = f"{self.name} answered with {wrong.what}"
        if wrong.is_empty and not answer.whole:
            what = f"{what} The connection was closed early."
            raise TransientSourceError(what, where=where, todo=_LATER, status=200)
        failure = PermanentSourceError(what, where=where, todo=wrong.todo, status=200)
        if wrong.is_login_page:
            self.stop(failure)
        raise failure

    def _count(self, failure: SourceError) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row < self.policy.breaker_failures:
            return
        kind = TransientSourceError if isinstance(failure, TransientSourceError) else PermanentSourceError
        self.stop(
            kind(
                f"{self._failures_in_a_row} requests in a row had failed, the last one so: {failure.what}",
                todo=failure.todo,
                status=failure.status,
            )
        )

    def _refuse_if_stopped(self, call: _Call) -> None:
        reason = self._stopped
        if reason is None:
            return
        kind = TransientSourceError if isinstance(reason, TransientSourceError) else PermanentSourceError
        raise kind(
            f"{self.name} was not asked, because an earlier request stopped it: {reason.what}",
            where=f"{call.key}, {call.method} {call.shown_url}",
            todo=reason.todo,
            status=reason.status,
        )

    def _where(self, call: _Call, number: int) -> str:
        return (
            f"{call.key}, {call.method} {call.shown_url}, attempt {number} of {self.policy.attempts}, "
            f"request id {call.request_id}"
        )

    def _url(self, path: str, params: Mapping[str, str] | None, redactor: Redactor) -> httpx.URL:
        base = self._base_url
        try:
            if path.startswith(("https://", "http://")):
                url = httpx.URL(path)
            elif path.isascii() and (not path or path.startswith("/")):
                before = base.raw_path if not path else base.raw_path.partition(b"?")[0].rstrip(b"/")
                url = base.copy_with(raw_path=before + path.encode())
            else:
                raise PermanentSourceError(
                    f"{redactor.text(path)!r} is no path: it is not ASCII or does not begin with a slash.",
                    where=self.name,
                )
            if params:
                # Commas separate the lists of QAS; the public clients leave them as they are.
                query = urlencode(params, quote_via=quote, safe=",")
                url = url.copy_with(query=b"&".join(filter(None, [url.query, query.encode()])))
        except httpx.InvalidURL:
            raise PermanentSourceError(f"{redactor.text(path)!r} makes no valid address.", where=self.name) from None
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port) or url.userinfo:
            raise PermanentSourceError(
                f"{self.name} pointed to another place, {url.host}; its credentials go to {base.host} only.",
                where=redactor.text(str(url)),
                todo="If the source really moved, set its address.",
            )
        return url


_LATER: Final = "See whether the source is up, then run the load again."

_ERROR_BODY_S: Final = 2.0
"""How long the body of an error answer is waited for."""

_TRANSIENT_TRANSPORT: Final[tuple[tuple[type[Exception], str], ...]] = (
    (httpx.ConnectTimeout, "No connection to {name} came about in time."),
    (httpx.PoolTimeout, "No connection to {name} became free in time."),
    (httpx.TimeoutException, "{name} was silent for too long."),
    (httpx.ConnectError, "{name} could not be reached."),
    (httpx.NetworkError, "The connection to {name} broke."),
    # Also what stray bytes of an earlier answer on a kept connection look like; a new connection is clean.
    (httpx.RemoteProtocolError, "The connection to {name} ended before the whole answer had arrived."),
    (OSError, "The connection to {name} broke."),
)

_TLS_BROKE_OFF: Final = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
    # Not errors at all, but found among the causes of a connection that was reset while waiting for bytes.
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
)

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def _wire_loggers() -> list[logging.Logger]:
    """Loggers that are told addresses and headers. Filters are not inherited, so each is named."""
    names = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")
    return [logging.getLogger(name) for name in names]


def _checked_base_url(name: str, base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise PermanentSourceError(f"The address of {name} is not an address.", todo="Correct it.") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise PermanentSourceError(f"The address of {name} must begin with https:// and a host.", todo="Correct it.")
    if url.userinfo:
        raise PermanentSourceError(
            f"The address of {name} contains a user or a password; addresses end up in logs.",
            todo="Take it out of the address and set it on its own.",
        )
    if url.scheme == "http" and not _is_loopback(url.host):
        raise PermanentSourceError(
            f"The address of {name} begins with http://; credentials would cross the network in the clear.",
            where=url.host,
            todo="Use https://; plain HTTP is accepted for this machine itself only.",
        )
    return url.copy_with(fragment=None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _basic_authorization(name: str, user: str, password: SecretStr) -> SecretStr:
    if ":" in user:
        raise PermanentSourceError(f"The user of {name} contains a colon, which Basic authentication cannot carry.")
    pair = f"{user}:{password.get_secret_value()}".encode()
    return SecretStr(f"Basic {base64.b64encode(pair).decode()}")


def _check_header(name: str, header: str, value: SecretStr) -> None:
    # The HTTP library would refuse such a value too, and quote it.
    if not _VISIBLE_ASCII.fullmatch(value.get_secret_value()):
        raise PermanentSourceError(
            f"The value for the header {header} of {name} is empty, begins or ends with a blank or a line "
            "break, or holds a character that headers cannot carry.",
            todo="Set it again; a line break at its end is the usual cause.",
        )


def _tls(name: str, scheme: str, ca_bundle: str | Path | None) -> ssl.SSLContext:
    if scheme == "http":
        # No TLS will be spoken, so the public authorities need not be loaded; this context trusts nobody.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif ca_bundle is None:
        context = httpx.create_ssl_context(trust_env=False)
    else:
        path = Path(ca_bundle)
        try:
            context = (
                ssl.create_default_context(capath=path) if path.is_dir() else ssl.create_default_context(cafile=path)
            )
        except OSError as error:
            raise PermanentSourceError(
                f"The CA bundle of {name} cannot be read: {error.strerror or error}.",
                where=str(path),
                todo="It must be a file of PEM certificates, or a folder prepared with `openssl rehash`.",
            ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything it came from."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [cause for cause in (link.__cause__, link.__context__) if cause is not None]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


def _tls_failure(error: BaseException) -> str | None:
    """Why TLS was refused; None if it was not, or merely broke off like any connection."""
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return link.verify_message
        if isinstance(link, ssl.SSLError) and not isinstance(link, _TLS_BROKE_OFF):
            return link.reason or "unknown reason"
    return None


def _host_of(location: str) -> str:
    try:
        return httpx.URL(location).host or "another path on the same host"
    except httpx.InvalidURL:
        return "an unreadable address"
