"""How every source is asked over HTTP: one connection per request under way, one policy, no way around it.

This is the only module that imports httpx. Deadlines, bounds, TLS, the circuit breaker and what an error says
are settled here; what each source may cost in `policies.py`, when a request is repeated in `backoff.py`, how
many are under way in `throttle.py`, how a body is unpacked in `bodies.py`. What an answer means belongs to the
client of that source.
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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import httpx
import stamina
import stamina.instrumentation
from pydantic import SecretStr

from datalake_assets.exact_json import dumps
from datalake_assets.sources.backoff import Backoff, retry_after_seconds
from datalake_assets.sources.bodies import BodyReader, BodyStream, too_large
from datalake_assets.sources.errors import (
    REFUSED_LOGON_STATUSES,
    TRANSIENT_STATUSES,
    PermanentSourceError,
    RedirectedError,
    SourceError,
    TransientSourceError,
)
from datalake_assets.sources.kinds import JSON, tells_its_kind, wrong_kind
from datalake_assets.sources.policies import MiB, RequestPolicy
from datalake_assets.sources.redaction import BODY_EXCERPT_CHARACTERS, RedactingFilter, Redactor
from datalake_assets.sources.throttle import THROTTLING_STATUSES, FirstAnswer, RetryBudget, Slot, Slots

T = TypeVar("T")

_LOG: Final = logging.getLogger("datalake_assets.sources")

_REDACTOR: Final[ContextVar[Redactor | None]] = ContextVar("redactor of the request under way", default=None)
"""Tells the log filter the personal values of the request that the record is about."""

DEFAULT_USER_AGENT: Final = "datalake-assets"

_OK: Final = frozenset({200})
_JSON_BODY: Final = "application/json"


class Signature(Protocol):
    """What one attempt carries, and by what its answer is believed."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the request."""
        ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise a `SourceError` unless the answer, names of headers in lower case, is the source's own."""
        ...


class Signer(Protocol):
    """Signs requests: each attempt anew, and byte for byte what is sent."""

    def sign(self, method: str, url: str, content: bytes = b"", content_type: str = "") -> Signature:
        """The signature of one attempt."""
        ...

    def why_refused(self, headers: Mapping[str, str]) -> str:
        """What can be wrong if the source refuses a logon, as one sentence."""
        ...


@dataclass
class HttpStats:
    """What a source has cost so far: attempts sent, how many of them were repetitions, bytes on the wire."""

    requests: int = 0
    retries: int = 0
    bytes_in: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete answer with a status that was asked for, 200 unless said otherwise, and what it cost.

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
class _Call(Generic[T]):
    """One request as it is sent on every attempt, who reads its answer, and what may be said about it."""

    method: str
    url: httpx.URL = field(repr=False)
    content: bytes | None = field(repr=False)
    accept: tuple[str, ...]
    key: str
    shown_url: str
    redactor: Redactor
    request_id: str
    headers: Callable[[], Mapping[str, str]] | None = field(repr=False)
    statuses: frozenset[int]
    as_sent: bool
    read: Callable[[BodyStream], Awaitable[T]] | None = field(repr=False)


class HttpSource:
    """One source system, asked within one policy; use it as an async context manager.

    Requests go to the transports of httpx and not through its client: redirects are not followed (it would send
    `x-api-key` to another host), cookies are not kept, proxies and certificates named in the environment are ignored.
    Plain HTTP is accepted for loopback only.
    Nothing turns certificate checks off: `ca_bundle` is how a private authority is trusted.

    Until the source has answered once, or was silent for `logon_wait_s`, requests go one at a time, so that a
    wrong password costs one logon and not as many as there are slots. A source that throttles is asked less at
    once, and repetitions stay within a share of what is asked.

    A 401 or 403, a login page, a `Retry-After` beyond the cap, or too many failures in a row stop the source:
    later requests fail unsent, until a new one is opened.

    Args:
        name: What people call the source; stands in every error.
        base_url: Scheme, host and path that request paths are appended to.
        policy: What a request may cost.
        headers: Headers sent with every request; all values are treated as secrets.
        basic: User and password for Basic authentication.
        signer: Signs every attempt; its answers are held whole, and believed only if their signature is right.
        redirect_hosts: Hosts whose address a `RedirectedError` tells besides the source's own, for a client that
            goes there without credentials.
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
        signer: Signer | None = None,
        redirect_hosts: Iterable[str] = (),
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self.name = name
        self.policy = policy
        self.stats = HttpStats()
        self._base_url = _checked_base_url(name, base_url)
        self._headers = dict(headers or {})
        secrets = list(self._headers.values())
        # `Bearer x` may be quoted without its scheme.
        secrets += [SecretStr(value.get_secret_value().partition(" ")[2]) for value in self._headers.values()]
        if basic is not None:
            authorization = _basic_authorization(name, *basic)
            secrets += [basic[1], SecretStr(authorization.get_secret_value().removeprefix("Basic "))]
            self._headers["Authorization"] = authorization
        self._headers["User-Agent"] = SecretStr(user_agent)
        for header, value in self._headers.items():
            _check_header(name, header, value)
        self._signer = signer
        self._redirect_hosts = frozenset(redirect_hosts)
        self._ca_bundle = ca_bundle
        self._user_agent = user_agent
        self.redactor = Redactor(secrets)
        self._slots = Slots(policy.concurrency)
        self._budget = RetryBudget(floor=policy.retry_floor, share=policy.retry_share)
        self._first_answer = FirstAnswer(policy.logon_wait_s)
        self._failures_in_a_row = 0
        self._stopped: SourceError | None = None
        self._connections: list[httpx.AsyncHTTPTransport] = []
        timeout = httpx.Timeout(connect=policy.connect_s, read=policy.read_s, write=policy.read_s, pool=policy.total_s)
        self._extensions = {"timeout": timeout.as_dict()}
        self._log_filter = RedactingFilter(lambda: _REDACTOR.get() or self.redactor)

    def __repr__(self) -> str:
        return f"HttpSource({self.name!r}, {self._base_url.host!r})"

    async def __aenter__(self) -> Self:
        tls = _tls(self.name, self._base_url.scheme, self._ca_bundle)
        # One for each slot: a pool looks at all of its connections before every request and after it.
        self._connections = [
            httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=httpx.Limits(max_connections=1))
            for _ in range(self.policy.concurrency)
        ]
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
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.aclose()
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
        headers: Mapping[str, str] | None = None,
        statuses: frozenset[int] = _OK,
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
            headers: Further headers, which are no secrets.
            statuses: Statuses that are an answer; 304 comes without a body.

        Raises:
            TransientSourceError: The source failed on every attempt.
            PermanentSourceError: Asking again cannot help, or the source is stopped.
        """
        started = time.monotonic()

        async def hold(stream: BodyStream) -> Answer:
            body = b"".join([piece async for piece in stream])
            stream.verify(body)
            return Answer(
                status=stream.status,
                headers=stream.headers,
                body=body,
                whole=stream.whole,
                url=stream.shown_url,
                request_id=stream.request_id,
                attempts=stream.attempt,
                seconds=time.monotonic() - started,
                bytes_in=stream.bytes_in,
            )

        redactor = self.redactor.knowing(personal)
        further = None if headers is None else lambda: headers
        return await self._answered(
            self._call(method, path, params, json, key, accept, redactor, hold, further, statuses)
        )

    async def receive(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        key: str,
        accept: tuple[str, ...] = JSON,
        personal: Iterable[str] = (),
        headers: Callable[[], Mapping[str, str]] | None = None,
        statuses: frozenset[int] = _OK,
        as_sent: bool = False,
        read: Callable[[BodyStream], Awaitable[T]],
    ) -> T:
        """Ask like `request`, but hand the body over as it comes instead of holding it.

        Args:
            method: `GET` or `POST`.
            path: Appended to the base address; begins with `/`, or is an address on the same origin.
            params: Query parameters.
            json: Body to send as JSON.
            key: What the request is for, as shown in errors and logs; never a person's id.
            accept: Media types that the answer may have.
            personal: Values of this request that must appear in no text.
            headers: Tells, before every attempt, further headers, which are no secrets.
            statuses: Statuses that are an answer; 304 comes without a body.
            as_sent: Leave the body encoded as the source keeps it, and ask for no encoding.
            read: Reads the body; called once per attempt, when status and kind of the answer are known to be
                good, and again from the beginning if that attempt fails. A `TransientSourceError` that it raises
                is retried like any other; everything else ends the request, an `OSError` of its own included. If
                it returns before the end, the rest is not fetched and the connection is closed. The deadline of
                the attempt holds for it too, so it must not wait for anything but the body for long: first the
                body fails, and soon afterwards the reader is cancelled.

        Returns:
            What `read` returned.

        Raises:
            TransientSourceError: The source failed on every attempt.
            PermanentSourceError: Asking again cannot help, or the source is stopped.
        """
        redactor = self.redactor.knowing(personal)
        call = self._call(method, path, params, json, key, accept, redactor, read, headers, statuses, as_sent)
        if self._signer is not None:
            raise PermanentSourceError(
                f"{self.name} signs its answers, so they cannot be read piece by piece.",
                where=call.key,
                todo="Have it asked without a signature, or for something that can be held whole.",
            )
        return await self._answered(call)

    async def _answered(self, call: _Call[T]) -> T:
        try:
            result = await self._until_answered(call)
        except SourceError as failure:
            self._count(failure)
            failure.source_stopped = self._stopped is not None
            raise
        self._failures_in_a_row = 0
        return result

    async def deliver(self, path: str = "", *, json: Any, key: str, personal: Iterable[str] = ()) -> None:
        """Post something that is no read: once, because a lost answer does not say that nothing arrived.

        Every status from 200 to 299 will do, and the body of the answer is not read.

        Args:
            path: Appended to the base address.
            json: Body to send as JSON.
            key: What the request is for, as shown in errors and logs.
            personal: Values of this request that must appear in no text.

        Raises:
            TransientSourceError: It was not taken this time.
            PermanentSourceError: Sending it again cannot help.
        """
        call: _Call[None] = self._call("POST", path, None, json, key, ("*/*",), self.redactor.knowing(personal), None)
        await self._in_turn(call, 1)

    def url_of(self, path: str) -> str:
        """The address that a path is asked at.

        Raises:
            PermanentSourceError: It would be at another place.
        """
        return str(self._url(path, None, self.redactor))

    def without_credentials(self, url: str) -> "HttpSource":
        """Another place that this source sends its clients to, asked within the same policy; not open yet.

        Args:
            url: An address there, as a `RedirectedError` tells it.
        """
        place = urlsplit(url)
        return HttpSource(
            self.name,
            f"{place.scheme}://{place.netloc}",
            policy=self.policy,
            redirect_hosts=self._redirect_hosts,
            ca_bundle=self._ca_bundle,
            user_agent=self._user_agent,
        )

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
        read: Callable[[BodyStream], Awaitable[T]] | None,
        headers: Callable[[], Mapping[str, str]] | None = None,
        statuses: frozenset[int] = _OK,
        as_sent: bool = False,
    ) -> _Call[T]:
        url = self._url(path, params, redactor)
        return _Call(
            method=method,
            url=url,
            content=None if json is None else dumps(json),
            accept=accept,
            key=redactor.text(key),
            shown_url=redactor.text(str(url)),
            redactor=redactor,
            request_id=uuid.uuid4().hex,
            headers=headers,
            statuses=statuses,
            as_sent=as_sent,
            read=read,
        )

    async def _until_answered(self, call: _Call[T]) -> T:
        policy = self.policy
        backoff = Backoff(
            base_s=policy.backoff_base_s,
            cap_s=policy.backoff_cap_s,
            retry_after_cap_s=policy.retry_after_cap_s,
            max_500=policy.max_500,
        )

        def again(failure: Exception) -> bool | float:
            wait_s = self._stopped is None and backoff(failure)
            if not isinstance(failure, SourceError) or wait_s is False or attempt.num >= policy.attempts:
                return wait_s
            granted = self._budget.grants_retry()
            then = (
                f"It is asked again in {wait_s:.1f} s."
                if granted
                else "Its retries are used up: too many requests fail."
            )
            _LOG.warning("%s", call.redactor.text(f"{failure.what} {then} Where: {failure.where}."))
            return granted and wait_s

        self._budget.request()

        # The wait between two attempts happens in the loop's head, when the slot has been given back.
        async for attempt in stamina.retry_context(on=again, attempts=policy.attempts, timeout=None):
            with attempt:
                return await self._in_turn(call, attempt.num)
        raise AssertionError("stamina ends by an answer or by raising the last failure")

    async def _in_turn(self, call: _Call[T], number: int) -> T:
        async with self._slots.slot() as slot, self._first_answer.turn():
            try:
                result = await self._ask(call, number, slot)
            except SourceError as failure:
                if failure.status in THROTTLING_STATUSES:
                    self._slots.throttled(slot.since)
                raise
            self._slots.succeeded()
            return result

    async def _ask(self, call: _Call[T], number: int, slot: Slot) -> T:
        self._refuse_if_stopped(call)
        self.stats.requests += 1
        self.stats.retries += number > 1
        where = self._where(call, number)
        failure: SourceError
        under_way = _REDACTOR.set(call.redactor)
        try:
            async with asyncio.timeout(self.policy.total_s) as deadline:
                return await self._exchange(call, number, where, deadline, slot)
        except SourceError as error:
            # The frames it came through hold the body, and some tools print the variables of every frame.
            failure = error.with_traceback(None)
        except TimeoutError:
            if not deadline.expired():
                raise
            failure = self._too_late(where)
        finally:
            _REDACTOR.reset(under_way)
        # Raised outside the handlers, so that nothing hangs on to what it came from.
        raise failure

    async def _exchange(self, call: _Call[T], number: int, where: str, deadline: asyncio.Timeout, slot: Slot) -> T:
        signature = None
        if self._signer is not None:
            kind = "" if call.content is None else _JSON_BODY
            signature = self._signer.sign(call.method, str(call.url), call.content or b"", kind)
        async with self._response(call, number, where, slot, signature) as response:
            if call.read is None and response.is_success:
                self._first_answer.open()
                return cast("T", None)
            if call.read is None or response.status_code not in call.statuses:
                # Not even 204 or 206 will do unless they were asked for: no body, or a part of one, is no answer.
                # The status is known, its body has a deadline of its own: a slow 401 must stay a 401.
                deadline.reschedule(None)
                raise await self._refusal(response, call, where)
            declared = response.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > self.policy.body_bytes:
                raise too_large(self.policy.body_bytes, where)
            encoding = "" if call.as_sent else response.headers.get("content-encoding", "")
            reader = BodyReader(encoding=encoding, limit=self.policy.body_bytes, where=where)
            chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
            end = cast("float", deadline.when())
            # At its end the stream fails, and only then the reader: it can hand back what it has.
            deadline.reschedule(end + _READER_GRACE_S)
            async with contextlib.aclosing(self._raw(response, call, where, end, slot)) as raw:
                stream = BodyStream(
                    raw,
                    reader,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    proves_its_end=bool(declared) or chunked,
                    request_id=call.request_id,
                    shown_url=call.shown_url,
                    where=where,
                    attempt=number,
                    status=response.status_code,
                    signature=signature,
                )
                if response.status_code == 200:
                    start = await stream.start(tells_its_kind)
                    self._check_kind(start, stream, call, where)
                self._first_answer.open()
                return await call.read(stream)

    @contextlib.asynccontextmanager
    async def _response(
        self, call: _Call[T], number: int, where: str, slot: Slot, signature: Signature | None
    ) -> AsyncGenerator[httpx.Response]:
        """The head of the answer; its connection is closed, or kept if the body was read to its end."""
        if not self._connections:
            raise PermanentSourceError(f"{self.name} is not open; use it with `async with`.", where=where)
        request = httpx.Request(
            call.method,
            call.url,
            headers=self._request_headers(call, number, signature),
            content=call.content,
            extensions=self._extensions,
        )
        failure: SourceError | None = None
        try:
            response = await self._connections[slot.number].handle_async_request(request)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = self._transport_failure(error, call, where)
        if failure is not None:
            raise failure
        _LOG.debug("%s, answered with status %d", where, response.status_code)
        try:
            yield response
        finally:
            await response.aclose()

    async def _raw(
        self, response: httpx.Response, call: _Call[T], where: str, end: float, slot: Slot
    ) -> AsyncGenerator[bytes]:
        """The body as it comes from the wire; what breaks here cannot be taken for a failure of its reader."""
        failure: SourceError
        raw = response.aiter_raw()
        try:
            while True:
                async with asyncio.timeout_at(end):
                    data = await anext(raw, None)
                if data is None:
                    slot.give_back()  # what its reader still does with it costs the source nothing
                    return
                self.stats.bytes_in += len(data)
                yield data
        except TimeoutError:
            failure = self._too_late(where)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            failure = self._transport_failure(error, call, where)
        raise failure

    def _request_headers(self, call: _Call[T], number: int, signature: Signature | None) -> dict[str, str]:
        # Never held in a variable: some tools print the variables of every frame of a traceback.
        return {
            **{name: value.get_secret_value() for name, value in self._headers.items()},
            **({} if signature is None else signature.headers),
            **({} if call.headers is None else call.headers()),
            **({} if call.content is None else {"Content-Type": _JSON_BODY}),
            "Accept": ", ".join(call.accept),
            "Accept-Encoding": "identity" if call.as_sent else "gzip",
            "X-Request-ID": f"{call.request_id}-{number}",
        }

    async def _refusal(self, response: httpx.Response, call: _Call[T], where: str) -> SourceError:
        """What an answer with a status other than 200 means; the stop it may call for is made here too."""
        status = response.status_code
        if response.has_redirect_location:
            return RedirectedError(
                f"{self.name} redirects to {_host_of(response.headers['location'])}; "
                "redirects are not followed, because they would carry the credentials along.",
                where=where,
                todo="Set the source's address to the one that answers itself.",
                status=status,
                location=self._known_place(call.url, response.headers["location"]),
            )
        if status in REFUSED_LOGON_STATUSES:
            what = f"{self.name} refused the logon with status {status}."
            todo = "Check the user and password, or the key, and whether it may be used from here."
            if self._signer is not None:
                todo = self._signer.why_refused({name.lower(): value for name, value in response.headers.items()})
            todo = f"{todo} Nothing more is asked in this load, so that the account is not locked."
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

    async def _excerpt(self, response: httpx.Response, call: _Call[T]) -> str:
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

    def _too_late(self, where: str) -> SourceError:
        return TransientSourceError(
            f"{self.name} had not answered in full after {self.policy.total_s:g} seconds.",
            where=where,
            todo="See whether the source is slower than usual; its request policy holds the deadline.",
        )

    def _transport_failure(self, error: Exception, call: _Call[T], where: str) -> SourceError:
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

    def _check_kind(self, start: bytes, stream: BodyStream, call: _Call[T], where: str) -> None:
        wrong = wrong_kind(start, stream.headers, call.accept, call.redactor)
        if wrong is None:
            return
        what = f"{self.name} answered with {wrong.what}"
        if wrong.is_empty and not stream.whole:
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

    def _refuse_if_stopped(self, call: _Call[T]) -> None:
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

    def _known_place(self, asked: httpx.URL, location: str) -> str | None:
        """The full address of a redirect, if this source's credentials may go there, or the host is a known one."""
        try:
            url = asked.join(location)
        except httpx.InvalidURL:
            return None
        base = self._base_url
        same = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
        known = url.host in self._redirect_hosts and url.scheme in ("https", base.scheme)
        return str(url) if (same or known) and not url.userinfo else None

    def _where(self, call: _Call[T], number: int) -> str:
        return (
            f"{call.key}, {call.method} {call.shown_url}, attempt {number} of {self.policy.attempts}, "
            f"request id {call.request_id}"
        )

    def _url(self, path: str, params: Mapping[str, str] | None, redactor: Redactor) -> httpx.URL:
        base = self._base_url
        try:
            if path.startswith(("https://", "http://")):
                url = httpx.URL(path)
            elif not path:
                url = base
            elif path.isascii() and path.startswith("/"):
                before = base.raw_path.partition(b"?")[0].rstrip(b"/")
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

_READER_GRACE_S: Final = 2.0
"""What a reader has at the end of an attempt's time before it is cancelled."""

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
    names = ("httpcore.connection", "httpcore.http11")
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
